# -*- test-case-name: tests.relay.test_dial -*-
"""
Connects to one target of a dial: resolves its name, tries its addresses, performs its TLS handshake.

Several addresses are tried as in RFC 8305 (Happy Eyeballs): the next attempt starts when the previous one
fails or after `ATTEMPT_DELAY`, and the first connection wins. The others are then cancelled. If the TLS
handshake with the winner fails, they are tried again.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Protocol, cast

from attrs import field, frozen
from twisted.internet.interfaces import IDelayedCall, IReactorTime, IStreamClientEndpoint
from twisted.python.failure import Failure

from portfwd.errors import (
    ConnectFailed,
    DialError,
    NameNotResolved,
    NotPermitted,
    OutOfResources,
    TLSFailed,
)
from portfwd.kernel.sockets import EXHAUSTED
from portfwd.limits.look_ups import NOBODY, Asker
from portfwd.relay.containment import contained
from portfwd.relay.context import Opener, RelayContext
from portfwd.relay.datagram_targets import DatagramTargets, usable_hosts
from portfwd.relay.destination import Destination
from portfwd.relay.failovers import Failovers
from portfwd.relay.handshake import Handshake
from portfwd.relay.loops import PassedSession, Passing
from portfwd.relay.portable import portable_endpoint
from portfwd.relay.stepwise import Stepwise
from portfwd.streams.datagrams.datagram_opening import DatagramStreams
from portfwd.streams.datagrams.datagram_stream import DatagramStream
from portfwd.streams.stream import Stream
from portfwd.streams.transports.tls_opening import TLSEndpoint, TLSStreams
from portfwd.streams.transports.transport import TransportStream
from portfwd.upstreams.connect import Attempt, SocketAttempt
from portfwd.upstreams.datagram_port import PortAttempt
from portfwd.upstreams.datagrams import DatagramAttempt
from portfwd.upstreams.endpoint_attempt import EndpointAttempt
from portfwd.upstreams.names import Names
from portfwd.values import Address, InetAddress, TLSInfo, named_host

#: RFC 8305 section 5: "Connection Attempt Delay … recommended 250 ms".
ATTEMPT_DELAY: Final = 0.25


@frozen(eq=False)
class DialSettings:
    """
    The settings of one session for all its targets.

    :ivar streams: makes streams of plain sockets.
    :ivar permits: called with every address before it is tried; None permits all.
    :ivar will_send: whether bytes of the client are waiting.
    :ivar asker: the client for which look-ups of client-chosen names are counted.
    :ivar client: result of the client's handshake, if there was one.
    :ivar introduction: returns the bytes for a ``tls:`` target before the TLS handshake; None for none.
    :ivar passing: the session and the name of its rule, for `portfwd.relay.loops`; None for none.
    :ivar failovers: logs warnings about failed targets.
    :ivar clock: the clock of the rule, for time limits.
    """

    context: RelayContext
    streams: Opener
    permits: Callable[[Address], bool] | None = None
    will_send: bool = False
    asker: Asker = NOBODY
    introduction: Callable[[], bytes] | None = None
    client: TLSInfo | None = None
    passing: tuple[Passing, str] | None = None
    failovers: Failovers | None = None
    clock: IReactorTime = field()

    @clock.default
    def _clock(self) -> IReactorTime:
        return self.context.reactor

    def introduce(self) -> bytes:
        """The bytes of `introduction`."""
        return b"" if self.introduction is None else self.introduction()

    @property
    def datagram_targets(self) -> DatagramTargets:
        """The watcher of the rule's datagram targets. Only rules with such targets have it."""
        return cast(DatagramTargets, cast("DatagramStreams | TLSStreams", self.streams).targets)


class TargetOwner(Protocol):
    """The owner of an attempt at a target. Called for every failure, and with one result unless cancelled."""

    def attempt_failed(self, target: TargetDial, address: Address | None, problem: DialError) -> None:
        """One address could not be reached."""

    def target_reached(self, target: TargetDial, stream: Stream) -> None:
        """The upstream is connected."""

    def target_failed(self, target: TargetDial) -> None:
        """No address of the target is left."""

    def broke(self, failure: Failure) -> None:
        """Portfwd's code raised an exception."""


