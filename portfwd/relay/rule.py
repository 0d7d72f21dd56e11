# -*- test-case-name: tests.relay.test_live -*-
"""
The rule of one listener as its sessions use it: options, targets, limits, filters, and dials.

It does not know the sessions; `portfwd.relay.live` makes and counts them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from random import random
from typing import Final, Protocol, cast

from attrs import evolve
from twisted.logger import Logger

from portfwd.filters.api import IFilterFactory
from portfwd.kernel.turn_clock import AT_ONCE, TurnClock
from portfwd.limits.admission import Admission
from portfwd.limits.look_ups import NOBODY, Asker
from portfwd.limits.source_counts import source_of
from portfwd.relay.awaiting import Results
from portfwd.relay.balancing import Balancing, RuleCheck
from portfwd.relay.closing import DELIVERY_LIMIT
from portfwd.relay.context import Opener, RelayContext
from portfwd.relay.destination import Destination
from portfwd.relay.dial import Dial, DiallingSession, DialOwner
from portfwd.relay.direct import DirectDatagramDial, DirectDial
from portfwd.relay.failovers import Failovers
from portfwd.relay.handshakes import Handshakes
from portfwd.relay.loops import Passing
from portfwd.relay.plan import OWN_SOCKETS, plan_relay
from portfwd.relay.question_pool import QuestionPool
from portfwd.relay.shared_dial import SharedDial
from portfwd.relay.silence import LOOKS
from portfwd.relay.target_dial import DialSettings
from portfwd.relay.target_order import Balanced, InOrder, TargetOrder
from portfwd.relay.tls_start import TLSStart
from portfwd.rules.access import AccessList
from portfwd.rules.model import Rule
from portfwd.rules.whole_process import rule_bounds
from portfwd.streams.datagrams.datagram_opening import DatagramStreams
from portfwd.upstreams.health import Health, StateChange
from portfwd.upstreams.timeout_queue import TimeoutQueue
from portfwd.values import (
    Address,
    SessionSummary,
    Side,
    TLSInfo,
    as_inet,
    as_unix,
)

#: Most prepared targets from texts of filters, because a text may be made of bytes of clients.
MOST_WRITTEN: Final = 256


class SessionLog(Protocol):
    """
    The log of sessions. It must neither block nor raise.

    :ivar wants_opened: whether `opened` needs a summary.
    :ivar wants_closed: whether `closed` needs a summary.
    """

    @property
    def wants_opened(self) -> bool:
        """See the class."""

    @property
    def wants_closed(self) -> bool:
        """See the class."""

    def opened(self, summary: SessionSummary) -> None:
        """The upstream of a session is connected."""

    def closed(self, summary: SessionSummary) -> None:
        """A session has ended."""


class NumberedSession(Passing, Protocol):
    """A session, identified by its number."""

    @property
    def id(self) -> int:
        """Its number in this process."""


class RelayRule:
    """
    The rule of one listener, with its targets for the port of that listener.

    :ivar name: name of the rule, with the port for one of a range.
    :ivar handshakes: sessions whose clients are in their TLS handshakes.
    :ivar datagrams: whether both sides of its sessions have datagrams.
    :ivar has_datagrams: whether at least one side has datagrams.
    :ivar plan: the relay that serves it.
    :ivar filters: name and factory of each ``filter`` clause, in order.
    :ivar filter_log: the log of filters.
    :ivar counts: the counts of this and earlier rules of the same name.
    :ivar results: the awaitables of filters of its sessions.
    :ivar limits: judges clients; None if there are no limits.
    :ivar every_destination: all targets, including those that only filters choose.
    :ivar tally: the sums of closed sessions; None if there are no metrics.
    :ivar counts_targets: whether the sessions of each target are counted, because it has a limit or is
        balanced.
    :ivar balancing: chooses among the targets.
    :ivar learns_sources: whether a filter may announce clients.
    :ivar half_closed: timers of half-closed sessions for the first check of silence.
    :ivar telling: sessions with results or wakes for their filters, in the next turn.
    :ivar delivering: sessions that a limit has ended and that still deliver received bytes.
    """

    def __init__(
        self,
        rule: Rule,
        name: str,
        destinations: Sequence[Destination],
        access: AccessList,
        context: RelayContext,
        log: SessionLog,
        wall_clock: Callable[[], float],
        written: tuple[str, str, str, str] | None = None,
        streams: Opener | None = None,
        filters: Sequence[tuple[str, IFilterFactory]] = (),
        routes: Mapping[object, Destination] | None = None,
        checks: Sequence[RuleCheck] = (),
    ) -> None:
        """
        :param checks: the configured ``check`` clauses.
        :param filters: name and factory of each ``filter`` clause, in order.
        :param routes: destinations of the targets that filters may choose.
        :param streams: makes streams of plain sockets; None for those of transports.
        :param written: see `Rule.written`, for the port of this listener.
        :param wall_clock: returns seconds since the epoch.
        """
        self.name = name
        self.rule = rule
        self.options = rule.options
        self.written = rule.written if written is None else written
        everyone = (*destinations, *(routes or {}).values())
        limits = [one.options.max_conns_per_target for one in everyone]
        self.balancing = Balancing(
            name, rule.options, destinations, routes or {}, context.targets, random, checks
        )
        limited = any(one is not None for one in (rule.options.max_conns_per_target, *limits))
        self.counts_targets = limited or self.balancing.wants_pools()
        counted: dict[Destination, Destination] = {}
        for one in everyone:
            occupancy = context.admissions.target(name, one.label)
            counted[one] = evolve(one, occupancy=occupancy, is_counted=self.counts_targets)
        destinations = [counted[one] for one in destinations]
        routes = {target: counted[one] for target, one in (routes or {}).items()}
        self.balancing.make(self, counted)
        self.destinations = tuple(destinations)
        self.every_destination = tuple(dict.fromkeys((*destinations, *(routes or {}).values())))
        self.access = access
        self.context = context
        self.plan = plan_relay(rule, context.platform, filters)
        self.streams: Opener = context.streams if streams is None else streams
        self._datagram_streams = streams if isinstance(streams, DatagramStreams) else None
        self.datagrams = self._datagram_streams is not None and not self._datagram_streams.mixed
        self.has_datagrams = rule.has_datagrams
        #: Whether a datagram that one target refuses may be sent to another one.
        self.passes_refused = self.datagrams and len(destinations) > 1 and not rule.shares_questions
        self._direct = self._direct_address()
        self.clock = TurnClock(context.timers, AT_ONCE)
        self._pool = QuestionPool(self.clock, self._dial_shared) if rule.shares_questions else None
        self.half_closed = TimeoutQueue(self.clock, self.options.half_close / LOOKS)
        self.telling = TimeoutQueue(self.clock, 0.0)
        self.delivering = TimeoutQueue(self.clock, DELIVERY_LIMIT)
        limit = min(self.options.connect_timeout, self.options.dial_timeout)
        self._connecting = TimeoutQueue(self.clock, limit)
        self.log = log
        self.wall_clock = wall_clock
        self.counts = context.admissions.counts(name)
        self.limits: Admission | None = None
        self.limit()
        self.tally = None if context.ledger is None else context.ledger.rule(name)
        if self.tally is not None:
            self.tally.known(*(one.label for one in everyone))
        self._failovers = Failovers(name)
        self.handshakes = Handshakes()
        self.filters = tuple(filters)
        self.filter_log = Logger(namespace="portfwd.filters")
        self.results = Results()
        self._routes = {} if routes is None else dict(routes)
        self._named = {spec.name: spec for spec in rule.named_targets}
        self._written: OrderedDict[str, Destination] = OrderedDict()
        self.read_target: Callable[[str], Destination] | None = None
        self.tls_starts: Mapping[tuple[int, Side], TLSStart] = {}
        # Such a filter announces the real client, so limits per source must wait for it.
        self.learns_sources = any(getattr(factory, "announces", False) for _, factory in self.filters)

    def limit(self) -> None:
        """Apply the current limits. Those of all rules together may have changed."""
        self.limits = self.context.admissions.rule(self.name, rule_bounds(self.options), self.options.limit)

    def _direct_address(self) -> Address | None:
        """The address of the only target if nothing must be chosen, resolved or wrapped; else None."""
        if len(self.destinations) != 1 or not self.context.platform.own_sockets or self.counts_targets:
            return None
        if self.options.retry is not None:
            return None
        only = self.destinations[0]
        plain = only.tls is None and only.endpoint is None
        if only.datagrams and self.context.sockets is None:
            return None
        return only.address if plain and not only.is_named else None

    def dial(
        self,
        owner: DiallingSession,
        target: object = None,
        permits: Callable[[Address], bool] | None = None,
        *,
        will_send: bool = False,
        source: str = "",
        introduction: Callable[[], bytes] | None = None,
        client: TLSInfo | None = None,
    ) -> Dial | DirectDial | DirectDatagramDial | SharedDial:
        """
        Make a dial without starting it.

        :param target: from `find_target`; None for the targets of the rule.
        :param permits: called with every address before it is tried; None permits all.
        :param will_send: whether bytes of the client are waiting for the upstream.
        :param source: the client as limits count it, for resolving a name that it chose.
        :param introduction, client: see `DialSettings`.
        :raises ValueError: the target is not one of this rule's filters.
        """
        if self._pool is not None and target is None and permits is None:
            streams = cast(DatagramStreams, self.streams)
            return SharedDial(self._pool, owner, streams, source_of(owner.client_address))
        direct = self._direct
        if (
            target is None
            and permits is None
            and direct is not None
            and not self.context.loops.may_reach(direct)
        ):
            only, timeouts = self.destinations[0], self._connecting
            only.occupancy.dials += 1
            if only.datagrams:
                return DirectDatagramDial(only, direct, owner, self.streams)
            return DirectDial(
                self.context,
                only,
                direct,
                timeouts,
                owner,
                self.streams,
                will_send=will_send,
                clock=self.clock,
            )
        order = self._order(self.find_target(target), owner)
        asker = NOBODY if target is None else Asker(self.name, source)
        passing = (owner, self.name)
        settings = DialSettings(
            self.context,
            self.streams,
            permits,
            will_send,
            asker,
            introduction,
            client,
            passing,
            self._failovers,
            self.clock,
        )
        return Dial(settings, order, self.options.dial_timeout, owner, self.options.retry)

    def _dial_shared(self, owner: DialOwner) -> Dial:
        """Make the dial of a connection that associations share."""
        settings = DialSettings(
            self.context, self.context.streams, will_send=True, failovers=self._failovers, clock=self.clock
        )
        options = self.options
        return Dial(settings, self._order(None, None), options.dial_timeout, owner, options.retry)

    def _order(self, target: object, owner: DiallingSession | None) -> TargetOrder:
        """The targets of one session. `owner` is None for shared connections."""
        pool = self.balancing.pool(target)
        if pool is None:
            return InOrder(self.destinations if target is None else (self._destination(target),))
        client = source_of(owner.client_address) if owner is not None and pool.knows_clients else ""
        watched = getattr(self.streams, "targets", None) if self.has_datagrams else None
        unreachable = None if watched is None else watched.has_failed
        return Balanced(pool, self.context.targets, client, self.options.tries, unreachable)

    def find_target(self, target: object) -> object:
        """
        Find the target that a filter chose: an address, a target of the rule's routes, a name or a text.

        :returns: the choice, with names replaced by their targets.
        :raises ValueError: there is no such target, or the text is not well-formed; the message says why.
        """
        named = self._named.get(cast(str, target))
        if named is not None:
            return named
        if target is not None and as_inet(target) is None and as_unix(target) is None:
            self._destination(target)
        return target

    def _of_text(self, text: str) -> Destination:
        found = self._written.get(text)
        if found is None:
            if self.read_target is None or ":" not in text:
                raise ValueError(f"{text}: this rule has no target of that name")
            chosen = self.read_target(text)
            if (chosen.tls or chosen.endpoint) and self.relays_sockets:
                raise ValueError(f"{text}: for a target of this kind the rule needs relay=pair")
            if chosen.datagrams is not self.datagrams or self.has_datagrams is not self.datagrams:
                raise ValueError(f"{text}: datagrams and streams do not go together")
            found = self._written[text] = self._counted(chosen)
            if len(self._written) > MOST_WRITTEN:
                self._written.popitem(last=False)
        return found

    @property
    def relays_sockets(self) -> bool:
        """Whether its streams are sockets that relay in the kernel and have no layers."""
        return self.plan.kind in OWN_SOCKETS

    def _destination(self, target: object) -> Destination:
        known = self._of_text(target) if isinstance(target, str) else self._routes.get(target)
        if known is not None:
            return known
        address = as_inet(target) or as_unix(target)
        if address is not None:
            return self._counted(Destination(str(address), self.options, address=address, is_chosen=True))
        raise ValueError(f"a filter chose {target!r}, which is no target")

    def _counted(self, chosen: Destination) -> Destination:
        """A destination that a filter chose, with the counts of its sessions if they are counted."""
        if not self.counts_targets:
            return chosen
        occupancy = self.context.admissions.target(self.name, chosen.label)
        return evolve(chosen, occupancy=occupancy, is_counted=True)

    def health_changed(self, health: Health, change: StateChange) -> None:
        """See `HealthWatcher`."""
        raise NotImplementedError

    def left(self, session: NumberedSession) -> None:
        """`session` was closed."""
        raise NotImplementedError
