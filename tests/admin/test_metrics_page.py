"""Tests of `portfwd.admin.metrics_page`: pages for machines that watch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from portfwd.admin import metrics_page
from portfwd.admin.branch import Branch
from portfwd.admin.metrics_page import PageOfMetrics, add_pages
from portfwd.admin.operator_port import Priority
from portfwd.admin.web.connection import IDLE, MOST_UNREAD, REQUEST_TIME, STUCK, BoundedFactory
from tests.admin.fakes import TURN, Turning


class Pages:
    """Makes pages of three parts; what it does in between is the test's."""

    def __init__(self) -> None:
        self.begun = 0
        self.between: Callable[[], None] = lambda: None

    def begin(self) -> Iterator[bytes]:
        self.begun += 1
        yield b""
        yield b"one\n"
        self.between()
        yield b"two\n"


class PageCase(SynchronousTestCase):
    """Pages, and a clock that turns the reactor."""

    def setUp(self) -> None:
        self.clock = Turning()
        self.source = Pages()
        self.pages = PageOfMetrics(self.clock, self.source.begin)
        # Every part is a turn of its own.
        self.patch(metrics_page, "SLICE", -1.0)

    def turn(self, times: int = 10) -> None:
        """Let the reactor run."""
        for _ in range(times):
            self.clock.advance(TURN)


class MakingTests(PageCase):
    """How a page is made."""

    def test_in_slices(self) -> None:
        """A part at a time; the reactor has its turn in between."""
        page = self.pages.get()
        self.turn(2)
        self.assertNoResult(page)
        self.turn()
        self.assertEqual(self.successResultOf(page), b"one\ntwo\n")
        self.assertEqual(repr(self.pages), "<PageOfMetrics 1 made, 0 waiting>")

    def test_at_once(self) -> None:
        """What takes next to no time is done in one turn."""
        self.patch(metrics_page, "SLICE", 60.0)
        page = self.pages.get()
        self.turn(1)
        self.assertEqual(self.successResultOf(page), b"one\ntwo\n")

    def test_together(self) -> None:
        """Who asks while a page is being made gets that one; who asks later another."""
        first = self.pages.get()
        self.turn(2)
        second = self.pages.get()
        self.turn()
        self.assertEqual(self.successResultOf(first), self.successResultOf(second))
        third = self.pages.get()
        self.turn()
        self.successResultOf(third)
        self.assertEqual((self.source.begun, self.pages.pages), (2, 2))

    def test_failure(self) -> None:
        """One that cannot be made is an error for those who wait for it, and no other."""

        def fail() -> None:
            raise ValueError("no figures")

        self.source.between = fail
        page = self.pages.get()
        self.turn()
        self.failureResultOf(page, ValueError)
        self.source.between = lambda: None
        page = self.pages.get()
        self.turn()
        self.successResultOf(page)

    def test_stop(self) -> None:
        """Who waits when it ends is told so, and nothing is left in the reactor."""
        page: Deferred[bytes] = self.pages.get()
        self.turn(2)
        self.pages.stop()
        self.failureResultOf(page)
        self.turn()
        self.assertEqual(self.clock.getDelayedCalls(), [])


