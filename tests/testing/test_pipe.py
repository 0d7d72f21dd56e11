"""Tests for `portfwd.testing.pipe`."""

from __future__ import annotations

import doctest
import gc
from collections.abc import Sequence
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase

from portfwd.errors import ConnectTimedOut
from portfwd.filters import (
    DONE,
    NEED_MORE,
    TO_CLIENT,
    TO_UPSTREAM,
    Announce,
    Await,
    Bypass,
    Close,
    Connection,
    Copy,
    Delay,
    Direction,
    Factory,
    Filter,
    Forward,
    InetAddress,
    Plugin,
    Reply,
    Route,
    RouteClause,
    Sink,
    Verdict,
    Wake,
)
from portfwd.filters.chain.effects import Begin, Finish, Judge, SendEnd, StartDial
from portfwd.testing import Outcome, Pipe, pipe, splits
from portfwd.testing.pipe import CLIENT, UPSTREAM
from portfwd.values import CloseReason
from tests.filters.scripted import Scripted, script, seat

UP, DOWN = TO_UPSTREAM, TO_CLIENT
SINK = Sink("file", "/tmp/copy", 1024)


class ExampleTests(SynchronousTestCase):
    """The examples in the documentation."""

    def test_examples(self) -> None:
        """They do what they say."""
        for module in (pipe, splits):
            self.assertEqual(doctest.testmod(module).failed, 0)
            self.assertGreater(doctest.testmod(module).attempted, 0)


class Upper(Filter):
    """Passes what the client sends in capitals."""

    directions = frozenset({TO_UPSTREAM})

    def received(self, direction: Direction, data: bytes) -> Verdict:
        return data.upper()


class Answering(Filter):
    """Says everything back."""

    def received(self, direction: Direction, data: bytes) -> Verdict:
        """See `IFilter`."""
        return [Forward(data), Reply(data)]


@frozen
class Options:
    """Options of the plug-in below."""

    to: str = "there"


class FiltersTests(SynchronousTestCase):
    """What a pipe is made of."""

    def test_class(self) -> None:
        """A filter's class is its own factory, and says what the factory says."""
        one = Pipe(Upper)
        one.send(UP, b"hello")
        self.assertEqual(one.to_upstream, b"HELLO")
        self.assertFalse(one.chain.watches(DOWN))
        self.assertIn("<Chain of Upper: connected", repr(one))

    def test_filter(self) -> None:
        """So may be a filter itself."""
        one = Pipe(Upper(), Scripted(received=lambda _, data: data + b"!"))
        one.send(UP, b"hello")
        self.assertEqual(one.to_upstream, b"HELLO!")

    def test_factory(self) -> None:
        """A factory builds it for the connection."""
        connections: list[Connection] = []
        one = Pipe(Factory(connections.append))
        self.assertEqual(connections, [one.connection])
        self.assertEqual(one.connection.source, CLIENT)

    def test_plugin(self) -> None:
        """A plug-in is configured with its defaults and the rule's routes."""
        configured: list[Any] = []

        def make_factory(options: Options, clauses: Sequence[RouteClause]) -> Factory:
            configured.append((options, clauses))
            return Factory(lambda connection: Scripted(opened=Route(options.to)), routes=True)

        clauses = [RouteClause(("*",), "elsewhere")]
        one = Pipe(Plugin("my-router", "Routes.", Options, make_factory), routes=clauses)
        self.assertEqual((configured, one.dialled), ([(Options(), clauses)], StartDial("there")))
        self.assertIn("my-router", repr(one.chain))

    def test_all_stay_out(self) -> None:
        """If there is none, everything passes."""
        for one in (Pipe(), Pipe(Factory(lambda connection: None))):
            one.send(UP, b"x")
            one.end(UP)
            self.assertEqual((one.to_upstream, one.ended), (b"x", {UP}))

    def test_anything_else(self) -> None:
        """Anything else is no filter."""
        self.assertRaises(TypeError, Pipe, b"bytes")

    def test_connection(self) -> None:
        """The connection may be the test's own, and what filters log is kept."""
        one = Pipe(Scripted(opened=lambda connection: connection.log.info("{n} clients", n=1)))
        self.assertEqual(one.notes.lines, [("info", "1 clients")])
        one.connection.log.warn("{what}", what="no")
        self.assertEqual(one.notes.lines[1], ("warn", "no"))
        mine = Connection(7, "mine", one.notes)
        self.assertIs(Pipe(connection=mine).connection, mine)


