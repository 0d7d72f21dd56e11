# -*- test-case-name: tests.admin.web.test_connection -*-
"""
HTTP/1.1 connections with bounded cost.

Each request and the reading of each answer have a time limit. The number of unread answers is bounded, so
that their clients do not block others. Bodies have a maximum size. Twisted limits the head of a request to 16
KiB and 500 lines. `portfwd.admin.operator_port` limits the number of connections.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any, Final, cast

from twisted.internet.interfaces import IDelayedCall, IProtocol, IPushProducer, IReactorTime, ITransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.resource import IResource
from twisted.web.server import Request, Site
from zope.interface import implementer

from portfwd.admin.operator_port import Priority

#: Maximum number of unread answers. Each may have several megabytes.
MOST_UNREAD: Final = 8

#: Maximum seconds from the connection, or from the first byte of a later request, to the end of the request.
#: A request fits into one packet.
REQUEST_TIME: Final = 10.0

#: Seconds without a request after which a connection is closed. Prometheus sends one every 15 to 60 seconds.
IDLE: Final = 90.0

#: Maximum seconds for which an answer may stay unread. The default timeout of Prometheus is 10.
STUCK: Final = 20.0

_TOO_LARGE: Final = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class BoundedRequest(Request):
    """
    A request with a limited body. A larger body ends the connection.

    :ivar connection: its connection.
    """

    _refused = False

    @property
    def connection(self) -> BoundedConnection:
        """See the class."""
        return cast(BoundedConnection, self.channel.transport)

    def gotLength(self, length: int | None) -> None:  # noqa: N802 - Twisted's
        """See `Request`. The body is kept in memory; Twisted would store a large body in a file."""
        self.content = self._body = BytesIO()
        if length is not None and length > self.connection.most_body:
            self._refuse()

    def handleContentChunk(self, data: bytes) -> None:  # noqa: N802 - Twisted's
        """See `Request`."""
        if self._refused:
            return
        if self._body.tell() + len(data) > self.connection.most_body:
            self._refuse()
        else:
            self._body.write(data)

    def _refuse(self) -> None:
        self._refused = True
        self.connection.write(_TOO_LARGE)
        self.channel.loseConnection()

    def process(self) -> None:
        """See `Request`."""
        if self._refused:
            return
        self.connection.asked()
        super().process()

    def finish(self) -> None:
        """See `Request`."""
        self.connection.answered()
        super().finish()


class QuietSite(Site):
    """A site that logs no requests, because scrapes would fill twistd's log."""

    noisy = False

    def log(self, request: object) -> None:
        """Do nothing."""


class BoundedConnection(ProtocolWrapper):
    """
    One connection with time limits.

    :ivar who: name of the client in the log.
    :ivar most_body: maximum bytes of the body of a request.
    :ivar stuck: whether the client does not read its answer.
    """

    def __init__(
        self, factory: BoundedFactory, wrapped: IProtocol, clock: IReactorTime, who: str = ""
    ) -> None:
        super().__init__(cast(Any, factory), wrapped)
        self.who = who
        self.most_body = factory.most_body
        self._bounded = factory
        self._clock = clock
        self._timer: IDelayedCall | None = None
        self._serving = False
        self._has_partial_request = False
        self.stuck = False

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

    def finish(self) -> None:
        """Abort the connection, without waiting until the client has read."""
        self.transport.abortConnection()  # type: ignore[union-attr]

    def makeConnection(self, transport: ITransport) -> None:
        """See `IProtocol`."""
        self._has_partial_request = True
        self._wait(REQUEST_TIME)
        super().makeConnection(transport)

    def dataReceived(self, data: bytes) -> None:
        """See `IProtocol`."""
        if not self._has_partial_request and not self._serving:
            # The time limit of a request starts at its first byte, so a client cannot send it slowly.
            self._has_partial_request = True
            self._wait(REQUEST_TIME)
        super().dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """See `IProtocol`."""
        self._wait(None)
        self._bounded.reads(self)
        super().connectionLost(reason)

    def asked(self) -> None:
        """A request was received completely."""
        self._has_partial_request = False
        self._serving = True
        if not self.stuck:
            self._wait(None)

    def answered(self) -> None:
        """The answer was written."""
        self._serving = False
        if not self.stuck:
            self._wait(IDLE)

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
        if not self._serving:
            self._wait(IDLE)


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
    """

    noisy = False

    def __init__(self, reactor: IReactorTime, root: IResource, most_body: int = 0) -> None:
        # `BoundedConnection` has its own time limits.
        super().__init__(QuietSite(root, requestFactory=BoundedRequest, timeout=None, reactor=reactor))
        self.most_body = most_body
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
