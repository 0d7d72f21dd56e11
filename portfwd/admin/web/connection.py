# -*- test-case-name: tests.admin.web.test_connection -*-
"""
HTTP/1.1 connections with bounded cost, for all listeners of HTTP.

A connection reads requests itself, with `portfwd.wire.http_head` and `portfwd.wire.http_body`, and passes
them on to Twisted one at a time, each with its whole body. So the work in one iteration of the reactor is
bounded (`portfwd.admin.web.step_queue`), also if requests are pipelined. The head of a request is judged
before its body is read. Forms are not parsed.

Each request and the reading of each answer have a time limit. The number of unread answers is bounded, so
that their clients do not block others. Heads and bodies have maximum sizes. A client that ends its direction
gets the answers to its complete requests. `portfwd.admin.operator_port` limits the number of connections.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http import HTTPStatus
from io import BytesIO
from typing import Any, Final, cast

from twisted.internet.interfaces import (
    IDelayedCall,
    IHalfCloseableDescriptor,
    IHalfCloseableProtocol,
    IProtocol,
    IPushProducer,
    IReactorTime,
    ITransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.resource import IResource
from twisted.web.server import Request, Site
from zope.interface import implementer

from portfwd.admin.operator_port import Priority
from portfwd.admin.web.step_queue import StepQueue
from portfwd.wire.http_body import UnknownCoding, body_length, read_chunked
from portfwd.wire.http_head import MAX_HEAD, RequestHead, read_head
from portfwd.wire.reading import Need, TooLong, WireError

#: Maximum number of unread answers. Each may have several megabytes.
MOST_UNREAD: Final = 8

#: Maximum seconds from the connection, or from the first byte of a later request, to the end of the request.
#: A request fits into one packet.
REQUEST_TIME: Final = 10.0

#: Seconds without a request after which a connection is closed. Prometheus sends one every 15 to 60 seconds.
IDLE: Final = 90.0

#: Maximum seconds for which an answer may stay unread. The default timeout of Prometheus is 10.
STUCK: Final = 20.0

#: Bytes of further requests above which nothing more is read while a request is being served.
READ_AHEAD: Final = 16 * 1024

#: Maximum seconds for which the rest of a refused request is read and dropped. If the connection were closed
#: at once, a reset could overtake the answer (RFC 9112 section 9.6).
LINGER: Final = 1.0

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
#: Fields of a request that are about its transfer. Twisted gets others, which fit the body that was read.
_FRAMING: Final = frozenset({"connection", "content-length", "expect", "transfer-encoding"})

#: Returns the resource that refuses a request, or None. It is called before the body is read.
Judge = Callable[[RequestHead], IResource | None]


class BoundedRequest(Request):
    """
    A request that was read completely.

    :ivar connection: its connection.
    """

    @property
    def connection(self) -> BoundedConnection:
        """See the class."""
        return cast(BoundedConnection, self.channel.transport)

    def gotLength(self, length: int | None) -> None:  # noqa: N802 - Twisted's
        """See `Request`. The body is kept in memory; Twisted would store a large body in a file."""
        self.content = BytesIO()

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:  # noqa: N802 - Twisted's
        """See `Request`. Twisted would parse forms too, which takes a second per megabyte."""
        assert self.content is not None
        self.content.seek(0)
        self.method, self.uri, self.clientproto = command, path, version
        self.path = path.partition(b"?")[0]
        self.args = {}
        self.process()

    def setResponseCode(self, code: int, message: bytes | None = None) -> None:  # noqa: N802 - Twisted's
        """See `Request`. Twisted does not know all status codes."""
        super().setResponseCode(code, HTTPStatus(code).phrase.encode() if message is None else message)

    def finish(self) -> None:
        """See `Request`."""
        connection = self.connection
        super().finish()
        connection.answered()


class QuietSite(Site):
    """A site that logs no requests, because scrapes would fill twistd's log."""

    noisy = False

    def log(self, request: object) -> None:
        """Do nothing."""

    def getResourceFor(self, request: Any) -> Any:  # noqa: N802 - Twisted's
        """See `Site`. The resource of a refused request is the refusal."""
        return request.connection.refusal or super().getResourceFor(request)


