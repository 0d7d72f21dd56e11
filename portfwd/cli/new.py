# -*- test-case-name: tests.cli.test_new -*-
"""
``portfwd new``: writes a package with a filter or a check, its tests, its page and its CI.

The templates are in the folder ``packages`` beside this module: common ones in ``shared``, the others in the
folder of their kind. Words between ``@`` are replaced by the name and its variants. Existing files are not
overwritten.
"""

from __future__ import annotations

import argparse
import re
import sys
from importlib.resources import files
from pathlib import Path
from typing import Final

from portfwd.cli.parsing import WRONG
from portfwd.cli.reading import FINE
from portfwd.filters.registry import BUILT_IN as OWN_FILTERS
from portfwd.upstreams.checks.registry import BUILT_IN as OWN_CHECKS
from portfwd.values import printable

#: Exit code if the package is not written.
NOT_WRITTEN: Final = 1

#: The kinds of packages, with the summary of the template.
KINDS: Final = {
    "filter": "closes connections whose client does not start with the expected bytes.",
    "check": "passes if the target answers a line with the expected line.",
}

#: The names that are taken.
BUILT_IN: Final = {"filter": OWN_FILTERS, "check": OWN_CHECKS}

#: Names as in rules files: lower-case letters and digits, with ``-`` between words.
NAME: Final = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*", re.ASCII)

DESCRIPTION = """\
Write a package with a working filter or check, as a start for your own. Its tests
pass without changes, without a network and without an installation. An existing
directory is not changed.

examples:
  portfwd new filter no-shouting
  portfwd new check game-server -o work/game-server

exit codes:
  0  written
  1  the directory exists, or cannot be written
  2  the command line is wrong
"""


def package(kind: str, name: str) -> dict[str, str]:
    """The files of a package by path in its directory."""
    stem = name.replace("-", "_")
    words = {
        "kind": kind,
        "name": name,
        "module": f"portfwd_{stem}",
        "class": "".join(part.capitalize() for part in name.split("-")) + kind.capitalize(),
        "summary": KINDS[kind],
        "Summary": KINDS[kind][0].upper() + KINDS[kind][1:],
    }
    places = {
        "pyproject.toml": ("shared", "pyproject.toml"),
        "README.md": ("shared", "README.md"),
        ".github/workflows/tests.yml": ("shared", "tests.yml"),
        f"{words['module']}.py": (kind, "module.py"),
        f"test_{words['module']}.py": (kind, "test.py"),
        f"{name}.md": (kind, "page.md"),
        f"{name}.conf": (kind, "rules.conf"),
    }
    folder = files("portfwd.cli").joinpath("packages")
    return {
        path: re.sub(
            r"@(\w+)@",
            lambda match: words[match[1]],
            folder.joinpath(where, f"{file}.txt").read_text("utf-8"),
        )
        for path, (where, file) in places.items()
    }


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "new",
        help="write a package with a filter or a check",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("kind", metavar="KIND", choices=tuple(KINDS), help="filter or check")
    parser.add_argument("name", metavar="NAME", help="its name in rules files")
    parser.add_argument(
        "-o", "--output", metavar="DIRECTORY", help="the directory to create; without it, ./NAME"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run ``portfwd new``."""
    name: str = arguments.name
    if NAME.fullmatch(name) is None:
        print(
            f"portfwd new: '{printable(name)}' is not a valid name: use lower-case letters and digits,"
            " with '-' between words",
            file=sys.stderr,
        )
        return WRONG
    if name in BUILT_IN[arguments.kind]:
        print(
            f"portfwd new: portfwd has a {arguments.kind} '{name}' of its own; choose another name",
            file=sys.stderr,
        )
        return WRONG
    directory = Path(name if arguments.output is None else arguments.output)
    try:
        directory.mkdir(parents=True)
        for path, text in package(arguments.kind, name).items():
            place = directory / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text, "utf-8")
    except OSError as problem:
        reason = (
            "it exists; name another one, or remove it"
            if isinstance(problem, FileExistsError)
            else problem.strerror
        )
        print(f"portfwd new: {printable(str(directory))}: {reason}", file=sys.stderr)
        return NOT_WRITTEN
    print(f"{printable(str(directory))}: run its tests there with 'python -m unittest'")
    return FINE