class ServingTests(PageCase):
    """What is answered."""

    def setUp(self) -> None:
        super().setUp()
        self.ready = True
        root = add_pages(Branch(), self.pages, "text/x", lambda: self.ready)
        self.factory = BoundedFactory(self.clock, root)

    def connect(self) -> tuple[Any, StringTransport]:
        """One connection."""
        protocol: Any = self.factory.serve("watcher")
        transport = StringTransport()
        protocol.makeConnection(transport)
        return protocol, transport

    def ask(self, request: bytes) -> tuple[int, bytes, bytes]:
        """Status, headers and body of an answer."""
        protocol, transport = self.connect()
        protocol.dataReceived(request)
        self.turn()
        head, _, body = transport.value().partition(b"\r\n\r\n")
        return int(head.split()[1]), head, body

    def get(self, path: bytes) -> tuple[int, bytes, bytes]:
        """A GET."""
        return self.ask(b"GET " + path + b" HTTP/1.0\r\n\r\n")

    def test_metrics(self) -> None:
        """The page, with its type."""
        code, head, body = self.get(b"/metrics")
        self.assertEqual((code, body), (200, b"one\ntwo\n"))
        self.assertIn(b"text/x", head)

    def test_health(self) -> None:
        """``/healthz`` is good while the process runs; ``/readyz`` while clients are accepted."""
        self.assertEqual(self.get(b"/healthz")[::2], (200, b"ok\n"))
        self.assertEqual(self.get(b"/readyz")[::2], (200, b"ready\n"))
        self.ready = False
        self.assertEqual(self.get(b"/healthz")[0], 200)
        self.assertEqual(self.get(b"/readyz")[::2], (503, b"not ready\n"))

    def test_others(self) -> None:
        """There are no other pages, and nothing can be changed."""
        for path in (b"/", b"/metrics/x/y", b"/nothing"):
            self.assertIn(self.get(path)[0], (404, 200) if path.startswith(b"/metrics") else (404,))
        for method, code in ((b"POST", 405), (b"DELETE", 501)):
            self.assertEqual(self.ask(method + b" /metrics HTTP/1.0\r\n\r\n")[0], code)

    def test_failure(self) -> None:
        """A page that cannot be made is an error, and the log says more."""

        def fail() -> None:
            raise ValueError("no figures")

        self.source.between = fail
        self.assertEqual(self.get(b"/metrics")[::2], (500, b"internal error; the log has the traceback\n"))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_stopped(self) -> None:
        """A page that is not made because all ends is no accident."""
        protocol, transport = self.connect()
        protocol.dataReceived(b"GET /metrics HTTP/1.0\r\n\r\n")
        self.turn(2)
        self.pages.stop()
        self.assertIn(b" 500 ", transport.value())
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_gone(self) -> None:
        """A watcher that goes while the page is made gets none, whether it can be made or not."""
        for fails in (False, True):
            protocol, transport = self.connect()
            protocol.dataReceived(b"GET /metrics HTTP/1.0\r\n\r\n")

            def lose() -> None:
                protocol.connectionLost(cast(Any, ConnectionError()))  # noqa: B023 - called in this round
                if fails:  # noqa: B023
                    raise ValueError("no figures")

            self.source.between = lose
            self.turn()
            self.assertEqual(transport.value(), b"")
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_body(self) -> None:
        """A request with a body ends the connection before much of it is there."""
        for head in (b"Content-Length: 1000000000", b"Transfer-Encoding: chunked"):
            protocol, transport = self.connect()
            protocol.dataReceived(b"POST /metrics HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n\r\n")
            protocol.dataReceived(b"5\r\nhello\r\n")
            self.turn()
            self.assertTrue(transport.disconnecting or transport.disconnected, head)

    def test_many_that_do_not_read(self) -> None:
        """Few answers are left unread at a time; the connection that has not read for longest is ended."""
        asked = []
        for _ in range(MOST_UNREAD + 1):
            protocol, transport = self.connect()
            protocol.dataReceived(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            transport.producer.pauseProducing()
            asked.append((protocol, transport))
        self.turn()
        self.assertEqual([transport.disconnected for _, transport in asked], [True] + [False] * MOST_UNREAD)
        self.assertEqual(self.get(b"/metrics")[0], 200)

    def test_slow(self) -> None:
        """A request that is not complete in time is ended, even if a byte of it comes now and then."""
        for first in (b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"):
            protocol, transport = self.connect()
            protocol.dataReceived(first + b"GET /")
            if first:
                protocol.dataReceived(b"m")
            for _ in range(9):
                self.assertFalse(transport.disconnected)
                self.clock.advance(REQUEST_TIME / 9 + 0.01)
                if not transport.disconnected:
                    protocol.dataReceived(b"m")
            self.assertTrue(transport.disconnected)

    def test_idle(self) -> None:
        """A connection without a request is ended: at first soon, after an answer later."""
        for before, seconds in ((b"", REQUEST_TIME), (b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", IDLE)):
            protocol, transport = self.connect()
            protocol.dataReceived(before)
            self.clock.advance(seconds - 1)
            self.assertFalse(transport.disconnected)
            self.clock.advance(1)
            self.assertTrue(transport.disconnected)

    def test_stuck(self) -> None:
        """A client that does not read its answer is ended in a bounded time; one that reads it goes on."""
        for reads in (False, True):
            protocol, transport = self.connect()
            protocol.dataReceived(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            transport.producer.pauseProducing()
            self.assertIn("stuck", repr(protocol))
            self.turn()
            if reads:
                transport.producer.resumeProducing()
            self.clock.advance(STUCK)
            self.assertEqual(transport.disconnected, not reads)

    def test_priority(self) -> None:
        """A connection counts as served while its answer is made and read, else as silent."""
        protocol, transport = self.connect()
        priorities = [protocol.priority]
        protocol.dataReceived(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        priorities.append(protocol.priority)
        transport.producer.pauseProducing()
        priorities.append(protocol.priority)
        self.turn()
        transport.producer.resumeProducing()
        priorities.append(protocol.priority)
        silent, served = Priority.INACTIVE, Priority.SERVED
        self.assertEqual(priorities, [silent, served, silent, silent])

    def test_finish(self) -> None:
        """A connection can be ended at once, and leaves no timer."""
        protocol, transport = self.connect()
        protocol.finish()
        self.assertTrue(transport.disconnected)
        protocol.connectionLost(cast(Any, ConnectionError()))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_silent(self) -> None:
        """Requests write nothing into the log."""
        from twisted.logger import globalLogPublisher

        events: list[Any] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        self.get(b"/healthz")
        self.assertEqual(events, [])
