# -*- test-case-name: tests.admin.test_commands -*-
"""
What operators can ask of a running forwarder, as the admin room sees it.

`portfwd.service.operators.operating` has the object behind it; tests have others.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Protocol

from attrs import frozen

from portfwd.admin.changes import LoggedLine
from portfwd.values import CloseReason, Direction, SessionSummary

#: What goes into an answer: text, numbers, truth, nothing, and lists and objects of these.
Json = Any


class OperatorError(Exception):
    """
    What was asked for cannot be done.

    :ivar code: a word for programs: ``not-found``, ``refused`` and their like.
    """

    def __init__(self, code: str, message: str, details: Mapping[str, Json] | None = None) -> None:
        """
        Say why.

        :param message: one line for people.
        :param details: goes into the answer beside it.
        """
        super().__init__(message)
        self.code = code
        self.details = {} if details is None else dict(details)


class LiveSession(Protocol):
    """A session that is not closed."""

    id: int

    @property
    def state(self) -> Any:
        """Where it stands; its ``value`` is the word for it."""

    def summary(self) -> SessionSummary:
        """What it did so far."""

    def tcp_info(self) -> tuple[bytes, bytes]:
        """What the kernel tells of both connections (`portfwd.wire.tcp_info`), the client's first."""

    def kill(self, reason: CloseReason) -> None:
        """Reset both sides now."""


@frozen
class RuleView:
    """
    One rule at work, for one port of its range.

    :ivar name: of this port's rule.
    :ivar file_rule: the name in the rules file, the same for all ports of a range.
    :ivar listen: the addresses that are bound.
    :ivar targets: as messages name them.
    :ivar state: of its listener: ``accepting``, ``paused``, ``closed``, or ``draining`` while it is closed
        and has sessions.
    :ivar sessions: those that are not closed, with those that began before a reload.
    :ivar total: how many there have been.
    :ivar filters: names, in order.
    :ivar filter_failures: how often one of them raised.
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

    :ivar number: which one of its rule, from 1.
    :ivar options: as a rules file would write them.
    :ivar asked: connections that it could have struck.
    :ivar struck: those that chance chose.
    """

    rule: str
    number: int
    kind: str
    active: bool
    options: tuple[tuple[str, str], ...]
    asked: int
    struck: int


@frozen
class CheckView:
    """
    What one check of a target says.

    :ivar passing: None before the first verdict.
    :ivar cause: of the last verdict.
    :ivar seconds: how long the last check took.
    """

    name: str
    passing: bool | None
    cause: str
    seconds: float | None


@frozen
class TargetView:
    """
    One target of a rule.

    :ivar rule: the name of this port's rule.
    :ivar name: the one that routes lead to; empty for the rule's own targets.
    :ivar target: as messages name it.
    :ivar state: ``up``, ``starting``, ``drain`` or ``down``.
    :ivar cause: why; empty where it has always been up.
    :ivar since: seconds for which it has been so; None: always.
    :ivar ordered: an operator said so.
    :ivar share: its part of new sessions, 0 to 1, as far as weights decide.
    :ivar sessions: those that it has; with several targets, with dials.
    :ivar dials: how often it was dialled.
    :ivar failures: how often it could not be reached.
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
    The forwarder, for operators.

    A RULE is a name in the rules file, which means all ports of its range, or the name of one of them.
    All methods raise `OperatorError`.

    :ivar version: of portfwd.
    """

    version: str

    def status(self) -> dict[str, Json]:
        """Figures of the whole."""

    def rule_count(self) -> int:
        """How many rules are at work, a range's ports each counted."""

    def rules(self, start: int = 0) -> Iterator[RuleView]:
        """Rules in the order of the file, from number `start` on; looked at one by one."""

    def sessions(self, rule: str | None = None) -> Iterator[LiveSession]:
        """All sessions, or those of RULE; some may be closed by the time that they are looked at."""

    def session(self, number: int) -> LiveSession:
        """One session."""

    def detail(self, session: LiveSession) -> dict[str, Json]:
        """What is to be said of one session beyond its summary."""

    def kill(self, session: LiveSession) -> None:
        """Reset it, with the close reason ``KD``."""

    def drain(self, rule: str) -> list[str]:
        """Close the listeners and let sessions finish for a while; the names of those this holds for."""

    def pause(self, rule: str) -> list[str]:
        """Accept nobody; clients wait in the backlog."""

    def resume(self, rule: str) -> list[str]:
        """Accept again."""

    def targets(self, rule: str | None, start: int = 0) -> Iterator[TargetView]:
        """The targets of RULE, or of all rules, from number `start` on; looked at one by one."""

    def order_target(self, rule: str, target: str, state: str) -> list[str]:
        """
        Override checks and dials: ``drain``, ``down``, ``up``, or ``auto`` to let them decide again.

        :returns: the names of the rules that this holds for.
        """

    def faults(self, rule: str | None) -> list[FaultView]:
        """The faults of RULE, or of all rules."""

    def set_faults(
        self, rule: str, which: str, active: bool | None, options: Mapping[str, str]
    ) -> list[FaultView]:
        """
        Switch faults of RULE, or make them stronger.

        :param which: a number, a kind or ``all``.
        :param active: None: as it is.
        :param options: by the names that a rules file uses.
        :returns: how those stand then.
        """

    def log_level(self, level: str | None) -> str:
        """The least level that is logged; a `level` sets it first."""

    def explain(self, client: str, listen: str) -> dict[str, Json]:
        """What would happen to a connection: ``explanation`` for programs, ``text`` for people."""

    def changes(self, after: int) -> tuple[int, Iterator[LoggedLine]]:
        """The number of the latest line of the log, and the kept lines with numbers larger than `after`."""

    def tap(self, session: LiveSession, saw: Callable[[Direction, bytes], None]) -> Callable[[], None]:
        """Show a copy of what both sides send; what is returned ends it."""

    def reload(self, dry_run: bool, code: bool = False) -> Awaitable[dict[str, Json]]:
        """Read the rules file again, and apply it unless `dry_run`; the difference."""

    def stop(self) -> None:
        """As SIGTERM: drain and exit; the second time cut."""
