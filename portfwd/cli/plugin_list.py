# -*- test-case-name: tests.cli.test_filters,tests.cli.test_checks -*-
"""
What ``portfwd filters`` and ``portfwd checks`` list: plug-ins, and who brings them.

Each is imported to ask what it does; one that cannot be is listed with the reason.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from typing import Any, Final, Protocol

from attrs import frozen

from portfwd.cli.columns import table
from portfwd.cli.reading import FINE
from portfwd.filters.registry import Origin, Unavailable
from portfwd.values import printable

#: The exit code where something is listed that no rule can use.
BROKEN: Final = 1


class Summarised(Protocol):
    """A plug-in that was found."""

    @property
    def summary(self) -> str:
        """What it does, in one line."""


class Plugins(Protocol):
    """A registry of plug-ins."""

    def origins(self) -> Iterable[Origin]:
        """Every entry point, by name."""

    def load(self, origin: Origin) -> Summarised:
        """Import a plug-in."""

    def find(self, name: str) -> Summarised:
        """Find the plug-in of a name."""


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


def add_list_parser(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], word: str, description: str
) -> argparse.ArgumentParser:
    """Add the command `word`, ``filters`` or ``checks``, to the command line."""
    parser = commands.add_parser(
        word,
        help=f"list the {word} that rules can name",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    return parser


def list_plugins(registry: Plugins) -> list[Listed]:
    """Every plug-in of `registry`, by name."""
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


def show_plugins(word: str, registry: Plugins, *, as_json: bool) -> int:
    """Print the list of `registry` for the command `word`; the exit code."""
    listed = list_plugins(registry)
    if as_json:
        print(json.dumps({word: [_to_json(one) for one in listed]}, indent=2))
    else:
        rows = [(one.origin.name, one.origin.package, one.summary) for one in listed]
        print(table(("NAME", "PACKAGE", "WHAT IT DOES"), rows))
        for error in dict.fromkeys(one.error for one in listed if one.error):
            print(f"portfwd {word}: {printable(error)}", file=sys.stderr)
    return BROKEN if any(one.error for one in listed) else FINE


def _to_json(one: Listed) -> dict[str, Any]:
    return {
        "name": one.origin.name,
        "package": one.origin.package,
        "version": one.origin.version or None,
        "path": one.origin.path,
        "summary": one.summary or None,
        "error": one.error or None,
    }
