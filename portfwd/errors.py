# -*- test-case-name: tests.test_errors -*-
"""
All exceptions of portfwd.

The class tells the cause and the remedy::

    PortfwdError
    ├── RulesError            the rules file has errors: has every problem with its place; correct the file
    ├── StartError            rules cannot be started: has one line for each; free the port, correct the path
    ├── SteerError            an operator's command cannot be done: no such rule, or it cannot be paused
    └── DialError             no upstream could be reached; ``retry``: whether to try the next target
        ├── NameNotResolved   the name has no address
        ├── ConnectRefused    the host of the upstream refused the connection
        ├── ConnectTimedOut   the upstream did not answer in time
        ├── ConnectFailed     another error of the network: no route, no permission, reset while dialling
        ├── TargetsFull       every target has ``max-conns-per-target`` sessions
        ├── TargetsDown       all targets are down or drained
        ├── NotPermitted      a filter chose the target and permits none of its addresses
        ├── TLSFailed         the handshake or the verification of the certificate failed
        └── OutOfResources    this process has no descriptor, memory or local port; other targets would fail
        too

Errors of other libraries are converted to these where they occur (``raise … from error``). This module
imports nothing else of the package.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence

from attrs import field, frozen


def reason_of(problem: BaseException) -> str:
    """Return the text of an error for a line that names the file already; for system errors, ``strerror``."""
    return (isinstance(problem, OSError) and problem.strerror) or str(problem)


@frozen
class Location:
    """
    A place in a rules file.

    :ivar file: the name as given by the user (``<rule>`` for a rule of the command line).
    :ivar line: from 1; 0 if only the file is known.
    :ivar column: from 1, in characters; 0 if only the line is known.
    :ivar length: number of characters marked by the caret line; at least 1.
    :ivar text: the source line without its end, for the caret line.
    :ivar key: path of the key in a TOML or JSON file (``forwarding_rules[2].bind_port``), else empty.
    """

    file: str
    line: int = 0
    column: int = 0
    length: int = 1
    text: str = field(default="", repr=False)
    key: str = ""

    def __str__(self) -> str:
        parts = [self.file]
        if self.line:
            parts.append(str(self.line))
            if self.column:
                parts.append(str(self.column))
        place = ":".join(parts)
        return f"{place}: {self.key}" if self.key else place


class Severity(enum.Enum):
    """The severity of a problem: an error refuses the file, a warning does not."""

    ERROR = "error"
    WARNING = "warning"


@frozen
class Problem:
    """
    One problem of a rules file.

    :ivar code: a short stable name (``unknown-option``), for programs and the reference.
    :ivar message: one line without a full stop.
    :ivar hint: how to correct it (``did you mean 'idle'?``), or empty.
    """

    location: Location
    code: str
    message: str
    hint: str = ""
    severity: Severity = Severity.ERROR

    def __str__(self) -> str:
        where = self.location
        place = where.file
        if where.line:
            place += f":{where.line}" + (f":{where.column}" if where.column else "")
        key = f"{where.key}: " if where.key else ""
        return f"{place}: {self.severity.value}: {key}{self.message}"


class PortfwdError(Exception):
    """The base class of all exceptions that portfwd raises on purpose."""


class RulesError(PortfwdError):
    """
    A rules file was refused.

    :ivar problems: all problems of the file in order, including warnings; never empty.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class StartError(PortfwdError):
    """
    Some rules cannot be started. No rule was started.

    :ivar failures: one line for each, with rule, address and reason.
    """

    def __init__(self, failures: Sequence[str]) -> None:
        self.failures = tuple(failures)
        super().__init__("\n".join(self.failures))


class SteerError(PortfwdError):
    """A command for a rule cannot be done. The message says why."""


class DialError(PortfwdError):
    """
    An upstream could not be reached.

    :cvar retry: whether another target may succeed.
    :cvar blames_target: whether the target or its name caused the error.
    :cvar is_refusal: whether the targets exist but accept no sessions now, so that ``retry=`` waits.
    """

    retry = True
    blames_target = True
    is_refusal = False


class NameNotResolved(DialError):
    """The name of the target has no address."""


class ConnectRefused(DialError):
    """``ECONNREFUSED``: no program listens at that address."""

    is_refusal = True


class ConnectTimedOut(DialError):
    """No answer within ``connect-timeout`` or ``dial-timeout``."""


class ConnectFailed(DialError):
    """Another error of the network."""


class TargetsFull(DialError):
    """The target has ``max-conns-per-target`` sessions."""


class TargetsDown(DialError):
    """All targets are down or drained."""

    is_refusal = True


class NotPermitted(DialError):
    """A filter chose the target and permits none of its addresses."""

    blames_target = False


class TLSFailed(DialError):
    """The TLS handshake failed, or the certificate of the peer was not accepted."""


class OutOfResources(DialError):
    """``EMFILE``, ``ENFILE``, ``ENOBUFS``, ``ENOMEM`` or ``EADDRNOTAVAIL`` in this process."""

    blames_target = False
    retry = False
