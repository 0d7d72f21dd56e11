"""``--watch``: with the kernel's own events, a clock, and looks that the test makes."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast
from unittest import mock

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import LogLevel
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from portfwd.errors import StartError
from portfwd.kernel.inotify import Inotify
from portfwd.service.daemon.disk import DiskFiles
from portfwd.service.daemon.rule_files import RuleFiles
from portfwd.service.run.settling import QUIET
from portfwd.service.run.watching import RulesWatch, look_at
from tests.events import EventsOf


class ReadingClock(Clock):
    """A clock with one descriptor to read from."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: list[Any] = []

    def addReader(self, reader: Any) -> None:
        self.readers.append(reader)

    def removeReader(self, reader: Any) -> None:
        self.readers.remove(reader)


class WatchTests(SynchronousTestCase):
    """A rules file in a directory of its own."""

    def setUp(self) -> None:
        self.directory = Path(os.path.realpath(self.mktemp()))
        self.directory.mkdir()
        self.path = self.directory / "rules.conf"
        self.path.write_text("first")
        self.clock = ReadingClock()
        self.reloads = 0
        self.told = EventsOf(self, RulesWatch)

    def reload(self) -> None:
        """Count."""
        self.reloads += 1

    def watching(
        self, look: Callable[[Callable[[], RuleFiles]], Deferred[RuleFiles]] | None = None, **options: Any
    ) -> RulesWatch:
        """A watch that is started."""
        path = str(self.path)
        files = DiskFiles()
        at_work = options.pop("at_work", look_at(path, files).digest)
        watch = RulesWatch(
            cast(Any, self.clock),
            lambda: path,
            files,
            at_work,
            self.reload,
            look=(lambda call: succeed(call())) if look is None else look,
        )
        try:
            watch.startService()
        except StartError as problem:
            if "has no inotify" in str(problem):
                raise SkipTest(str(problem)) from None
            raise
        self.addCleanup(watch.stopService)
        self.settle()
        return watch

    def settle(self) -> None:
        """Let the events come, and time pass."""
        for _ in range(3):
            for reader in list(self.clock.readers):
                reader.doRead()
            self.clock.advance(QUIET)

    def test_nothing(self) -> None:
        """Without a change nothing is reloaded, and other files in the directory do not matter."""
        self.watching()
        with mock.patch("portfwd.service.run.watching.look_at") as look:
            (self.directory / "other").write_text("x")
            (self.directory / ".rules.conf.swp").write_text("x")
            self.settle()
        look.assert_not_called()
        self.assertEqual(self.reloads, 0)

    def test_rename(self) -> None:
        """A new file that is renamed over the old one is one reload."""
        self.watching()
        for text in ("second", "third"):
            (self.directory / "new").write_text(text)
            os.rename(self.directory / "new", self.path)
            self.settle()
        self.assertEqual(self.reloads, 2)

    def test_same_text(self) -> None:
        """A file that is written with the same text, or touched, is no reload."""
        self.watching()
        self.path.write_text("first")
        os.utime(self.path)
        self.settle()
        self.assertEqual(self.reloads, 0)

    def test_half_written(self) -> None:
        """A file is read when its writer closes it, not before."""
        self.watching()
        with open(self.path, "w", buffering=1) as file:
            file.write("half\n")
            self.settle()
            self.assertEqual(self.reloads, 0)
            file.write("whole\n")
        self.settle()
        self.assertEqual(self.reloads, 1)

    def test_config_map(self) -> None:
        """The link ..data is switched, again and again; old directories are removed and watched no more."""
        for number in range(4):
            (self.directory / f"..{number}").mkdir()
            (self.directory / f"..{number}" / "rules.conf").write_text(str(number))
        (self.directory / "..data").symlink_to("..0")
        self.path.unlink()
        self.path.symlink_to("..data/rules.conf")
        watch = self.watching()
        for number in range(1, 4):
            (self.directory / "..data_tmp").symlink_to(f"..{number}")
            os.rename(self.directory / "..data_tmp", self.directory / "..data")
            old = self.directory / f"..{number - 1}"
            (old / "rules.conf").unlink()
            old.rmdir()
            self.settle()
            self.assertEqual(self.reloads, number)
        assert watch.inotify is not None
        below = [one for one in watch.inotify.directories if one.startswith(f"{self.directory}/")]
        self.assertEqual(below, [f"{self.directory}/..3"])

    def test_include(self) -> None:
        """A file that an include's pattern means is noticed when it comes, in a directory that comes, too."""
        self.path.write_text("include d/*.conf\n")
        self.watching()
        (self.directory / "d").mkdir()
        (self.directory / "d" / "a.conf").write_text("x")
        self.settle()
        self.assertEqual(self.reloads, 1)
        (self.directory / "d" / "b.conf").write_text("y")
        self.settle()
        self.assertEqual(self.reloads, 2)

    def test_directory_replaced(self) -> None:
        """The directory may be moved away and come back."""
        self.watching()
        away = self.directory.with_name("away")
        os.rename(self.directory, away)
        self.settle()
        self.assertEqual(self.reloads, 1)
        self.directory.mkdir()
        self.path.write_text("second")
        self.settle()
        self.assertEqual(self.reloads, 2)
        self.path.write_text("third")
        self.settle()
        self.assertEqual(self.reloads, 3)

    def test_changed_before(self) -> None:
        """What has changed between the reading at the start and the watch is noticed."""
        self.watching(at_work=b"other")
        self.assertEqual(self.reloads, 1)

    def test_changed_meanwhile(self) -> None:
        """What changes while a look is made is looked at again."""
        looks: list[tuple[Deferred[RuleFiles], RuleFiles]] = []

        def look(call: Callable[[], RuleFiles]) -> Deferred[RuleFiles]:
            done: Deferred[RuleFiles] = Deferred()
            looks.append((done, call()))
            return done

        self.watching(look)
        self.path.write_text("second")
        self.settle()
        self.assertEqual(len(looks), 1)
        for done, found in looks:  # the list grows meanwhile
            done.callback(found)
            self.settle()
        self.assertEqual((len(looks), self.reloads), (2, 1))

    def test_look_fails(self) -> None:
        """A look that fails is told; the next change tries again."""
        answers: list[Any] = [TimeoutError(errno.ETIMEDOUT, "no answer")]

        def look(call: Callable[[], RuleFiles]) -> Deferred[RuleFiles]:
            done: Deferred[RuleFiles] = Deferred()
            done.errback(answers.pop()) if answers else done.callback(call())
            return done

        self.watching(look)
        self.assertIn("cannot be read", self.told.texts(LogLevel.error)[-1])
        self.path.write_text("second")
        self.settle()
        self.assertEqual(self.reloads, 1)

    def test_stop(self) -> None:
        """After the stop nothing is watched, and a look that is under way comes to nothing."""
        looks: list[Deferred[RuleFiles]] = []

        def look(call: Callable[[], RuleFiles]) -> Deferred[RuleFiles]:
            looks.append(Deferred())
            return looks[-1]

        watch = self.watching(look)
        watch.stopService()
        self.assertEqual(self.clock.readers, [])
        looks[0].callback(cast(Any, None))
        self.assertEqual((self.reloads, self.clock.getDelayedCalls()), (0, []))
        self.assertIn("RulesWatch", repr(watch))

    def test_no_inotify(self) -> None:
        """Where inotify is missing the start fails and says so."""
        missing = OSError(errno.ENOSYS, "this system has no inotify")
        with mock.patch("portfwd.service.run.watching.Inotify", side_effect=missing):
            problem = self.failed_start()
        self.assertEqual(
            problem.failures, (f"--watch: cannot watch {self.path}: this system has no inotify",)
        )

    def failed_start(self) -> StartError:
        """Why it does not start."""
        watch = RulesWatch(cast(Any, self.clock), lambda: str(self.path), DiskFiles(), b"", self.reload)
        problem = self.assertRaises(StartError, watch.startService)
        self.assertEqual(self.clock.readers, [])
        return problem

    def test_not_permitted(self) -> None:
        """The file's own directory must be readable, at the start and later; one above need not be."""
        own = str(self.directory)
        real = Inotify.watch

        def watch(made: Inotify, directory: str) -> bool:
            if directory in refused:
                raise PermissionError(errno.EACCES, "Permission denied")
            return real(made, directory)

        with mock.patch.object(Inotify, "watch", watch):
            refused = {own}
            self.assertEqual(
                list(self.failed_start().failures), [f"--watch: cannot watch {own}: Permission denied"]
            )
            refused = {"/", os.path.dirname(own)}
            self.watching()
            self.path.write_text("include d/*\n")
            refused.add(f"{own}/d")
            (self.directory / "d").mkdir()
            self.settle()
        self.assertEqual(self.reloads, 1)
        self.assertIn(f"{own}/d is not watched", self.told.texts(LogLevel.error)[-1])