class ResultTests(SynchronousTestCase):
    """Results that are there already."""

    def test_fired(self) -> None:
        """A Deferred that has fired is seen at once, and one that fires later without a call of the test."""
        for fired in (succeed(3), fail(KeyError("no"))):
            pipe = Pipe(Scripted(opened=Await(fired), resumed=Close("told")), strict=False)
            self.assertEqual(pipe.awaiting, [])
            self.assertIsNotNone(pipe.finished)
        later: Deferred[int] = Deferred()
        pipe = Pipe(Scripted(opened=lambda _: Await(later), resumed=Close("told")))
        self.assertEqual(pipe.awaiting, [later])
        later.callback(1)
        self.assertEqual((pipe.awaiting, pipe.summary is None), ([], False))

    def test_coroutine(self) -> None:
        """A coroutine waits for `settle`, or runs, where the test says so."""

        async def ask() -> int:
            return await succeed(3)

        told: list[object] = []
        pipe = Pipe(Scripted(opened=lambda _: Await(ask()), resumed=told.append), runs=True)
        self.assertEqual((told, pipe.awaiting), ([3], []))
        pipe = Pipe(Scripted(opened=lambda _: Await(ask()), resumed=told.append))
        self.assertEqual(len(pipe.awaiting), 1)
        pipe.settle(4)
        self.assertEqual(told, [3, 4])

    def test_fires(self) -> None:
        """Every result may be there at once."""
        told: list[object] = []
        Pipe(Scripted(opened=lambda _: Await(Deferred()), resumed=told.append), fires=lambda _: 5)
        self.assertEqual(told, [5])


