# -*- test-case-name: tests.cli.test_filters -*-
"""
``portfwd filters``: which filters a rules file can name, and who brings them.

Each is imported to ask what it does; one that cannot be is listed with the reason.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any, Final

from attrs import frozen

from portfwd.cli.reading import FINE
from portfwd.filters.registry import Origin, Registry, Unavailable
from portfwd.values import printable

#: The exit code where something is listed that no rule can use.
BROKEN: Final = 1

DESCRIPTION = """\
List the filters that rules files can name: portfwd's own, and those that
installed packages bring. Each is imported to ask what it does.

example:
  portfwd filters

exit codes:
  0  all of them can be used
  1  one cannot be imported, or two have the same name; the reason is listed
  2  the command line is wrong
"""


@frozen
class Listed:
    """
    One line of the list.

    :ivar summary: what it does; empty where that cannot be known.
    :ivar error: why no rule can use it; empty where one can.
    """

    origin: Origin
    summary: str
    error: str


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "filters",
        help="list the filters that rules can name",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """List what is installed."""
    listed = list_filters(Registry.installed())
    if arguments.json:
        print(json.dumps({"filters": [_to_json(one) for one in listed]}, indent=2))
    else:
        _print(listed)
    return BROKEN if any(one.error for one in listed) else FINE


def list_filters(registry: Registry) -> list[Listed]:
    """Every filter of `registry`, by name."""
    listed = []
    for origin in registry.origins():
        summary = error = ""
        try:
            summary = registry.load(origin).summary
            registry.find(origin.name)
        except Unavailable as refusal:
            error = refusal.message
        listed.append(Listed(origin, summary, error))
    return listed


def _print(listed: list[Listed]) -> None:
    rows = [("NAME", "PACKAGE", "WHAT IT DOES")]
    rows += [(printable(one.origin.name), printable(one.origin.package), one.summary) for one in listed]
    first, second = (max(len(row[column]) for row in rows) for column in (0, 1))
    for name, package, summary in rows:
        print(f"{name:{first}}  {package:{second}}  {summary}".rstrip())
    for error in dict.fromkeys(one.error for one in listed if one.error):
        print(f"portfwd filters: {error}", file=sys.stderr)


def _to_json(one: Listed) -> dict[str, Any]:
    return {
        "name": one.origin.name,
        "package": one.origin.package,
        "version": one.origin.version or None,
        "path": one.origin.path,
        "summary": one.summary or None,
        "error": one.error or None,
    }
