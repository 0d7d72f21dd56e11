"""Tests for `portfwd.filters.verdicts`."""

from __future__ import annotations

from collections.abc import Awaitable, Iterator
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from portfwd.filters import (
    DONE,
    DROP,
    NEED_MORE,
    Again,
    Announce,
    Await,
    Bypass,
    Close,
    Copy,
    Delay,
    Forward,
    InetAddress,
    NeedMore,
    Release,
    Reply,
    Route,
    Sink,
    Wake,
)
from portfwd.filters.verdicts import MAX_DEPTH, alters, consumes, read_verdict

SINK = Sink("file", "/tmp/copy", 1024)


class ReadVerdictTests(SynchronousTestCase):
    """What filters may return, and what is said of the rest."""

    def test_single(self) -> None:
        """A verdict alone is a list of one; None is one too."""
        for verdict in (None, b"x", b"", DONE, NEED_MORE, Wake(1), Close("no"), Forward(b"")):
            self.assertEqual(read_verdict(verdict), [verdict])

    def test_every_kind(self) -> None:
        """A list holds any of them, and is read in order."""
        verdicts: list[Any] = [
            b"x", DONE, DROP, None, NEED_MORE, NeedMore(5), NeedMore(rest=b"y"), Bypass(0), Bypass(3, b"z"),
            Forward(b"a"), Reply(b"b"), Delay(0), Delay(0.5, b"c"), Copy(SINK, b"d"), Route(),
            Route("there", bool), Announce(InetAddress("192.0.2.9", 1)), Wake(2, "t"), Await(Deferred()),
            Close("why", b"bye"), Close("why", abort=True),
        ]  # fmt: skip
        self.assertEqual(read_verdict(verdicts), verdicts)
        self.assertEqual(read_verdict(tuple(verdicts)), verdicts)

    def test_nested(self) -> None:
        """Lists may hold lists, but not without end."""
        self.assertEqual(read_verdict([b"a", [(b"b",), []], b"c"]), [b"a", b"b", b"c"])
        endless: list[Any] = []
        endless.append(endless)
        self.assertRaises(ValueError, read_verdict, endless)
        deep: Any = b"x"
        for _ in range(MAX_DEPTH):
            deep = [deep]
        self.assertEqual(read_verdict(deep), [b"x"])
        self.assertRaises(ValueError, read_verdict, [deep])

    def test_no_verdict(self) -> None:
        """Anything else is refused by its type, never quoted, with advice where the slip is a known one."""

        def generator() -> Iterator[None]:
            yield None

        async def coroutine() -> None:
            """Does nothing."""

        running = coroutine()
        self.addCleanup(running.close)
        for verdict, *parts in (
            ("secret", "str", "encode it"),
            (bytearray(b"secret"), "bytearray", "bytes()"),
            (memoryview(b"secret"), "memoryview", "bytes()"),
            (Close, "Close", "make an instance"),
            (running, "coroutine", "Await("),
            (generator(), "generator"),
            (17, "int"),
            (True, "bool"),
            ({b"secret"}, "set"),
        ):
            for shown in (verdict, [b"x", verdict]):
                error = self.assertRaises(TypeError, read_verdict, shown)
                for part in parts:
                    self.assertIn(part, str(error))
                self.assertNotIn("secret", str(error))

    def test_wrong_values(self) -> None:
        """A verdict with a value of a wrong type is refused before it has any effect."""
        wrong: list[Any] = [
            Forward("x"), Forward(None), Reply("x"), Delay(1, "x"), Delay("1", b"x"), Copy(SINK, "x"),
            Copy("/tmp/copy", b"x"), Bypass("1"), Bypass(1.5), Bypass(1, "x"), NeedMore("1"),
            NeedMore(rest="x"), Route("there", "permits"), Wake(None), Await(b"x"), Close(b"why"),
            Close("why", "bye"), Announce("192.0.2.1"), Announce(InetAddress("192.0.2.1", 1), "here"),
            Again("x"), Announce(None), Route(InetAddress(b"h", 1)), Release("up"),
        ]  # fmt: skip
        for verdict in wrong:
            error = self.assertRaises(TypeError, read_verdict, verdict)
            self.assertNotEqual(str(error), "", verdict)

    def test_wrong_numbers(self) -> None:
        """No filter waits less than no time, or for ever, or counts less than nothing."""
        for verdict in (
            Delay(-1), Delay(float("inf"), b"x"), Delay(float("nan"), b"x"), Wake(-0.1), Wake(float("inf")),
            Bypass(-1), NeedMore(-1), Route(InetAddress("h", 99999)), Announce(InetAddress("h", -1)),
        ):  # fmt: skip
            self.assertRaises(ValueError, read_verdict, verdict)

    def test_datagrams(self) -> None:
        """Datagrams are not held and have no parts to bypass."""
        for verdict in (NEED_MORE, NeedMore(5), NeedMore(rest=b""), Bypass(3)):
            self.assertRaises(ValueError, read_verdict, verdict, datagrams=True)
        allowed = [b"", DROP, DONE, Forward(b""), Delay(1, b"")]
        self.assertEqual(read_verdict(allowed, datagrams=True), allowed)


class KindTests(SynchronousTestCase):
    """What a verdict means for the bytes, and for leaving the filter out."""

    def test_answers(self) -> None:
        """These say what becomes of the bytes that the filter was called with."""
        for verdict in (
            b"", b"x", Forward(b""), Reply(b"x"), NEED_MORE, NeedMore(rest=b""), Bypass(1), DROP, Close("no"),
            Delay(1, b"x"),
        ):  # fmt: skip
            self.assertTrue(consumes(verdict), verdict)

    def test_silent(self) -> None:
        """These do not: the bytes pass, or wait for the `Await`."""
        awaitable: Awaitable[object] = Deferred()
        for verdict in (
            None, DONE, Copy(SINK, b"x"), Wake(1), Await(awaitable), Route(), Delay(1),
            Announce(InetAddress("192.0.2.9", 1)),
        ):  # fmt: skip
            self.assertFalse(consumes(verdict), verdict)

    def test_delayed_datagram(self) -> None:
        """An empty datagram that is delayed is one all the same."""
        self.assertTrue(consumes(Delay(1, b""), datagrams=True))

    def test_alters(self) -> None:
        """Only what leaves the stream as it is lets a filter be left out later."""
        for verdict in (
            b"x", Forward(b"x"), Reply(b"x"), DROP, NeedMore(rest=b"x"), Bypass(1, b"x"), Delay(1, b"x"),
            Close("no"),
        ):  # fmt: skip
            self.assertTrue(alters(verdict), verdict)
        for verdict in (
            None,
            DONE,
            NEED_MORE,
            NeedMore(5),
            Bypass(1),
            Wake(1),
            Copy(SINK, b"x"),
            Route(),
            Delay(1),
        ):
            self.assertFalse(alters(verdict), verdict)
