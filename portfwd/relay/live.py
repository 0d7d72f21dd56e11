# -*- test-case-name: tests.relay.test_live -*-
"""Makes the sessions of one listener's rule, and counts them."""

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
from portfwd.streams.datagrams.datagram_opening import DatagramStreams
from portfwd.streams.stream import Stream
from portfwd.upstreams.health import Health, StateChange, TargetState
from portfwd.upstreams.timeout_queue import TimeoutQueue
from portfwd.values import CloseReason

#: Seconds between two lines that say the same.
COMPLAINT_INTERVAL: Final = 10.0
#: Seconds in which the sessions of a target that went down are closed, and in how many steps.
CLOSED_WITHIN: Final = 1.0
CLOSING_STEPS: Final = 50


class LiveRule(RelayRule):
    """
    A rule with the sessions that it has.

    :ivar sessions: those that are not closed yet.
    :ivar counts: what is counted for all rules of this name that there have been, one after the other.
    :ivar when_empty: called when the last session is closed, if there is somebody to call.
    :ivar heir: the rule that a reload has put in the place of this one; None: there is none.
    :ivar older: the rules in whose place this one is, and which still have sessions.
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
        """:param ids: where session numbers come from; shared by all rules of a process."""
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
        """What listeners ask before they accept; None where no limit makes clients wait."""
        return self.limits if self.limits is not None and self.limits.waits else None

    def accept(self, client: Stream, closed: Callable[[], None]) -> Session:
        """
        A session for `client`.

        :param closed: called once, when the session and all its sockets are gone.
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
        """A client that Twisted had accepted was reset, because `budget` had no descriptors for it."""
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
        A session for a client that sends datagrams.

        :param closed: called once, when the session and all its sockets are gone.
        """
        assert isinstance(self.streams, DatagramStreams)
        return self.accept(self.streams.arrived(carrier), closed)

    def descriptors_of_association(self, budget: Descriptors) -> int:
        """
        How many descriptors an association needs: one for its upstream, none if it shares connections.

        :param budget: is asked for those of connections that are shared.
        """
        if self._pool is None:
            return 1
        self._pool.budget = budget
        return 0

    def close_shared(self) -> None:
        """End the connections that associations share; there is no session any more."""
        if self._pool is not None:
            self._pool.close()

    def inherit(self, old: LiveRule) -> None:
        """Go on balancing where `old` was, whose place this rule has."""
        self.balancing.inherit(old.balancing)

    def count_for(self, heir: LiveRule) -> Iterator[None]:
        """Count this rule's sessions for the limits of `heir`, which has its place, but none twice."""
        if heir.limits is None and not heir.counts_targets and not self._has_counted:
            return
        self._has_counted = heir.limits is not None
        occupied = {one.label: one.occupancy for one in heir.every_destination} if heir.counts_targets else {}
        for session in tuple(self.sessions.values()):
            session.count(heir.limits, occupied.get(session.target))
            yield

    # Targets that go down

    def decides_about(self, destination: Destination) -> bool:
        """Whether its options and checks decide about sessions there, not those of its heir."""
        heir = self.heir
        return heir is None or all(one.label != destination.label for one in heir.every_destination)

    def succeed(self, old: LiveRule) -> None:
        """
        Decide about the sessions of `old` from here on.

        What is down already does not go down again, so a new ``on-down=close`` is obeyed now.
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
        Obey an operator.

        :param ordered: the state of the target `label`; None: its health decides.
        :returns: whether there is such a target.
        """
        found = self.obey_order(label, ordered)
        if found:
            self.context.targets.order(self.name, label, ordered)
        return found

    def obey_order(self, label: str, ordered: TargetState | None) -> bool:
        """Do what `order_target` says for the sessions of this rule, without remembering it for its heirs."""
        destinations = self.balancing.order(label, ordered, self)
        if destinations:
            self._direct = None  # there is a pool to be asked now
        if ordered is TargetState.DOWN:
            self._close_sessions(destinations)
        return bool(destinations)

    def _close_sessions(self, destinations: Sequence[Destination]) -> None:
        """Close the sessions of targets that went down, older ones too, where ``on-down=`` says so."""
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
        """All at once would be a storm of clients that come back: `count` now, and the others bit by bit."""
        self._closing = None
        now, self._to_close = self._to_close[:count], self._to_close[count:]
        for session in now:
            session.cut(CloseReason.TARGET_DOWN)
        self._to_close = [one for one in self._to_close if one.id in self.sessions]
        if self._to_close:
            wait = CLOSED_WITHIN / CLOSING_STEPS
            self._closing = self.clock.callLater(wait, self._close_some, count)

    def left(self, session: NumberedSession) -> None:
        """`session` is closed."""
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
        End every session, with `reason`.

        :param now: reset it at once; else deliver before what was received.
        """
        for session in list(self.sessions.values()):
            if now:
                session.kill(reason)
            else:
                session.cut(reason)

    def cut_in_turns(self, reason: CloseReason) -> None:
        """End every session that there is now, `AT_ONCE` of them before others have their turn."""
        self._cut_some(iter(tuple(self.sessions.values())), reason)

    def _cut_some(self, sessions: Iterator[Session], reason: CloseReason) -> None:
        count = 0
        for session in itertools.islice(sessions, AT_ONCE):
            session.cut(reason)
            count += 1
        if count == AT_ONCE:
            self.clock.callLater(0, self._cut_some, sessions, reason)