class TargetDial(Stepwise):
    """
    One target, from its name to its stream.

    :ivar tried: the address tried last, or the one whose name was resolved.
    :ivar asking: whether its name is being resolved.
    :ivar asked_again: whether it was started again with a newer answer for its name.
    """

    def __init__(self, settings: DialSettings, destination: Destination, owner: TargetOwner) -> None:
        """:param destination: the target. The owner has taken a slot of it and returns it."""
        self.destination = destination
        self.tried: Address | None = None
        self.asking = False
        self.asked_again = False
        self._settings = settings
        self._context = settings.context
        self._owner = owner
        self._hosts: tuple[str, ...] = ()
        self._addresses: list[Address] = []
        self._attempts: dict[Attempt, None] = {}
        self._handshake: Handshake | None = None
        self._delay: IDelayedCall | None = None
        self._is_turn = True
        self._over = False
        self._problem: DialError = ConnectFailed("no address")

    def __repr__(self) -> str:
        state = "over" if self._over else "trying"
        return f"<TargetDial {self.destination.label} attempts={len(self._attempts)} {state}>"

    @property
    def attempts(self) -> int:
        """Number of running attempts."""
        return len(self._attempts)

    @property
    def handshaking(self) -> bool:
        """Whether an upstream is connected and in its TLS handshake."""
        return self._handshake is not None

    @property
    def can_ask_again(self) -> bool:
        """Whether a newer answer may help, because known addresses could not be reached."""
        return bool(self._hosts) and self._problem.blames_target

    def start(self) -> None:
        """Start. The owner may be called before this returns."""
        destination = self.destination
        address, named = destination.address, named_host(destination.address)
        if destination.endpoint is not None:
            self._begin(self._endpoint_attempt(destination.endpoint))
        elif named is not None:
            self._ask(named)
        elif address is not None:
            self._try([address])

    def start_again(self) -> None:
        """Resolve the name again after all addresses have failed, and try new ones."""
        self.asked_again = True
        self._over = False
        self._is_turn = True
        self._ask(cast(InetAddress, self.destination.address))

    def cancel(self) -> None:
        """Stop without calling the owner, and close all sockets."""
        self._over = True
        self._addresses.clear()
        self._stop_delay()
        if self.asking:
            self.asking = False
            self._names.forget(cast(InetAddress, self.destination.address).host, self)
        handshake, self._handshake = self._handshake, None
        if handshake is not None:
            handshake.cancel()
        self._cancel_attempts()

    def broke(self, failure: Failure) -> None:
        """Pass an exception of portfwd's code to the owner."""
        self._owner.broke(failure)

    # The name

    @property
    def _names(self) -> Names:
        return self._context.client_names if self.destination.is_chosen else self._context.names

    def _ask(self, address: InetAddress) -> None:
        self.tried = self.tried or address
        self.asking = True
        options = self.destination.options
        refused = self._names.ask(
            address.host,
            options.dns_refresh,
            self,
            self._resolved,
            failed=self._hosts,
            asker=self._settings.asker,
        )
        if refused:
            self.asking = False
            if self.asked_again:
                self._exhausted()
            else:
                self._not_resolved(f"{address.host}: {refused}")

    @contained
    def _resolved(self, hosts: Sequence[str]) -> None:
        if self._over:
            return
        self.asking = False
        address = cast(InetAddress, self.destination.address)
        source = self.destination.options.src
        fit = usable_hosts(hosts, source)
        known, self._hosts = set(self._hosts), tuple(hosts)
        new = [host for host in fit if host not in known]
        if not fit:
            self._not_resolved(f"{address.host}: no address is known")
        elif not new:
            self._exhausted()
        else:
            found: Sequence[Address] = [InetAddress(host, address.port) for host in new]
            if self.destination.datagrams:
                found = self._settings.datagram_targets.in_order(found)
            self._try(found[::-1])

    def _not_resolved(self, text: str) -> None:
        self._problem = NameNotResolved(text)
        self._owner.attempt_failed(self, self.tried, self._problem)
        self._exhausted()

    # Addresses

    def _try(self, addresses: Sequence[Address]) -> None:
        """Try these addresses if they are permitted, the last one first."""
        permits = self._settings.permits
        self._addresses = [one for one in addresses if permits is None or permits(one)]
        if not self._addresses:
            self.tried = addresses[-1]
            label = self.destination.label
            self._problem = NotPermitted(f"{label}: a filter does not permit this destination")
            self._owner.attempt_failed(self, self.tried, self._problem)
        self._go_on()

    def _step(self) -> None:
        if self._over or self.asking or self._handshake is not None:
            return
        if self._addresses and self._problem.retry:
            if self._is_turn:
                self._is_turn = False
                self._next_address()
        elif not self._attempts:
            self._exhausted()

    def _next_address(self) -> None:
        self._stop_delay()
        address = self._addresses.pop()
        if self._addresses:
            self._delay = self._settings.clock.callLater(ATTEMPT_DELAY, self._delay_over)
        self._begin(self._address_attempt(address))

    @contained
    def _delay_over(self) -> None:
        self._is_turn = True
        self._go_on()

    def _begin(self, attempt: Attempt) -> None:
        self._attempts[attempt] = None
        self.tried = attempt.address or self.tried
        attempt.start()

    def _address_attempt(self, address: Address) -> Attempt:
        destination, context = self.destination, self._context
        options = destination.options
        attempt: DatagramAttempt | SocketAttempt
        if destination.datagrams:
            if context.sockets is None:
                streams = cast("DatagramStreams | TLSStreams", self._settings.streams)
                return PortAttempt(context.reactor, address, options, self, streams.reached)
            attempt = DatagramAttempt(address, options, self)
        elif context.platform.own_sockets:
            attempt = SocketAttempt(
                context.reactor,
                address,
                options,
                options.connect_timeout,
                self,
                self._settings.streams.poller,
                destination.settings_for(will_send=self._settings.will_send),
                clock=self._settings.clock,
            )
        else:
            return self._endpoint_attempt(
                portable_endpoint(context.reactor, address, options.connect_timeout, options.src), address
            )
        passage = self._passage
        if passage is not None and context.loops.may_reach(address):
            attempt.begun = partial(context.loops.begun, passage, address)
        return attempt

    @property
    def _passage(self) -> PassedSession | None:
        passing = self._settings.passing
        return None if passing is None else PassedSession(*passing, self.destination.is_chosen)

    def _endpoint_attempt(self, endpoint: IStreamClientEndpoint, address: Address | None = None) -> Attempt:
        destination = self.destination
        if destination.tls is not None:
            settings = self._settings
            endpoint = TLSEndpoint(endpoint, destination.tls.for_client(settings.client), settings.introduce)
        attempt = EndpointAttempt(
            self._settings.clock,
            endpoint,
            destination.label,
            destination.options,
            destination.options.connect_timeout,
            self,
            self._context.streams.bare(destination.options.buffer),
        )
        attempt.address = address
        return attempt

    @contained
    def connected(self, attempt: Attempt, result: socket.socket | TransportStream | DatagramStream) -> None:
        """The first attempt that succeeds wins."""
        self._attempts.pop(attempt, None)
        self.tried = attempt.address or self.tried
        self._stop_delay()
        # The next address to try is last.
        self._addresses += reversed(self._cancel_attempts())
        if isinstance(result, (TransportStream, DatagramStream)):
            self._know_passage(result)
            self._reached(result)
            return
        destination = self.destination
        try:
            if destination.tls is None:
                buffer = destination.options.buffer
                stream = self._settings.streams.plain(result, attempt.address, buffer, seen=attempt.seen)
                self._reached(stream)
                return
            handshake = Handshake(self._context, destination, self, self._settings.clock)
            handshake.start(result, attempt.address, self._settings.introduce(), self._settings.client)
            self._handshake = handshake
        except OSError as problem:
            self._attempt_failed(no_stream(destination.label, problem))

    def _know_passage(self, stream: Stream) -> None:
        """Read the addresses of a connected endpoint."""
        loops, passage = self._context.loops, self._passage
        address, local = stream.address, stream.local
        if passage is not None and address is not None and local is not None and loops.may_reach(address):
            loops.connected(passage, address, local)

    @contained
    def failed(self, attempt: Attempt, problem: DialError) -> None:
        """One attempt has ended."""
        self._attempts.pop(attempt, None)
        self.tried = attempt.address or self.tried
        self._attempt_failed(problem)

    def _attempt_failed(self, problem: DialError) -> None:
        self._problem = problem
        self._is_turn = True
        self._owner.attempt_failed(self, self.tried, problem)
        self._go_on()

    # The handshake

    def shaken(self, stream: Stream) -> None:
        """The TLS handshake has succeeded."""
        self._handshake = None
        self._reached(stream)

    def not_shaken(self, problem: TLSFailed) -> None:
        """The TLS handshake failed: try the other addresses, including cancelled ones."""
        self._handshake = None
        self._attempt_failed(problem)

    # Result

    def _reached(self, stream: Stream) -> None:
        self.cancel()
        self._owner.target_reached(self, stream)

    def _exhausted(self) -> None:
        self.cancel()
        self._owner.target_failed(self)

    def _stop_delay(self) -> None:
        if self._delay is not None and self._delay.active():
            self._delay.cancel()

    def _cancel_attempts(self) -> list[Address]:
        """Cancel all attempts; return their addresses in order of start."""
        attempts, self._attempts = self._attempts, {}
        for attempt in attempts:
            attempt.cancel()
        return [attempt.address for attempt in attempts if attempt.address is not None]


def no_stream(label: str, problem: OSError) -> DialError:
    """The error of a connected socket for which no stream could be made."""
    # epoll returns ENOSPC if no more descriptors can be watched.
    ours = problem.errno in EXHAUSTED or problem.errno == errno.ENOSPC
    return (OutOfResources if ours else ConnectFailed)(f"{label}: {problem.strerror or problem}")
