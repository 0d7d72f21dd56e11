"""Tests of which files are tight enough to say who may come in."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from portfwd.admin import tight_files
from portfwd.admin.tight_files import LooseFile, check_directories, check_private, read_tight
from tests.integration.programs import temporary_directory


class TightTestCase(SynchronousTestCase):
    """A directory that only this user can access."""

    def setUp(self) -> None:
        self.directory: Path = temporary_directory(self)
        self.file = self.directory / "keys"
        self.file.write_bytes(b"key")
        self.file.chmod(0o644)


class ReadTests(TightTestCase):
    """Files."""

    def test_tight(self) -> None:
        """A file that only this user can write is read; a secret must not be readable by others either."""
        self.assertEqual(read_tight(str(self.file)), b"key")
        self.file.chmod(0o600)
        self.assertEqual(read_tight(str(self.file), secret=True), b"key")

    def test_loose(self) -> None:
        """What others may write, or of a secret read, is refused with the command that mends it."""
        for mode, secret, way_out in (
            (0o664, False, "chmod go-w"),
            (0o646, False, "chmod go-w"),
            (0o640, True, "chmod go-rwx"),
        ):
            self.file.chmod(mode)
            error = self.assertRaises(LooseFile, read_tight, str(self.file), secret=secret)
            self.assertIn(f"{way_out} {self.file}", str(error))

    def test_others_file(self) -> None:
        """A file of another user is refused."""
        status = os.stat_result((stat.S_IFREG | 0o600, 1, 1, 1, os.geteuid() + 1, 0, 3, 0, 0, 0))
        self.patch(os, "fstat", lambda descriptor: status)
        error = self.assertRaises(LooseFile, read_tight, str(self.file))
        self.assertIn("chown", str(error))

    def test_no_file(self) -> None:
        """A device, and a file that is no file of keys by its size, are refused; what is not there is not."""
        self.assertRaises(LooseFile, read_tight, "/dev/null")
        self.patch(tight_files, "MAX_SIZE", 2)
        self.assertRaises(LooseFile, read_tight, str(self.file))
        self.assertRaises(FileNotFoundError, read_tight, str(self.directory / "none"))


class DirectoryTests(TightTestCase):
    """What is above a file."""

    def test_loose(self) -> None:
        """A directory in which others may put another file in its place is refused; a sticky one is not."""
        self.directory.chmod(0o777)
        self.assertIn("go-w", str(self.assertRaises(LooseFile, read_tight, str(self.file))))
        self.directory.chmod(0o1777)
        self.assertEqual(read_tight(str(self.file)), b"key")
        check_directories(str(self.file))

    def test_far_above(self) -> None:
        """So is one that is further above, also by way of a link."""
        inner = self.directory / "a" / "b"
        inner.mkdir(parents=True)
        link = temporary_directory(self) / "link"
        link.symlink_to(inner)
        check_directories(str(link / "file"))
        inner.parent.chmod(0o770)
        self.assertRaises(LooseFile, check_directories, str(link / "file"))

    def test_private(self) -> None:
        """A private directory is 0700, and a directory; so are those above tight."""
        check_private(str(self.directory))
        self.directory.chmod(0o750)
        self.assertIn("go-rwx", str(self.assertRaises(LooseFile, check_private, str(self.directory))))
        self.assertRaises(LooseFile, check_private, str(self.file))
        self.assertRaises(FileNotFoundError, check_private, str(self.directory / "none"))
