"""Tests of ``portfwd new``: a package whose tests pass at once."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

from portfwd.cli import new
from tests.cli.running import CommandTestCase

ROOT = Path(__file__).resolve().parents[2]
MYPY = "[mypy]\nstrict = true\n"


class NewTests(CommandTestCase):
    """Packages to begin with."""

    def make(self, kind: str) -> Path:
        """A package."""
        directory = Path(self.mktemp()) / "package"
        self.assertEqual(self.run_main("new", kind, "my-own", "-o", str(directory))[0], 0)
        return directory

    def python(self, directory: Path, *words: str) -> str:
        """Run Python in the package's directory; nothing is installed."""
        environment = {**os.environ, "PYTHONPATH": f"{directory.resolve()}{os.pathsep}{ROOT}"}
        done = subprocess.run(
            [sys.executable, *words],
            cwd=directory,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def test_its_own_tests(self) -> None:
        """The tests of each kind pass, and its code has types."""
        for kind in new.KINDS:
            directory = self.make(kind)
            self.assertIn("Ran 3 tests", self.python(directory, "-m", "unittest"))
            if find_spec("mypy") is not None:
                (directory / "mypy.ini").write_text(MYPY)
                self.python(directory, "-m", "mypy", "portfwd_my_own.py", "test_portfwd_my_own.py")

    def test_names_that_are_taken(self) -> None:
        """A package with the name of a built-in filter or check would make the name ambiguous."""
        for kind, name in (("filter", "sni"), ("check", "http")):
            code, _, said = self.run_main("new", kind, name)
            self.assertEqual(code, 2)
            self.assertIn(f"a {kind} '{name}' of its own", said)
            self.assertFalse(Path(name).exists())

    def test_installed(self) -> None:
        """An installation finds it by its entry point: ``check`` takes its file, and ``help`` its options."""
        for kind in new.KINDS:
            directory = self.make(kind)
            project = tomllib.loads((directory / "pyproject.toml").read_text())["project"]
            # What an installation leaves, as far as anybody looks for it.
            info = directory / "portfwd_my_own-0.1.0.dist-info"
            info.mkdir()
            (info / "METADATA").write_text(
                f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 0.1.0\n"
            )
            (group,) = project["entry-points"]
            ((name, where),) = project["entry-points"][group].items()
            (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {where}\n")
            self.assertEqual(group, f"portfwd.{kind}s")
            self.python(directory, "-m", "portfwd.cli.main", "check", "my-own.conf")
            said = self.python(directory, "-m", "portfwd.cli.main", "help", kind, "my-own")
            self.assertIn({"filter": "begin", "check": "expect"}[kind], said)

    def test_nothing_left_open(self) -> None:
        """No word of a template is left."""
        for kind in new.KINDS:
            for path, text in new.package(kind, "a-b2").items():
                self.assertNotRegex(text, r"@\w+@", path)

    def test_names(self) -> None:
        """A name is one that rules files and Python can have."""
        for name in ("My-Own", "my own", "../x", "-x", "2x", "x-", ""):
            code, _, err = self.run_main("new", "filter", "--", name)
            self.assertEqual((code, "is not a valid name" in err), (2, True), name)

    def test_existing(self) -> None:
        """A directory that exists is left as it is."""
        directory = self.make("filter")
        code, _, err = self.run_main("new", "check", "other", "-o", str(directory))
        self.assertEqual(
            (code, err), (1, f"portfwd new: {directory}: it exists; name another one, or remove it\n")
        )
        self.assertFalse((directory / "other.conf").exists())
