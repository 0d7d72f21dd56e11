# -*- test-case-name: tests.cli.test_checks -*-
"""``portfwd checks``: which checks of targets a rules file can name, and from which package."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Final

from portfwd.cli.columns import table
from portfwd.cli.reading import FINE
from portfwd.filters.registry import Unavailable
from portfwd.upstreams.checks.registry import CheckRegistry
from portfwd.values import printable

#: The exit code where something is listed that no rule can use.
BROKEN: Final = 1

DESCRIPTION = """\
List the checks of targets that rules files can name: portfwd's own, and those that
installed packages bring. 'portfwd help check NAME' explains one.

example:
  portfwd checks

exit codes:
  0  all of them can be used
  1  one cannot be imported, or two have the same name; the reason is listed
  2  the command line is wrong
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "checks",
        help="list the checks that rules can name",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """List what is installed."""
    registry = CheckRegistry.installed()
    rows, errors = [], []
    for origin in registry.origins():
        summary = error = ""
        try:
            summary = registry.load(origin).summary
            registry.find(origin.name)
        except Unavailable as refusal:
            error = refusal.message
            errors.append(error)
        rows.append((origin, summary, error))
    if arguments.json:
        keys = ("name", "package", "version", "path", "summary", "error")
        found = [
            (origin.name, origin.package, origin.version or None, origin.path, summary or None, error or None)
            for origin, summary, error in rows
        ]
        print(json.dumps({"checks": [dict(zip(keys, one, strict=True)) for one in found]}, indent=2))
    else:
        lines = [(origin.name, origin.package, summary) for origin, summary, _ in rows]
        print(table(("NAME", "PACKAGE", "WHAT IT DOES"), lines))
        for error in dict.fromkeys(errors):
            print(f"portfwd checks: {printable(error)}", file=sys.stderr)
    return BROKEN if errors else FINE
