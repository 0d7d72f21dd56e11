"""Tests for `portfwd.testing.contract`: good filters pass, and each kind of bad one is found out."""

from __future__ import annotations

import doctest
from collections.abc import Callable, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any, ClassVar

from attrs import define
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from portfwd.filters import (
    DONE,
    NEED_MORE,
    TO_CLIENT,
    TO_UPSTREAM,
    Again,
    Await,
    Close,
    Delay,
    Direction,
    Factory,
    Filter,
    Forward,
    InetAddress,
    NeedMore,
    Reply,
    Route,
    RouteClause,
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


class RoutesLater(Filter):
    """Dials after a result, or after a while, without a look at the client's bytes."""

    routes = True

    def __init__(self, first: Callable[[], Verdict]) -> None:
        self.first = first

    def opened(self, connection: object) -> Verdict:
        return self.first()

    def resumed(self, result: object) -> Verdict:
        return [Route(InetAddress("192.0.2.9", 80)), DONE]

    def woken(self, token: object) -> Verdict:
        return [Route(InetAddress("192.0.2.9", 80)), DONE]

    def received(self, direction: Direction, data: bytes) -> Verdict:
        return NEED_MORE if direction is TO_UPSTREAM else DONE


class Chooses(Filter):
    """Sends each client where the first route leads."""

    routes = True

    def __init__(self, clauses: Sequence[RouteClause] = ()) -> None:
        self.target = clauses[0].target

    def received(self, direction: Direction, data: bytes) -> Verdict:
        return [Route(self.target), DONE] if direction is TO_UPSTREAM else DONE


class Firewall(Filter):
    """Answers requests to delete itself, each on a line of its own."""

    in_order: ClassVar[bool] = False

    def __init__(self) -> None:
        self.due = 0
        self.kept: list[bytes] = []

    def received(self, direction: Direction, data: bytes) -> Verdict:
        line, end, rest = data.partition(b"\n")
        if not end:
            return NeedMore(rest=data)
        if direction is TO_CLIENT:
            self.due -= 1
            kept, self.kept = (self.kept, []) if not self.due else ([], self.kept)
            return [Forward(line + end + b"".join(kept)), Again(rest)]
        if line != b"DEL":
            self.due += 1
            return [Forward(line + end), Again(rest)]
        if self.due and self.in_order:
            self.kept.append(b"-no\n")
            return Again(rest)
        return [Reply(b"-no\n"), Again(rest)]


class Ordered(Firewall):
    """Keeps what it answers until the answers before it have passed."""

    in_order = True


REQUESTS = [(UP, b"GET\n"), (DOWN, b"1\n"), (UP, b"DEL\nGET\n"), (DOWN, b"2\n")]


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

    def test_routes_after_a_while(self) -> None:
        """A filter may choose its target after a result or a while, before there is a byte."""
        for first in (lambda: Await(Deferred()), lambda: Wake(1)):
            check_filter(partial(RoutesLater, first), [b"x", b"", TALK])

    def test_routes(self) -> None:
        """A class that takes routes is given those of the test."""
        routes = [RouteClause(("*",), InetAddress("192.0.2.9", 80))]
        check_filter(Chooses, [TALK], routes=routes)

    def test_pipelining(self) -> None:
        """Replies may wait for answers that are due; where the protocol has no pipelining, they need not."""
        check_filter(Ordered, [REQUESTS])
        check_filter(Firewall, [REQUESTS], pipelining=False)

    def test_shared_result(self) -> None:
        """Sessions may await one Deferred."""
        one: Deferred[object] = Deferred()
        check_filter(lambda: RoutesLater(lambda: Await(one)), [TALK])
        self.assertTrue(one.called)

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
            lambda: Scripted(received=lambda _, data: data + b";"), "cut into 2 pieces, in bytes: 1, 10"
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

    def test_hoarding_deep_down(self) -> None:
        """One that keeps everything in an object of its own, as text, or as a key."""

        class Deep(Filter):
            def __init__(self, keep: Callable[[Any, bytes], object]) -> None:
                self.parser = SimpleNamespace(rows=[SimpleNamespace(text=[], table={})])
                self.keep = keep

            def received(self, direction: Direction, data: bytes) -> Verdict:
                self.keep(self.parser.rows[0], data)
                return None

        self.broken(lambda: Deep(lambda row, data: row.text.append(data.hex())), "bytes of junk")
        self.broken(lambda: Deep(lambda row, data: row.table.update({data: 1})), "bytes of junk")
        self.broken(lambda: Deep(lambda row, data: row.text.append(memoryview(data))), "bytes of junk")

    def test_tables_are_no_hoard(self) -> None:
        """What was there before the junk is not counted."""

        class Table(Filter):
            def __init__(self) -> None:
                self.table = bytes(1 << 20)

        check_filter(Table, [TALK])

    def test_overtaking(self) -> None:
        """One whose reply overtakes answers that are due."""
        self.broken(Firewall, "overtakes answers", "b'-no\\n'", sample=REQUESTS)

    def test_cuts_on_both_sides(self) -> None:
        """One that minds short pieces of both sides only."""

        class Minds(Filter):
            def __init__(self) -> None:
                self.short: set[Direction] = set()

            def received(self, direction: Direction, data: bytes) -> Verdict:
                if len(data) == 5:
                    self.short.add(direction)
                return b"" if len(self.short) == 2 else None

        sample = [(UP, b"a" * 10), (DOWN, b"b" * 10), (UP, b"c" * 10), (DOWN, b"d" * 10)]
        self.broken(Minds, "both sides cut", sample=sample)

    def test_spoilt_result(self) -> None:
        """One that changes what others get of the Deferred that they share."""
        one: Deferred[object] = Deferred()

        class Spoiling(RoutesLater):
            def resumed(self, result: object) -> Verdict:
                return super().resumed(result) if result == "there" else Close("nothing")

        def ask() -> Verdict:
            one.addCallback(lambda _: None)
            return Await(one)

        self.broken(lambda: Spoiling(ask), "await the same Deferred", results=lambda _: "there")

    def test_shape(self) -> None:
        """One that is no filter, or whose factory says what nobody understands."""
        self.broken(NotQuite, "no filter")
        for options in ({"on_timeout": "abort"}, {"on_error": "pass"}, {"max_hold": -1}, {"hold_timeout": 0}):
            (name,) = options
            self.broken(lambda options=options: Factory(lambda connection: Filter(), **options), name)
