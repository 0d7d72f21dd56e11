# -*- test-case-name: tests.relay.test_live -*-
"""Makes and counts the sessions of one listener's rule."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Final

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from portfwd.filters.api import IFilterFactory
from portfwd.kernel.failures import log_warning
from portfwd.kernel.turn_clock import AT_ONCE
from portfwd.limits.admission import Admission
from portfwd.limits.descriptors import Descriptors
from portfwd.relay.balancing import RuleCheck
from portfwd.relay.context import Opener, RelayContext
from portfwd.relay.destination import Destination
from portfwd.relay.filtered import FilteredSession
from portfwd.relay.plan import starts_tls
from portfwd.relay.rule import NumberedSession, RelayRule, SessionLog
from portfwd.relay.secured import SecuredSession
from portfwd.relay.session import Session
from portfwd.rules.access import AccessList
from portfwd.rules.model import OnDown, Rule
from portfwd.streams.datagrams.carrier import Carrier
from portfwd.streams.stream import Stream
from portfwd.upstreams.health import Health, StateChange, TargetState
from portfwd.upstreams.timeout_queue import TimeoutQueue
from portfwd.values import CloseReason

#: Seconds between two equal log lines.
COMPLAINT_INTERVAL: Final = 10.0
#: Seconds in which the sessions of a target that went down are closed, and the number of steps.
CLOSED_WITHIN: Final = 1.0
CLOSING_STEPS: Final = 50


class LiveRule(RelayRule):
    """
    A rule with its sessions.

    :ivar sessions: the open sessions.
    :ivar counts: the counts of this and earlier rules of the same name.
    :ivar when_empty: called when the last session is closed; None for no call.
    :ivar heir: the rule that has replaced this one in a reload, or None.
    :ivar older: the rules that this one has replaced and that still have sessions.
    """

    _log = Logger()
    _has_counted = False

    def __init__(
        self,
        rule: Rule,
        name: str,
        destinations: Sequence[Destination],
        access: AccessList,
        context: RelayContext,
        log: SessionLog,
        wall_clock: Callable[[], float],
        ids: Iterator[int] | None = None,
        written: tuple[str, str, str, str] | None = None,
        streams: Opener | None = None,
        filters: Sequence[tuple[str, IFilterFactory]] = (),
        routes: Mapping[object, Destination] | None = None,
        checks: Sequence[RuleCheck] = (),
    ) -> None:
        """:param ids: the source of session numbers, shared by all rules of a process."""
        super().__init__(
            rule,
            name,
            destinations,
            access,
            context,
            log,
            wall_clock,
            written,
            streams,
            filters,
            routes,
            checks,
        )
        self._to_close: list[Session] = []
        self._closing: IDelayedCall | None = None
        self.sessions: dict[int, Session] = {}
        self.when_empty: Callable[[], None] | None = None
        self.heir: LiveRule | None = None
        self.older: dict[LiveRule, None] = {}
        secures = any(starts_tls(factory) for _, factory in self.filters)
        self._session_class = SecuredSession if secures else FilteredSession if self.filters else Session
        self._ids = itertools.count(1) if ids is None else ids
        longest = self.options.max_time
        self._lasting = None if longest is None else TimeoutQueue(self.clock, longest)
        self._complained_at = -COMPLAINT_INTERVAL

    def __repr__(self) -> str:
        return f"<LiveRule {self.name} sessions={len(self.sessions)} total={self.counts.total}>"

    def limit(self) -> None:
        """See `RelayRule`."""
        super().limit()
        self._has_counted = self._has_counted or self.limits is not None

    @property
    def accept_limit(self) -> Admission | None:
        """The limit that listeners check before they accept; None if no limit makes clients wait."""
        return self.limits if self.limits is not None and self.limits.waits else None

    def accept(self, client: Stream, closed: Callable[[], None]) -> Session:
        """
        Make a session for `client`.

        :param closed: called once, when the session and all its sockets are closed.
        """
        self.counts.total += 1
        self.context.admissions.total += 1
        session = self._session_class(next(self._ids), self, client, closed)
        self.sessions[session.id] = session
        loops = self.context.loops
        if loops.open:
            session.passages = loops.passages_of(client.address, client.local)
        if self._lasting is not None:
            self._lasting.wait(session, session.lasted)
        session.begin()
        return session

    def turned_away(self, budget: object) -> None:
        """A client accepted by Twisted was reset, because `budget` had no descriptors left."""
        now = self.clock.seconds()
        if now - self._complained_at >= COMPLAINT_INTERVAL:
            self._complained_at = now
            log_warning(
                self._log,
                "{name}: no descriptors for more sessions ({budget!r}); clients are reset",
                name=self.name,
                budget=budget,
            )

    def arrive(self, carrier: Carrier, closed: Callable[[], None]) -> Session:
        """
        Make a session for a datagram client.

        :param closed: called once, when the session and all its sockets are closed.
        """
        assert self._datagram_streams is not None
        return self.accept(self._datagram_streams.arrived(carrier), closed)

    def descriptors_of_association(self, budget: Descriptors) -> int:
        """
        The descriptors of an association: one for its upstream, none if it shares connections.

        :param budget: the budget of shared connections.
        """
        if self._pool is None:
            return 1
        self._pool.budget = budget
        return 0

    def close_shared(self) -> None:
        """End the shared connections after the last session."""
        if self._pool is not None:
            self._pool.close()

    def inherit(self, old: LiveRule) -> None:
        """Continue with the balancing state of `old`, which this rule replaces."""
        self.balancing.inherit(old.balancing)

    def count_for(self, heir: LiveRule) -> Iterator[None]:
        """Count this rule's sessions for the limits of `heir`, which replaces it, none of them twice."""
        if heir.limits is None and not heir.counts_targets and not self._has_counted:
            return
        self._has_counted = heir.limits is not None
        occupied = {one.label: one.occupancy for one in heir.every_destination} if heir.counts_targets else {}
        for session in tuple(self.sessions.values()):
            session.count(heir.limits, occupied.get(session.target))
            yield

    # Targets that go down

    def decides_about(self, destination: Destination) -> bool:
        """Whether its own options and checks apply to its sessions, and not those of its heir."""
        heir = self.heir
        return heir is None or all(one.label != destination.label for one in heir.every_destination)

    def succeed(self, old: LiveRule) -> None:
        """
        Apply the options and checks of this rule to the sessions of `old` from now on.

        A target that is down already does not go down again, so a new ``on-down=close`` takes effect now.
        """
        old.heir = self
        self.older[old] = None
        kept = {one.label for one in old.every_destination if one.options.on_down is OnDown.KEEP}
        closed = {one.label for one in self.every_destination if one.options.on_down is OnDown.CLOSE} & kept
        if closed:
            views = [view for _, one, view in self.balancing.views() if one.label in closed]
            old._close_at({one.member.label for one in views if one and one.state is TargetState.DOWN})

    def health_changed(self, health: Health, change: StateChange) -> None:
        """See `portfwd.upstreams.states.HealthWatcher`."""
        destinations = self.balancing.health_changed(health)
        if change.after is TargetState.DOWN and change.before is not TargetState.DOWN:
            self._close_sessions(destinations)

    def order_target(self, label: str, ordered: TargetState | None) -> bool:
        """
        Apply an operator's command.

        :param ordered: new state of the target `label`; None to let its health decide.
        :returns: whether there is such a target.
        """
        found = self.obey_order(label, ordered)
        if found:
            self.context.targets.order(self.name, label, ordered)
        return found

    def obey_order(self, label: str, ordered: TargetState | None) -> bool:
        """Do what `order_target` does for the sessions of this rule only."""
        destinations = self.balancing.order(label, ordered, self)
        if destinations:
            self._direct = None  # there is a pool now
        if ordered is TargetState.DOWN:
            self._close_sessions(destinations)
        return bool(destinations)

    def _close_sessions(self, destinations: Sequence[Destination]) -> None:
        """Close the sessions of targets that went down, including older ones, if ``on-down=`` says so."""
        gone = {
            one.label
            for one in destinations
            if one.options.on_down is OnDown.CLOSE and self.decides_about(one)
        }
        if gone:
            for live in (self, *self.older):
                live._close_at(gone)

    def _close_at(self, labels: Collection[str]) -> None:
        self._to_close += [one for one in self.sessions.values() if one.target in labels]
        if self._closing is None and self._to_close:
            self._close_some(math.ceil(len(self._to_close) / CLOSING_STEPS))

    def _close_some(self, count: int) -> None:
        """Close `count` sessions now and the others in steps, to avoid that all clients reconnect at once."""
        self._closing = None
        now, self._to_close = self._to_close[:count], self._to_close[count:]
        for session in now:
            session.cut(CloseReason.TARGET_DOWN)
        self._to_close = [one for one in self._to_close if one.id in self.sessions]
        if self._to_close:
            wait = CLOSED_WITHIN / CLOSING_STEPS
            self._closing = self.clock.callLater(wait, self._close_some, count)

    def left(self, session: NumberedSession) -> None:
        """`session` was closed."""
        del self.sessions[session.id]
        if self._lasting is not None:
            self._lasting.forget(session)
        if self.context.loops.open:
            self.context.loops.left(session)
        if not self.sessions and self._closing is not None:
            self._closing.cancel()
            self._closing = None
        if not self.sessions and self.when_empty is not None:
            self.when_empty()

    def close_all(self, reason: CloseReason, *, now: bool = False) -> None:
        """
        End all sessions with `reason`.

        :param now: whether to reset them at once; if not, received bytes are delivered first.
        """
        for session in list(self.sessions.values()):
            if now:
                session.kill(reason)
            else:
                session.cut(reason)

    def cut_in_turns(self, reason: CloseReason) -> None:
        """End all current sessions, `AT_ONCE` of them in a turn."""
        self._cut_some(iter(tuple(self.sessions.values())), reason)

    def _cut_some(self, sessions: Iterator[Session], reason: CloseReason) -> None:
        count = 0
        for session in itertools.islice(sessions, AT_ONCE):
            session.cut(reason)
            count += 1
        if count == AT_ONCE:
            self.clock.callLater(0, self._cut_some, sessions, reason)
