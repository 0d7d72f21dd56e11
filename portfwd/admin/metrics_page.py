# -*- test-case-name: tests.admin.test_metrics_page -*-
"""
The pages for machines that watch: ``/metrics``, ``/healthz`` and ``/readyz``.

A page of metrics is made in slices, so that traffic goes on in between, and once for all who ask
meanwhile. It refuses what a watcher has no use for: bodies, many connections, requests that dawdle.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.task import Cooperator, SchedulerStopped
from twisted.logger import Logger
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

#: Connections at a time: a Prometheus or two, a load balancer's checks, and somebody with curl; no more
#: descriptors than are kept free of sessions.
MOST_CONNECTIONS: Final = 8

#: Seconds that a request may take to come, or its connection be idle: Prometheus asks every 15 to 60.
TIMEOUT: Final = 90

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


class _Site(Site):
    noisy = False

    def log(self, request: object) -> None:
        """Every scrape in twistd's log would be most of it."""


class WatchersFactory(WrappingFactory):
    """
    All pages, for a bounded number of connections.

    :ivar refused: connections that were closed at once, because there were too many.
    """

    noisy = False

    def __init__(
        self, reactor: IReactorTime, pages: PageOfMetrics, content_type: str, ready: Callable[[], bool]
    ) -> None:
        root = Resource()
        root.putChild(b"metrics", _Metrics(pages, content_type))
        root.putChild(b"healthz", _Says(lambda: True, b"ok\n", b""))
        root.putChild(b"readyz", _Says(ready, b"ready\n", b"not ready\n"))
        super().__init__(_Site(root, requestFactory=_Bodiless, timeout=TIMEOUT, reactor=reactor))
        self.refused = 0

    def buildProtocol(self, addr: IAddress | None) -> ProtocolWrapper | None:  # type: ignore[override]
        """One connection, if there are not too many."""
        if len(self.protocols) >= MOST_CONNECTIONS:
            self.refused += 1
            return None
        return super().buildProtocol(addr)

    def close(self) -> None:
        """End every connection."""
        for connection in list(self.protocols):
            connection.transport.abortConnection()
