# -*- test-case-name: tests.test_errors -*-
"""
Every exception of portfwd, as one tree.

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
        ├── NotPermitted      a filter chose the target and permits none of its addresses
        ├── TLSFailed         the handshake or the verification of the certificate failed
        └── OutOfResources    our own fault: no descriptor, memory or local port; other targets would fail too

Errors of other libraries are translated into these where they enter
(``raise … from error``), so that nobody above the seam needs to know them.
This module refuses to import anything of the project but its values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from portfwd.rules.diagnostics import Problem
    from portfwd.rules.model import Ruleset


class PortfwdError(Exception):
    """The root: ``except PortfwdError`` catches what this project raises on purpose."""


class RulesError(PortfwdError):
    """
    A rules file was refused.

    :ivar problems: every problem of the file, in the order of the file;
        never empty, warnings included.
    :ivar readable: the rules that could be read all the same, so that more can be said of them; or None.
    """

    def __init__(self, problems: Sequence[Problem], readable: Ruleset | None = None) -> None:
        self.problems = tuple(problems)
        self.readable = readable
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


class NotPermitted(DialError):
    """A filter chose the target, and none of its addresses is one that it permits."""


class TLSFailed(DialError):
    """The TLS handshake did not complete, or the peer is not who it should be."""


class OutOfResources(DialError):
    """``EMFILE``, ``ENFILE``, ``ENOBUFS``, ``ENOMEM`` or ``EADDRNOTAVAIL`` on our side."""

    retry = False
