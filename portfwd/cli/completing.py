# -*- test-case-name: tests.cli.test_completing -*-
"""
``portfwd complete``: prints names of a running forwarder, one per line, for the completion of shells.

It asks the forwarder at ``$PORTFWD_ADMIN`` or at the default path. If there is none, it prints nothing,
because the shell would show an error in the middle of a command line.
"""

from __future__ import annotations

import argparse
import os
from typing import Final

from portfwd.cli.control import DEFAULT_PATH, VARIABLE, Control, ControlError
from portfwd.cli.reading import FINE
from portfwd.values import printable

#: Maximum seconds for the answer, for which the shell waits.
ANSWER_TIMEOUT: Final = 2.0

#: The kinds of words: a request, and the field of each row of its answer that is the word.
KINDS: Final = {"rules": "name", "sessions": "id"}


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line. The help does not list it."""
    parser = commands.add_parser("complete", description="Print words for the completion of shells.")
    parser.add_argument("kind", choices=tuple(KINDS))
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run ``portfwd complete``."""
    return print_words(arguments.kind)


def print_words(kind: str) -> int:
    """Print the words of one of `KINDS`; return the exit code."""
    try:
        with Control(os.environ.get(VARIABLE) or DEFAULT_PATH, ANSWER_TIMEOUT) as control:
            for row in control.ask(kind)[kind]:
                print(printable(str(row[KINDS[kind]])))
    except ControlError:
        pass
    return FINE
