"""Files that change, and directories that get others."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from portfwd.service.tls.file_watch import LOOK_EVERY, FileWatch
from tests.service.pems import directory_of


class FileWatchTests(SynchronousTestCase):
    """One watch."""

    def setUp(self) -> None:
        """A directory with one file."""
        self.directory = directory_of(self)
        (self.directory / "a").write_bytes(b"a")
        self.clock = Clock()
        self.watch = self.files()

    def files(self) -> FileWatch:
        """A watch of the directory as it is now."""
        return FileWatch(lambda: sorted(str(one) for one in self.directory.iterdir()), self.clock.seconds)

    def test_due(self) -> None:
        """It is time to look every ten seconds, once."""
        self.assertFalse(self.watch.due)
        self.clock.advance(LOOK_EVERY)
        self.assertTrue(self.watch.due)
        self.assertFalse(self.watch.due)

    def changed(self) -> bool:
        """Whether they look different from the last time."""
        found = self.watch.look()
        different = self.watch.differs(found)
        self.watch.settle(found)
        return different

    def test_changed(self) -> None:
        """Other bytes, other files, and a directory that is gone are changes, each told once."""
        self.assertFalse(self.changed())
        (self.directory / "a").write_bytes(b"ab")
        self.assertTrue(self.changed())
        self.assertFalse(self.changed())
        (self.directory / "b").write_bytes(b"b")
        self.assertTrue(self.changed())
        for one in self.directory.iterdir():
            one.unlink()
        self.assertTrue(self.changed())
        self.directory.rmdir()
        self.assertTrue(self.changed())
        self.assertFalse(self.changed())

    def test_since(self) -> None:
        """The files that are not those of an earlier watch: changed, added and removed ones."""
        later = self.files()
        self.assertEqual(later.since(self.watch), [])
        (self.directory / "b").write_bytes(b"b")
        both = self.files()
        self.assertEqual(both.since(self.watch), [str(self.directory / "b")])
        self.assertEqual(self.watch.since(both), [str(self.directory / "b")])
        (self.directory / "a").write_bytes(b"other")
        self.assertEqual(self.files().since(both), [str(self.directory / "a")])
