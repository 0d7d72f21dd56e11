# -*- test-case-name: tests.admin.test_metrics_page -*-
"""
The pages for machines that watch: ``/metrics``, ``/healthz`` and ``/readyz``.

A page of metrics is made in slices, so that traffic goes on in between, and once for all who ask
meanwhile. `portfwd.admin.web.connection` bounds what a connection costs; these pages take no bodies.
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

#: Connections at a time: a Prometheus or two, a load balancer's checks, and somebody with curl, twice.
MOST_CONNECTIONS: Final = 16

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


def add_health(root: Resource, ready: Callable[[], bool]) -> None:
    """Put ``/healthz`` and ``/readyz`` below `root`."""
    root.putChild(b"healthz", _Says(lambda: True, b"ok\n", b""))
    root.putChild(b"readyz", _Says(ready, b"ready\n", b"not ready\n"))


def add_pages(root: Resource, pages: PageOfMetrics, content_type: str, ready: Callable[[], bool]) -> Resource:
    """Put all of the pages below `root`, and return it."""
    root.putChild(b"metrics", _Metrics(pages, content_type))
    add_health(root, ready)
    return root
