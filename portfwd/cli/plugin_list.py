# -*- test-case-name: tests.cli.test_filters,tests.cli.test_checks -*-
"""
Lists plug-ins with their packages, for ``portfwd filters`` and ``portfwd checks``.

Each plug-in is imported for its summary. If that fails, the reason is shown.
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

#: The exit code if a listed plug-in cannot be used.
BROKEN: Final = 1


class Summarised(Protocol):
    """A loaded plug-in."""

    @property
    def summary(self) -> str:
        """Its summary in one line."""


class Plugins(Protocol):
    """A registry of plug-ins."""

    def origins(self) -> Iterable[Origin]:
        """All entry points, sorted by name."""

    def load(self, origin: Origin) -> Summarised:
        """Import a plug-in."""

    def find(self, name: str) -> Summarised:
        """Find the plug-in with a name."""


@frozen
class Listed:
    """
    One line of the list.

    :ivar summary: the summary; empty if it is not known.
    :ivar error: the reason why it cannot be used, or an empty text.
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
    """All plug-ins of `registry`, sorted by name."""
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
    """Print the list of `registry` for the command `word`; return the exit code."""
    listed = list_plugins(registry)
    if as_json:
        print(json.dumps({word: [_to_json(one) for one in listed]}, indent=2))
    else:
        rows = [(one.origin.name, one.origin.package, one.summary) for one in listed]
        print(table(("NAME", "PACKAGE", "SUMMARY"), rows))
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
