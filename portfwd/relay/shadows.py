# -*- test-case-name: tests.relay.test_shadows -*-
"""
Shadow upstreams, which get a copy of a session's bytes.

A `Shadow` is one connection of one session. It connects when it is made, and keeps at most `Sink.limit` bytes
that the connection does not accept. It never delays the session. A slower shadow gets the kept bytes and then
a reset, because a stream must not have gaps. It is not connected again for this session, because it would get
the middle of a stream. Its answers are read, so that it can continue, and dropped.

When the session ends, waiting bytes and the end are written within `LINGER` seconds.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from attrs import define
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.interfaces import (
    IDelayedCall,
    IHalfCloseableProtocol,
    IProtocol,
    IProtocolFactory,
    IPushProducer,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from portfwd.errors import DialError
from portfwd.relay.loops import Loops, PassedSession
from portfwd.relay.portable import portable_endpoint
from portfwd.rules.model import Options
from portfwd.upstreams.connect import Attempt, SocketAttempt
from portfwd.upstreams.names import Names
from portfwd.values import Address, CloseReason, InetAddress, named_host

#: Seconds for connecting: the default of ``connect-timeout``.
CONNECT_TIMEOUT: Final = 5.0
#: Seconds for which a resolved address of a shadow is valid: the default of ``dns-refresh``.
DNS_REFRESH: Final = Options().dns_refresh
#: Seconds for the remaining bytes when its session ends: the default of ``linger``.
LINGER: Final = 5.0
#: Bytes written to the transport at once, because it pauses only afterwards.
SLICE: Final = 64 * 1024


@implementer(IStreamClientEndpoint)
class NamedEndpoint:
    """An endpoint with a name. It is resolved like names of targets; its addresses are tried in order."""

    def __init__(
        self, names: Names, host: str, port: int, endpoint_of: Callable[[InetAddress], IStreamClientEndpoint]
    ) -> None:
        self._names = names
        self._host = host
        self._port = port
        self._endpoint_of = endpoint_of

    def __repr__(self) -> str:
        return f"<NamedEndpoint {self._host}:{self._port}>"

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """See `IStreamClientEndpoint`. Fails with `DNSLookupError` if there is no address."""
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        problem: Exception = DNSLookupError(f"no address for {self._host}")
        for host in await self._look_up():
            endpoint = self._endpoint_of(InetAddress(host, self._port))
            try:
                return await endpoint.connect(factory)
            except ConnectError as one:
                problem = one
        raise problem

    def _look_up(self) -> Deferred[Sequence[str]]:
        who = object()
        asked: Deferred[Sequence[str]] = Deferred(lambda _: self._names.forget(self._host, who))
        refused = self._names.ask(self._host, DNS_REFRESH, who, asked.callback)
        if refused:
            asked.errback(DNSLookupError(f"no address for {self._host}: {refused}"))
        return asked


@implementer(IStreamClientEndpoint)
class OwnListenerEndpoint:
    """
    An endpoint that may be a listener of this process.

    `Loops` gets the local address of the connection before the listener can accept it.
    """

    def __init__(self, reactor: Any, loops: Loops, passage: PassedSession, address: Address) -> None:
        self._reactor = reactor
        self._begun = partial(loops.begun, passage, address)
        self._address = address
        self._factory: Any = None
        self._connected: Deferred[Any] | None = None

    def __repr__(self) -> str:
        return f"<OwnListenerEndpoint {self._address}>"

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """See `IStreamClientEndpoint`. Fails with `ConnectError`."""
        attempt = SocketAttempt(self._reactor, self._address, Options(), CONNECT_TIMEOUT, self)
        attempt.begun = self._begun
        self._factory = protocolFactory
        connected: Deferred[IProtocol] = Deferred(lambda _: attempt.cancel())
        self._connected = connected
        attempt.start()
        return connected

    def connected(self, attempt: Attempt, result: Any) -> None:
        """See `AttemptOwner`."""
        assert self._connected is not None
        protocol = self._factory.buildProtocol(None)
        factory: Any = Factory()
        factory.buildProtocol = lambda addr: protocol
        try:
            self._reactor.adoptStreamConnection(result.fileno(), socket.AddressFamily(result.family), factory)
        except OSError as problem:
            self._connected.errback(ConnectError(string=str(problem)))
        else:
            self._connected.callback(protocol)
        finally:
            result.close()  # the reactor uses a duplicate of the descriptor

    def failed(self, attempt: Attempt, problem: DialError) -> None:
        """See `AttemptOwner`."""
        assert self._connected is not None
        self._connected.errback(ConnectError(string=str(problem)))


def shadow_endpoint(
    reactor: Any, names: Names, loops: Loops, address: Address, passage: PassedSession
) -> IStreamClientEndpoint:
    """
    Make the endpoint for `address`.

    :param passage: the sessions that the connection has passed, and the shadow itself.
    """

    def endpoint_of(address: Address) -> IStreamClientEndpoint:
        if loops.may_reach(address):
            own: IStreamClientEndpoint = OwnListenerEndpoint(reactor, loops, passage, address)
            return own
        return portable_endpoint(reactor, address, CONNECT_TIMEOUT)

    named = named_host(address)
    if named is not None:
        return NamedEndpoint(names, named.host, named.port, endpoint_of)
    return endpoint_of(address)


@define(eq=False)
class ShadowPassage:
    """A shadow in the list of sessions that a connection has passed; see `portfwd.relay.loops.Passing`."""

    passages: Sequence[PassedSession]
    shadow: Shadow | None = None

    def kill(self, reason: CloseReason) -> None:
        """End the shadow because it returned to a rule. The session continues."""
        if self.shadow is not None:
            self.shadow.refuse(f"comes back to a rule that the session has come through ({reason})")


@implementer(IPushProducer, IHalfCloseableProtocol)
class Shadow(Protocol):
    """
    One shadow of one session.

    :ivar dropped: number of bytes that it did not get.
    :ivar is_over: whether it is closed for good.
    """

    transport: Any  # the common interface of TCP and unix transports

    def __init__(
        self,
        clock: IReactorTime,
        endpoint: IStreamClientEndpoint,
        limit: int,
        lost: Callable[[int], None],
        failed: Callable[[str], None],
        over: Callable[[Shadow], None],
    ) -> None:
        """
        Connect.

        :param limit: most waiting bytes.
        :param lost: called with the number of dropped bytes.
        :param failed: called once with a failure, if there is one.
        :param over: called once, when it is closed.
        """
        self.dropped = 0
        self.is_over = False
        self._clock = clock
        self._limit = limit
        self._lost = lost
        self._failed = failed
        self._over = over
        self._queue: deque[bytes] = deque()
        self._waiting = 0
        self._is_paused = True  # bytes before it is connected
        self._is_finishing = False
        self._is_torn = False  # bytes are missing, so no more may follow
        self._end_sent = False
        self._peer_ended = False
        self._deadline: IDelayedCall | None = None
        factory = Factory.forProtocol(lambda: self)
        factory.noisy = False
        self._connecting: Deferred[Any] | None = maybeDeferred(endpoint.connect, factory)
        self._connecting.addErrback(self._not_connected)

    def __repr__(self) -> str:
        state = "over" if self.is_over else "finishing" if self._is_finishing else "open"
        return f"<Shadow {state}: {self._waiting} bytes waiting, {self.dropped} dropped>"

    # Calls of the session

    def write(self, data: bytes) -> None:
        """Send `data` now or later, or drop it if there is no room."""
        if self.is_over or self._is_finishing or self._is_torn:
            self._drop(len(data))
            return
        self._queue.append(data)
        self._waiting += len(data)
        self._send()
        excess = self._waiting - self._limit
        if excess > 0:
            self._tear(excess)

    def _tear(self, excess: int) -> None:
        """Keep the bytes that fit, and drop all later ones."""
        self._is_torn = True
        last = self._queue.pop()
        if len(last) > excess:
            self._queue.append(last[:-excess])
        self._waiting -= excess
        self._drop(excess)
        self._failed("is slower than the session, and gets no more of it")

    def finish(self) -> None:
        """The session has ended: send the waiting bytes, then the end."""
        if self.is_over or self._is_finishing:
            return
        self._is_finishing = True
        self._deadline = self._clock.callLater(LINGER, self.abort)
        self._send()

    def abort(self) -> None:
        """Abort now."""
        connecting, transport = self._connecting, self.transport
        self._end()
        if transport is not None:
            transport.abortConnection()
        elif connecting is not None:
            connecting.cancel()

    def refuse(self, why: str) -> None:
        """Abort now, and report the reason."""
        if not self.is_over:
            self.abort()
            self._failed(why)

    def _send(self) -> None:
        transport = self.transport
        while self._queue and not self._is_paused and transport is not None:
            piece = self._queue.popleft()
            if len(piece) > SLICE:
                self._queue.appendleft(piece[SLICE:])
                piece = piece[:SLICE]
            self._waiting -= len(piece)
            transport.write(piece)
        if self._queue or self._is_paused or self._end_sent or self.is_over:
            return
        if self._is_torn:
            self.abort()
        elif self._is_finishing:
            # End one direction and do not close: a close with unread answers would send a reset, which
            # loses sent bytes.
            self._end_sent = True
            transport.unregisterProducer()
            transport.loseWriteConnection()

    def _drop(self, count: int) -> None:
        if count:
            self.dropped += count
            self._lost(count)

    def _end(self) -> None:
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._connecting = None
        waiting, self._waiting = self._waiting, 0
        self._queue.clear()
        self._drop(waiting)
        if not self.is_over:
            self.is_over = True
            self._over(self)

    # Events of the connection

    def _not_connected(self, failure: Failure) -> None:
        if not self.is_over:
            self._end()
            self._failed(failure.getErrorMessage() or type(failure.value).__name__)

    def connectionMade(self) -> None:
        """Connected: send the waiting bytes."""
        self._connecting = None
        self._is_paused = False
        if self.is_over:
            self.transport.abortConnection()
            return
        self.transport.registerProducer(self, True)
        self._send()

    def pauseProducing(self) -> None:
        """The connection accepts no more bytes now."""
        self._is_paused = True

    def resumeProducing(self) -> None:
        """The connection accepts bytes again."""
        self._is_paused = False
        self._send()

    def stopProducing(self) -> None:
        """Do nothing: `connectionLost` follows."""

    def dataReceived(self, data: bytes) -> None:
        """The connection failed."""

    def readConnectionLost(self) -> None:
        """Drop an answer."""
        self._peer_ended = True
        if self._end_sent:
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """The end was sent. The end of the shadow may follow."""
        if self._peer_ended:
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection was closed."""
        told = self.is_over or self._end_sent
        self._end()
        if not told:
            self._failed(f"closed the connection: {reason.getErrorMessage()}")
