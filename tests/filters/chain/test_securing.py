"""Tests of verdicts for directions and sides: `End`, `StartTLS`, and what an `Await` pauses."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from portfwd.filters import (
    DONE,
    NEED_MORE,
    TO_CLIENT,
    TO_UPSTREAM,
    Await,
    Close,
    Connection,
    Delay,
    Direction,
    End,
    Filter,
    Forward,
    Reply,
    Side,
    StartTLS,
    TLSInfo,
    Verdict,
)
from portfwd.testing import Pipe
from portfwd.testing.outcome import Notes
from tests.filters.scripted import Scripted

UP, DOWN = TO_UPSTREAM, TO_CLIENT


class Terminating(Filter):
    r"""Begins TLS with the client after ``tls\\n``, says ``ok`` before, and shows what it sees then."""

    starts_tls = {Side.CLIENT: {"cert": "/x"}, Side.UPSTREAM: {}}  # noqa: RUF012 - as authors write it

    def __init__(self) -> None:
        self.seen = b""
        self.secure = False

    def received(self, direction: Direction, data: bytes) -> Verdict:
        """See `IFilter`."""
        if direction is DOWN or self.secure:
            self.seen += data
            return None
        if b"\n" not in data:
            return NEED_MORE
        line, _, rest = data.partition(b"\n")
        if line != b"tls":
            return None
        self.secure = True
        return [Reply(b"ok"), StartTLS(Side.CLIENT, rest=rest)]


class EndTests(SynchronousTestCase):
    """`End`."""

    def pipe(self, **answers: Any) -> Pipe:
        """A session with one filter."""
        return Pipe(Scripted(**answers))

    def test_behind_the_bytes(self) -> None:
        """The end comes behind the bytes that the filter was called with, and those that it forwards."""
        for verdict, written in ((End(UP), b"x"), ([End(UP), Forward(b"y")], b"y"), ([b"", End(UP)], b"")):
            pipe = self.pipe(received=verdict)
            pipe.send(UP, b"x", b"more")
            self.assertEqual((pipe.to_upstream, pipe.ended), (written, {UP}), verdict)

    def test_other_direction(self) -> None:
        """A direction may be ended from an event of the other one; it goes on being read, and is dropped."""
        pipe = self.pipe(received=lambda direction, data: End(UP) if direction is DOWN else None)
        pipe.send(UP, b"a")
        pipe.send(DOWN, b"b")
        pipe.send(UP, b"c")
        self.assertEqual((pipe.to_upstream, pipe.to_client, pipe.ended), (b"a", b"b", {UP}))
        pipe.end()
        self.assertEqual(pipe.ended, {UP, DOWN})

    def test_held(self) -> None:
        """What is held goes out before the end, and so does what is delayed."""
        pipe = self.pipe(received=[NEED_MORE], woken=End(UP))
        pipe.send(UP, b"held")
        pipe.chain.stages[0].connection.wake("now")
        self.assertEqual((pipe.to_upstream, pipe.ended), (b"held", {UP}))
        pipe = self.pipe(received=[Delay(5, b"late"), End(UP)])
        pipe.send(UP, b"x", b"y")
        self.assertEqual((pipe.to_upstream, pipe.ended), (b"", set()))
        pipe.advance(5)
        self.assertEqual((pipe.to_upstream, pipe.ended), (b"late", {UP}))

    def test_behind_an_await(self) -> None:
        """The end waits for a result, and what waits with it is dropped."""
        waited: Deferred[object] = Deferred()
        pipe = self.pipe(received=[Await(waited), b"first", End(UP)])
        pipe.send(UP, b"x", b"y")
        self.assertEqual(pipe.ended, set())
        waited.callback(None)
        self.assertEqual((pipe.to_upstream, pipe.ended), (b"first", {UP}))

    def test_other_filters(self) -> None:
        """Filters behind it hear of an end like any; those before it see what the source still sends."""
        first, last = Scripted(), Scripted()
        pipe = Pipe(first, Scripted(received=End(UP)), last)
        pipe.send(UP, b"a", b"b")
        pipe.end(UP)
        self.assertEqual([call for call in last.calls if call[0] in ("received", "ended")],
                         [("received", UP, b"a"), ("ended", UP, b"")])  # fmt: skip
        self.assertIn(("received", UP, b"b"), first.calls)
        self.assertEqual(pipe.to_upstream, b"a")

    def test_before_the_dial(self) -> None:
        """An end that comes before the upstream is there goes out when it is."""
        pipe = Pipe(Scripted(opened=End(UP)), connects=False)
        pipe.send(UP, b"x")
        pipe.connect()
        self.assertEqual((pipe.to_upstream, pipe.ended), (b"", {UP}))

    def test_not_unseen(self) -> None:
        """What the source sends behind it is not moved unseen, whoever is done."""
        pipe = self.pipe(received=[End(UP), DONE])
        pipe.send(UP, b"x", b"y")
        self.assertEqual(pipe.to_upstream, b"x")

    def test_wrong_use(self) -> None:
        """Datagrams have no end, and an end has a direction."""
        wrong: Any = End("up")  # type: ignore[arg-type]
        self.assertRaises(TypeError, self.pipe(received=wrong).send, UP, b"x")
        pipe = Pipe(Scripted(received=End(UP)), datagrams=True)
        self.assertRaises(ValueError, pipe.send, UP, b"x")


class AwaitTests(SynchronousTestCase):
    """What an `Await` pauses, and for how long."""

    def waiting(self, **options: Any) -> tuple[Pipe, Deferred[object]]:
        """A session that waits for a result since the client said ``x``."""
        waited: Deferred[object] = Deferred()
        one = Scripted(received=None)
        answers = iter([Await(waited, **options)])
        one.answers["received"] = lambda *_: next(answers, None)
        pipe = Pipe(one)
        pipe.send(UP, b"x")
        return pipe, waited

    def test_own_direction(self) -> None:
        """Without more it pauses the direction of the bytes, and keeps them."""
        pipe, waited = self.waiting()
        pipe.send(DOWN, b"d")
        self.assertEqual((pipe.stopped, pipe.to_upstream, pipe.to_client), ({UP}, b"", b"d"))
        waited.callback(1)
        self.assertEqual((pipe.stopped, pipe.to_upstream), (set(), b"x"))

    def test_both(self) -> None:
        """It may pause both."""
        for both in (set(Direction), [UP, DOWN]):
            pipe, waited = self.waiting(directions=both)
            pipe.send(DOWN, b"d")
            self.assertEqual((pipe.stopped, pipe.to_upstream, pipe.to_client), ({UP, DOWN}, b"", b""))
            waited.callback(1)
            self.assertEqual((pipe.to_upstream, pipe.to_client), (b"x", b"d"))

    def test_other(self) -> None:
        """Where it pauses the other direction only, or none, the bytes pass."""
        for directions in (DOWN, {DOWN}, ()):
            pipe, waited = self.waiting(directions=directions)
            pipe.send(UP, b"y")
            self.assertEqual((pipe.to_upstream, pipe.stopped), (b"xy", {DOWN} if directions else set()))
            waited.callback(1)
            self.assertEqual(pipe.stopped, set())

    def test_timeout(self) -> None:
        """A result that takes too long has failed, with `TimeoutError`; one that comes later is not told."""
        waited: Deferred[object] = Deferred()

        class Asking(Scripted):
            def failed(self, error: BaseException) -> Verdict:
                return self._answer("failed", error)  # type: ignore[no-any-return]

        one = Asking(received=Await(waited, timeout=2), failed=Close("nobody answers"))
        pipe = Pipe(one)
        pipe.send(UP, b"x")
        pipe.advance(1.9)
        self.assertIsNone(pipe.finished)
        pipe.advance(0.1)
        assert pipe.finished is not None
        self.assertEqual((pipe.finished.detail, pipe.awaiting), ("nobody answers", []))
        self.assertEqual(str(one.calls[-2][1]), "no result within 2s")
        waited.callback(1)

    def test_in_time(self) -> None:
        """The limit of a result that came is forgotten."""
        pipe, waited = self.waiting(timeout=2)
        waited.callback(1)
        pipe.advance(10)
        self.assertEqual((pipe.finished, pipe.to_upstream), (None, b"x"))

    def test_wrong_use(self) -> None:
        """Directions are directions, and a limit is a number of seconds."""
        for options in ({"directions": "up"}, {"directions": 7}, {"timeout": "2s"}, {"timeout": -1}):
            self.assertRaises((TypeError, ValueError), self.waiting, **options)


class StartTLSTests(SynchronousTestCase):
    """`StartTLS`."""

    def test_split_anywhere(self) -> None:
        """However the request is cut, what is behind it is TLS's, and the filter sees what TLS decrypts."""
        text = b"tls\nhello"
        for cut in range(1, len(text)):
            one = Terminating()
            pipe = Pipe(one)
            pipe.send(UP, text[:cut], text[cut:])
            self.assertEqual((pipe.secured, pipe.to_client), ([Side.CLIENT], b"ok"), cut)
            self.assertEqual((one.seen, pipe.to_upstream), (b"hello", b"hello"), cut)

    def test_what_is_on_the_way(self) -> None:
        """Bytes that another filter has passed behind the request belong to TLS, too."""
        cutting = Scripted(received=lambda direction, data: [Forward(data[:4]), Forward(data[4:])])
        one = Terminating()
        pipe = Pipe(cutting, one)
        pipe.send(UP, b"tls\nhello")
        secure = next(effect for effect in pipe.effects if type(effect).__name__ == "Secure")
        self.assertEqual(secure.rest, b"hello")  # type: ignore[attr-defined]

    def test_nothing_is_read(self) -> None:
        """Neither side is read until the handshake is through; the client's TLS is known then."""
        one = Terminating()
        pipe = Pipe(one)
        chain = pipe.chain
        effects = chain.received(UP, b"tls\n")
        self.assertEqual(
            [type(effect).__name__ for effect in effects], ["Write", "PauseReading", "PauseReading", "Secure"]
        )
        info = TLSInfo("db.example")
        self.assertEqual({type(effect).__name__ for effect in chain.secured(Side.CLIENT, info)}, {"ReadOn"})
        self.assertIs(chain.stages[0].connection.tls, info)

    def test_upstream(self) -> None:
        """With the upstream TLS begins behind what was sent to it."""
        one = Scripted(connected=Forward(b"request"), received=lambda direction, data: answer)
        one.starts_tls = {Side.UPSTREAM: {}}  # type: ignore[misc]
        answer = [b"", StartTLS(Side.UPSTREAM, server_name="db"), DONE]
        pipe = Pipe(one)
        pipe.send(DOWN, b"S")
        pipe.send(DOWN, b"plain")
        self.assertEqual(
            (pipe.secured, pipe.to_upstream, pipe.to_client), ([Side.UPSTREAM], b"request", b"plain")
        )

    def refused(self, *filters: object, connection: Connection | None = None) -> str:
        """What is wrong with the verdict on ``x`` of the client."""
        pipe = Pipe(*filters, connection=connection, strict=False)
        pipe.send(UP, b"x")
        self.assertTrue(pipe.troubles and pipe.finished)
        return str(pipe.troubles[0].error)

    def test_wrong_use(self) -> None:
        """What cannot be is refused before any of the verdict has an effect."""

        def starting(side: Any = Side.CLIENT, **options: Any) -> Scripted:
            one = Scripted(received=StartTLS(side, **options))
            one.starts_tls = {Side.CLIENT: {}, Side.UPSTREAM: {}}  # type: ignore[misc]
            return one

        bare = Scripted(received=StartTLS(Side.CLIENT))
        self.assertIn("say them in starts_tls", self.refused(bare))
        self.assertIn("needs a side", self.refused(starting("client")))
        self.assertIn("must be bytes", self.refused(starting(rest="x")))
        self.assertIn("must be str", self.refused(starting(server_name=b"x")))
        early = starting(Side.UPSTREAM)
        early.answers = {"opened": StartTLS(Side.UPSTREAM)}
        self.assertIn("before the upstream", self.refused(early))
        tls = Connection(1, "test", Notes(), tls=TLSInfo())
        self.assertIn("speaks TLS already", self.refused(starting(), connection=tls))
        twice = starting()
        twice.answers["received"] = [StartTLS(Side.CLIENT), NEED_MORE]
        pipe = Pipe(twice, strict=False)
        pipe.send(UP, b"x", b"y")
        self.assertIn("speaks TLS already", str(pipe.troubles[0].error))
        keeping = Scripted(received=[Forward(b"x"), NEED_MORE])
        self.assertIn("keeps bytes", self.refused(keeping, starting()))
        pipe = Pipe(starting(), datagrams=True, strict=False)
        pipe.send(UP, b"x")
        self.assertIn("over datagrams", str(pipe.troubles[0].error))
