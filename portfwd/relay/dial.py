# -*- test-case-name: tests.relay.test_dial -*-
"""
How a session reaches an upstream: targets in order, addresses side by side.

A target with several addresses is tried as RFC 8305 (Happy Eyeballs) has it:
the next attempt starts when the one before fails or after `ATTEMPT_DELAY`,
and the first to connect wins. When all addresses of a target have failed, the
next target's turn comes, until ``dial-timeout``.

It makes no choice among targets (that is the picker's) and reads no bytes.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Sequence
from typing import Final, Protocol, cast

from attrs import field, frozen
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    UNIXClientEndpoint,
)
from twisted.internet.interfaces import IDelayedCall, IStreamClientEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from portfwd.errors import (
    ConnectFailed,
    ConnectTimedOut,
    DialError,
    NameNotResolved,
    NotPermitted,
    OutOfResources,
    TargetsFull,
    TLSFailed,
)
from portfwd.kernel.platform import Platform
from portfwd.kernel.poller import Poller
from portfwd.kernel.reactor import Reactor
from portfwd.kernel.sockets import EXHAUSTED
from portfwd.limits.admission import Doorkeeper
from portfwd.metrics.tally import Ledger
from portfwd.relay.containment import contained
from portfwd.relay.datagram_targets import DatagramTargets, usable_hosts
from portfwd.relay.destination import Destination
from portfwd.relay.sinks import Sinks
from portfwd.relay.verifier import Verifier
from portfwd.rules.model import Options
from portfwd.streams.datagram_opening import DatagramStreams, carrier_of
from portfwd.streams.datagram_stream import DatagramStream
from portfwd.streams.opening import StreamMaker
from portfwd.streams.socket_opening import SocketShare
from portfwd.streams.stream import Loss, Stream
from portfwd.streams.tls_opening import TLSEndpoint, TLSStreams
from portfwd.streams.transport import TransportStream
from portfwd.upstreams.connect import Attempt, EndpointAttempt, SocketAttempt
from portfwd.upstreams.datagram_port import PortAttempt
from portfwd.upstreams.datagrams import DatagramAttempt
from portfwd.upstreams.names import Names
from portfwd.values import Address, InetAddress, UnixAddress, is_literal

#: RFC 8305 section 5: "Connection Attempt Delay … recommended 250 ms".
ATTEMPT_DELAY: Final = 0.25


@frozen(eq=False)
class Surroundings:
    """
    What sessions need of the world.

    :ivar streams: makes streams for the pair.
    :ivar sinks: where copies go that filters make.
    :ivar doorkeeper: counts who is in, for limits.
    :ivar ledger: adds up what sessions did, where somebody wants to know.
    :ivar verifier: checks secrets in threads.
    :ivar sockets: makes streams of sockets of ours, where the platform has what they need.
    """

    reactor: Reactor
    platform: Platform
    names: Names
    streams: StreamMaker
    sockets: SocketShare | None = None
    sinks: Sinks = field()
    doorkeeper: Doorkeeper = field(factory=Doorkeeper)
    ledger: Ledger | None = None
    verifier: Verifier = field()

    @verifier.default
    def _verifier(self) -> Verifier:
        return Verifier(self.reactor)

    @sinks.default
    def _sinks(self) -> Sinks:
        return Sinks(self.reactor)


class Opener(Protocol):
    """
    Makes streams of connected sockets.

    :ivar poller: waits for connections, if it is not the reactor who does.
    """

    @property
    def poller(self) -> Poller | None:
        """See the class."""

    def accepted(
        self, sock: socket.socket, address: Address | None, options: Options, local: Address | None = None
    ) -> Stream:
        """A client's; `local` is where it was accepted, if that is known."""

    def plain(
        self, sock: socket.socket, address: Address | None, buffer: int, *, seen: int | None = None
    ) -> Stream:
        """An upstream's."""


