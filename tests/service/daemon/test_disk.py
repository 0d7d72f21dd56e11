"""Tests of `portfwd.service.daemon.disk`: the real files."""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase

from portfwd.errors import Problem, RulesError
from portfwd.rules import load
from portfwd.service.daemon.disk import DiskFiles


class DiskFilesTests(SynchronousTestCase):
    """Reading, matching, services."""

    def setUp(self) -> None:
        self.directory = self.mktemp()
        os.mkdir(self.directory)

    def write(self, name: str, data: bytes) -> str:
        """Make a file."""
        path = os.path.join(self.directory, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data)
        return path

    def refused(self, path: str, files: DiskFiles | None = None) -> Problem:
        """The one problem of a file."""
        error = self.assertRaises(RulesError, (files or DiskFiles()).read, path)
        (problem,) = error.problems
        return problem

    def test_text(self) -> None:
        """UTF-8, with or without a byte order mark; line ends are left alone."""
        self.assertEqual(DiskFiles().read(self.write("a", "é\r\nb".encode())), "é\r\nb")
        self.assertEqual(DiskFiles().read(self.write("b", b"\xef\xbb\xbfx")), "x")
        self.assertEqual(DiskFiles().read(self.write("c", b"")), "")

    def test_not_utf_8(self) -> None:
        """The first bad byte is told with line, column in characters, and its line."""
        problem = self.refused(self.write("a", b"ok\r\n\xc3\xa9 \xe9x\r\n\xff"))
        where = problem.location
        self.assertEqual(
            (problem.code, where.line, where.column, where.text), ("not-utf-8", 2, 3, "é \ufffdx")
        )
        problem = self.refused(self.write("b", b"\xef\xbb\xbf\xff"))
        self.assertEqual((problem.location.line, problem.location.column), (1, 1))
        self.assertIn("0xff", problem.message)

    def test_size(self) -> None:
        """A file of the bound is read, one byte more is refused; a device is not read."""
        path = self.write("a", b"x" * 10)
        self.assertEqual(len(DiskFiles(max_size=10).read(path)), 10)
        self.assertEqual(self.refused(path, DiskFiles(max_size=9)).code, "file-too-large")
        self.assertRaises(OSError, DiskFiles().read, "/dev/zero")

    def test_os_error(self) -> None:
        """What the system refuses is its own error."""
        self.assertRaises(FileNotFoundError, DiskFiles().read, os.path.join(self.directory, "none"))
        self.assertRaises(IsADirectoryError, DiskFiles().read, self.directory)

    def test_glob(self) -> None:
        """Relative to the file beside, in alphabetical order, directories left out."""
        main = self.write("main.conf", b"")
        for name in ("d/b.conf", "d/a.conf", "d/c.txt", "d/sub.conf/x"):
            self.write(name, b"")
        found = [os.path.join(self.directory, "d", name) for name in ("a.conf", "b.conf")]
        self.assertEqual(DiskFiles().glob("d/*.conf", main), found)
        self.assertEqual(DiskFiles().glob("d/../d/a.conf", main), found[:1])
        self.assertEqual(DiskFiles().glob("none*", main), [])
        self.assertEqual(DiskFiles().glob(os.path.abspath(found[0]), main), [os.path.abspath(found[0])])

    def test_glob_beside_odd_directory(self) -> None:
        """The characters of the directory's own name mean nothing to the pattern."""
        main = self.write("odd[1]*/main.conf", b"")
        other = self.write("odd[1]*/a.conf", b"")
        self.assertEqual(DiskFiles().glob("a*", main), [other])

    def test_service(self) -> None:
        """Services come from the system."""
        self.assertEqual(DiskFiles().port_of_service("http", "tcp"), 80)
        self.assertIsNone(DiskFiles().port_of_service("no-such-service", "tcp"))

    def test_load(self) -> None:
        """A file with an include loads from the disk, whatever the working directory is."""
        main = self.write("main.conf", b"include d/*.conf\r\n:http -> a:80\r\n")
        self.write("d/one.conf", b":81 -> a:81")
        ruleset = load(os.path.abspath(main), DiskFiles())
        self.assertEqual([rule.name for rule in ruleset.rules], [":81", ":80"])
