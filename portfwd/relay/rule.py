# -*- test-case-name: tests.relay.test_live -*-
"""
What the sessions of one listener's rule read and share: options, targets, limits, filters, and how they dial.

It does not know the sessions: `portfwd.relay.live` makes and counts them.
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
from portfwd.relay.datagram_targets import DatagramTargets
from portfwd.relay.destination import Destination
from portfwd.relay.dial import Dial, DiallingSession, DialOwner
from portfwd.relay.direct import DirectDatagramDial, DirectDial
from portfwd.relay.failovers import Failovers
from portfwd.relay.handshakes import Handshakes
from portfwd.relay.loops import Passing
from portfwd.relay.plan import plan_relay
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
from portfwd.streams.sockets.socket_opening import SocketStreams
from portfwd.upstreams.health import Health, StateChange
from portfwd.upstreams.timeout_queue import TimeoutQueue
from portfwd.values import Address, InetAddress, SessionSummary, Side, TLSInfo, UnixAddress, is_literal

#: Targets that filters wrote as texts, and that are kept ready: a text may be made of what a client says.
MOST_WRITTEN: Final = 256


class SessionLog(Protocol):
    """
    Who writes a session's lines; must neither block nor raise.

    :ivar wants_opened: whether `opened` is worth a summary.
    :ivar wants_closed: whether `closed` is.
    """

    @property
    def wants_opened(self) -> bool:
        """See the class."""

    @property
    def wants_closed(self) -> bool:
        """See the class."""

    def opened(self, summary: SessionSummary) -> None:
        """The session's upstream was reached."""

    def closed(self, summary: SessionSummary) -> None:
        """The session is over."""


class NumberedSession(Passing, Protocol):
    """A session, as far as a rule tells one from another."""

    @property
    def id(self) -> int:
        """Its number in this process."""


class RelayRule:
    """
    One listener's rule, with its targets resolved to that listener's port.

    :ivar name: the rule's name, with the port behind it for one of a range.
    :ivar handshakes: sessions that are in their TLS handshakes with the client.
    :ivar datagrams: its sessions pass datagrams, on both sides.
    :ivar has_datagrams: on one side at least.
    :ivar plan: which relay serves it.
    :ivar filters: name and factory of each ``filter`` clause, in order.
    :ivar filter_log: where filters write events.
    :ivar counts: what is counted for all rules of this name that there have been, one after the other.
    :ivar results: what filters of its sessions await.
    :ivar limits: judges who may come in; None where nothing is limited.
    :ivar every_destination: the targets, and those that only filters choose.
    :ivar tally: adds up what sessions did; None where nobody wants to know.
    :ivar counts_targets: whether the sessions of each target are counted: it has a limit, or is balanced.
    :ivar balancing: chooses among the targets.
    :ivar learns_sources: whether a filter says later where a client comes from.
    :ivar half_closed: the waits of half-closed sessions for the first look whether they are silent.
    :ivar telling: sessions whose filters are to be told of results, or to be woken, in the next turn.
    :ivar delivering: sessions that a limit has ended, and that still deliver what was received.
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
        :param checks: the ``check`` clauses, made ready.
        :param filters: name and factory of each ``filter`` clause, in order.
        :param routes: the destinations of targets that filters may choose.
        :param streams: makes this rule's streams of plain sockets; None for the pair's.
        :param written: see `Rule.written`, for this listener's port.
        :param wall_clock: seconds since the epoch.
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
        self.datagrams = isinstance(streams, DatagramStreams) and not streams.mixed
        self.has_datagrams = rule.has_datagrams
        #: Whether a datagram that a target refuses may go to another one.
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
        # Such a filter says who the client really is, so until then nobody knows whose limits are his.
        self.learns_sources = any(getattr(factory, "announces", False) for _, factory in self.filters)

    def limit(self) -> None:
        """Obey the limits as they are now; those of all rules together may have changed."""
        self.limits = self.context.admissions.rule(self.name, rule_bounds(self.options), self.options.limit)

    def _direct_address(self) -> Address | None:
        """Where the one target is, if there is but one and nothing is to be chosen or wrapped; else None."""
        if len(self.destinations) != 1 or not self.context.platform.own_sockets or self.counts_targets:
            return None
        if self.options.retry is not None:
            return None
        only = self.destinations[0]
        plain = only.tls is None and only.endpoint is None
        if only.datagrams and self.context.sockets is None:
            return None
        known = isinstance(only.address, UnixAddress) or (
            isinstance(only.address, InetAddress) and is_literal(only.address.host)
        )
        return only.address if plain and known else None

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
        A dial, not yet started.

        :param target: of `find_target`; None: the rule's own targets.
        :param permits: asked for every address before it is tried; None permits all.
        :param will_send: the client has spoken already, and that goes on as soon as there is an upstream.
        :param source: the client as limits count it, for the look-up of a name that it chose.
        :param introduction, client: see `DialSettings`.
        :raises ValueError: no filter of this rule was given such a target.
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
        """The dial of a connection that associations share."""
        settings = DialSettings(
            self.context, self.context.streams, will_send=True, failovers=self._failovers, clock=self.clock
        )
        options = self.options
        return Dial(settings, self._order(None, None), options.dial_timeout, owner, options.retry)

    def _order(self, target: object, owner: DiallingSession | None) -> TargetOrder:
        """The targets of one session; `owner` is None for what associations share."""
        pool = self.balancing.pool(target)
        if pool is None:
            return InOrder(self.destinations if target is None else (self._destination(target),))
        client = source_of(owner.client_address) if owner is not None and pool.knows_clients else ""
        watched = getattr(self.streams, "targets", None) if self.has_datagrams else None
        unreachable = None
        if isinstance(watched, DatagramTargets):
            unreachable = watched.has_failed
        return Balanced(pool, self.context.targets, client, self.options.tries, unreachable)

    def find_target(self, target: object) -> object:
        """
        The target that a filter chose: an address, a target of the rule's routes, a name or a text.

        :returns: the same, with the target of a name in its place.
        :raises ValueError: there is none, or a text cannot be read; the text of the error says why.
        """
        if isinstance(target, str):
            named = self._named.get(target)
            if named is not None:
                return named
            self._destination(target)
        elif target is not None and not isinstance(target, (InetAddress, UnixAddress)):
            self._destination(target)
        return target

    def _of_text(self, text: str) -> Destination:
        found = self._written.get(text)
        if found is None:
            if self.read_target is None:
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
        """Whether its streams are sockets of ours, which relay in the kernel and know no layers."""
        return isinstance(self.streams, SocketStreams)

    def _destination(self, target: object) -> Destination:
        known = self._of_text(target) if isinstance(target, str) else self._routes.get(target)
        if known is not None:
            return known
        if isinstance(target, (InetAddress, UnixAddress)):
            label = str(target)
            return self._counted(Destination(label, self.options, address=target, is_chosen=True))
        raise ValueError(f"a filter chose {target!r}, which is no target")

    def _counted(self, chosen: Destination) -> Destination:
        """A destination that a filter chose, with what counts its sessions, if any are counted."""
        if not self.counts_targets:
            return chosen
        occupancy = self.context.admissions.target(self.name, chosen.label)
        return evolve(chosen, occupancy=occupancy, is_counted=True)

    def health_changed(self, health: Health, change: StateChange) -> None:
        """See `HealthWatcher`."""
        raise NotImplementedError

    def left(self, session: NumberedSession) -> None:
        """`session` is closed."""
        raise NotImplementedError
