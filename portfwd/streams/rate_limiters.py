# -*- test-case-name: tests.streams.test_rate_limiters -*-
"""
Rate limiters for ``bandwidth=``: flows wait for grants before they read.

A `RateLimiter` is a shared bucket (`portfwd.limits.pacing`) with a clock and one timer, which runs only while
a flow waits. For each direction, a rule has at most one for all sessions, one for each client address, and
one for each connection. A flow has a `Ticket`, which requests grants from its rate limiters in this order:
connection, address, rule. A flow that has used up its own share thus does not delay others.

Rate limiters grant numbers of bytes; no bytes pass through them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from portfwd.limits.pacing import MAX_SLICE, SharedBucket
from portfwd.limits.sources import Sources
from portfwd.rules.model import Options
from portfwd.streams.allowance import Waiter
from portfwd.values import Address, Side, as_inet

#: Shortest timer in seconds. At a high rate, slices are due faster than the reactor's turns; several are then
#: granted at once.
LEAST_WAIT: Final = 0.002


class RateLimiter:
    """Grants a number of bytes a second to tickets."""

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
        """Most bytes of one grant."""
        return self._pace.slice

    def ask(self, ticket: Ticket, most: int) -> int:
        """Grant up to `most` bytes. If 0, `Ticket.let_through` is called when `ticket` can be served."""
        now = self._clock.seconds()
        granted = self._pace.ask(ticket, most, now)
        if not granted and self._timer is None and not self._opening:
            self._set_timer(now)
        return granted

    def pass_at_once(self, size: int) -> bool:
        """
        Take `size` bytes now if possible; return whether it was.

        A size above the largest burst passes when the bucket is full. The rest is a debt.
        """
        return self._pace.pass_at_once(size, self._clock.seconds())

    @property
    def level(self) -> float:
        """Number of bytes that may pass now; negative for a debt."""
        return self._pace.level(self._clock.seconds())

    @property
    def is_open(self) -> bool:
        """Whether no ticket waits and there is no debt."""
        return self._pace.is_open(self._clock.seconds())

    def leave(self, ticket: Ticket) -> None:
        """Remove `ticket` from the queue."""
        self._pace.leave(ticket)
        if not self._opening:
            self._set_timer(self._clock.seconds())

    def settle(self, granted: int, used: int) -> None:
        """Account for `granted` bytes of which `used` were read. The next waiter may get the rest."""
        now = self._clock.seconds()
        self._pace.settle(granted, used, now)
        if granted > used and self._pace.is_awaited:
            self._open()

    def _open(self) -> None:
        """Serve the waiters that can be served now."""
        if self._opening:  # a served waiter has returned bytes: the outer loop continues
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


class Ticket:
    """
    Requests grants for one flow from its rate limiters, one after the other.

    :ivar waits: whether it is in the queue of one of them.
    """

    __slots__ = ("_clock", "_limiters", "_passed", "_route", "_since", "_waited", "_waiter", "most", "waits")

    def __init__(
        self,
        clock: IReactorTime,
        route: Callable[[Address | None], tuple[RateLimiter, ...]],
        client: Address | None,
    ) -> None:
        """:param route: returns the rate limiters for a client address."""
        self._clock = clock
        # Set only while it waits, to avoid a reference cycle of flow and ticket at other times.
        self._waiter: Waiter | None = None
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
        #: The smallest slice of these rate limiters.
        self.most = min((limiter.slice for limiter in self._limiters), default=MAX_SLICE)

    def ask(self, waiter: Waiter) -> int:
        """Grant bytes now; if 0, `waiter.granted` is called later."""
        if self.waits:
            return 0
        self._passed = 0
        granted = self._go_on()
        if not granted:
            self._waiter = waiter
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
        """The rate limiter at which it waited has granted bytes: request grants from the next ones."""
        self._passed += 1
        waiter = self._waiter
        if self._go_on() and waiter is not None:
            waiter.granted(granted)

    @property
    def is_open(self) -> bool:
        """Whether all its rate limiters are open."""
        return all(limiter.is_open for limiter in self._limiters)

    def settle(self, granted: int, used: int) -> None:
        """Account for `granted` bytes of which `used` were read, at each rate limiter."""
        for limiter in self._limiters:
            limiter.settle(granted, used)

    def leave(self) -> None:
        """Stop waiting, if it waits, and return the grants so far."""
        if self.waits:
            self._wait_no_more()
            self._limiters[self._passed].leave(self)
            for limiter in self._limiters[: self._passed]:
                limiter.settle(self.most, 0)

    def go_as(self, client: Address) -> None:
        """Use the rate limiters of `client` from now on. The caller has settled earlier grants."""
        self.leave()
        self._take_route(client)

    def _wait_no_more(self) -> None:
        if self.waits:
            self.waits = False
            self._waiter = None
            self._waited += self._clock.seconds() - self._since

    @property
    def waited(self) -> float:
        """Total seconds of waiting."""
        return self._waited + (self._clock.seconds() - self._since if self.waits else 0.0)


class RateLimiters:
    """
    The rate limiters of one rule, shared by all its ports.

    :ivar slice: the smallest slice of them, in bytes.
    """

    def __init__(self, clock: IReactorTime, options: Options) -> None:
        """:param options: options of the rule; the ``bandwidth`` ones are used."""
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
        Make a ticket for the flow from that side; None if it has no limit.

        :param client: address of the client.
        """
        if source not in self._shared and not self._sources and self._rate is None:
            return None
        return Ticket(self._clock, partial(self.limiters_for, source, first=self.first()), client)

    def first(self) -> RateLimiter | None:
        """Make the rate limiter for one direction of a connection; None if it has no limit."""
        return None if self._rate is None else RateLimiter(self._clock, self._rate)

    def limiters_for(
        self, source: Side, client: Address | None, first: RateLimiter | None = None
    ) -> tuple[RateLimiter, ...]:
        """
        The rate limiters for bytes from the side `source` of a client's session.

        :param first: the rate limiter of the connection; None for none.
        """
        shared = self._shared.get(source)
        own = self._sources.get(source)
        limiters = [] if shared is None else [shared]
        inet = as_inet(client)
        if own is not None and inet is not None:
            limiters.insert(0, own.of(inet.host))
        if first is not None:
            limiters.insert(0, first)
        return tuple(limiters)
