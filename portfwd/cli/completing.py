# -*- test-case-name: tests.cli.test_completing -*-
"""
``portfwd complete``: prints names, one per line, for the completion of shells.

Filters and checks are those that are installed. For all other names it asks the forwarder at
``$PORTFWD_ADMIN`` or at the default path. If there is none, it prints nothing, because the shell would show
an error in the middle of a command line.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import Final

from portfwd.cli.control import DEFAULT_PATH, VARIABLE, Control, ControlError
from portfwd.cli.reading import FINE
from portfwd.values import printable

#: Maximum seconds for the answer, for which the shell waits.
ANSWER_TIMEOUT: Final = 2.0

#: The kinds of words: a request, and the field of each row of its answer that is the word.
KINDS: Final = {"rules": "name", "sessions": "id", "targets": "target"}
#: The kind of words after ``help filter`` and ``help check``.
PLUGINS: Final = "plugins"


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line. The help does not list it."""
    parser = commands.add_parser("complete", description="Print words for the completion of shells.")
    parser.add_argument("kind", choices=(*KINDS, PLUGINS))
    parser.add_argument("after", nargs="?", default="", help="the word before it on the command line")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run ``portfwd complete``."""
    if arguments.kind == PLUGINS:
        return print_plugins(arguments.after)
    # The targets of a rule; the other kinds do not depend on another word.
    return print_words(arguments.kind, (arguments.after,) if arguments.kind == "targets" else ())


def print_plugins(topic: str) -> int:
    """Print the names of all filters or checks; nothing for another topic."""
    # The imports load what only these words need.
    from portfwd.filters.registry import Registry
    from portfwd.upstreams.checks.registry import CheckRegistry

    names: set[str] = set()
    if topic == "filter":
        names = {origin.name for origin in Registry.installed().origins()}
    elif topic == "check":
        names = {origin.name for origin in CheckRegistry.installed().origins()}
    for name in sorted(names):
        print(printable(name))
    return FINE


def print_words(kind: str, words: Sequence[str] = ()) -> int:
    """Print the words of one of `KINDS`; return the exit code."""
    try:
        with Control(os.environ.get(VARIABLE) or DEFAULT_PATH, ANSWER_TIMEOUT) as control:
            for row in control.ask(kind, words)[kind]:
                print(printable(str(row[KINDS[kind]])))
    except ControlError:
        pass
    return FINE
