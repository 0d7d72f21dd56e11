# -*- test-case-name: tests.admin.test_commands -*-
"""
The interface of a running forwarder for operators.

`portfwd.service.operators.forwarder_operator` implements it. Tests have other implementations.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Protocol

from attrs import frozen

from portfwd.admin.changes import LoggedLine
from portfwd.values import CloseReason, Direction, SessionSummary

#: A JSON value.
Json = Any


class OperatorError(Exception):
    """
    A request failed.

    :ivar code: code of the error for programs, such as ``not-found`` or ``refused``.
    """

    def __init__(self, code: str, message: str, details: Mapping[str, Json] | None = None) -> None:
        """
        :param message: one line of text.
        :param details: further keys of the answer.
        """
        super().__init__(message)
        self.code = code
        self.details = {} if details is None else dict(details)


class LiveSession(Protocol):
    """A session that is not closed."""

    id: int

    @property
    def state(self) -> Any:
        """Its state; ``value`` is the name of the state."""

    def summary(self) -> SessionSummary:
        """The summary of the session so far."""

    def tcp_info(self) -> tuple[bytes, bytes]:
        """The ``TCP_INFO`` of both connections (`portfwd.wire.tcp_info`), the client's first."""

    def kill(self, reason: CloseReason) -> None:
        """Reset both sides now."""


@frozen
class RuleView:
    """
    One active rule, for one port of its range.

    :ivar name: name of the rule of this port.
    :ivar file_rule: name in the rules file, the same for all ports of a range.
    :ivar listen: the bound addresses.
    :ivar targets: names of the targets in messages.
    :ivar state: state of its listener: ``accepting``, ``paused``, ``closed``, or ``draining`` while it is
        closed and has sessions.
    :ivar sessions: number of sessions that are not closed, including those from before a reload.
    :ivar total: number of all sessions so far.
    :ivar filters: names of the filters, in order.
    :ivar filter_failures: number of exceptions of filters.
    :ivar where: place in the rules file.
    """

    name: str
    file_rule: str
    listen: tuple[str, ...]
    targets: tuple[str, ...]
    state: str
    sessions: int
    total: int
    filters: tuple[str, ...]
    filter_failures: int
    where: str


@frozen
class FaultView:
    """
    One ``filter faults`` clause.

    :ivar number: its number in the rule, from 1.
    :ivar options: its options in the form of a rules file.
    :ivar connections: number of connections that it could affect since it was first on.
    :ivar affected: number of those that it affects by its probability.
    """

    rule: str
    number: int
    kind: str
    active: bool
    options: tuple[tuple[str, str], ...]
    connections: int
    affected: int


@frozen
class CheckView:
    """
    The state of one check of a target.

    :ivar passing: whether it passes; None before the first verdict.
    :ivar cause: cause of the last verdict.
    :ivar seconds: duration of the last check.
    :ivar problem: why the last check gave no verdict, or failed although the check still passes; or empty.
    """

    name: str
    passing: bool | None
    cause: str
    seconds: float | None
    problem: str = ""


@frozen
class TargetView:
    """
    One target of a rule.

    :ivar rule: name of the rule of this port.
    :ivar name: name of the target group for routes; empty for the rule's own targets.
    :ivar target: name of the target in messages.
    :ivar state: ``up``, ``starting``, ``drain`` or ``down``.
    :ivar cause: reason of the state; empty if it has always been up.
    :ivar since: seconds since the last change of the state; None if it has not changed.
    :ivar ordered: whether an operator has set the state.
    :ivar share: its share of new sessions by ``balance=`` and weight, 0 to 1.
    :ivar sessions: number of its sessions; with several targets including dials.
    :ivar dials: number of dials.
    :ivar failures: number of failed dials.
    """

    rule: str
    name: str
    target: str
    state: str
    cause: str
    since: float | None
    ordered: bool
    share: float
    backup: bool
    sessions: int
    dials: int
    failures: int
    checks: tuple[CheckView, ...]


class Operator(Protocol):
    """
    The operations of a forwarder for operators.

    `rule` is a name in the rules file, which means all ports of its range, or the name of the rule of one
    port. All methods raise `OperatorError`.

    :ivar version: version of portfwd.
    """

    version: str

    def status(self) -> dict[str, Json]:
        """Figures of the whole forwarder."""

    def rule_count(self) -> int:
        """Number of active rules. Each port of a range counts."""

    def rules(self, start: int = 0) -> Iterator[RuleView]:
        """The rules in the order of the file, from number `start` on; evaluated lazily."""

    def sessions(self, rule: str | None = None) -> Iterator[LiveSession]:
        """All sessions, or those of `rule`. Some may be closed when the iterator returns them."""

    def session(self, number: int) -> LiveSession:
        """One session."""

    def detail(self, session: LiveSession) -> dict[str, Json]:
        """Details of one session in addition to its summary."""

    def kill(self, session: LiveSession) -> None:
        """Reset a session with the close reason ``KD``."""

    def drain(self, rule: str) -> list[str]:
        """Close the listeners, and let sessions finish until the drain limit; return the rules' names."""

    def pause(self, rule: str) -> list[str]:
        """Stop accepting; clients wait in the backlog. Returns the names of the rules."""

    def resume(self, rule: str) -> list[str]:
        """Accept clients again. Returns the names of the rules."""

    def targets(self, rule: str | None, start: int = 0) -> Iterator[TargetView]:
        """The targets of `rule`, or of all rules, from number `start` on; evaluated lazily."""

    def order_target(self, rule: str, target: str, state: str) -> list[str]:
        """
        Set the state of a target, independent of checks and dials.

        :param state: ``drain``, ``down`` or ``up``; ``auto`` to use checks and dials again.
        :returns: the names of the rules.
        """

    def faults(self, rule: str | None) -> list[FaultView]:
        """The faults of `rule`, or of all rules."""

    def set_faults(
        self, rule: str, which: str, active: bool | None, options: Mapping[str, str]
    ) -> list[FaultView]:
        """
        Enable or disable faults of `rule`, or change their options.

        :param which: a number, a kind or ``all``.
        :param active: whether they are enabled; None for no change.
        :param options: new options, by their names in a rules file.
        :returns: the changed faults.
        """

    def log_level(self, level: str | None) -> str:
        """The minimum level of the log. If `level` is given, it is set first."""

    def explain(self, client: str, listen: str) -> dict[str, Json]:
        """The effect of the rules on a connection: ``explanation`` for programs, ``text`` for people."""

    def changes(self, after: int) -> tuple[int, Iterator[LoggedLine]]:
        """The number of the latest line of the log, and the kept lines with numbers larger than `after`."""

    def tap(self, session: LiveSession, saw: Callable[[Direction, bytes], None]) -> Callable[[], None]:
        """Call `saw` with a copy of the bytes of both sides; return a function that ends the tap."""

    def reload(self, dry_run: bool, code: bool = False) -> Awaitable[dict[str, Json]]:
        """Read the rules file again, and apply it unless `dry_run` is true; return the difference."""

    def stop(self) -> None:
        """Drain and exit, as after SIGTERM. The second call resets the sessions."""