@implementer(IHalfCloseableProtocol)
class BoundedConnection(ProtocolWrapper):
    """
    One connection with time limits.

    :ivar who: name of the client in the log.
    :ivar stuck: whether the client does not read its answer.
    :ivar has_ended: whether the client has ended its direction.
    :ivar on_end: called when it does while its request is being served.
    :ivar refusal: the resource that refuses the current request.
    """

    def __init__(
        self, factory: BoundedFactory, wrapped: IProtocol, clock: IReactorTime, who: str = ""
    ) -> None:
        super().__init__(cast(Any, factory), wrapped)
        self.who = who
        self._bounded = factory
        self._clock = clock
        self._timer: IDelayedCall | None = None
        self._serving = False
        self._has_partial_request = False
        self.stuck = False
        self.has_ended = False
        self.on_end: Callable[[], None] | None = None
        self.refusal: IResource | None = None
        self._buffer = bytearray()
        self._needed = 1
        self._head: RequestHead | None = None
        self._length: int | None = 0
        self._closing = False
        self._has_unread_body = False
        self._lingering = False
        self._is_lost = False
        self._paused = False

    def __repr__(self) -> str:
        return f"<BoundedConnection {'stuck' if self.stuck else self.priority.name.lower()}>"

    @property
    def priority(self) -> Priority:
        """See `portfwd.admin.operator_port.Priority`."""
        return Priority.SERVED if self._serving and not self.stuck else Priority.INACTIVE

    def _wait(self, seconds: float | None) -> None:
        """Set the time limit of the client to `seconds` from now; None for no limit."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None if seconds is None else self._clock.callLater(seconds, self.finish)

    def makeConnection(self, transport: ITransport) -> None:
        """See `IProtocol`."""
        self._has_partial_request = True
        self._wait(REQUEST_TIME)
        super().makeConnection(transport)

    # Reading requests

    def dataReceived(self, data: bytes) -> None:
        """See `IProtocol`."""
        if self._lingering:
            return
        if not self._has_partial_request and not self._serving:
            # The time limit of a request starts at its first byte, so a client cannot send it slowly.
            self._has_partial_request = True
            self._wait(REQUEST_TIME)
        self._buffer += data
        self._go_on()

    def readConnectionLost(self) -> None:
        """See `IHalfCloseableProtocol`. Complete requests are answered before the connection is closed."""
        self.has_ended = True
        if self._lingering:
            self.loseConnection()
        elif self._serving:
            if self.on_end is not None:
                self.on_end()
        else:
            self._go_on()

    def writeConnectionLost(self) -> None:
        """See `IHalfCloseableProtocol`."""

    def pauseProducing(self) -> None:
        """Do nothing: this object decides when to read, and not Twisted's HTTP."""

    def resumeProducing(self) -> None:
        """See `pauseProducing`."""

    def _go_on(self) -> None:
        """Wait for a step if there is something to do."""
        queue = self._bounded.queue
        if not (self._serving or self.stuck or self._closing):
            if len(self._buffer) >= self._needed:
                queue.add(self)
            elif self.has_ended:
                self.loseConnection()
        is_busy = self._serving or self.stuck or self in queue
        pause = is_busy and len(self._buffer) > READ_AHEAD
        if pause != self._paused and (self._lingering or not self._closing):
            self._paused = pause
            transport: Any = self.transport
            if pause:
                transport.pauseProducing()
            else:
                transport.resumeProducing()

    def step(self) -> None:
        """Read one request, if it is complete, and pass it on to Twisted."""
        if self._serving or self.stuck or self._closing:
            return
        try:
            self._read()
        except UnknownCoding:
            self._refuse(HTTPStatus.NOT_IMPLEMENTED)
        except TooLong:
            has_head = self._head is not None
            self._refuse(HTTPStatus(413) if has_head else HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        except WireError:
            self._refuse(HTTPStatus.BAD_REQUEST)
        self._go_on()

    def _read(self) -> None:
        is_new = self._head is None
        if self._head is None:
            found = read_head(bytes(self._buffer[:MAX_HEAD]))
            if isinstance(found, Need):
                self._needed = found.total
                return
            self._head = head = found.value
            del self._buffer[: found.used]
            if head.version == "2.0":
                raise WireError("HTTP/2 is not served")
            self.refusal = self._bounded.judge(head)
            if self.refusal is not None:
                # The answer is sent before the body, which is not read.
                self._has_unread_body = bool(head.field("content-length") or head.field("transfer-encoding"))
                self._pass_on(head, b"")
                return
            self._length = body_length(head, self._bounded.most_body)
        body = self._take_body()
        if body is not None:
            self._pass_on(self._head, body)
        elif is_new and self._head.version != "1.0" and b"100-continue" in self._head.field("expect"):
            self.write(_CONTINUE)

    def _take_body(self) -> bytes | None:
        """Remove the current request's body from the buffer and return it; None if it is not complete."""
        if self._length is None:
            found = read_chunked(bytes(self._buffer), self._bounded.most_body)
            if isinstance(found, Need):
                self._needed = found.total
                return None
            body, used = found.value, found.used
        else:
            self._needed = used = self._length
            if len(self._buffer) < used:
                return None
            body = bytes(self._buffer[:used])
        del self._buffer[:used]
        return body

    def _pass_on(self, head: RequestHead, body: bytes) -> None:
        """Let Twisted serve a complete request."""
        self._head = None
        self._needed = 1
        self._serving = True
        self._has_partial_request = False
        self._wait(None)
        super().dataReceived(b"".join(self._plain(head, body)) + body)

    def _plain(self, head: RequestHead, body: bytes) -> Iterator[bytes]:
        """The head of the request with this `body`, as Twisted gets it."""
        version = "1.0" if head.version == "1.0" else "1.1"
        yield f"{head.method} {head.target} HTTP/{version}\r\n".encode("ascii")
        for name, value in head.fields:
            if name not in _FRAMING:
                yield name.encode("ascii") + b": " + value + b"\r\n"
        if body:
            yield b"content-length: %d\r\n" % len(body)
        options = b",".join(head.field("connection")).lower().split(b",")
        if self._has_unread_body or b"close" in [one.strip() for one in options]:
            yield b"connection: close\r\n"
        yield b"\r\n"

    def answered(self) -> None:
        """The answer was written."""
        self._serving = False
        self.on_end = self.refusal = None
        if self._is_lost:
            return
        self._rest()
        self._go_on()

    def _rest(self) -> None:
        """Set the time limit of the next request, of which a part may have come already."""
        if not (self._serving or self.stuck or self._lingering):
            self._has_partial_request = bool(self._buffer)
            self._wait(REQUEST_TIME if self._has_partial_request else IDLE)

    # Closing

    def _refuse(self, status: HTTPStatus) -> None:
        """Answer a request that cannot be read, and close."""
        phrase = status.phrase.encode("ascii")
        head = b"HTTP/1.1 %d %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        self._has_unread_body = True
        self.write(head % (status, phrase))
        self.unregisterProducer()
        self.loseConnection()

    def loseConnection(self) -> None:
        """See `ITransport`. If bytes of a refused request are still coming, they are dropped for a while."""
        self._closing = True
        self._buffer.clear()
        transport: Any = IHalfCloseableDescriptor(self.transport, None)
        if self._has_unread_body and not self.has_ended and transport is not None:
            self._lingering = True
            self._wait(LINGER)
            transport.loseWriteConnection()
        else:
            super().loseConnection()

    def finish(self) -> None:
        """Abort the connection, without waiting until the client has read."""
        self.transport.abortConnection()  # type: ignore[union-attr]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """See `IProtocol`."""
        self._is_lost = self._closing = True
        self._buffer.clear()
        self._wait(None)
        self._bounded.reads(self)
        self._bounded.queue.discard(self)
        super().connectionLost(reason)

    # Unread answers

    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None:
        """See `ITransport`. This object and Twisted's HTTP both observe whether the client reads."""
        super().registerProducer(_Reading(self, producer), streaming)

    def stops_reading(self) -> None:
        """The client has stopped to read its answer."""
        self.stuck = True
        self._wait(STUCK)
        self._bounded.is_stuck(self)

    def has_read(self) -> None:
        """The client has read its answer."""
        self.stuck = False
        self._bounded.reads(self)
        self._rest()
        self._go_on()


@implementer(IPushProducer)
class _Reading:
    """Forwards pauses of the transport to the connection, and then to Twisted's HTTP."""

    def __init__(self, connection: BoundedConnection, producer: IPushProducer) -> None:
        self._connection = connection
        self._producer = producer

    def pauseProducing(self) -> None:
        """See `IPushProducer`: the client does not read."""
        self._connection.stops_reading()
        self._producer.pauseProducing()

    def resumeProducing(self) -> None:
        """See `IPushProducer`: the client has read all bytes."""
        self._connection.has_read()
        self._producer.resumeProducing()

    def stopProducing(self) -> None:
        """See `IPushProducer`."""
        self._producer.stopProducing()


class BoundedFactory(WrappingFactory):
    """
    Makes the protocols of connections to the resource `root`.

    :ivar most_body: maximum bytes of the body of a request.
    :ivar judge: see `Judge`.
    :ivar queue: the connections that wait for a step.
    """

    noisy = False

    def __init__(
        self, reactor: IReactorTime, root: IResource, most_body: int = 0, judge: Judge = lambda head: None
    ) -> None:
        # `BoundedConnection` has its own time limits.
        super().__init__(QuietSite(root, requestFactory=BoundedRequest, timeout=None, reactor=reactor))
        self.most_body = most_body
        self.judge = judge
        self.queue = StepQueue(reactor)
        self._clock = reactor
        self._stuck: dict[BoundedConnection, None] = {}

    def serve(self, who: str) -> Protocol:
        """The protocol of one connection."""
        wrapped = self.wrappedFactory.buildProtocol(None)
        assert wrapped is not None
        return BoundedConnection(self, wrapped, self._clock, who)

    def is_stuck(self, connection: BoundedConnection) -> None:
        """`connection` does not read its answer. Above `MOST_UNREAD` the oldest such one is aborted."""
        self._stuck[connection] = None
        if len(self._stuck) > MOST_UNREAD:
            next(iter(self._stuck)).finish()

    def reads(self, connection: BoundedConnection) -> None:
        """`connection` has read its answer, or was closed."""
        self._stuck.pop(connection, None)
