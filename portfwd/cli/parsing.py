# -*- test-case-name: tests.cli.test_parsing -*-
"""
The parser of command lines. An error is one line on standard error, with the remedy.

It behaves like argparse in all other respects.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

from portfwd.rules.findings import suggestion
from portfwd.values import printable

#: The exit code for a wrong command line or file. As with grep and diff, 0 is success and 1 a failure.
WRONG = 2


class Parser(argparse.ArgumentParser):
    """A parser whose errors have one line. Its parsers of commands have the same class."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Refuse unknown options here, because the outer parser has other options."""
        found, rest = super().parse_known_args(args, namespace)
        if rest:
            hint = suggestion(rest[0].partition("=")[0], self._option_string_actions)
            self.error("; ".join(filter(None, (f"unrecognized arguments: {' '.join(rest)}", hint))))
        return found, rest

    def error(self, message: str) -> NoReturn:
        """Print the error, and exit with `WRONG`."""
        self.exit(WRONG, f"{self.prog}: {printable(message)}; see '{self.prog} --help'\n")


def unknown_command(
    prog: str, words: Sequence[str], known: Iterable[str], meant: Callable[[str], str] = lambda word: ""
) -> str:
    """
    The message if the first of `words` is an unknown command; else an empty text.

    :param meant: what to write instead of a word that is known elsewhere; an empty text for others.
    """
    if not words or words[0].startswith("-") or words[0] in (names := sorted(known)):
        return ""
    hint = meant(words[0]) or suggestion(words[0], names) or f"'{prog} help' lists the commands"
    return f"{prog}: there is no command '{printable(words[0])}'; {hint}"
