# -*- test-case-name: tests.admin.test_metrics_page -*-
"""
The pages for machines that watch: ``/metrics``, ``/healthz`` and ``/readyz``.

A page of metrics is made in slices, so that traffic goes on in between, and once for all who ask
meanwhile. A connection has a bounded time for each request and for reading each answer, and few answers are
left unread at a time, so that nobody keeps ``/healthz`` from being answered. It refuses what a watcher has
no use for: bodies, many connections, requests that dawdle.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any, Final, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IProtocol, IPushProducer, IReactorTime, ITransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import Cooperator, SchedulerStopped
from twisted.logger import Logger
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site
from zope.interface import implementer

from portfwd.admin.doors import Standing

#: Connections at a time: a Prometheus or two, a load balancer's checks, and somebody with curl, twice.
MOST_CONNECTIONS: Final = 16

#: Answers that may be left unread at a time: each may be a page of some megabytes.
MOST_UNREAD: Final = 8

#: Seconds that a request may take from its first byte, or from the connection, to its end: one packet.
REQUEST_TIME: Final = 10.0

#: Seconds without a request after which a connection is closed: Prometheus asks every 15 to 60.
IDLE: Final = 90.0

#: Seconds for which an answer may be left unread; Prometheus gives up after 10 unless told otherwise.
STUCK: Final = 20.0

#: Seconds of one slice of a page: what traffic may wait for it in one turn of the reactor.
SLICE: Final = 0.002

PLAIN: Final = b"text/plain; charset=utf-8"


class PageOfMetrics:
    """
    Makes pages.

    :ivar pages: how many were made.
    """

    def __init__(self, reactor: IReactorTime, begin: Callable[[], Iterator[bytes]]) -> None:
        """:param begin: a new page, in parts; an empty part is one that only took time."""
        self._begin = begin
        self._waiting: list[Deferred[bytes]] = []
        self._cooperator = Cooperator(
            terminationPredicateFactory=_slice, scheduler=lambda call: reactor.callLater(0, call)
        )
        self.pages = 0

    def __repr__(self) -> str:
        return f"<PageOfMetrics {self.pages} made, {len(self._waiting)} waiting>"

    def get(self) -> Deferred[bytes]:
        """A page that was begun now, or that is being made."""
        page: Deferred[bytes] = Deferred()
        self._waiting.append(page)
        if len(self._waiting) == 1:
            parts: list[bytes] = []
            made = self._cooperator.coiterate(self._collect(parts))
            made.addCallback(lambda _: b"".join(parts)).addBoth(self._made)
        return page

    def _collect(self, parts: list[bytes]) -> Iterator[None]:
        for part in self._begin():
            parts.append(part)
            yield

    def _made(self, result: bytes | Failure) -> None:
        self.pages += 1
        waiting, self._waiting = self._waiting, []
        for page in waiting:
            page.callback(result)

    def stop(self) -> None:
        """Make no more; who waits is told so."""
        self._cooperator.stop()


def _slice() -> Callable[[], bool]:
    until = time.perf_counter() + SLICE
    return lambda: time.perf_counter() >= until


class _Metrics(Resource):
    isLeaf = True
    _log = Logger()

    def __init__(self, pages: PageOfMetrics, content_type: str) -> None:
        super().__init__()
        self._pages = pages
        self._content_type = content_type.encode("ascii")

    def render_GET(self, request: Request) -> int:
        gone: list[object] = []
        request.notifyFinish().addErrback(gone.append)

        def answer(page: bytes) -> None:
            if not gone:
                request.setHeader(b"content-type", self._content_type)
                request.write(page)
                request.finish()

        def failed(failure: Failure) -> None:
            if not failure.check(SchedulerStopped):
                self._log.failure("a page of metrics could not be made", failure)
            if not gone:
                _plain(request, 500, b"the log says what went wrong\n")
                request.finish()

        self._pages.get().addCallbacks(answer, failed)
        return NOT_DONE_YET


def _plain(request: Request, code: int, text: bytes) -> None:
    request.setResponseCode(code)
    request.setHeader(b"content-type", PLAIN)
    request.write(text)


class _Says(Resource):
    """A page of one word."""

    isLeaf = True

    def __init__(self, good: Callable[[], bool], yes: bytes, no: bytes) -> None:
        super().__init__()
        self._good = good
        self._yes = yes
        self._no = no

    def render_GET(self, request: Request) -> bytes:
        good = self._good()
        request.setResponseCode(200 if good else 503)
        request.setHeader(b"content-type", PLAIN)
        return self._yes if good else self._no


class _Bodiless(Request):
    """A request whose body, if it has one, ends the connection."""

    def gotLength(self, length: int | None) -> None:  # noqa: N802 - Twisted's
        # Twisted would open a file for a large one.
        self.content = BytesIO()

    def handleContentChunk(self, data: bytes) -> None:  # noqa: N802 - Twisted's
        self.channel.forceAbortClient()

    def process(self) -> None:
        """The request is complete."""
        _connection(self).asked()
        super().process()

    def finish(self) -> None:
        """The answer is written."""
        _connection(self).answered()
        super().finish()


class _Site(Site):
    noisy = False

    def log(self, request: object) -> None:
        """Every scrape in twistd's log would be most of it."""


