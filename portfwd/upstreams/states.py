# -*- test-case-name: tests.upstreams.test_states -*-
"""
The health of all targets of the process, by address, and the rules to notify of changes.

Rules that have the same target with the same checks share one `TargetHealth`, so it survives reloads, which
make new rules. Each change is logged once, with its cause; the log event has fields for programs. For the
same reason the orders of operators are stored here, by rule and target.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol
from weakref import WeakSet, WeakValueDictionary

from twisted.logger import Logger

from portfwd.upstreams.health import Health, StateChange, TargetState, Verdict
from portfwd.upstreams.pool import Member

#: Maximum number of rules that one log line names.
MOST_NAMED = 4


class HealthWatcher(Protocol):
    """
    A rule that has a target.

    :ivar name: name of the rule.
    """

    @property
    def name(self) -> str:
        """See the class."""

    def health_changed(self, health: Health, change: StateChange) -> None:
        """The state of a target has changed."""


class TargetHealth(Health):
    """
    The health of an address, shared by rules.

    :ivar watchers: the rules that have the target.
    """

    def __init__(self, label: str, checks: tuple[str, ...]) -> None:
        super().__init__(label, checks)
        self.watchers: WeakSet[HealthWatcher] = WeakSet()


class TargetStates:
    """The health of all targets, and the orders of operators."""

    _log = Logger()

    def __init__(self, seconds: Callable[[], float]) -> None:
        """:param seconds: the reactor's clock."""
        self.seconds = seconds
        self._healths: WeakValueDictionary[tuple[str, tuple[str, ...]], TargetHealth] = WeakValueDictionary()
        self._by_address: WeakValueDictionary[str, TargetHealth] = WeakValueDictionary()
        self._orders: dict[tuple[str, str], TargetState] = {}

    def __repr__(self) -> str:
        return f"<TargetStates {len(self._healths)} known, {len(self._orders)} ordered>"

    @property
    def down(self) -> int:
        """The number of targets that are down."""
        return sum(one.state is TargetState.DOWN for one in tuple(self._healths.values()))

    def of(self, key: str, label: str, checks: tuple[str, ...]) -> TargetHealth:
        """
        Return the health of one target; make it if there is none.

        :param key: its address and protocol.
        :param checks: identities of the checks that determine the state.
        """
        health = self._healths.get((key, checks))
        if health is None:
            health = TargetHealth(label, checks)
            known = self._by_address.get(key)
            if known is not None:
                health.inherit(known)
            self._healths[key, checks] = health
        self._by_address[key] = health
        return health

    # Observations

    def failed(self, member: Member, cause: str) -> None:
        """A session could not reach `member`."""
        self._tell(member.health, member.health.dial_failed(self.seconds(), cause, member.ejection))

    def reached(self, member: Member) -> None:
        """A session has reached `member`."""
        self._tell(member.health, member.health.dial_succeeded(self.seconds()))

    def checked(
        self, health: Health, identity: str, verdict: Verdict, seconds: float, rise: int, fall: int
    ) -> None:
        """A check of a target has a verdict; the parameters are those of `Health.checked`."""
        if health.is_told_again(identity, verdict, seconds):
            return  # most verdicts change nothing
        if health.checks[identity].unanswered:
            self._log.info(
                "{rules}: target {target}: there are verdicts again: {cause}",
                rules=self.rules_of(health), target=health.label, cause=verdict.cause,
            )  # fmt: skip
        wishes = verdict.share is not None or health.checks[identity].verdict.share is not None
        share = health.share if wishes else 1.0
        change = health.checked(identity, verdict, self.seconds(), seconds, rise, fall)
        if wishes and change is None and health.share != share:
            change = StateChange(health.state, health.state, verdict.cause)
        self._tell(health, change)

    def unanswered(self, health: Health, identity: str, cause: str) -> None:
        """A check of a target gave no verdict. This is logged once, until there is a verdict."""
        if health.unanswered(identity, cause):
            self._log.warn(
                "{rules}: target {target} stays {state}: {cause}",
                rules=self.rules_of(health), target=health.label, state=health.state.value, cause=cause,
            )  # fmt: skip

    def rules_of(self, health: Health) -> str:
        """Return the names of the rules that have a target, for the log."""
        # A rule that a reload has replaced may have the name of its successor.
        names = list(dict.fromkeys(watcher.name for watcher in _watchers(health)))
        if len(names) > MOST_NAMED:
            names[MOST_NAMED:] = [f"and {len(names) - MOST_NAMED} more"]
        return ", ".join(names) or "-"

    def _tell(self, health: Health, change: StateChange | None) -> None:
        if change is None:
            return
        down = change.after is TargetState.DOWN
        what = "is now" if change.after is change.before else "is"
        (self._log.warn if down else self._log.info)(
            "{rules}: target {target} {what} {state}: {cause}",
            rules=self.rules_of(health),
            target=health.label,
            what=what,
            state=change.after.value,
            before=change.before.value,
            cause=change.cause,
        )
        for watcher in _watchers(health):
            watcher.health_changed(health, change)

    # Orders

    @property
    def has_orders(self) -> bool:
        """Whether there are orders of operators."""
        return bool(self._orders)

    def ordered(self, rule: str, label: str) -> TargetState | None:
        """Return the order of an operator for a target of a rule; None: health decides."""
        return self._orders.get((rule, label))

    def order(self, rule: str, label: str, state: TargetState | None) -> None:
        """Store an order; None removes it."""
        if state is None:
            self._orders.pop((rule, label), None)
        else:
            self._orders[rule, label] = state
        self._log.info(
            "{rules}: target {target}: {state}, ordered by an operator",
            rules=rule,
            target=label,
            state="auto" if state is None else state.value,
        )


def _watchers(health: Health) -> list[HealthWatcher]:
    return sorted(health.watchers, key=_name) if isinstance(health, TargetHealth) else []


def _name(watcher: HealthWatcher) -> str:
    return watcher.name
