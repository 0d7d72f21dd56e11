"""Tests for `portfwd.kernel.inotify`, with the kernel's own events."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from twisted.trial.unittest import SkipTest, SynchronousTestCase
from zope.interface.verify import verifyObject

from portfwd.kernel import inotify
from portfwd.kernel.inotify import FileChange, Inotify


class InotifyTests(SynchronousTestCase):
    """Changes in directories; the test reads them in place of a reactor."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.reactor = mock.Mock()
        self.told: list[tuple[str, str, FileChange]] = []
        self.changed: Callable[[tuple[str, str, FileChange]], object] = self.told.append
        try:
            self.inotify = Inotify(self.reactor, lambda *told: self.changed(told))
        except OSError as problem:
            raise SkipTest(f"needs inotify: {problem}") from None
        self.addCleanup(self.inotify.close)

    def news(self) -> list[tuple[str, FileChange]]:
        """What has happened since the last time."""
        self.told.clear()
        self.inotify.doRead()
        return [(name, change) for _, name, change in self.told]

    def test_changes(self) -> None:
        """A file that is written, replaced, given other rights and removed."""
        self.inotify.watch(str(self.directory))
        path = self.directory / "a"
        path.write_text("1")
        self.assertEqual(
            self.news(), [("a", FileChange.CREATED), ("a", FileChange.MODIFIED), ("a", FileChange.CLOSED)]
        )
        self.assertEqual({directory for directory, _, _ in self.told}, {str(self.directory)})
        os.rename(path, self.directory / "b")
        self.assertEqual(self.news(), [("a", FileChange.MOVED_FROM), ("b", FileChange.MOVED_TO)])
        os.chmod(self.directory / "b", 0o600)
        os.unlink(self.directory / "b")
        self.assertEqual(self.news(), [("b", FileChange.ATTRIBUTES), ("b", FileChange.DELETED)])
        self.assertEqual(self.news(), [])

    def test_directory_gone(self) -> None:
        """A directory that is removed is told, and can be watched again when it is back."""
        self.inotify.watch(str(self.directory))
        self.directory.rmdir()
        self.assertEqual(self.news(), [("", FileChange.IGNORED)])
        self.assertEqual(list(self.inotify.directories), [])
        problem = self.assertRaises(FileNotFoundError, self.inotify.watch, str(self.directory))
        self.assertEqual(problem.errno, errno.ENOENT)
        self.directory.mkdir()
        self.inotify.watch(str(self.directory))
        (self.directory / "é").symlink_to("x")
        self.assertEqual(self.news(), [("é", FileChange.CREATED)])

    def test_replaced(self) -> None:
        """Another directory of that name is watched in place of the first, which has moved."""
        self.assertTrue(self.inotify.watch(str(self.directory)))
        self.assertFalse(self.inotify.watch(str(self.directory)))
        away = self.directory.with_name("away")
        os.rename(self.directory, away)
        self.directory.mkdir()
        self.assertTrue(self.inotify.watch(str(self.directory)))
        (away / "old").touch()
        (self.directory / "new").mkdir()
        self.assertEqual(self.news(), [("new", FileChange.CREATED)])

    def test_forget(self) -> None:
        """What is forgotten tells nothing, whether it is there or not."""
        self.inotify.watch(str(self.directory))
        self.inotify.forget(str(self.directory))
        (self.directory / "a").touch()
        self.assertEqual(self.news(), [])
        self.inotify.watch(str(self.directory))
        (self.directory / "a").unlink()
        self.directory.rmdir()
        self.inotify.forget(str(self.directory))
        self.assertEqual(self.news(), [])

    def test_overflow(self) -> None:
        """That events were lost is told."""
        event = inotify.HEAD.pack(-1, FileChange.OVERFLOW, 0, 0)
        with mock.patch("os.read", return_value=event):
            self.assertEqual(self.news(), [("", FileChange.OVERFLOW)])

    def test_closed_while_told(self) -> None:
        """A listener may close it; nothing more is told."""
        self.inotify.watch(str(self.directory))
        (self.directory / "a").write_text("1")
        self.changed = lambda told: self.inotify.close()
        self.inotify.doRead()
        self.reactor.removeReader.assert_called_once_with(self.inotify)
        self.assertEqual(self.inotify.fileno(), -1)

    def test_descriptor(self) -> None:
        """It is what a reactor reads from, and ends with the reactor."""
        self.assertTrue(verifyObject(IReadDescriptor, self.inotify))
        self.reactor.addReader.assert_called_once_with(self.inotify)
        self.assertEqual(self.inotify.logPrefix(), "inotify")
        self.assertEqual(repr(self.inotify), "<Inotify 0 directories>")
        self.inotify.connectionLost(Failure(Exception()))
        self.assertEqual(self.inotify.fileno(), -1)


class MissingTests(SynchronousTestCase):
    """Systems that have none, or no more."""

    def failure(self, library: Any, number: int = 0) -> OSError:
        """What is raised with that C library."""
        with (
            mock.patch("ctypes.CDLL", return_value=library),
            mock.patch("ctypes.get_errno", return_value=number),
        ):
            return self.assertRaises(OSError, Inotify, mock.Mock(), mock.Mock())

    def test_missing(self) -> None:
        """A C library without it."""
        problem = self.failure(object())
        self.assertEqual((problem.errno, problem.strerror), (errno.ENOSYS, "this system has no inotify"))

    def test_limits(self) -> None:
        """The limit that was reached is named, since the kernel's text is another matter's."""
        library = mock.Mock()
        library.inotify_init1.return_value = -1
        self.assertIn("max_user_instances", str(self.failure(library, errno.EMFILE)))
        self.assertIn("max_user_watches", str(self.failure(library, errno.ENOSPC)))
        self.assertIn("Permission denied", str(self.failure(library, errno.EACCES)))
