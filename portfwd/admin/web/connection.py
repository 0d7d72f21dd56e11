# -*- test-case-name: tests.admin.web.test_connection -*-
"""
Connections of HTTP/1.1 that cost a bounded amount, whatever the client does.

A connection has a bounded time for each request and for reading each answer, and few answers are left
unread at a time, so that nobody keeps others from being answered. Bodies have a bounded size, or are refused.
Twisted bounds the head of a request: 16 KiB, and 500 lines. `portfwd.admin.doors` bounds how many connections
there are.
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

from portfwd.admin.doors import Standing

#: Answers that may be left unread at a time: each may be a page of some megabytes.
MOST_UNREAD: Final = 8

#: Seconds that a request may take from its first byte, or from the connection, to its end: one packet.
REQUEST_TIME: Final = 10.0

#: Seconds without a request after which a connection is closed: Prometheus asks every 15 to 60.
IDLE: Final = 90.0

#: Seconds for which an answer may be left unread; Prometheus gives up after 10 unless told otherwise.
STUCK: Final = 20.0

_TOO_LARGE: Final = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class BoundedRequest(Request):
    """
    A request whose body, if it is larger than the site allows, ends the connection.

    :ivar connection: what it came by.
    """

    _refused = False

    @property
    def connection(self) -> BoundedConnection:
        """What it came by."""
        return cast(BoundedConnection, self.channel.transport)

    def gotLength(self, length: int | None) -> None:  # noqa: N802 - Twisted's
        """The head is complete; Twisted would open a file for a large body."""
        self.content = self._body = BytesIO()
        if length is not None and length > self.connection.most_body:
            self._refuse()

    def handleContentChunk(self, data: bytes) -> None:  # noqa: N802 - Twisted's
        """A part of the body."""
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
        """The request is complete."""
        if self._refused:
            return
        self.connection.asked()
        super().process()

    def finish(self) -> None:
        """The answer is written."""
        self.connection.answered()
        super().finish()


class QuietSite(Site):
    """A site that logs no requests: every scrape in twistd's log would be most of it."""

    noisy = False

    def log(self, request: object) -> None:
        """Nothing."""


class BoundedConnection(ProtocolWrapper):
    """
    One connection: whatever it waits for, it waits for a bounded time.

    :ivar who: the client, for the log.
    :ivar most_body: bytes of a request's body.
    :ivar stuck: it does not read what was written to it.
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
        self._asks = False
        self.stuck = False

    def __repr__(self) -> str:
        return f"<BoundedConnection {'stuck' if self.stuck else self.standing.name.lower()}>"

    @property
    def standing(self) -> Standing:
        """See `portfwd.admin.doors.Standing`."""
        return Standing.SERVED if self._serving and not self.stuck else Standing.SILENT

    def _wait(self, seconds: float | None) -> None:
        """From here on the client has so long; None: as long as we take."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None if seconds is None else self._clock.callLater(seconds, self.finish)

    def finish(self) -> None:
        """End it without waiting for anything to be read."""
        self.transport.abortConnection()  # type: ignore[union-attr]

    def makeConnection(self, transport: ITransport) -> None:
        """Somebody is there."""
        self._asks = True
        self._wait(REQUEST_TIME)
        super().makeConnection(transport)

    def dataReceived(self, data: bytes) -> None:
        """A part of a request."""
        if not self._asks and not self._serving:
            # The time for a request runs from its first byte: it must not come in drips.
            self._asks = True
            self._wait(REQUEST_TIME)
        super().dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It is gone."""
        self._wait(None)
        self._bounded.reads(self)
        super().connectionLost(reason)

    def asked(self) -> None:
        """A request is complete."""
        self._asks = False
        self._serving = True
        if not self.stuck:
            self._wait(None)

    def answered(self) -> None:
        """The answer to it is written."""
        self._serving = False
        if not self.stuck:
            self._wait(IDLE)

    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None:
        """Twisted's HTTP wants to be told when the client does not read; so do we."""
        super().registerProducer(_Reading(self, producer), streaming)

    def stops_reading(self) -> None:
        """The client does not read what was written."""
        self.stuck = True
        self._wait(STUCK)
        self._bounded.is_stuck(self)

    def has_read(self) -> None:
        """It has read all of it."""
        self.stuck = False
        self._bounded.reads(self)
        if not self._serving:
            self._wait(IDLE)


@implementer(IPushProducer)
class _Reading:
    """Tells a connection what its transport says of the client's reading, and then Twisted's HTTP."""

    def __init__(self, connection: BoundedConnection, producer: IPushProducer) -> None:
        self._connection = connection
        self._producer = producer

    def pauseProducing(self) -> None:
        """The client does not read what was written."""
        self._connection.stops_reading()
        self._producer.pauseProducing()

    def resumeProducing(self) -> None:
        """It has read all of it."""
        self._connection.has_read()
        self._producer.resumeProducing()

    def stopProducing(self) -> None:
        """It is gone."""
        self._producer.stopProducing()


class BoundedFactory(WrappingFactory):
    """
    Makes the protocols of connections that ask for what is below `root`.

    :ivar most_body: bytes of a request's body.
    """

    noisy = False

    def __init__(self, reactor: IReactorTime, root: IResource, most_body: int = 0) -> None:
        # The connection itself counts the time.
        super().__init__(QuietSite(root, requestFactory=BoundedRequest, timeout=None, reactor=reactor))
        self.most_body = most_body
        self._clock = reactor
        self._stuck: dict[BoundedConnection, None] = {}

    def serve(self, who: str) -> Protocol:
        """A protocol for one connection."""
        wrapped = self.wrappedFactory.buildProtocol(None)
        assert wrapped is not None
        return BoundedConnection(self, wrapped, self._clock, who)

    def is_stuck(self, connection: BoundedConnection) -> None:
        """`connection` does not read its answer; of too many the one that waits longest is ended."""
        self._stuck[connection] = None
        if len(self._stuck) > MOST_UNREAD:
            next(iter(self._stuck)).finish()

    def reads(self, connection: BoundedConnection) -> None:
        """`connection` has read its answer, or is gone."""
        self._stuck.pop(connection, None)