class DialOwner(Protocol):
    """Who is told the outcome of a dial: exactly one of these, once, unless it was cancelled."""

    def dialled(self, stream: Stream, destination: Destination) -> None:
        """The upstream is reached; nothing was read from it. To be ended by `Destination.give_back`."""

    def dial_failed(self, problem: DialError, address: Address | None) -> None:
        """Every target failed; `problem` is the last one's, `address` where it was met."""

    def broke(self, failure: Failure) -> None:
        """An exception of ours ended the dial."""


class Dial:
    """
    One session's way to an upstream.

    :ivar tried: the address that was tried last, or whose name was asked for.
    """

    _log = Logger()

    def __init__(
        self,
        world: Surroundings,
        destinations: Sequence[Destination],
        time_limit: float,
        owner: DialOwner,
        streams: Opener | None = None,
        permits: Callable[[Address], bool] | None = None,
        *,
        will_send: bool = False,
    ) -> None:
        """
        :param permits: asked for every address before it is tried; None permits all.
        :param will_send: what the client has to say waits already.
        :param streams: makes streams of plain sockets; None for the pair's.
        :param destinations: in the order in which they are tried; not empty.
        :param time_limit: seconds for all of them together.
        """
        self._world = world
        self._destinations = list(reversed(destinations))
        self._targets = destinations
        self._current = destinations[0]
        self._time_limit = time_limit
        self._owner = owner
        self._streams: Opener = world.streams if streams is None else streams
        self._permits = permits
        self._will_send = will_send
        self._addresses: list[Address] = []
        self._attempts: dict[Attempt, None] = {}
        self._deadline: IDelayedCall | None = None
        self._next: IDelayedCall | None = None
        self._handshake: TransportStream | None = None
        self._handshake_limit: IDelayedCall | None = None
        self._problem: DialError = ConnectFailed("no target")
        self.tried: Address | None = None
        self._has_place = False
        self._over = False
        self._asking = False
        self._advancing = False
        self._advance_again = False

    def __repr__(self) -> str:
        state = "over" if self._over else "trying"
        return f"<Dial {self._current.label} attempts={len(self._attempts)} {state}>"

    def start(self) -> None:
        """Begin. The outcome may come before this returns."""
        self._deadline = self._world.reactor.callLater(self._time_limit, self._out_of_time)
        self._next_destination()

    def cancel(self) -> None:
        """Stop, silently; everything that is open for it is closed."""
        self._finish()

    def broke(self, failure: Failure) -> None:
        """Something of ours raised: the dial is over, and its owner's to explain."""
        if not self._over:
            try:
                self._finish()
            except Exception:
                self._log.failure("{dial!r}: and it could not be cancelled", dial=self)
        self._owner.broke(failure)

    # Targets

    def _advance(self) -> None:
        """
        Try the next address, or the next target where there is none left.

        A loop and not a recursion: thousands of addresses may fail at once,
        each within its own start.
        """
        self._advance_again = True
        if self._advancing:
            return
        self._advancing = True
        try:
            while self._advance_again:
                self._advance_again = False
                if self._addresses and self._problem.retry:
                    self._next_address()
                elif not self._attempts and not self._over:
                    self._next_destination()
        finally:
            self._advancing = False

    def _next_destination(self) -> None:
        if not self._destinations or not self._problem.retry:
            self._fail()
            return
        self._leave_target(failed=True)
        self._current = destination = self._destinations.pop()
        self._has_place = destination.take()
        if not self._has_place:
            limit = destination.options.max_conns_per_target
            self._problem = TargetsFull(f"{destination.label}: max-conns-per-target={limit}")
            self._advance()
            return
        address = destination.address
        if destination.endpoint is not None:
            self._begin(self._endpoint_attempt(destination.endpoint))
        elif isinstance(address, UnixAddress) or (
            isinstance(address, InetAddress) and is_literal(address.host)
        ):
            self._try([address])
        elif isinstance(address, InetAddress):
            self.tried = address
            self._asking = True
            self._world.names.ask(address.host, destination.options.dns_refresh, self, self._resolved)

    @contained
    def _resolved(self, hosts: Sequence[str]) -> None:
        if self._over:
            return
        self._asking = False
        address = self._current.address
        if not isinstance(address, InetAddress):  # pragma: no cover - only names are asked for
            raise TypeError(address)
        source = self._current.options.src
        hosts = usable_hosts(hosts, source)
        if not hosts:
            self._attempt_failed(NameNotResolved(f"{address.host}: no address is known"))
            return
        found: Sequence[Address] = [InetAddress(host, address.port) for host in hosts]
        if self._current.datagrams:
            found = self._datagram_targets.in_order(found)
        self._try(found[::-1])

    @property
    def _datagram_targets(self) -> DatagramTargets:
        streams = cast("DatagramStreams | TLSStreams", self._streams)
        return cast(DatagramTargets, streams.targets)

    def _try(self, addresses: Sequence[Address]) -> None:
        """Try these, the last one first, as far as they are permitted."""
        permits = self._permits
        self._addresses = [one for one in addresses if permits is None or permits(one)]
        if not self._addresses:
            self.tried = addresses[-1]
            self._problem = NotPermitted(f"{self._current.label}: a filter does not permit this destination")
        self._advance()

    # Addresses

    @contained
    def _next_address(self) -> None:
        self._stop_waiting()
        address = self._addresses.pop()
        if self._addresses:
            self._next = self._world.reactor.callLater(ATTEMPT_DELAY, self._next_address)
        self._begin(self._address_attempt(address))

    def _begin(self, attempt: Attempt) -> None:
        self._attempts[attempt] = None
        self.tried = attempt.address or self.tried
        attempt.start()

    def _address_attempt(self, address: Address) -> Attempt:
        options = self._current.options
        if self._current.datagrams:
            if self._world.sockets is None:
                streams = cast("DatagramStreams | TLSStreams", self._streams)
                return PortAttempt(self._world.reactor, address, options, self, streams.reached)
            return DatagramAttempt(address, options, self)
        if self._world.platform.own_sockets:
            poller = self._streams.poller
            return SocketAttempt(
                self._world.reactor,
                address,
                options,
                options.connect_timeout,
                self,
                poller,
                self._current.settings_for(will_send=self._will_send),
            )
        return self._endpoint_attempt(portable_endpoint(self._world.reactor, address, options), address)

    def _endpoint_attempt(self, endpoint: IStreamClientEndpoint, address: Address | None = None) -> Attempt:
        current = self._current
        if current.tls is not None:
            endpoint = TLSEndpoint(endpoint, current.tls)
        attempt = EndpointAttempt(
            self._world.reactor,
            endpoint,
            current.label,
            current.options,
            current.options.connect_timeout,
            self,
            self._world.streams.bare(current.options.buffer),
        )
        attempt.address = address
        return attempt

    @contained
    def connected(self, attempt: Attempt, result: socket.socket | TransportStream | DatagramStream) -> None:
        """The first attempt that succeeds wins."""
        self._attempts.pop(attempt, None)
        self.tried = attempt.address or self.tried
        self._stop_waiting()
        self._cancel_attempts()
        current = self._current
        if isinstance(result, (TransportStream, DatagramStream)):
            self._succeed(result)
            return
        try:
            if current.tls is None:
                seen = attempt.seen
                buffer = current.options.buffer
                self._succeed(self._streams.plain(result, attempt.address, buffer, seen=seen))
                return
            self._handshake = self._world.streams.tls_client(
                result, attempt.address, current.options.buffer, current.tls, self
            )
            limit = current.options.connect_timeout
            self._handshake_limit = self._world.reactor.callLater(limit, self._handshake_out_of_time)
        except OSError as problem:
            self._attempt_failed(no_stream(current.label, problem))

    @contained
    def failed(self, attempt: Attempt, problem: DialError) -> None:
        """One attempt is over."""
        self._attempts.pop(attempt, None)
        self.tried = attempt.address or self.tried
        self._attempt_failed(problem)

    def _attempt_failed(self, problem: DialError) -> None:
        self._problem = problem
        self._advance()

    # The TLS handshake, of which the dial is the stream's first owner

    def began(self, stream: Stream) -> None:
        """Only clients begin."""

    @contained
    def opened(self, stream: Stream) -> None:
        """The handshake is through."""
        if stream is self._handshake:
            self._handshake = None
            self._succeed(stream)

    @contained
    def lost(self, stream: Stream, how: Loss, detail: str) -> None:
        """The handshake failed; one that was given up before says so here too, and is past."""
        if stream is self._handshake:
            self._handshake = None
            if self._handshake_limit is not None and self._handshake_limit.active():
                self._handshake_limit.cancel()
            self._attempt_failed(
                TLSFailed(f"{self._current.label}: {detail or 'closed during the TLS handshake'}")
            )

    @contained
    def _handshake_out_of_time(self) -> None:
        stream, self._handshake = self._handshake, None
        if stream is not None:
            stream.abort()
        limit = self._current.options.connect_timeout
        self._attempt_failed(TLSFailed(f"{self._current.label}: no TLS handshake within {limit:g} s"))

    def ended(self, stream: Stream) -> None:
        """`lost` follows."""

    def end_sent(self, stream: Stream) -> None:
        """Nothing was sent."""

    def writing_failed(self, stream: Stream) -> None:
        """`lost` follows."""

    # The outcome

    @contained
    def _out_of_time(self) -> None:
        within = f"within {self._time_limit:g} s"
        if self._asking:
            self._problem = NameNotResolved(f"{self._current.label}: the resolver did not answer {within}")
        elif self._handshake is not None:
            self._problem = TLSFailed(f"{self._current.label}: no TLS handshake {within}")
        elif not isinstance(self._problem, ConnectTimedOut):
            self._problem = ConnectTimedOut(f"{self._current.label}: no target answered {within}")
        self._fail()

    def _leave_target(self, *, failed: bool = False) -> None:
        """The current target is not to be had: it is somebody else's."""
        if self._has_place:
            self._has_place = False
            self._current.occupancy.failures += failed
            self._current.give_back()

    def _succeed(self, stream: Stream) -> None:
        if self._current.datagrams:
            self._datagram_targets.follow(carrier_of(stream), self._current, self._targets, self._permits)
        self._has_place = False  # it is the owner's from here on
        self._finish()
        self._owner.dialled(stream, self._current)

    def _fail(self) -> None:
        self._leave_target(failed=True)
        self._finish()
        self._owner.dial_failed(self._problem, self.tried)

    def _stop_waiting(self) -> None:
        if self._next is not None and self._next.active():
            self._next.cancel()

    def _cancel_attempts(self) -> None:
        attempts, self._attempts = self._attempts, {}
        for attempt in attempts:
            attempt.cancel()

    def _finish(self) -> None:
        self._over = True
        self._leave_target()
        self._stop_waiting()
        self._addresses.clear()
        self._destinations.clear()
        for timer in (self._deadline, self._handshake_limit):
            if timer is not None and timer.active():
                timer.cancel()
        address = self._current.address
        if isinstance(address, InetAddress):
            self._world.names.forget(address.host, self)
        stream, self._handshake = self._handshake, None
        if stream is not None:
            stream.abort()
        self._cancel_attempts()


def no_stream(label: str, problem: OSError) -> DialError:
    """What it means that a connected socket could not become a stream."""
    # ENOSPC is how epoll says that no more descriptors can be watched.
    ours = problem.errno in EXHAUSTED or problem.errno == errno.ENOSPC
    return (OutOfResources if ours else ConnectFailed)(f"{label}: {problem.strerror or problem}")


def portable_endpoint(reactor: object, address: Address, options: Options) -> IStreamClientEndpoint:
    """Twisted's endpoint for `address`, where sockets cannot be our own."""
    if isinstance(address, UnixAddress):
        endpoint: IStreamClientEndpoint = UNIXClientEndpoint(
            reactor, address.sockaddr, options.connect_timeout
        )
        return endpoint
    kind = TCP6ClientEndpoint if ":" in address.host else TCP4ClientEndpoint
    source = (options.src, 0) if options.src is not None else None
    made: IStreamClientEndpoint = kind(reactor, address.host, address.port, options.connect_timeout, source)
    return made
