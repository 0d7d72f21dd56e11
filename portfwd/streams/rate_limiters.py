# -*- test-case-name: tests.streams.test_rate_limiters -*-
"""
Where flows of a rule with ``bandwidth=`` wait until they may read.

A `RateLimiter` is a pace (`portfwd.limits.pacing`) with a clock and one timer, which runs only while
somebody waits. A rule has at most one a direction for all its sessions, one for each client
address, and one for each connection. A flow holds a `Ticket`, which takes it through its rate limiters
one after the other: first its own, then its address's, so that a flow that has used up its share keeps no
other one waiting.

No byte passes here: how many may be read is all that is said.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from portfwd.limits.pacing import MAX_SLICE, SharedBucket
from portfwd.limits.sources import Sources
from portfwd.rules.model import Options
from portfwd.values import Address, InetAddress, Side

#: Seconds that a timer runs at least: at a high rate slices are due sooner than a turn of the
#: reactor takes, and come several at a time then.
LEAST_WAIT: Final = 0.002


class RateLimiter:
    """Lets so many bytes a second pass, of all who hold tickets for it."""

    __slots__ = ("__weakref__", "_clock", "_opening", "_pace", "_timer")

    def __init__(self, clock: IReactorTime, rate: int) -> None:
        """:param rate: bytes a second."""
        self._clock = clock
        self._pace: SharedBucket[Ticket] = SharedBucket(rate, clock.seconds())
        self._timer: IDelayedCall | None = None
        self._opening = False

    def __repr__(self) -> str:
        return f"<RateLimiter {self._pace!r}>"

    @property
    def slice(self) -> int:
        """Most bytes that are granted at once."""
        return self._pace.slice

    def ask(self, ticket: Ticket, most: int) -> int:
        """Some of `most` bytes; 0: `ticket` is told when it is its turn, by `Ticket.let_through`."""
        now = self._clock.seconds()
        granted = self._pace.ask(ticket, most, now)
        if not granted and self._timer is None and not self._opening:
            self._set_timer(now)
        return granted

    def pass_at_once(self, size: int) -> bool:
        """
        Whether `size` bytes pass now, which nobody waits with.

        What is larger than all that may come at once passes when that is there, and the rest is owed.
        """
        return self._pace.pass_at_once(size, self._clock.seconds())

    @property
    def is_open(self) -> bool:
        """Whether nobody waits and nothing is owed."""
        return self._pace.is_open(self._clock.seconds())

    def leave(self, ticket: Ticket) -> None:
        """`ticket` waits no more."""
        self._pace.leave(ticket)
        if not self._opening:
            self._set_timer(self._clock.seconds())

    def settle(self, granted: int, used: int) -> None:
        """Of `granted` bytes `used` were read; what is left may be somebody else's turn."""
        now = self._clock.seconds()
        self._pace.settle(granted, used, now)
        if granted > used and self._pace.is_awaited:
            self._open()

    def _open(self) -> None:
        """Let those through whose turn it is."""
        if self._opening:  # whoever is let through gave something back: the loop goes on
            return
        self._opening = True
        try:
            while (turn := self._pace.next(self._clock.seconds())) is not None:
                ticket, granted = turn
                ticket.let_through(granted)
        finally:
            self._opening = False
            self._set_timer(self._clock.seconds())

    def _due(self) -> None:
        self._timer = None
        self._open()

    def _set_timer(self, now: float) -> None:
        wait = self._pace.wait(now)
        if wait is None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        elif self._timer is None:
            self._timer = self._clock.callLater(max(wait, LEAST_WAIT), self._due)
        else:
            self._timer.reset(max(wait, LEAST_WAIT))


class Waiter(Protocol):
    """Who waits with a ticket."""

    def granted(self, count: int) -> None:
        """It waited; now `count` bytes may be read. Must not raise."""


