"""Tests for `portfwd.testing.contract`: good filters pass, and each kind of bad one is found out."""

from __future__ import annotations

import doctest
from collections.abc import Callable
from typing import Any, ClassVar

from attrs import define
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from portfwd.filters import (
    DONE,
    NEED_MORE,
    TO_CLIENT,
    TO_UPSTREAM,
    Await,
    Close,
    Delay,
    Direction,
    Factory,
    Filter,
    Forward,
    NeedMore,
    Route,
    SessionSummary,
    Verdict,
    Wake,
)
from portfwd.testing import ContractBroken, check_filter, contract
from tests.filters.scripted import Scripted

UP, DOWN = TO_UPSTREAM, TO_CLIENT
TALK = [(UP, b"HELO here\r\n"), (DOWN, b"250 there\r\n"), (UP, b"QUIT\r\n")]


class SSHOnly(Filter):
    """Refuses what does not speak SSH first."""

    def received(self, direction: Direction, data: bytes) -> Verdict:
        if direction is not TO_UPSTREAM:
            return DONE
        if len(data) < 4 and b"SSH-".startswith(data):
            return NEED_MORE
        return DONE if data.startswith(b"SSH-") else Close("not SSH", reply=b"SSH only\r\n")


class Lines(Filter):
    """Passes whole lines in capitals, and gives up on long ones."""

    def received(self, direction: Direction, data: bytes) -> Verdict:
        lines, end, rest = data.rpartition(b"\n")
        return [Forward((lines + end).upper()), NeedMore(rest=rest)]

    def ended(self, direction: Direction, held: bytes) -> Verdict:
        return held.upper()


class Stopper(Filter):
    """Passes everything before the first word ``stop``, byte by byte, and closes there."""

    def __init__(self) -> None:
        self.last = b""

    def received(self, direction: Direction, data: bytes) -> Verdict:
        if direction is TO_CLIENT:
            return None
        seen = self.last + data
        self.last = seen[-3:]
        return Close("stop", b"stopped") if b"stop" in seen else None


class Asking(Filter):
    """Asks somebody for the target."""

    def received(self, direction: Direction, data: bytes) -> Verdict:
        return Await(Deferred()) if direction is TO_UPSTREAM else DONE

    def resumed(self, result: object) -> Verdict:
        return [Route(result), DONE] if isinstance(result, str) else Close("nowhere")


class First(Filter):
    """Passes the first byte of each datagram."""

    def received(self, direction: Direction, data: bytes) -> Verdict:
        return data[:1]


class Late(Filter):
    """Passes everything a second later."""

    def received(self, direction: Direction, data: bytes) -> Verdict:
        return Delay(1, data)


class GoodTests(SynchronousTestCase):
    """Filters that keep the contract."""

    def test_example(self) -> None:
        """The example in the documentation does what it says."""
        self.assertEqual(doctest.testmod(contract), doctest.TestResults(0, 2))

    def test_good(self) -> None:
        """They pass, whatever they do."""
        check_filter(Filter, [b"x", TALK])
        check_filter(SSHOnly, [b"SSH-2.0-x\r\n", b"GET / HTTP/1.1\r\n", b"", TALK])
        check_filter(Lines, [b"one\ntwo\nthree", TALK])
        check_filter(Stopper, [b"go on", b"go on, and stop here"])
        check_filter(Late, [TALK])
        check_filter(lambda: Factory(lambda connection: None), [TALK])

    def test_awaiting(self) -> None:
        """What is awaited has the results that the test says, or None."""
        made: list[Asking] = []

        def make() -> Factory:
            return Factory(lambda connection: made.append(Asking()) or made[-1], routes=True)

        check_filter(make, [b"x"])
        check_filter(make, [b"x", TALK], results=lambda awaitable: "there")

    def test_awaiting_that_fails(self) -> None:
        """What is awaited fails once, too; a filter may lack `failed`, but not make a mistake in it."""

        class Mistaken(Asking):
            def failed(self, error: BaseException) -> Verdict:
                raise KeyError(error)

        check_filter(Asking, [b"x", TALK], results=lambda awaitable: None)
        error = self.assertRaises(ContractBroken, check_filter, Mistaken, [b"x"])
        self.assertIn("results that do not come: it raised KeyError", str(error))

    def test_datagrams(self) -> None:
        """Datagrams are not cut: a filter may look at each for itself."""
        check_filter(First, [b"datagram"], datagrams=True)

    def test_samples(self) -> None:
        """Without a sample nothing is known of it."""
        self.assertRaises(ValueError, check_filter, Filter, [])


@define(eq=False)
class Shared(Filter):
    """Counts bytes in one place for all connections."""

    seen: ClassVar[list[int]] = []

    def received(self, direction: Direction, data: bytes) -> Verdict:
        self.seen.append(len(data))
        return str(sum(self.seen)).encode()


