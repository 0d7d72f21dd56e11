# -*- test-case-name: tests.streams.transports.test_paced_transport -*-
"""
A stream over a Twisted transport that reads no more bytes a second than its rule allows.

A transport does not tell beforehand how much it will read, so bytes are counted after a read. While there
is a debt, or other flows wait, the transport is paused and the stream waits in the queue
(`portfwd.streams.rate_limiters`). A read is no larger than a slice, so a session is ahead by one slice at
most.

Of TLS, the bytes inside are counted.
"""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from portfwd.kernel.failures import log_failure
from portfwd.streams.rate_limiters import RateLimiters, Ticket
from portfwd.streams.stream import Viewer
from portfwd.streams.transports.transport import TransportStream
from portfwd.values import Address, FlowSummary, Side


class PacedTransport(TransportStream):
    """
    A stream of a rule whose bandwidth is limited.

    :ivar client: the client whose limits hold, once joined or watched.
    """

    _log = Logger()

    def __init__(
        self, clock: IReactorTime, buffer: int, limiters: RateLimiters, *, handshake: bool = False
    ) -> None:
        """
        As `TransportStream`.

        :param limiters: the rule's.
        """
        self._ticket: Ticket | None = None
        super().__init__(clock, min(buffer, limiters.slice), handshake=handshake)
        self._limiters = limiters
        self.client: Address | None = None
        self._is_settled = False
        self._granted = 0
        self._uncounted = 0
        self._held = False

    @property
    def moved_at(self) -> float:
        """
        When bytes of this side were last read, or written to the other.

        While it waits for a grant, the time is now: an idle limit must not count that wait.
        """
        return self._clock.seconds() if self._waits else self._moved_at

    @moved_at.setter
    def moved_at(self, now: float) -> None:
        self._moved_at = now

    @property
    def _waits(self) -> bool:
        return self._ticket is not None and self._ticket.waits

    # Whose bytes count

    def _take_ticket(self, peer: TransportStream | None) -> None:
        if self._is_settled:
            return
        self._is_settled = True
        if self.side is Side.CLIENT:
            self.client = self.address
        elif peer is not None:
            self.client = (peer.client if isinstance(peer, PacedTransport) else None) or peer.address
        self._ticket = self._limiters.ticket(self.side, self.client)
        early, self._uncounted = self._uncounted, 0
        if early:
            self._count(early)

    def watch(self, viewer: Viewer, peer: TransportStream | None = None) -> None:
        """Show what is read to `viewer`."""
        self._take_ticket(peer)
        super().watch(viewer, peer)

    def join(self, peer: TransportStream) -> None:
        """Write what is read to `peer`, and be the producer of its transport."""
        self._take_ticket(peer)
        super().join(peer)

    def go_as(self, client: Address) -> None:
        """The client turned out to be `client`: both directions count for that address."""
        for one in (self, self._peer):
            if isinstance(one, PacedTransport) and one._ticket is not None:
                one.client = client
                waited = one._waits
                one._give_back()
                one._ticket.go_as(client)
                if waited:
                    one._wait_or_read()

    # Counting

    def dataReceived(self, data: bytes) -> None:
        """Bytes of the peer."""
        if not self._aborted and not self._discarding:
            self._count(len(data))
        super().dataReceived(data)

    def _count(self, count: int) -> None:
        ticket = self._ticket
        if ticket is None:
            if not self._is_settled:
                self._uncounted += count
            return
        granted, self._granted = self._granted, 0
        ticket.settle(granted, count)
        if not ticket.waits and not ticket.is_open:
            self._wait_or_read()

    def _wait_or_read(self) -> None:
        if self._ticket is not None and not self._lost:
            self._granted = self._ticket.ask(self)
            if not self._granted:
                super().hold()
            elif not self._held:
                super().go_on()

    def granted(self, count: int) -> None:
        """The debt is paid, and `count` more bytes may be read."""
        self._granted = count
        # A limit of silence must not count the wait.
        self._moved_at = self._clock.seconds()
        if not self._held:
            self._go_on_by_turn()

    def _go_on_by_turn(self) -> None:
        """Read on. The same call serves other waiters, so a failure here ends this connection only."""
        try:
            super().go_on()
        except BaseException:
            log_failure(self._log, "{stream!r} cannot be read on", stream=self)
            self.abort()

    def _give_back(self) -> None:
        granted, self._granted = self._granted, 0
        if self._ticket is not None and granted:
            self._ticket.settle(granted, 0)

    def _leave(self) -> None:
        if self._ticket is not None:
            self._ticket.leave()
        self._give_back()

    def _deliver_what_waits(self) -> None:
        """Pass on bytes that were read and counted before the wait."""
        if self._producing and not self._aborted and not self._held:
            self._on_hold = False
            self._deliver_early()

    # What the session asks

    def hold(self) -> None:
        """Read no more until `go_on`."""
        self._held = True
        super().hold()

    def go_on(self) -> None:
        """Read again, unless it waits for a grant."""
        self._held = False
        if not self._waits:
            super().go_on()

    def discard(self) -> None:
        """Read and throw away, as fast as it comes."""
        self._leave()
        self._held = False
        super().discard()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The transport is gone."""
        self._leave()
        self._deliver_what_waits()
        super().connectionLost(reason)

    def summary(self, source: TransportStream) -> FlowSummary:
        """The flow from `source` to this stream, so far."""
        flow = super().summary(source)
        if isinstance(source, PacedTransport) and source._ticket is not None:
            return flow._replace(paced=source._ticket.waited)
        return flow