class SessionTests(SynchronousTestCase):
    """What a pipe does for filters."""

    def test_both_directions(self) -> None:
        """Bytes go through, piece by piece, and come out."""
        one = Pipe(Scripted())
        one.send(UP, b"a", b"", b"b")
        one.send(DOWN, b"c")
        self.assertEqual((one.to_upstream, one.to_client), (b"ab", b"c"))
        self.assertEqual(one.writes, {UP: [b"a", b"b"], DOWN: [b"c"]})
        self.assertRegex(repr(one), r"^<Pipe of <Chain of Scripted: .*>: 2 to-upstream, 1 to-client>$")

    def test_ends(self) -> None:
        """An end travels alone, and with both the session is over."""
        scripted = Scripted()
        one = Pipe(scripted)
        one.end(UP)
        self.assertEqual((one.ended, one.summary), ({UP}, None))
        one.send(DOWN, b"still")
        one.end(DOWN)
        assert one.summary is not None
        self.assertEqual((one.summary.reason, one.summary.to_client.bytes), (CloseReason.NORMAL, 5))
        self.assertEqual(scripted.calls[-1], ("closed", one.summary))
        both = Pipe()
        both.end()
        self.assertEqual(both.ended, {UP, DOWN})

    def test_said_after_the_end(self) -> None:
        """A side that has ended says no more: that is a mistake of the test."""
        one = Pipe()
        one.end(UP)
        self.assertRaises(RuntimeError, one.send, UP, b"x")
        self.assertRaises(RuntimeError, one.end, UP)

    def test_answered_after_the_end(self) -> None:
        """Nor does a filter say anything behind an end that it let go by unseen."""
        pipe = Pipe(Factory(lambda connection: Answering(), directions=frozenset({DOWN})))
        pipe.send(DOWN, b"x")
        pipe.end(UP)
        pipe.send(DOWN, b"y")
        self.assertEqual((pipe.to_upstream, pipe.to_client), (b"x", b"xy"))

    def test_finish(self) -> None:
        """A filter that closes ends the session; what is sent then goes nowhere."""
        one = Pipe(Scripted(received=Close("no", b"bye")))
        one.send(UP, b"x", b"y")
        one.send(DOWN, b"z")
        self.assertEqual(one.finished, Finish("no", filter="Scripted"))
        self.assertEqual((one.to_client, one.to_upstream), (b"bye", b""))
        assert one.summary is not None
        self.assertEqual((one.summary.reason, one.summary.detail), (CloseReason.FILTER, "no"))

    def test_close(self) -> None:
        """The relay may close it, once."""
        scripted = Scripted(opened=[Wake(1), Await(Deferred())])
        one = Pipe(scripted)
        one.close(CloseReason.KILLED)
        one.close()
        one.advance(2)
        assert one.summary is not None
        self.assertEqual((one.summary.reason, scripted.told("closed")), (CloseReason.KILLED, 1))
        self.assertEqual((scripted.told("woken"), one.awaiting), (0, []))

    def test_dial(self) -> None:
        """The upstream is there at once, or when it is said to be."""
        scripted = Scripted(received=DONE)
        one = Pipe(seat(scripted, routes=True)[0], connects=False)
        self.assertEqual((one.dialled, one.connected), (None, False))
        self.assertRaises(RuntimeError, one.connect)
        one.send(UP, b"x")
        self.assertEqual((one.dialled, one.to_upstream), (StartDial(), b""))
        self.assertRaises(RuntimeError, one.send, DOWN, b"too early")
        one.connect()
        self.assertEqual((one.connected, one.to_upstream), (True, b"x"))
        self.assertEqual(one.connection.upstream, UPSTREAM)
        self.assertRaises(RuntimeError, one.fail)

    def test_dial_fails(self) -> None:
        """Or it is not there."""
        one = Pipe(Scripted(dial_failed=lambda reason: Reply(str(reason).encode())), connects=False)
        one.fail()
        self.assertEqual((one.to_client, one.finished), (b"connection refused", Finish("connection refused")))
        one = Pipe(connects=False)
        one.fail(ConnectTimedOut("no answer"))
        self.assertEqual(one.finished, Finish("no answer", abort=True))

    def test_time(self) -> None:
        """Time passes when the test says so, and what is due is done in its order."""
        one = Pipe(
            Scripted(
                received=[Delay(3, b"c"), Wake(1, b"a"), Wake(2, b"b")], woken=lambda token: Reply(token)
            )
        )
        one.send(UP, b"x")
        one.advance(0.5)
        self.assertEqual((one.to_client, one.now), (b"", 0.5))
        one.advance(1.5)
        self.assertEqual((one.to_client, one.to_upstream), (b"ab", b""))
        self.assertTrue(one.rest())
        self.assertEqual((one.to_upstream, one.now), (b"c", 3.0))

    def test_time_within_time(self) -> None:
        """What is asked for while time passes comes in that time."""
        scripted = Scripted(opened=Wake(1), woken=Wake(1))
        one = Pipe(scripted)
        one.advance(3.5)
        self.assertEqual(scripted.told("woken"), 3)
        self.assertFalse(one.rest(10))
        self.assertEqual(scripted.told("woken"), 13)

    def test_disarmed(self) -> None:
        """A routing filter that decided in time is not timed any more."""
        one = Pipe(seat(Scripted(received=DONE), routes=True)[0])
        one.send(UP, b"x")
        self.assertTrue(one.rest(0))

    def test_await(self) -> None:
        """The test says what was awaited; what is sent meanwhile is read afterwards."""
        one = Pipe(Scripted(received=script(Await(Deferred())), resumed=lambda result: result))
        one.send(UP, b"a", b"b")
        one.end(UP)
        self.assertEqual((len(one.awaiting), one.stopped, one.to_upstream), (1, {UP}, b""))
        one.settle(b"A")
        self.assertEqual((one.awaiting, one.stopped, one.to_upstream, one.ended), ([], set(), b"Ab", {UP}))
        self.assertRaises(RuntimeError, one.settle)

    def test_await_fails(self) -> None:
        """An exception is no result: the filter fails, and nothing of what it was asked about passes."""
        error = TimeoutError()
        one = Pipe(Scripted(received=script(Await(Deferred())), resumed=DONE), strict=False)
        one.send(UP, b"a")
        one.settle(error)
        self.assertEqual((one.to_upstream, one.troubles[0].error), (b"", error))
        assert one.finished is not None
        self.assertTrue(one.finished.abort)

    def test_deferreds(self) -> None:
        """A Deferred that fires is told, now or later, to everybody who awaits it, and keeps its result."""
        shared: Deferred[object] = Deferred()
        pipes = [Pipe(Scripted(received=script(Await(shared)), resumed=lambda data: data)) for _ in range(2)]
        for one in pipes:
            one.send(UP, b"a")
        shared.callback(b"A")
        late = Pipe(Scripted(received=script(Await(shared)), resumed=lambda data: data))
        late.send(UP, b"a")
        for one in (*pipes, late):
            self.assertEqual((one.to_upstream, one.awaiting), (b"A", []))
        self.assertEqual(self.successResultOf(shared), b"A")

    def test_deferred_that_fails(self) -> None:
        """One that fails is told as a failure, and not logged as unhandled."""
        one = Pipe(Scripted(received=lambda *_: Await(fail(TimeoutError())), resumed=DONE), strict=False)
        one.send(UP, b"a")
        self.assertEqual((one.to_upstream, type(one.troubles[0].error)), (b"", TimeoutError))
        gc.collect()
        self.assertEqual(self.flushLoggedErrors(TimeoutError), [])

    def test_coroutines(self) -> None:
        """Coroutines that nobody runs are closed."""

        async def look_up() -> None:
            """Never runs."""

        one = Pipe(Scripted(received=lambda *_: Await(look_up())))
        one.send(UP, b"a", b"b")
        first = one.effects[-1]
        assert isinstance(first, Begin)
        one.settle()
        one.close()
        self.assertEqual(self.flushWarnings(), [])
        self.assertIsNone(getattr(first.awaitable, "cr_frame", "open"))

    def test_not_read(self) -> None:
        """What is stopped is not read; much of it is read without end of the stack."""
        scripted = Scripted(received=script(Delay(1, b"")))
        one = Pipe(seat(scripted, max_hold=0)[0])
        scripted.answers["received"] = script(Delay(1, b"x"))
        one.send(UP, *([b"y"] * 5000))
        self.assertEqual((one.stopped, len(scripted.seen())), ({UP}, 1))
        one.advance(1)
        self.assertEqual((one.to_upstream, one.stopped), (b"x" + b"y" * 4999, set()))

    def test_unseen(self) -> None:
        """What need not be shown is moved unseen, an end too; or it is shown all the same."""
        for shows_all in (False, True):
            scripted = Scripted(received=script(Bypass(3), DONE))
            one = Pipe(scripted, shows_all=shows_all)
            one.send(UP, b"x", b"12", b"3y", b"z")
            one.end(UP)
            self.assertEqual((one.to_upstream, one.ended), (b"x123yz", {UP}))
            self.assertEqual(scripted.seen(), [b"x", b"y"])
            self.assertEqual(SendEnd(UP) in one.effects, shows_all)

    def test_copies_and_clients(self) -> None:
        """Copies are joined by sink, and who was announced is noted."""
        real = InetAddress("192.0.2.9", 1)
        one = Pipe(Scripted(received=lambda _, data: [Copy(SINK, data), Announce(real)]))
        one.send(UP, b"a", b"b")
        self.assertEqual((one.copies, one.judged[0]), ({SINK: b"ab"}, Judge(real, None)))

    def test_datagrams(self) -> None:
        """Each piece is a datagram, also an empty one."""
        one = Pipe(Scripted(), datagrams=True)
        one.send(UP, b"", b"x")
        self.assertEqual(one.writes[UP], [b"", b"x"])

    def test_outcome(self) -> None:
        """What became of it can be compared."""
        one = Pipe(Scripted(opened=Route("there"), received=lambda _, data: Copy(SINK, data)))
        one.send(UP, b"x")
        one.end(UP)
        self.assertEqual(one.outcome, Outcome(b"x", b"", frozenset({UP}), None, True, "there", {SINK: b"x"}))
        self.assertEqual(Pipe(seat(Scripted(), routes=True)[0]).outcome.dialled, False)


class ErrorTests(SynchronousTestCase):
    """Filters that raise."""

    def test_strict(self) -> None:
        """What a filter raises is raised in the test, once, and has had its effect."""
        one = Pipe(Scripted(received=KeyError("x")))
        self.assertRaises(KeyError, one.send, UP, b"x")
        self.assertEqual(
            one.finished, Finish("filter Scripted raised KeyError", abort=True, filter="Scripted")
        )
        one.send(UP, b"y")

    def test_not_strict(self) -> None:
        """Or it is noted."""
        one = Pipe(Scripted(received=KeyError("x")), strict=False)
        one.send(UP, b"x")
        self.assertEqual([trouble.filter for trouble in one.troubles], ["Scripted"])

    def test_at_once(self) -> None:
        """Also what is raised when the session opens."""
        self.assertRaises(KeyError, Pipe, Scripted(opened=KeyError("x")))

    def test_held(self) -> None:
        """What is held is known to the chain."""
        one = Pipe(Scripted(received=NEED_MORE))
        one.send(UP, b"abc")
        self.assertEqual(one.chain.held(UP), 3)
