# -*- test-case-name: tests.test_errors -*-
"""
Every exception of portfwd, as one tree, and what they carry.

The class says whose fault it is and what to do about it::

    PortfwdError
    ├── RulesError            the file is wrong: carries every problem with its place; fix the file
    ├── StartError            a rule cannot be started: carries one line for each; free the port, fix the path
    ├── SteerError            an operator asked for what cannot be done: no such rule, or it cannot wait
    └── DialError             no upstream could be reached; ``retry``: may the next target be tried
        ├── NameNotResolved   the resolver has no (good) answer for the name
        ├── ConnectRefused    the upstream's host answered, and said no
        ├── ConnectTimedOut   nobody answered in time
        ├── ConnectFailed     any other error of the network: no route, no permission, reset while dialling
        ├── TargetsFull       every target has ``max-conns-per-target`` sessions
        ├── TargetsDown       no target is to be tried: all are down or drained
        ├── NotPermitted      a filter chose the target and permits none of its addresses
        ├── TLSFailed         the handshake or the verification of the certificate failed
        └── OutOfResources    our own fault: no descriptor, memory or local port; other targets would fail too

Errors of other libraries are translated into these where they enter
(``raise … from error``), so that no caller needs to know them. This module
imports nothing else of the package.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence

from attrs import field, frozen


@frozen
class Location:
    """
    A place in a rules file.

    :ivar file: the name as the user gave it (``<rule>`` for one from the command line).
    :ivar line: from 1; 0 where only the file is known.
    :ivar column: from 1, in characters; 0 where only the line is known.
    :ivar length: how many characters the caret line marks; at least 1.
    :ivar text: the source line without its end, for the caret.
    :ivar key: the key path in a TOML or JSON file (``forwarding_rules[2].bind_port``), else empty.
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
    """How bad a problem is: an error refuses the file, a warning does not."""

    ERROR = "error"
    WARNING = "warning"


@frozen
class Problem:
    """
    One thing that is wrong.

    :ivar code: a short stable name (``unknown-option``), for machines and the reference.
    :ivar message: one line, no full stop.
    :ivar hint: the way out (``did you mean 'idle'?``), or empty.
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
    """The root: ``except PortfwdError`` catches what this project raises on purpose."""


class RulesError(PortfwdError):
    """
    A rules file was refused.

    :ivar problems: every problem of the file, in the order of the file;
        never empty, warnings included.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class StartError(PortfwdError):
    """
    Some rules cannot be started; nothing was started.

    :ivar failures: one line for each, naming rule, address and reason.
    """

    def __init__(self, failures: Sequence[str]) -> None:
        self.failures = tuple(failures)
        super().__init__("\n".join(self.failures))


class SteerError(PortfwdError):
    """A rule cannot be steered as was asked; the message says why."""


class DialError(PortfwdError):
    """
    An attempt to reach an upstream failed.

    :cvar retry: whether another target may still succeed.
    """

    retry = True


class NameNotResolved(DialError):
    """The target's name has no address now."""


class ConnectRefused(DialError):
    """``ECONNREFUSED``: the host is there, nobody listens."""


class ConnectTimedOut(DialError):
    """No answer within ``connect-timeout`` or ``dial-timeout``."""


class ConnectFailed(DialError):
    """The network said no in another way."""


class TargetsFull(DialError):
    """The target has as many sessions as ``max-conns-per-target`` allows."""


class TargetsDown(DialError):
    """Every target is down or drained, and none of them is to be tried."""


class NotPermitted(DialError):
    """A filter chose the target, and none of its addresses is one that it permits."""


class TLSFailed(DialError):
    """The TLS handshake did not complete, or the peer is not who it should be."""


class OutOfResources(DialError):
    """``EMFILE``, ``ENFILE``, ``ENOBUFS``, ``ENOMEM`` or ``EADDRNOTAVAIL`` on our side."""

    retry = False
