"""Tests of `portfwd.cli.reading`: a file, its problems, and the exit code."""

from __future__ import annotations

import os

from portfwd.cli.reading import BAD_FILE, CANNOT_READ, FINE, CommandFiles, read_rules, tally
from portfwd.errors import Location, Problem, RulesError, Severity
from portfwd.values import counted
from tests.cli.running import GOOD, CommandTestCase


class ReadTests(CommandTestCase):
    """What comes of reading a file."""

    def test_good(self) -> None:
        """A good file has a ruleset and is fine."""
        read = read_rules(self.file(GOOD))
        assert read.ruleset is not None
        self.assertEqual((len(read.ruleset.rules), read.exit_code), (1, FINE))

    def test_warnings_are_fine(self) -> None:
        """Warnings alone do not fail a file."""
        read = read_rules(self.file("# nothing\n"), allow_empty=True)
        self.assertEqual([problem.code for problem in read.problems], ["no-rules"])
        self.assertEqual(read.exit_code, FINE)

    def test_bad(self) -> None:
        """Errors of the text are the file's fault."""
        for path in (self.file("what is this"), self.file(b"\xff\xfe"), self.file("a: 1\n", ".yaml")):
            read = read_rules(path)
            self.assertEqual((read.ruleset, read.exit_code), (None, BAD_FILE))

    def test_unreadable(self) -> None:
        """
        A file that is not there cannot be read; an included one is an error of the file.

        A pattern that matches nothing is a warning.
        """
        self.assertEqual(read_rules(self.missing()).exit_code, CANNOT_READ)
        including = self.file(f"{GOOD}\ninclude {self.missing()}\n")
        self.assertEqual(read_rules(including).exit_code, BAD_FILE)
        including = self.file(f"{GOOD}\ninclude {self.missing()}*\n")
        self.assertEqual(read_rules(including).exit_code, FINE)


class PipeTests(CommandTestCase):
    """A file of the command line may be a pipe."""

    def fifo(self) -> str:
        """A pipe with a name."""
        path = os.path.abspath(self.mktemp())
        os.mkfifo(path)
        return path

    def test_patience(self) -> None:
        """A pipe is read to its end; the wait for data has a limit."""
        fifo = self.fifo()
        self.assertRaises(TimeoutError, CommandFiles(named=fifo, timeout=0.01).read, fifo)
        reader, writer = os.pipe()
        self.addCleanup(os.close, reader)
        files = CommandFiles(named=f"/dev/fd/{reader}", timeout=0.01)
        os.write(writer, b":1 -> a:1\n")
        self.assertRaises(TimeoutError, files.read, files.named)
        os.write(writer, b":2 -> a:1\n")
        os.close(writer)
        self.assertEqual(files.read(files.named), ":2 -> a:1\n")

    def test_others(self) -> None:
        """A file that is included is a regular one, as at a start; a directory is none."""
        fifo = self.fifo()
        read = read_rules(self.file(f"{GOOD}\ninclude {fifo}\n"))
        self.assertIn("it is not a regular file", read.problems[0].message)
        self.assertRaises(IsADirectoryError, CommandFiles(named="/").read, "/")
        endless = CommandFiles(named="/dev/zero", max_size=1000)
        self.assertRaises(RulesError, endless.read, "/dev/zero")


class WordsTests(CommandTestCase):
    """Counting in words."""

    def test_counted(self) -> None:
        """One is singular."""
        self.assertEqual([counted(number, "rule") for number in (0, 1, 2)], ["0 rules", "1 rule", "2 rules"])

    def test_tally(self) -> None:
        """Errors come before warnings; nothing is said of what there is none of."""
        error = Problem(Location("a"), "x", "y")
        warning = Problem(Location("a"), "x", "y", severity=Severity.WARNING)
        self.assertEqual(tally([warning, error, error]), "2 errors, 1 warning")
        self.assertEqual(tally([warning]), "1 warning")
        self.assertEqual(tally([]), "")
