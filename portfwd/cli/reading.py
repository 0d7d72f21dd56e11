# -*- test-case-name: tests.cli.test_reading -*-
"""
Reads the rules file of a command, and converts its problems to an exit code.

It prints nothing and raises nothing. Each command reports the problems in its own form.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

from attrs import field, frozen

from portfwd.errors import Location, Problem, RulesError, Severity
from portfwd.rules.include import cannot_be_read
from portfwd.rules.load import RefusedFile, load
from portfwd.rules.model import Ruleset
from portfwd.rules.support import everything_wrong
from portfwd.service.daemon.disk import DiskFiles
from portfwd.service.daemon.regular import READ_TIMEOUT, open_any
from portfwd.values import counted

FINE: Final = 0
CANNOT_READ: Final = 1
BAD_FILE: Final = 2


@frozen
class ReadRules:
    """
    The result of reading a file.

    :ivar ruleset: the rules; None after an error.
    :ivar problems: errors and warnings, in the order of the file.
    :ivar readable: the rules that could be read, for further checks; None if there are none.
    :ivar unended: the last line of each file that ends without a newline.
    """

    path: str
    ruleset: Ruleset | None
    problems: tuple[Problem, ...]
    readable: Ruleset | None = None
    unended: tuple[Location, ...] = ()

    @property
    def exit_code(self) -> int:
        """`FINE`, `BAD_FILE`, or `CANNOT_READ` if the file itself could not be read."""
        if not any(problem.severity is Severity.ERROR for problem in self.problems):
            return FINE
        return CANNOT_READ if cannot_be_read(self.path, self.problems) else BAD_FILE


#: The name of standard input on a command line, and in messages.
STDIN: Final = "-"
STDIN_NAME: Final = "<stdin>"
#: Extensions of files whose grammar does not need a final newline.
OTHER_FORMS: Final = (".toml", ".yaml", ".yml", ".json")


@frozen
class CommandFiles(DiskFiles):
    """
    The files of a command. The file on the command line may be a pipe; included files may not.

    :ivar named: the path on the command line.
    :ivar timeout: maximum seconds to wait for data of a pipe.
    :ivar unended: receives the last line of each file that ends without a newline.
    """

    named: str = STDIN_NAME
    timeout: float = READ_TIMEOUT
    unended: list[Location] = field(factory=list)

    def read(self, path: str) -> str:
        """See `DiskFiles`."""
        if path != self.named:
            return super().read(path)
        if path == STDIN_NAME:
            return self.decode(path, sys.stdin.buffer.read(self.max_size + 1))
        with open_any(path, self.timeout) as file:
            return self.decode(path, file.read(self.max_size + 1))

    def decode(self, path: str, data: bytes) -> str:
        """See `DiskFiles`."""
        text = super().decode(path, data)
        if text and not text.endswith(("\n", "\r")) and not path.lower().endswith(OTHER_FORMS):
            last = text[text.rfind("\n") + 1 :]
            self.unended.append(Location(path, text.count("\n") + 1, len(last), 1, last))
        return text


def read_rules(path: str, *, allow_empty: bool = False) -> ReadRules:
    """Read a rules file, or standard input for ``-``, and its includes. Errors are in the result."""
    path = STDIN_NAME if path == STDIN else path
    files = CommandFiles(named=path)
    try:
        ruleset = load(path, files, allow_empty=allow_empty)
    except RulesError as error:
        readable = error.readable if isinstance(error, RefusedFile) else None
        return ReadRules(path, None, everything_wrong(error), readable, tuple(files.unended))
    return ReadRules(path, ruleset, ruleset.warnings, ruleset, tuple(files.unended))


def tally(problems: Sequence[Problem]) -> str:
    """The numbers of errors and warnings, such as ``2 errors, 1 warning``; empty if there are none."""
    errors = sum(problem.severity is Severity.ERROR for problem in problems)
    kinds = ((errors, "error"), (len(problems) - errors, "warning"))
    return ", ".join(counted(number, noun) for number, noun in kinds if number)
