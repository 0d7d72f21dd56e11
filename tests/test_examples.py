"""
Every rules file that is shown to somebody loads, and asks for nothing that this version cannot do.

``examples/`` and ``docs/listings/``, in every grammar; a new file there is tested without a change here.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from portfwd.filters.options import OptionFiles
from portfwd.filters.registry import Origin, Registry
from portfwd.rules import format_problem, load, unsupported
from portfwd.rules.model import Ruleset
from portfwd.service.build import filters as clauses
from portfwd.service.build.checks import check_problems
from portfwd.service.build.filters import filter_problems
from portfwd.service.daemon.disk import DiskFiles
from portfwd.upstreams.checks.registry import BUILT_IN

ROOT = Path(__file__).resolve().parents[1]
ROOMS = (ROOT / "examples", ROOT / "docs" / "listings")


def rules_files() -> list[Path]:
    """Every rules file that is shown."""
    found = (path for room in ROOMS for path in room.rglob("*") if path.suffix in {".conf", ".toml"})
    # Other files of YAML are for other programs.
    return [
        ROOT / "examples" / "rinetd-uv.yaml",
        *sorted(path for path in found if path.name != "pyproject.toml"),
    ]


def read(path: Path) -> Ruleset:
    """What `path` says."""
    return load(os.fspath(path), DiskFiles())


class ExampleTests(SynchronousTestCase):
    """What people copy works."""

    def test_there_are_some(self) -> None:
        """The files of the README and of the quick start are among those that are tested."""
        names = {path.name for path in rules_files()}
        shown = {"quickstart.conf", "web.conf", "services.conf", "rinetd.conf", "oxidinetd.toml"}
        self.assertEqual(shown - names, set())

    def test_load(self) -> None:
        """Each has rules and loads without a problem, not even a warning."""
        for path in rules_files():
            ruleset = read(path)
            self.assertNotEqual(ruleset.rules, (), path)
            self.assertEqual([format_problem(problem) for problem in ruleset.warnings], [], path)

    def test_filters(self) -> None:
        """Every clause of a filter is one that the filter takes."""
        places = (ROOT / "examples" / "filter-package", ROOT / "docs" / "listings")
        self.patch(sys, "path", [*map(os.fspath, places), *sys.path])
        for module in ("ssh_only", "authorise"):
            self.addCleanup(sys.modules.pop, module, None)
        own = Origin("ssh-only", "ssh_only:SSHOnly", "portfwd-ssh-only")
        registry = Registry([*Registry.installed().origins(), own])
        # What an example has in /etc lies beside it here.
        files = OptionFiles(lambda path: (ROOT / "examples" / "filters" / Path(path).name).read_text(), str)
        # Certificates of filters are read when the rules are; nobody has those of the examples.
        self.patch(clauses, "start_problem", lambda rule, factory: "")
        for path in rules_files():
            problems = [format_problem(problem) for problem in filter_problems(read(path), registry, files)]
            self.assertEqual(problems, [], path)

    def test_checks(self) -> None:
        """Every clause of a check is one that the check takes; each check has an example."""
        files = OptionFiles(lambda path: "secret\n", str)
        for path in rules_files():
            problems = [format_problem(problem) for problem in check_problems(read(path), files=files)]
            self.assertEqual(problems, [], path)
        for name in BUILT_IN:
            text = (ROOT / "examples" / "checks" / f"{name}.conf").read_text()
            self.assertRegex(text, rf"(?m)^\s+check {name}\b")

    def test_supported(self) -> None:
        """None uses what this version cannot obey."""
        for path in rules_files():
            problems = [format_problem(problem) for problem in unsupported(read(path))]
            self.assertEqual(problems, [], path)
