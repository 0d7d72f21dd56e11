# -*- test-case-name: tests.admin.test_metrics_page -*-
"""
The pages for monitoring: ``/metrics``, ``/healthz`` and ``/readyz``.

A page of metrics is made in slices between which traffic is served. Requests that arrive meanwhile get the
same page. `portfwd.admin.web.connection` bounds the cost of connections. Requests have no bodies.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Cooperator, SchedulerStopped
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

#: Maximum connections: twice the number for two Prometheus servers, checks of a load balancer, and manual
#: requests.
MOST_CONNECTIONS: Final = 16

#: Seconds of one slice of a page, for which traffic waits in one iteration of the reactor.
SLICE: Final = 0.002

PLAIN: Final = b"text/plain; charset=utf-8"


class PageOfMetrics:
    """
    Makes pages of metrics.

    :ivar pages: number of pages made.
    """

    def __init__(self, reactor: IReactorTime, begin: Callable[[], Iterator[bytes]]) -> None:
        """:param begin: starts a new page, and yields its parts. Parts may be empty."""
        self._begin = begin
        self._waiting: list[Deferred[bytes]] = []
        self._cooperator = Cooperator(
            terminationPredicateFactory=_slice, scheduler=lambda call: reactor.callLater(0, call)
        )
        self.pages = 0

    def __repr__(self) -> str:
        return f"<PageOfMetrics {self.pages} made, {len(self._waiting)} waiting>"

    def get(self) -> Deferred[bytes]:
        """The page that is being made, or a new one."""
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
        """Stop. Waiting Deferreds fail with `SchedulerStopped`."""
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
                _plain(request, 500, b"internal error; the log has the traceback\n")
                request.finish()

        self._pages.get().addCallbacks(answer, failed)
        return NOT_DONE_YET


def _plain(request: Request, code: int, text: bytes) -> None:
    request.setResponseCode(code)
    request.setHeader(b"content-type", PLAIN)
    request.write(text)


class _HealthPage(Resource):
    """A page with one of two texts and status codes."""

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


def add_health(root: Resource, ready: Callable[[], bool]) -> None:
    """Add ``/healthz`` and ``/readyz`` to `root`."""
    root.putChild(b"healthz", _HealthPage(lambda: True, b"ok\n", b""))
    root.putChild(b"readyz", _HealthPage(ready, b"ready\n", b"not ready\n"))


def add_pages(root: Resource, pages: PageOfMetrics, content_type: str, ready: Callable[[], bool]) -> Resource:
    """Add all pages to `root`, and return it."""
    root.putChild(b"metrics", _Metrics(pages, content_type))
    add_health(root, ready)
    return root
