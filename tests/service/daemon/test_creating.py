"""Whether a file could be created."""

from __future__ import annotations

import errno
import os
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from portfwd.service.daemon.creating import try_to_create


class CreateTests(SynchronousTestCase):
    """The errors are those of creating the file, which is not created."""

    def setUp(self) -> None:
        """A directory."""
        self.place = os.path.abspath(self.mktemp())
        os.mkdir(self.place)

    def errno_of(self, path: str) -> int | None:
        """The error for `path`."""
        problem = self.assertRaises(OSError, try_to_create, path)
        self.assertEqual(problem.filename, path)
        return problem.errno

    def test_good(self) -> None:
        """A new name in a directory, also through a link, can be created and is not."""
        os.symlink(f"{self.place}/new", f"{self.place}/link")
        try_to_create(f"{self.place}/new")
        try_to_create(f"{self.place}/link")
        self.assertEqual(os.listdir(self.place), ["link"])

    def test_errors(self) -> None:
        """No directory, a file in its place, a link to nowhere, and a file system of the kernel."""
        with open(f"{self.place}/file", "w"):
            pass
        os.symlink(f"{self.place}/none/x", f"{self.place}/link")
        self.assertEqual(self.errno_of(f"{self.place}/none/x"), errno.ENOENT)
        self.assertEqual(self.errno_of(f"{self.place}/file/x"), errno.ENOTDIR)
        self.assertEqual(self.errno_of(f"{self.place}/link"), errno.ENOENT)
        self.assertIn(self.errno_of("/proc/x"), (errno.ENOENT, errno.EACCES))

    def test_permission(self) -> None:
        """A directory that this user may not write to."""
        with mock.patch("os.access", lambda *_: False):
            self.assertEqual(self.errno_of(f"{self.place}/x"), errno.EACCES)