class Turns(Filter):
    """Is the next of several, whoever asks."""

    turns: ClassVar[list[str]] = []

    def opened(self, connection: object) -> Verdict:
        self.mine = not self.turns
        self.turns.append("")
        return None

    def received(self, direction: Direction, data: bytes) -> Verdict:
        return None if self.mine or len(self.turns) == 1 else b"not mine"

    def closed(self, summary: SessionSummary) -> None:
        self.turns.pop()


class Hoarder(Filter):
    """Keeps what it should leave to the relay."""

    def __init__(self) -> None:
        self.kept: list[bytes] = []

    def received(self, direction: Direction, data: bytes) -> Verdict:
        self.kept.append(data)
        return None


class Slotted(Filter):
    """Keeps it in a slot."""

    __slots__ = ("kept", "other")

    def __init__(self) -> None:
        self.kept = bytearray()

    def received(self, direction: Direction, data: bytes) -> Verdict:
        self.kept += data
        return None


class NotQuite:
    """Looks like a filter, and misses most of it."""

    def opened(self, connection: object) -> Verdict:
        return None

    def received(self, direction: Direction, data: bytes) -> Verdict:
        return None

    def closed(self, summary: SessionSummary) -> None:
        """Does nothing."""


class BadTests(SynchronousTestCase):
    """Filters that do not."""

    def broken(self, make: Callable[[], object], *parts: str, sample: Any = TALK, **options: Any) -> None:
        """The filter is found out, and the text has `parts`."""
        error = self.assertRaises(ContractBroken, check_filter, make, [sample], **options)
        for part in parts:
            self.assertIn(part, str(error))

    def test_raises(self) -> None:
        """One that raises: on what it is for, when it is cut, when it is something else."""
        self.broken(lambda: Scripted(received=KeyError("no")), "sample 1", "KeyError")
        self.broken(lambda: Scripted(opened=KeyError("no")), "building and opening")
        self.broken(lambda: Scripted(closed=KeyError("no")), "closing it unused")
        self.broken(lambda: Scripted(dial_failed=KeyError("no")), "a dial that fails")
        self.broken(lambda: Scripted(received=lambda _, data: data[3] and None), "cut into", "IndexError")
        self.broken(
            lambda: Scripted(received=lambda _, data: data.decode() and None), "damage", "UnicodeDecodeError"
        )
        self.broken(lambda: Scripted(opened=Wake(60), woken=KeyError("no")), "KeyError")
        self.broken(lambda: Scripted(received=lambda *_: "text"), "not str")

    def test_cuts(self) -> None:
        """One to which it matters how bytes are cut."""
        self.broken(
            lambda: Scripted(received=lambda _, data: data + b";"), "cut into 2 pieces of 1, 10 bytes"
        )
        self.broken(
            lambda: Scripted(received=lambda _, data: None if b"HELO" in data else Close("no")),
            "cut into",
            sample=b"HELO here",
        )

    def test_cuts_of_one_that_closes(self) -> None:
        """Where it closes, more or less may have passed; but the reply is one, and so is the reason."""

        def closing(reply: Callable[[bytes], bytes]) -> Callable[[], Filter]:
            return lambda: Scripted(
                received=lambda way, data: Close("no", reply(data)) if way is UP and b"\n" in data else None
            )

        check_filter(closing(lambda data: b"bye"), [b"some text\n"])
        self.broken(closing(lambda data: data), "cut into", sample=b"some text\n")

    def test_ends(self) -> None:
        """One that keeps an end back for ever."""
        self.broken(
            lambda: Scripted(ended=[Delay(2), Wake(1)], woken=[Delay(2), Wake(1)]), "does not come to rest"
        )
        self.broken(
            lambda: Scripted(ended=lambda *_: Await(Deferred()), resumed=lambda _: Await(Deferred())),
            "one thing after another",
        )

    def test_shared(self) -> None:
        """One whose sessions know of each other."""
        self.broken(Shared, "run again")
        Turns.turns.clear()
        error = self.assertRaises(ContractBroken, check_filter, Turns, [TALK, TALK])
        self.assertIn("sample 2 beside the others", str(error))

    def test_hoarding(self) -> None:
        """One that keeps everything."""
        self.broken(Hoarder, "bytes of junk", "NEED_MORE")
        self.broken(Slotted, "bytes of junk")
        self.broken(lambda: Factory(lambda connection: Hoarder()), "bytes of junk", datagrams=True)

    def test_shape(self) -> None:
        """One that is no filter, or whose factory says what nobody understands."""
        self.broken(NotQuite, "no filter")
        for options in ({"on_timeout": "abort"}, {"on_error": "pass"}, {"max_hold": -1}, {"hold_timeout": 0}):
            (name,) = options
            self.broken(lambda options=options: Factory(lambda connection: Filter(), **options), name)