class Ticket:
    """
    One flow's way through the rate limiters of its direction.

    :ivar waits: it stands at one of them.
    """

    __slots__ = ("_clock", "_limiters", "_passed", "_route", "_since", "_waited", "_who", "most", "waits")

    def __init__(
        self,
        clock: IReactorTime,
        route: Callable[[Address | None], tuple[RateLimiter, ...]],
        client: Address | None,
    ) -> None:
        """:param route: the rate limiters for a client of some address."""
        self._clock = clock
        # Only while it waits: a flow and its ticket must not wait for the garbage collector.
        self._who: Waiter | None = None
        self._route = route
        self._waited = 0.0
        self._since = 0.0
        self._passed = 0
        self.waits = False
        self._take_route(client)

    def __repr__(self) -> str:
        return f"<Ticket {'waits' if self.waits else 'at hand'} {self._limiters}>"

    def _take_route(self, client: Address | None) -> None:
        self._limiters = self._route(client)
        #: What every rate limiter of the way has in a slice.
        self.most = min((limiter.slice for limiter in self._limiters), default=MAX_SLICE)

    def ask(self, who: Waiter) -> int:
        """Bytes that may be read now; 0: `who` is told when there are some."""
        if self.waits:
            return 0
        self._passed = 0
        granted = self._go_on()
        if not granted:
            self._who = who
        return granted

    def _go_on(self) -> int:
        for limiter in self._limiters[self._passed :]:
            if not limiter.ask(self, self.most):
                if not self.waits:
                    self.waits = True
                    self._since = self._clock.seconds()
                return 0
            self._passed += 1
        self._wait_no_more()
        return self.most

    def let_through(self, granted: int) -> None:
        """It stood at a rate limiter, which gives it `granted` bytes: as many as it asked for."""
        self._passed += 1
        who = self._who
        if self._go_on() and who is not None:
            who.granted(granted)

    @property
    def is_open(self) -> bool:
        """Whether nobody waits at any of its rate limiters, and nothing is owed."""
        return all(limiter.is_open for limiter in self._limiters)

    def settle(self, granted: int, used: int) -> None:
        """Of `granted` bytes `used` were read."""
        for limiter in self._limiters:
            limiter.settle(granted, used)

    def leave(self) -> None:
        """Wait no more; one that does not wait is fine."""
        if self.waits:
            self._wait_no_more()
            self._limiters[self._passed].leave(self)
            for limiter in self._limiters[: self._passed]:
                limiter.settle(self.most, 0)

    def go_as(self, client: Address) -> None:
        """From here on the client is `client`; it waits no more. What was granted must have been settled."""
        self.leave()
        self._take_route(client)

    def _wait_no_more(self) -> None:
        if self.waits:
            self.waits = False
            self._who = None
            self._waited += self._clock.seconds() - self._since

    @property
    def waited(self) -> float:
        """Seconds for which it has waited so far."""
        return self._waited + (self._clock.seconds() - self._since if self.waits else 0.0)


class RateLimiters:
    """
    Those of one rule, whichever of its ports a client came to.

    :ivar slice: what each of them grants at once.
    """

    def __init__(self, clock: IReactorTime, options: Options) -> None:
        """:param options: the rule's, of which the ``bandwidth`` ones count here."""
        self._clock = clock
        rates = {Side.CLIENT: options.upward, Side.UPSTREAM: options.downward}
        self._shared = {side: RateLimiter(clock, rate) for side, rate in rates.items() if rate is not None}
        self._sources: dict[Side, Sources[RateLimiter]] = {}
        self._rate = options.bandwidth_per_connection
        each = options.bandwidth_per_source
        slices = [limiter.slice for limiter in self._shared.values()]
        if each is not None:
            self._sources = {side: Sources(partial(RateLimiter, clock, each)) for side in rates}
            slices.append(RateLimiter(clock, each).slice)
        if self._rate is not None:
            slices.append(RateLimiter(clock, self._rate).slice)
        self.slice = min(slices, default=MAX_SLICE)

    def __repr__(self) -> str:
        return f"<RateLimiters {list(self._shared.values())} {list(self._sources.values())}>"

    def ticket(self, source: Side, client: Address | None) -> Ticket | None:
        """
        A ticket for the flow whose source is that side; None where nothing limits it.

        :param client: who the client is.
        """
        if source not in self._shared and not self._sources and self._rate is None:
            return None
        return Ticket(self._clock, partial(self.limiters_for, source, first=self.first()), client)

    def first(self) -> RateLimiter | None:
        """A rate limiter for one direction of one connection; None where nothing limits connections."""
        return None if self._rate is None else RateLimiter(self._clock, self._rate)

    def limiters_for(
        self, source: Side, client: Address | None, first: RateLimiter | None = None
    ) -> tuple[RateLimiter, ...]:
        """
        The rate limiters for what comes from the side `source` of a client's session.

        :param first: the connection's own; None for none.
        """
        shared = self._shared.get(source)
        own = self._sources.get(source)
        limiters = [] if shared is None else [shared]
        if own is not None and isinstance(client, InetAddress):
            limiters.insert(0, own.of(client.host))
        if first is not None:
            limiters.insert(0, first)
        return tuple(limiters)
