"""Tests of `portfwd.rules.include`: which files, in which order, how far."""

from __future__ import annotations

import fnmatch
import posixpath

from twisted.trial.unittest import SynchronousTestCase

from portfwd.errors import Location, Problem, RulesError
from portfwd.rules import load
from portfwd.rules.include import MAX_DEPTH, MAX_FILES


class MemoryFiles:
    """Files in a dict."""

    def __init__(self, files: dict[str, str | Exception]) -> None:
        self.files = files

    def read(self, path: str) -> str:
        text = self.files[path]
        if isinstance(text, Exception):
            raise text
        return text

    def glob(self, pattern: str, beside: str) -> list[str]:
        wanted = posixpath.normpath(posixpath.join(posixpath.dirname(beside), pattern))
        return sorted(fnmatch.filter(self.files, wanted))

    def port_of_service(self, name: str, protocol: str) -> int | None:
        return {"http": 80}.get(name)


class IncludeTests(SynchronousTestCase):
    """Files within files."""

    def names(self, files: dict[str, str | Exception], main: str = "main.conf") -> list[str]:
        """Names of the rules of a file."""
        return [rule.name for rule in load(main, MemoryFiles(files)).rules]

    def codes(self, files: dict[str, str | Exception]) -> list[str]:
        """What is wrong, with the file."""
        try:
            problems = load("main.conf", MemoryFiles(files)).warnings
        except RulesError as error:
            problems = error.problems
        return [f"{problem.location} {problem.code}" for problem in problems]

    def test_in_place(self) -> None:
        """What matches is read where the line stands, in alphabetical order."""
        files: dict[str, str | Exception] = {
            "etc/main.conf": "a: :1 -> x:1\ninclude d/*.conf\nz: :9 -> x:1",
            "etc/d/2.conf": "c: :3 -> x:1",
            "etc/d/1.conf": "b: :2 -> x:1",
            "d/0.conf": "wrong: :4 -> x:1",
        }
        self.assertEqual(self.names(files, "etc/main.conf"), ["a", "b", "c", "z"])
        self.assertEqual(
            load("etc/main.conf", MemoryFiles(files)).files, ("etc/main.conf", "etc/d/1.conf", "etc/d/2.conf")
        )

    def test_relative(self) -> None:
        """A name is relative to the file that says it."""
        files: dict[str, str | Exception] = {
            "main.conf": "include a/b.conf",
            "a/b.conf": "include c.conf",
            "a/c.conf": "x: :1 -> x:1",
            "c.conf": "wrong: :2 -> x:1",
        }
        self.assertEqual(self.names(files), ["x"])

    def test_directory(self) -> None:
        """A directory is not read; the hint has the pattern for its files."""
        files: dict[str, str | Exception] = {"main.conf": "include conf.d/", "conf.d/a.conf": ":1 -> x:1"}
        with self.assertRaises(RulesError) as caught:
            load("main.conf", MemoryFiles(files))
        (problem,) = caught.exception.problems
        self.assertEqual((problem.code, str(problem.location)), ("include-no-match", "main.conf:1:9"))
        self.assertEqual(problem.message, "'conf.d/' is a directory")
        self.assertEqual(problem.hint, "write include conf.d/*.conf")

    def test_defaults(self) -> None:
        """Defaults reach into an included file, and those of it do not reach out."""
        files: dict[str, str | Exception] = {
            "main.conf": "default idle=1m\ninclude a.conf\n:3 -> x:1",
            "a.conf": ":1 -> x:1\ndefault idle=2m\n:2 -> x:1",
        }
        rules = load("main.conf", MemoryFiles(files)).rules
        self.assertEqual([rule.options.idle for rule in rules], [60.0, 120.0, 60.0])

    def test_access_and_clauses(self) -> None:
        """An access line goes to the last rule read, with a warning across files; a clause never crosses."""
        files: dict[str, str | Exception] = {
            "main.conf": ":1 -> x:1\ninclude a.conf\nallow 10.*",
            "a.conf": "deny 1.*\ndeny 2.*\n:2 -> x:1",
        }
        rules = load("main.conf", MemoryFiles(files)).rules
        self.assertEqual([[e.pattern for e in rule.access] for rule in rules], [["1.*", "2.*"], ["10.*"]])
        self.assertEqual(
            self.codes(files), ["main.conf:3:1 access-across-files", "a.conf:1:1 access-across-files"]
        )
        self.assertEqual(
            self.codes({"main.conf": ":1 -> x:1\ninclude a.conf", "a.conf": "  filter sni"}),
            ["a.conf:1:3 clause-without-rule"],
        )

    def test_cycles(self) -> None:
        """A file that includes itself, under any spelling of its name, is an error."""
        self.assertEqual(
            self.codes({"main.conf": "include *.conf\n:1 -> x:1"}), ["main.conf:1:9 include-cycle"]
        )
        self.assertEqual(
            self.codes({"main.conf": "include a/x.conf", "a/x.conf": "include ../main.conf"}),
            ["a/x.conf:1:9 include-cycle"],
        )

    def test_twice(self) -> None:
        """The same file twice is no cycle; its rules then clash."""
        files: dict[str, str | Exception] = {
            "main.conf": "include a.conf\ninclude a.conf",
            "a.conf": ":1 -> x:1",
        }
        self.assertEqual(self.codes(files), ["a.conf:1:1 listen-clash"])

    def test_depth(self) -> None:
        """Ten levels are read, the eleventh is not."""
        files: dict[str, str | Exception] = {
            f"{n}.conf": f"include {n + 1}.conf" for n in range(1, MAX_DEPTH)
        }
        files["main.conf"] = "include 1.conf"
        files[f"{MAX_DEPTH}.conf"] = ":1 -> x:1"
        self.assertEqual(self.codes(files), [])
        files[f"{MAX_DEPTH}.conf"] = f"include {MAX_DEPTH + 1}.conf"
        files[f"{MAX_DEPTH + 1}.conf"] = ":1 -> x:1"
        self.assertEqual(self.codes(files), [f"{MAX_DEPTH}.conf:1:9 include-depth"])

    def test_number(self) -> None:
        """There is a bound on all files together."""
        files: dict[str, str | Exception] = {f"d/{n}.conf": "" for n in range(MAX_FILES - 1)}
        files["main.conf"] = "include d/*\n:1 -> x:1"
        self.assertEqual(self.codes(files), [])
        files["d/more.conf"] = ""
        self.assertEqual(self.codes(files), ["main.conf:1:9 too-many-files"])

    def test_unreadable(self) -> None:
        """A file that cannot be read is an error where it is asked for; the others are read."""
        files: dict[str, str | Exception] = {
            "main.conf": "include d/*\nfrob",
            "d/1": OSError(13, "Permission denied"),
            "d/2": RulesError([Problem(Location("d/2", 1, 1), "not-utf-8", "m")]),
            "d/3": OSError(),
        }
        self.assertEqual(
            self.codes(files),
            [
                "main.conf:1:9 unreadable-file",
                "main.conf:1:9 unreadable-file",
                "main.conf:2:1 unknown-directive",
                "d/2:1:1 not-utf-8",
            ],
        )

    def test_nothing(self) -> None:
        """No match is a warning, no name an error."""
        self.assertEqual(
            self.codes({"main.conf": "include x\ninclude\n:1 -> x:1"}),
            ["main.conf:1:9 include-no-match", "main.conf:2:1 missing-argument"],
        )
