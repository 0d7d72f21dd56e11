# -*- test-case-name: tests.cli.test_completing -*-
"""
``portfwd complete``: the words of a running forwarder, one a line, for the completion of shells.

It asks the forwarder of ``$PORTFWD_ADMIN``, else the one at the default path. It prints nothing where there
is none, because its output appears while somebody types.
"""

from __future__ import annotations

import argparse
import os
from typing import Final

from portfwd.cli.control import DEFAULT_PATH, VARIABLE, Control, ControlError
from portfwd.cli.reading import FINE
from portfwd.values import printable

#: Seconds for the answer: a shell waits for it.
ANSWER_TIMEOUT: Final = 2.0

#: What can be asked for: a request, and the field of each row in its answer that is the word.
KINDS: Final = {"rules": "name", "sessions": "id"}


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line; no help lists it."""
    parser = commands.add_parser("complete", description="Print words for the completion of shells.")
    parser.add_argument("kind", choices=tuple(KINDS))
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the words."""
    return print_words(arguments.kind)


def print_words(kind: str) -> int:
    """Print the words of one of `KINDS`; the exit code."""
    try:
        with Control(os.environ.get(VARIABLE) or DEFAULT_PATH, ANSWER_TIMEOUT) as control:
            for row in control.ask(kind)[kind]:
                print(printable(str(row[KINDS[kind]])))
    except ControlError:
        pass
    return FINE
