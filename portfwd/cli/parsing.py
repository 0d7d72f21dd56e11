# -*- test-case-name: tests.cli.test_parsing -*-
"""
The parser of command lines: an error is one line on standard error, with the way out.

It has argparse's behaviour in all else. It knows no command.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from portfwd.rules.findings import suggestion
from portfwd.values import printable

#: Like grep and diff: 0 is fine and 1 is a failure, so a wrong command line or file is 2.
WRONG = 2


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line; its parsers for commands are of the same class."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Refuse what this parser does not know, since the one around it knows other options."""
        found, rest = super().parse_known_args(args, namespace)
        if rest:
            hint = suggestion(rest[0].partition("=")[0], self._option_string_actions)
            self.error("; ".join(filter(None, (f"unrecognized arguments: {' '.join(rest)}", hint))))
        return found, rest

    def error(self, message: str) -> NoReturn:
        """Print what is wrong, and exit with `WRONG`."""
        self.exit(WRONG, f"{self.prog}: {printable(message)}; '{self.prog} --help' says more\n")


def unknown_command(prog: str, words: Sequence[str], known: Iterable[str]) -> str:
    """What is wrong with the first of `words`, if it is to be a command and is none; else an empty text."""
    if not words or words[0].startswith("-") or words[0] in (names := sorted(known)):
        return ""
    hint = suggestion(words[0], names) or f"'{prog} help' lists them"
    return f"{prog}: there is no command '{printable(words[0])}'; {hint}"