class WatcherConnection(ProtocolWrapper):
    """
    One connection: whatever it waits for, it waits for a bounded time.

    :ivar stuck: it does not read what was written to it.
    """

    def __init__(self, factory: WatchersFactory, wrapped: IProtocol, clock: IReactorTime) -> None:
        super().__init__(cast(Any, factory), wrapped)
        self._watchers = factory
        self._clock = clock
        self._timer: IDelayedCall | None = None
        self._serving = False
        self._asks = False
        self.stuck = False

    def __repr__(self) -> str:
        return f"<WatcherConnection {'stuck' if self.stuck else self.standing.name.lower()}>"

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
        self._watchers.reads(self)
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
        self._watchers.is_stuck(self)

    def has_read(self) -> None:
        """It has read all of it."""
        self.stuck = False
        self._watchers.reads(self)
        if not self._serving:
            self._wait(IDLE)


@implementer(IPushProducer)
class _Reading:
    """Tells a connection what its transport says of the client's reading, and then Twisted's HTTP."""

    def __init__(self, connection: WatcherConnection, producer: IPushProducer) -> None:
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


def _connection(request: Request) -> WatcherConnection:
    """The connection that `request` came by."""
    return cast(WatcherConnection, request.channel.transport)


class WatchersFactory(WrappingFactory):
    """Makes the protocols of connections that ask for pages."""

    noisy = False

    def __init__(
        self, reactor: IReactorTime, pages: PageOfMetrics, content_type: str, ready: Callable[[], bool]
    ) -> None:
        root = Resource()
        root.putChild(b"metrics", _Metrics(pages, content_type))
        root.putChild(b"healthz", _Says(lambda: True, b"ok\n", b""))
        root.putChild(b"readyz", _Says(ready, b"ready\n", b"not ready\n"))
        # The connection itself counts the time.
        super().__init__(_Site(root, requestFactory=_Bodiless, timeout=None, reactor=reactor))
        self._clock = reactor
        self._stuck: dict[WatcherConnection, None] = {}

    def serve(self, who: str) -> Protocol:
        """A protocol for one connection."""
        wrapped = self.wrappedFactory.buildProtocol(None)
        assert wrapped is not None
        return WatcherConnection(self, wrapped, self._clock)

    def is_stuck(self, connection: WatcherConnection) -> None:
        """`connection` does not read its answer; of too many the one that waits longest is ended."""
        self._stuck[connection] = None
        if len(self._stuck) > MOST_UNREAD:
            next(iter(self._stuck)).finish()

    def reads(self, connection: WatcherConnection) -> None:
        """`connection` has read its answer, or is gone."""
        self._stuck.pop(connection, None)
