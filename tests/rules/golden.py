"""
The broken rules files and what is said about them.

``broken/CODE.conf`` (or ``.toml``, ``.yaml``, ``.rule`` for the command line)
has a problem of that code; its name with ``.txt`` added is the exact text about it.
After a change that was meant, ``python -m tests.rules.golden`` writes the texts anew;
read the difference.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from portfwd.errors import Problem, RulesError
from portfwd.extras import Interpreter
from portfwd.filters.registry import Origin, Registry
from portfwd.rules import format_problem, load, parse_rule, unsupported
from portfwd.rules.findings import MAX_PROBLEMS
from portfwd.rules.tokens import MAX_LINE
from portfwd.service.build.checks import check_problems
from portfwd.service.build.filters import filter_problems
from portfwd.service.daemon.disk import DiskFiles

BROKEN = Path(__file__).parent / "broken"
FIXTURES = Path(__file__).parent / "fixtures"
SERVICES = {"http": 80, "https": 443, "domain": 53}
#: Codes that only show when the filters of a file are looked for.
FILTER_CODES = {
    "unknown-filter",
    "ambiguous-filter",
    "filter-import-failed",
    "filter-api-version",
    "bad-filter",
    "bad-filter-option",
    "bad-filter-order",
    "bad-route-pattern",
    "route-without-routing-filter",
}
#: The filters that these files name.
FILTERS = Registry(
    Origin(name, f"tests.filters.{path}", package, "1.2")
    for name, path, package in (
        ("bare", "plugins:Bare", "some-filters"),
        ("leader", "plugins:LEADER", "some-filters"),
        ("broken", "broken_plugin:PLUGIN", "some-filters"),
        ("nothing", "plugins:NOTHING", "some-filters"),
        ("old", "plugins:OLD", "some-filters"),
        ("router", "plugins:ROUTER", "some-filters"),
        ("pedant", "plugins:PEDANT", "some-filters"),
        ("twice", "plugins:ROUTER", "other-filters"),
        ("twice", "plugins:Bare", "some-filters"),
    )
)


class GoldenFiles:
    """The disk, but for what it cannot show every test: no permission, a thousand files, a small bound."""

    def read(self, path: str) -> str:
        if path == "forbidden.conf":
            raise PermissionError(13, "Permission denied", path)
        if path.startswith("many/"):
            return ""
        text = DiskFiles(max_size=64 if path == "file-too-large.conf" else 100_000).read(path)
        # What is about much text has a few words of it.
        if path == "line-too-long.conf":
            return text.replace("much", "much" * MAX_LINE)
        return text * (MAX_PROBLEMS + 1) if path == "too-many-problems.conf" else text

    def glob(self, pattern: str, beside: str) -> list[str]:
        if pattern == "forbidden.conf":
            return [pattern]
        if pattern == "many/*.conf":
            return [f"many/{number:04}.conf" for number in range(1001)]
        return DiskFiles().glob(pattern, beside)

    def port_of_service(self, name: str, protocol: str) -> int | None:
        return SERVICES.get(name)


@contextmanager
def inside(directory: Path) -> Iterator[None]:
    """Work in a directory, so that messages name files as their users would."""
    before = os.getcwd()
    os.chdir(directory)
    try:
        yield
    finally:
        os.chdir(before)


def broken_files() -> list[Path]:
    """Every file that a golden text is about."""
    return sorted(
        path for path in BROKEN.iterdir() if path.suffix in {".conf", ".toml", ".yaml", ".json", ".rule"}
    )


def problems_of(path: Path) -> tuple[Problem, ...]:
    """What is wrong with a file, warnings included."""
    absent = {"yaml": None} if path.stem == "yaml-not-installed" else {}
    python = Interpreter("/opt/portfwd/bin/python", "/opt/portfwd", "/usr", ())
    with inside(BROKEN), patch.dict(sys.modules, absent), patch("portfwd.extras.running", lambda: python):
        try:
            if path.suffix == ".rule":
                return parse_rule(path.read_text("utf-8")).warnings
            ruleset = load(path.name, GoldenFiles())
            if path.stem.endswith(("-check", "-check-option")):
                return check_problems(ruleset)
            if path.stem in FILTER_CODES:
                return filter_problems(ruleset, FILTERS)
        except RulesError as error:
            return error.problems
        return unsupported(ruleset) if path.stem == "not-yet" else ruleset.warnings


def text_of(path: Path) -> str:
    """The text about a file; of very many problems the last ones."""
    problems = problems_of(path)
    return "".join(format_problem(problem) + "\n" for problem in problems[-2 if len(problems) > 100 else 0 :])


def golden_path(path: Path) -> Path:
    """Where the text about a file is kept."""
    return path.with_name(path.name + ".txt")


if __name__ == "__main__":
    for broken in broken_files():
        golden_path(broken).write_text(text_of(broken), "utf-8")
