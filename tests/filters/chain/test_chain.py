"""Tests for `portfwd.filters.chain.chain`: what verdicts do to bytes, and to the session."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from portfwd.errors import ConnectRefused
from portfwd.filters import (
    DONE,
    DROP,
    NEED_MORE,
    TO_CLIENT,
    TO_UPSTREAM,
    Again,
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
    NeedMore,
    Release,
    Reply,
    Route,
    Sink,
    Verdict,
    Wake,
)
from portfwd.filters.chain.chain import Chain, make_chain
from portfwd.filters.chain.effects import (
    Arm,
    Begin,
    Disarm,
    Effect,
    Finish,
    Judge,
    PauseReading,
    ReadOn,
    SendEnd,
    StartDial,
    Store,
    Trouble,
    Unseen,
    Write,
)
from portfwd.filters.chain.inquiry import MAX_REPLIES, PROXY_TLVS
from portfwd.filters.chain.link import Stage
from portfwd.filters.chain.passage import MAX_DATAGRAMS, MAX_DELAYED
from tests.filters.scripted import (
    CLIENT,
    LOCAL,
    SUMMARY,
    UPSTREAM,
    Scripted,
    chain_of,
    nobody,
    relaying,
    script,
    seat,
    written,
)

SINK = Sink("file", "/tmp/copy", 1024)
UP, DOWN = TO_UPSTREAM, TO_CLIENT


def one_way(direction: Direction, **options: Any) -> dict[str, Any]:
    """What a factory says that needs to see `direction` only."""
    return {"directions": frozenset({direction}), **options}


class PassTests(SynchronousTestCase):
    """Bytes that go through, in order."""

    def test_none(self) -> None:
        """None passes the bytes, in either direction, and nothing else happens."""
        chain = relaying(Scripted())
        self.assertEqual(chain.received(UP, b"ping"), [Write(UP, b"ping")])
        self.assertEqual(chain.received(DOWN, b"pong"), [Write(DOWN, b"pong")])

    def test_bytes(self) -> None:
        """Bytes go instead; none at all drop."""
        chain = relaying(Scripted(received=script(b"PING", b"")))
        self.assertEqual(chain.received(UP, b"ping"), [Write(UP, b"PING")])
        self.assertEqual(chain.received(UP, b"ping"), [])

    def test_drop(self) -> None:
        """DROP drops in a stream as well."""
        self.assertEqual(relaying(Scripted(received=DROP)).received(UP, b"ping"), [])

    def test_order_of_filters(self) -> None:
        """To the upstream they run as listed, to the client in reverse; each sees what is passed to it."""
        chain = relaying(
            *(Scripted(received=lambda _, data, name=name: data + name) for name in (b"a", b"b", b"c"))
        )
        self.assertEqual(chain.received(UP, b"-"), [Write(UP, b"-abc")])
        self.assertEqual(chain.received(DOWN, b"-"), [Write(DOWN, b"-cba")])

    def test_list(self) -> None:
        """A list takes effect in order, and so do lists in it."""
        chain = relaying(Scripted(received=[b"a", Forward(b"b"), (Copy(SINK, b"c"), b"d")]))
        self.assertEqual(
            chain.received(UP, b"x"), [Write(UP, b"a"), Write(UP, b"b"), Store(SINK, b"c"), Write(UP, b"d")]
        )

    def test_none_in_list(self) -> None:
        """None in a list passes the bytes at its place, once."""
        chain = relaying(Scripted(received=[b"<", None, b">", None]))
        self.assertEqual(written(chain.received(UP, b"x"), UP), b"<x>")

    def test_silent_list(self) -> None:
        """A verdict that does not speak of the bytes passes them behind its effects."""
        chain = relaying(Scripted(received=[Copy(SINK, b"x"), Wake(1)]))
        self.assertEqual(chain.received(UP, b"x"), [Store(SINK, b"x"), Arm(1, 1), Write(UP, b"x")])
        self.assertEqual(relaying(Scripted(received=[])).received(UP, b"x"), [Write(UP, b"x")])

    def test_speaking_list(self) -> None:
        """One that does uses them up."""
        for verdict in (Forward(b""), [Reply(b"")], [DROP, Wake(1)], [b"", DONE]):
            self.assertEqual(
                written(relaying(Scripted(received=verdict)).received(UP, b"x"), UP), b"", verdict
            )

    def test_no_filter(self) -> None:
        """A chain of nothing passes everything, and needs to see nothing."""
        chain = chain_of()
        self.assertEqual(chain.open(), [StartDial()])
        self.assertEqual(chain.received(UP, b"x"), [PauseReading(UP)])
        self.assertEqual(chain.ended(UP), [])
        self.assertEqual(chain.connected(UPSTREAM), [Write(UP, b"x"), SendEnd(UP), Unseen(DOWN)])
        self.assertFalse(chain.watches(UP))

    def test_repr(self) -> None:
        """A chain says its filters, where it stands and what it watches."""
        chain = chain_of(seat(Scripted(), **one_way(UP)), seat(Scripted(), **one_way(UP, routes=True)))
        self.assertEqual(repr(chain), "<Chain of a, b: undecided, watches to-upstream>")
        self.assertEqual(repr(chain_of()), "<Chain of nothing: undecided>")
        chain = chain_of(Filter())
        chain.open()
        self.assertEqual(repr(chain), "<Chain of a: dialled, watches to-upstream, watches to-client>")
        chain.connected(None)
        self.assertIn("connected", repr(chain))
        chain.closed(SUMMARY)
        self.assertEqual(repr(chain), "<Chain of a: finished>")


class ReplyTests(SynchronousTestCase):
    """Bytes that go back."""

    def test_back(self) -> None:
        """A reply goes to the side whose bytes were seen, which are used up."""
        chain = relaying(Scripted(received=script(Reply(b"no"), Reply(b"yes"))))
        self.assertEqual(chain.received(UP, b"x"), [Write(DOWN, b"no")])
        self.assertEqual(chain.received(DOWN, b"x"), [Write(UP, b"yes")])

    def test_nearer_filters(self) -> None:
        """Filters nearer the side it goes to see it; the one that sent it and those behind do not."""
        near, far = Scripted(), Scripted()
        chain = relaying(near, Scripted(received=Reply(b"no")), far)
        chain.received(UP, b"x")
        self.assertEqual((near.seen(DOWN), far.calls[2:]), ([b"no"], []))
        chain.received(DOWN, b"y")
        self.assertEqual((far.seen(UP), near.seen()), ([b"no"], [b"x", b"no"]))

    def test_while_in_effect(self) -> None:
        """What comes of a reply reaches the filter that sent it when its verdict has taken effect."""
        asked = Scripted(received=script([Reply(b"who?"), NeedMore(rest=b"tail")], None))
        answering = Scripted(received=lambda way, data: Reply(b"me") if way is DOWN else None)
        chain = relaying(answering, asked)
        self.assertEqual(chain.received(UP, b"head tail"), [Write(UP, b"tailme")])
        self.assertEqual(asked.seen(), [b"head tail", b"tailme"])

    def test_endless(self) -> None:
        """Two filters that answer each other end the session, not the process."""
        chain = relaying(
            Scripted(received=lambda way, _: Reply(b"ping") if way is DOWN else None),
            Scripted(received=lambda way, _: Reply(b"pong") if way is UP else None),
        )
        effects = chain.received(UP, b"hello")
        self.assertIsInstance(effects[-2], Trouble)
        self.assertIsInstance(effects[-1], Finish)

    def test_many_answers(self) -> None:
        """Each of many replies may be answered: they are no answers to each other."""
        near = Scripted(received=lambda way, _: Reply(b"a") if way is DOWN else None)
        far = Scripted(received=script([Reply(b"x")] * 5 * MAX_REPLIES))
        self.assertEqual(relaying(near, far).received(UP, b"y"), [Write(UP, b"a")] * 5 * MAX_REPLIES)

    def test_many(self) -> None:
        """Many replies that are no answers to each other are many, and that is all."""
        chain = relaying(Scripted(), Scripted(received=[Reply(b"x")] * 5 * MAX_REPLIES))
        self.assertEqual(written(chain.received(UP, b"y"), DOWN), b"x" * 5 * MAX_REPLIES)

    def test_behind_the_end(self) -> None:
        """After the end of a direction there is nobody to reply to."""
        chain = relaying(Scripted(received=Reply(b"no")))
        self.assertEqual(chain.ended(DOWN), [SendEnd(DOWN)])
        self.assertEqual(chain.received(UP, b"x"), [])


class AgainTests(SynchronousTestCase):
    """Filters that deal with one message a call."""

    @staticmethod
    def lines(way: Direction, data: bytes) -> Verdict:
        """Pass lines one by one, in brackets."""
        line, newline, rest = data.partition(b"\n")
        return [Forward(b"[" + line + b"]"), Again(rest)] if newline else NEED_MORE

    def test_one_at_a_time(self) -> None:
        """The filter is called again at once with the rest, and keeps what is no whole message."""
        one = Scripted(received=self.lines)
        chain = relaying(one)
        self.assertEqual(written(chain.received(UP, b"a\nb\nc"), UP), b"[a][b]")
        self.assertEqual(one.seen(), [b"a\nb\nc", b"b\nc", b"c"])
        self.assertEqual(written(chain.received(UP, b"\n"), UP), b"[c]")

    def test_before_what_comes_later(self) -> None:
        """The rest is seen before bytes that are on their way to the filter."""
        near = Scripted(received=lambda way, data: [Forward(data), Forward(b"later\n")])
        far = Scripted(received=self.lines)
        self.assertEqual(written(relaying(near, far).received(UP, b"a\nb\n"), UP), b"[a][b][later]")

    def test_after_it(self) -> None:
        """What the same list says of the next bytes holds for the rest: an Await, a Bypass, DONE."""
        chain = relaying(Scripted(received=script([Again(b"bc"), Await(Deferred())], None), resumed=None))
        chain.received(UP, b"abc")
        self.assertEqual(written(chain.settled(1, None), UP), b"bc")
        chain = relaying(Scripted(received=script([Bypass(1, b""), Again(b"bc")], b"seen")))
        self.assertEqual(written(chain.received(UP, b"abc"), UP), b"bseen")
        self.assertEqual(
            written(relaying(Scripted(received=[Again(b"b"), DONE])).received(UP, b"ab"), UP), b"b"
        )

    def test_ended(self) -> None:
        """At the end the rest passes."""
        one = Scripted(received=NEED_MORE, ended=Again(b"b"))
        chain = relaying(one)
        chain.received(UP, b"ab")
        self.assertEqual(chain.ended(UP), [Write(UP, b"b"), SendEnd(UP)])

    def test_endless(self) -> None:
        """A rest that is not less than what was seen is an error, and no loop without end."""
        for answers in ({"received": lambda way, data: Again(data)}, {"opened": Again(b"x")}):
            chain = chain_of(Scripted(**answers))
            effects = [*chain.open(), *chain.connected(UPSTREAM), *chain.received(UP, b"x")]
            self.assertIsInstance(effects[-2], Trouble)
        self.assertIsInstance(
            relaying(Scripted(received=Again(b"")), datagrams=True).received(UP, b"x")[0], Trouble
        )


class LimitTests(SynchronousTestCase):
    """Filters of an open stream that hold bytes for long, or many of them."""

    LINE = Scripted(received=lambda way, data: None if data.endswith(b"\n") else NEED_MORE)

    def test_time(self) -> None:
        """When its time is over, the session breaks, or what is held passes and the filter sees no more."""
        for on_timeout in ("close", "pass"):
            one = Scripted(**self.LINE.answers)
            chain = relaying(seat(one, hold_timeout=2.0, on_timeout=on_timeout))
            self.assertEqual(chain.received(UP, b"ab"), [Arm(1, 2.0)])
            self.assertEqual(chain.received(UP, b"c"), [], "the time goes on")
            effects = chain.due(1)
            if on_timeout == "close":
                self.assertEqual(effects, [Finish("filter a held bytes for 2s", abort=True, filter="a")])
            else:
                self.assertEqual(effects, [Write(UP, b"abc"), Unseen(UP)])
                self.assertEqual(chain.received(UP, b"d"), [Write(UP, b"d")])
                self.assertEqual(len(one.seen()), 2)

    def test_further(self) -> None:
        """A filter that gets further has its time anew; one that holds nothing has no limit."""
        chain = relaying(seat(Scripted(**self.LINE.answers), hold_timeout=2.0))
        chain.received(UP, b"ab")
        chain.received(UP, b"c\n")
        self.assertEqual(chain.due(1), [])
        self.assertEqual(chain.received(UP, b"d"), [Arm(2, 2.0)])
        tail = Scripted(received=lambda way, data: [Forward(data[:-1]), NeedMore(rest=data[-1:])])
        chain = relaying(seat(tail, hold_timeout=2.0))
        self.assertEqual(chain.received(UP, b"ab"), [Write(UP, b"a"), Arm(1, 2.0)])
        self.assertEqual(chain.received(UP, b"c"), [Write(UP, b"b"), Disarm(1), Arm(2, 2.0)])

    def test_unlimited(self) -> None:
        """Where the factory does not say, nothing is timed: a client may type slowly."""
        chain = relaying(Scripted(**self.LINE.answers))
        self.assertEqual(chain.received(UP, b"ab"), [])

    def test_overflow(self) -> None:
        """Where too much is to be held the session breaks, or all passes and the filter sees no more."""
        for on_overflow in ("close", "pass"):
            one = Scripted(received=NEED_MORE)
            chain = relaying(seat(one, max_hold=3, on_overflow=on_overflow))
            chain.received(UP, b"abc")
            effects = chain.received(UP, b"d")
            if on_overflow == "close":
                (finish,) = effects
                self.assertEqual(finish, Finish("filter a could not decide within 3 bytes", True, "a"))
            else:
                self.assertEqual(effects, [Write(UP, b"abcd"), Unseen(UP)])

    def test_end_of_what_was_held_too_long(self) -> None:
        """An end that came behind it passes, too."""
        one = Scripted(received=NEED_MORE, ended=[Delay(9), None])
        chain = relaying(seat(one, hold_timeout=2.0, on_timeout="pass"))
        chain.received(UP, b"x")
        chain.due(1)
        self.assertEqual(chain.ended(UP), [SendEnd(UP)])


class HoldTests(SynchronousTestCase):
    """Bytes that are kept until there are more."""

    def test_need_more(self) -> None:
        """What is held is shown again with the next."""
        one = Scripted(received=script(NEED_MORE, NEED_MORE, None))
        chain = relaying(one)
        self.assertEqual([chain.received(UP, b"a"), chain.received(UP, b"b")], [[], []])
        self.assertEqual(chain.held(UP), 2)
        self.assertEqual(chain.received(UP, b"c"), [Write(UP, b"abc")])
        self.assertEqual(one.seen(), [b"a", b"ab", b"abc"])
        self.assertEqual(chain.held(UP), 0)

    def test_total(self) -> None:
        """With a total, the filter is not asked before that many are there."""
        one = Scripted(received=script(NeedMore(5), None))
        chain = relaying(one)
        for data in (b"a", b"b", b"c", b"d"):
            self.assertEqual(chain.received(UP, data), [])
        self.assertEqual(chain.received(UP, b"ef"), [Write(UP, b"abcdef")])
        self.assertEqual(one.seen(), [b"a", b"abcdef"])

    def test_rest(self) -> None:
        """With a rest, that is what is kept; the verdicts before it dealt with the others."""
        one = Scripted(received=script([Forward(b"frame"), NeedMore(rest=b"ta")], None))
        chain = relaying(one)
        self.assertEqual(chain.received(UP, b"frameta"), [Write(UP, b"frame")])
        self.assertEqual(chain.received(UP, b"il"), [Write(UP, b"tail")])

    def test_empty_rest(self) -> None:
        """A rest may be empty, and a total counts from it."""
        one = Scripted(received=script([Forward(b"frame"), NeedMore(4, rest=b"")], None))
        chain = relaying(one)
        chain.received(UP, b"frame")
        self.assertEqual(chain.received(UP, b"abc"), [])
        self.assertEqual(chain.received(UP, b"d"), [Write(UP, b"abcd")])

    def test_too_much(self) -> None:
        """A filter that holds more than its limit breaks the session, and is named with the limit."""
        chain = relaying(seat(Scripted(received=NEED_MORE), max_hold=4))
        self.assertEqual(chain.received(UP, b"abcd"), [])
        (finish,) = chain.received(UP, b"e")
        assert isinstance(finish, Finish)
        self.assertEqual((finish.abort, finish.filter), (True, "a"))
        self.assertIn("filter a could not decide within 4 bytes", finish.detail)

    def test_total_too_large(self) -> None:
        """A total beyond the limit is known at once to be too much."""
        chain = relaying(seat(Scripted(received=NeedMore(5)), max_hold=4))
        self.assertIsInstance(chain.received(UP, b"a")[-1], Finish)

    def test_large_piece(self) -> None:
        """What was shown may be larger than the limit, if what is kept of it is not."""
        one = Scripted(received=lambda way, data: [Forward(data[:-1]), NeedMore(rest=data[-1:])])
        chain = relaying(seat(one, max_hold=1))
        self.assertEqual(written(chain.received(UP, b"x" * 1000), UP), b"x" * 999)

    def test_done_lets_go(self) -> None:
        """Who is done holds nothing, also where another verdict of the list said so."""
        chain = relaying(Scripted(received=[NEED_MORE, DONE]))
        self.assertEqual(chain.received(UP, b"x"), [Write(UP, b"x"), Unseen(UP)])

    def test_both_directions(self) -> None:
        """Each direction is held for itself."""
        one = Scripted(received=script(NEED_MORE, NEED_MORE, None, None))
        chain = relaying(one)
        chain.received(UP, b"a")
        chain.received(DOWN, b"1")
        self.assertEqual(chain.received(UP, b"b"), [Write(UP, b"ab")])
        self.assertEqual(chain.received(DOWN, b"2"), [Write(DOWN, b"12")])


class UnseenTests(SynchronousTestCase):
    """Bytes that need not be shown."""

    def test_done(self) -> None:
        """A filter that is done is not called again in that direction, and bytes need not be shown."""
        one = Scripted(received=script(DONE))
        chain = relaying(one)
        self.assertTrue(chain.watches(UP))
        self.assertEqual(chain.received(UP, b"a"), [Write(UP, b"a"), Unseen(UP)])
        self.assertEqual(chain.received(UP, b"b"), [Write(UP, b"b")])
        self.assertEqual(one.seen(), [b"a"])
        self.assertEqual((chain.watches(UP), chain.watches(DOWN)), (False, True))

    def test_done_with_bytes(self) -> None:
        """Where bytes were given with it, these go and not those that were seen."""
        chain = relaying(Scripted(received=[Forward(b"A"), DONE]))
        self.assertEqual(chain.received(UP, b"a"), [Write(UP, b"A"), Unseen(UP)])

    def test_directions(self) -> None:
        """A direction that the factory does not name is never shown."""
        chain = chain_of(seat(Scripted(), **one_way(UP)))
        chain.open()
        self.assertFalse(chain.watches(DOWN))
        self.assertEqual(chain.connected(UPSTREAM), [Unseen(DOWN)])

    def test_all_must_be_done(self) -> None:
        """One filter that still looks is enough to be shown everything."""
        chain = relaying(Scripted(received=DONE), Scripted(received=script(None, DONE)))
        self.assertEqual(chain.received(UP, b"a"), [Write(UP, b"a")])
        self.assertEqual(chain.received(UP, b"b"), [Write(UP, b"b"), Unseen(UP)])

    def test_bypass(self) -> None:
        """The bytes pass, then so many more unseen; the filter sees what is behind them."""
        one = Scripted(received=script(Bypass(10), None))
        chain = relaying(one)
        self.assertEqual(chain.received(UP, b"head"), [Write(UP, b"head"), Unseen(UP, 10)])
        self.assertTrue(chain.watches(UP))
        self.assertEqual(chain.passed(UP, 10), [])
        self.assertEqual(chain.received(UP, b"next"), [Write(UP, b"next")])
        self.assertEqual(one.seen(), [b"head", b"next"])

    def test_bypass_with_data(self) -> None:
        """Bytes that are given go instead of those that were seen."""
        chain = relaying(Scripted(received=Bypass(10, b"HEAD")))
        self.assertEqual(chain.received(UP, b"head"), [Write(UP, b"HEAD"), Unseen(UP, 10)])

    def test_bypass_shown(self) -> None:
        """Bytes that are shown all the same are counted off, wherever they are cut."""
        one = Scripted(received=script(Bypass(10), None))
        chain = relaying(one)
        chain.received(UP, b"head")
        self.assertEqual(chain.received(UP, b"012345"), [Write(UP, b"012345"), Unseen(UP, 4)])
        self.assertEqual(chain.received(UP, b"6789next"), [Write(UP, b"6789"), Write(UP, b"next")])
        self.assertEqual(one.seen(), [b"head", b"next"])

    def test_bypass_in_parts(self) -> None:
        """Some may be unseen and some shown."""
        one = Scripted(received=script(Bypass(10), None))
        chain = relaying(one)
        chain.received(UP, b"head")
        self.assertEqual(chain.passed(UP, 4), [Unseen(UP, 6)])
        self.assertEqual(chain.received(UP, b"456789next"), [Write(UP, b"456789"), Write(UP, b"next")])

    def test_bypass_of_several(self) -> None:
        """Where several filters bypass, the least counts, and each counts for itself."""
        near, far = Scripted(received=script(Bypass(10), DONE)), Scripted(received=script(Bypass(4), None))
        chain = relaying(near, far)
        self.assertEqual(chain.received(UP, b"x"), [Write(UP, b"x"), Unseen(UP, 4)])
        self.assertEqual(chain.passed(UP, 4), [])
        self.assertEqual(chain.received(UP, b"456789"), [Write(UP, b"456789")])
        self.assertEqual((near.seen(), far.seen()), ([b"x"], [b"x", b"456789"]))

    def test_taken_back(self) -> None:
        """An offer is taken back when something begins to wait here, and made again when it has gone."""
        for first, count in ((Bypass(10), 10), (DONE, None)):
            one = Scripted(received=script([first, Wake(1)]), woken=Delay(2, b"late"))
            chain = relaying(one)
            self.assertEqual(chain.received(UP, b"x")[-1], Unseen(UP, count))
            self.assertEqual(chain.due(1), [Arm(2, 2), Unseen(UP, 0)])
            self.assertEqual(chain.received(UP, b"y"), [])
            left = None if count is None else count - 1
            self.assertEqual(chain.due(2), [Write(UP, b"late"), Write(UP, b"y"), Unseen(UP, left)])

    def test_taken_back_by_a_smaller_one(self) -> None:
        """A filter that wants to see more says so with a smaller count."""
        chain = relaying(Scripted(received=script([Bypass(10), Wake(1)]), woken=Bypass(0)))
        chain.received(UP, b"x")
        self.assertEqual(chain.due(1), [Unseen(UP, 0)])

    def test_bypass_again(self) -> None:
        """The same count is said again when it is another stretch of bytes."""
        one = Scripted(received=lambda way, data: Bypass(2, data[:1]))
        chain = relaying(one)
        self.assertEqual(chain.received(UP, b"1"), [Write(UP, b"1"), Unseen(UP, 2)])
        self.assertEqual(chain.received(UP, b"ab1"), [Write(UP, b"ab"), Write(UP, b"1"), Unseen(UP, 2)])

    def test_bypass_of_nothing(self) -> None:
        """None to bypass is none; the filter sees the next."""
        one = Scripted(received=Bypass(0))
        chain = relaying(one)
        self.assertEqual(chain.received(UP, b"a"), [Write(UP, b"a")])
        self.assertEqual(chain.received(UP, b"b"), [Write(UP, b"b")])

    def test_bypass_then_hold(self) -> None:
        """What a filter waits for begins behind what it bypasses."""
        one = Scripted(received=script([Bypass(2, b""), NeedMore(2, rest=b"")], None))
        chain = relaying(one)
        chain.received(UP, b"x")
        self.assertEqual(chain.received(UP, b"121"), [Write(UP, b"12")])
        self.assertEqual(chain.received(UP, b"2"), [Write(UP, b"12")])

    def test_bypass_cut_short(self) -> None:
        """An end that comes while bytes are bypassed is told."""
        one = Scripted(received=script(Bypass(10)))
        chain = relaying(one)
        chain.received(UP, b"x")
        self.assertEqual(chain.ended(UP), [SendEnd(UP)])
        self.assertEqual(one.calls[-1], ("ended", UP, b""))

    def test_not_while_something_waits(self) -> None:
        """As long as something is held or delayed, bytes are shown."""
        chain = relaying(Scripted(received=[Delay(1, b"x"), DONE]))
        self.assertEqual(chain.received(UP, b"x"), [Arm(1, 1)])
        self.assertTrue(chain.watches(UP))
        self.assertEqual(chain.due(1), [Write(UP, b"x"), Unseen(UP)])

    def test_not_after_the_end(self) -> None:
        """Of a direction that has ended nothing is said."""
        chain = relaying(Scripted(ended=DONE))
        self.assertEqual(chain.ended(UP), [SendEnd(UP)])
        self.assertEqual(chain.received(DOWN, b"x"), [Write(DOWN, b"x")])
        self.assertFalse(chain.watches(UP))

    def test_end_of_the_done(self) -> None:
        """An end that is told of a direction in which all are done goes out without being shown to them."""
        one = Scripted(received=DONE)
        chain = relaying(one)
        chain.received(UP, b"x")
        self.assertEqual(chain.ended(UP), [SendEnd(UP)])
        self.assertEqual(one.told("ended"), 0)


class DelayTests(SynchronousTestCase):
    """Bytes that go later."""

    def test_later(self) -> None:
        """Bytes go when it is time; those behind wait, and then go at once."""
        chain = relaying(Scripted(received=script(Delay(2, b"a"), None)))
        self.assertEqual(chain.received(UP, b"a"), [Arm(1, 2)])
        self.assertEqual(chain.received(UP, b"b"), [])
        self.assertEqual(chain.held(UP), 2)
        self.assertEqual(chain.due(1), [Write(UP, b"a"), Write(UP, b"b")])

    def test_other_direction(self) -> None:
        """The other direction does not wait."""
        chain = relaying(Scripted(received=lambda way, data: Delay(2, data) if way is UP else None))
        chain.received(UP, b"a")
        self.assertEqual(chain.received(DOWN, b"b"), [Write(DOWN, b"b")])

    def test_order(self) -> None:
        """A shorter delay does not overtake; each counts from when it was asked for."""
        chain = relaying(Scripted(received=[Delay(2, b"a"), Delay(1, b"b"), Delay(3, b"c"), Delay(0, b"d")]))
        self.assertEqual(chain.received(UP, b"x"), [Arm(1, 2), Arm(2, 1), Arm(3, 3)])
        self.assertEqual(chain.due(2), [])
        self.assertEqual(chain.due(1), [Write(UP, b"a"), Write(UP, b"b")])
        self.assertEqual(chain.due(3), [Write(UP, b"c"), Write(UP, b"d")])

    def test_answers(self) -> None:
        """What came of an answer is told to be one, however late it goes; what was on its way is none."""
        late = Scripted(received=lambda way, data: Delay(1, data) if way is DOWN else None)
        chain = relaying(late, Scripted(received=lambda way, data: [Reply(data), b""] if way is UP else None))
        self.assertEqual(chain.received(UP, b"?"), [Arm(1, 1)])
        self.assertEqual(chain.received(DOWN, b"x"), [Arm(2, 1)])
        (answer,), (other,) = chain.due(1), chain.due(2)
        self.assertEqual((answer, other), (Write(DOWN, b"?"), Write(DOWN, b"x")))
        assert isinstance(answer, Write)
        assert isinstance(other, Write)
        self.assertEqual((answer.answer, other.answer), (True, False))

    def test_no_time(self) -> None:
        """A delay of no time is none."""
        self.assertEqual(relaying(Scripted(received=Delay(0, b"a"))).received(UP, b"x"), [Write(UP, b"a")])

    def test_without_data(self) -> None:
        """A delay of nothing says nothing of the bytes: they pass behind it."""
        chain = relaying(Scripted(received=Delay(1)))
        self.assertEqual(chain.received(UP, b"x"), [Arm(1, 1)])
        self.assertEqual(chain.due(1), [Write(UP, b"x")])

    def test_end(self) -> None:
        """An end waits behind."""
        chain = relaying(Scripted(received=Delay(1, b"x")))
        chain.received(UP, b"x")
        self.assertEqual(chain.ended(UP), [])
        self.assertTrue(chain.watches(UP))
        self.assertEqual(chain.due(1), [Write(UP, b"x"), SendEnd(UP)])

    def test_delayed_end(self) -> None:
        """An end is delayed by a delay of nothing, behind what was held."""
        chain = relaying(Scripted(received=NEED_MORE, ended=[None, Delay(1)]))
        chain.received(UP, b"x")
        self.assertEqual(chain.ended(UP), [Write(UP, b"x"), Arm(1, 1)])
        self.assertEqual(chain.due(1), [SendEnd(UP)])

    def test_before_a_delayed_end(self) -> None:
        """What a filter sends while the end waits is before it, and may delay it further."""
        chain = relaying(Scripted(ended=[Delay(2), Wake(1)], woken=[Delay(3, b"y"), b"z"]))
        self.assertEqual(chain.ended(UP), [Arm(1, 2), Arm(2, 1)])
        self.assertEqual(chain.due(2), [Arm(3, 3)])
        self.assertEqual(chain.due(1), [])
        self.assertEqual(chain.due(3), [Write(UP, b"y"), Write(UP, b"z"), SendEnd(UP)])

    def test_pressure(self) -> None:
        """Reading stops when more is delayed than the filter may hold, until half of that is left."""
        chain = relaying(seat(Scripted(received=lambda _, data: Delay(1, data)), max_hold=4))
        self.assertEqual(chain.received(UP, b"abc"), [Arm(1, 1)])
        self.assertEqual(chain.received(UP, b"de"), [PauseReading(UP), Arm(2, 1)])
        self.assertEqual(chain.received(UP, b"fgh"), [Arm(3, 1)])
        self.assertEqual(chain.due(1), [Write(UP, b"abc")])
        self.assertEqual(chain.due(2), [Write(UP, b"de")])
        self.assertEqual(chain.due(3), [Write(UP, b"fgh"), ReadOn(UP)])

    def test_pressure_of_pieces(self) -> None:
        """It stops as well when they are few bytes in many pieces."""
        chain = relaying(seat(Scripted(received=lambda _, data: Delay(1, data)), max_hold=1 << 20))
        for _ in range(MAX_DELAYED):
            self.assertIsInstance(chain.received(UP, b"x")[-1], Arm)
        self.assertIn(PauseReading(UP), chain.received(UP, b"x"))
        told = [chain.due(key) for key in range(1, MAX_DELAYED + 2)]
        self.assertEqual([effects.index(ReadOn(UP)) for effects in told if ReadOn(UP) in effects], [1])
        self.assertIn(ReadOn(UP), told[MAX_DELAYED // 2])

    def test_pressure_of_replies(self) -> None:
        """Where replies are delayed, those are not read that cause them."""
        latency = seat(
            Scripted(received=lambda way, data: Delay(1, data) if way is DOWN else None), max_hold=1
        )
        chain = relaying(latency, Scripted(received=Reply(b"no")))
        self.assertEqual(chain.received(UP, b"x"), [PauseReading(UP), Arm(1, 1)])
        self.assertEqual(chain.due(1), [Write(DOWN, b"no"), ReadOn(UP)])

    def test_pressure_of_both(self) -> None:
        """Two reasons to stop are two: both must be gone."""
        near = seat(Scripted(received=lambda _, data: [None, Delay(5, data)]), max_hold=0)
        far = seat(Scripted(received=lambda _, data: Delay(1, data)), max_hold=0)
        chain = relaying(near, far)
        self.assertEqual(chain.received(UP, b"a"), [PauseReading(UP), Arm(1, 5), Arm(2, 1)])
        self.assertEqual(chain.due(2), [Write(UP, b"a")])
        self.assertEqual(chain.due(1), [ReadOn(UP), PauseReading(UP), Arm(3, 1)])
        self.assertEqual(chain.due(3), [Write(UP, b"a"), ReadOn(UP)])

    def test_no_pressure_at_the_end(self) -> None:
        """A direction that has ended is neither stopped nor read again."""
        chain = relaying(seat(Scripted(ended=lambda _, held: Delay(1, b"bye")), max_hold=1))
        self.assertEqual(chain.ended(UP), [Arm(1, 1)])
        self.assertEqual(chain.due(1), [Write(UP, b"bye"), SendEnd(UP)])

    def test_after_the_end(self) -> None:
        """Behind an end nothing goes, delayed or not."""
        chain = relaying(Scripted(ended=Wake(1), woken=[Delay(1, b"late"), Forward(b"too")]))
        self.assertEqual(chain.ended(UP), [Arm(1, 1), SendEnd(UP)])
        self.assertEqual(chain.due(1), [])

    def test_next_filter_sees_it_then(self) -> None:
        """The filter behind sees delayed bytes when they go."""
        behind = Scripted()
        chain = relaying(Scripted(received=lambda _, data: Delay(1, data)), behind)
        chain.received(UP, b"x")
        self.assertEqual(behind.seen(), [])
        self.assertEqual(chain.due(1), [Write(UP, b"x")])
        self.assertEqual(behind.seen(), [b"x"])


class OutsideTests(SynchronousTestCase):
    """Filters that are woken by what happens elsewhere."""

    def made(self, *filters: Scripted) -> tuple[Chain, list[Any], list[Connection]]:
        """A chain of these, what its runner was given, and the connection of each."""
        calls: list[Any] = []
        connection = nobody()
        connection.wake = calls.append
        factories = [Factory(lambda connection, one=one: one) for one in filters]  # type: ignore[misc]
        chain = make_chain(list(zip("abc", factories, strict=False)), connection)
        assert chain is not None
        chain.open()
        chain.connected(UPSTREAM)
        return chain, calls, [one.calls[0][1] for one in filters]

    def test_woken(self) -> None:
        """The filter whose connection it is gets the token, and no other."""
        one, other = Scripted(woken=Forward(b"x")), Scripted(woken=Reply(b"y"))
        chain, calls, (_, second) = self.made(one, other)
        second.wake("token")
        self.assertEqual(chain.woken(*calls), [Write(DOWN, b"y", True)])
        self.assertEqual((one.told("woken"), other.calls[-1]), (0, ("woken", "token")))

    def test_known_to_all(self) -> None:
        """What becomes known of the connection is known to all of them, and tags are shared."""
        real = InetAddress("203.0.113.9", 4000)
        one, other = Scripted(received=[Announce(real), None]), Scripted()
        chain, _, known = self.made(one, other)
        chain.received(UP, b"x")
        for connection in known:
            self.assertEqual((connection.source, connection.upstream), (real, UPSTREAM))
        self.assertIs(known[0].tags, known[1].tags)

    def test_in_a_method(self) -> None:
        """One that wakes itself in a method is woken after its verdict."""
        one = Scripted(woken=Forward(b"second"))
        chain, calls, (connection,) = self.made(one)

        def received(way: Direction, data: bytes) -> Verdict:
            connection.wake("token")
            self.assertEqual(chain.woken(*calls), [])
            return Forward(b"first ")

        one.answers["received"] = received
        self.assertEqual(written(chain.received(UP, b"x"), UP), b"first second")

    def test_over(self) -> None:
        """When the session is over nobody is woken, and nobody is kept."""
        one = Scripted()
        chain, calls, (connection,) = self.made(one)
        connection.wake("early")
        chain.closed(SUMMARY)
        connection.wake("late")
        self.assertEqual((len(calls), chain.woken(calls[0]), one.told("woken")), (1, [], 0))

    def test_release(self) -> None:
        """What is delayed in a direction goes on, then what the same verdict passes, then the end."""
        one = Scripted(received=lambda way, data: Delay(9, data), woken=[Release(UP), Forward(b" and more")])
        chain, calls, (connection,) = self.made(one)
        chain.received(UP, b"late")
        chain.received(DOWN, b"other")
        chain.ended(UP)
        connection.wake(None)
        effects = chain.woken(*calls)
        self.assertEqual(effects, [Write(UP, b"late"), Write(UP, b" and more"), SendEnd(UP)])
        self.assertEqual((chain.due(1), written(chain.due(2), DOWN)), ([], b"other"))


class WakeTests(SynchronousTestCase):
    """Filters that ask for the time."""

    def test_woken(self) -> None:
        """The token comes back; what the filter then sends goes where it was when it asked."""
        one = Scripted(received=lambda way, _: [None, Wake(5, way)], woken=Forward(b"!"))
        chain = relaying(one)
        self.assertEqual(chain.received(DOWN, b"x"), [Write(DOWN, b"x"), Arm(1, 5)])
        self.assertEqual(chain.received(UP, b"x"), [Write(UP, b"x"), Arm(2, 5)])
        self.assertEqual(chain.due(2), [Write(UP, b"!")])
        self.assertEqual(chain.due(1), [Write(DOWN, b"!")])
        self.assertEqual(one.calls[-2:], [("woken", UP), ("woken", DOWN)])

    def test_from_opened(self) -> None:
        """Who asked when opened is toward the upstream, and replies to the client."""
        chain = chain_of(Scripted(opened=Wake(1), woken=[Forward(b"u"), Reply(b"c")]))
        self.assertEqual(chain.open(), [Arm(1, 1), StartDial()])
        chain.connected(UPSTREAM)
        self.assertEqual(chain.due(1), [Write(UP, b"u"), Write(DOWN, b"c")])

    def test_when_done(self) -> None:
        """Who is done with both directions is woken all the same."""
        one = Scripted(opened=[Wake(1)], received=DONE, woken=Close("time is up"))
        chain = chain_of(one)
        chain.open()
        chain.connected(UPSTREAM)
        self.assertEqual(chain.received(UP, b"x")[-1], Unseen(UP))
        self.assertEqual(chain.due(1), [Finish("time is up", filter="a")])

    def test_held(self) -> None:
        """What is held stays; None says nothing of it, nor do other bytes."""
        chain = relaying(Scripted(received=[NEED_MORE, Wake(1)], woken=script(None, b"!")))
        chain.received(UP, b"a")
        self.assertEqual(chain.due(1), [])
        chain.received(UP, b"b")
        self.assertEqual(chain.due(2), [Write(UP, b"!")])
        self.assertEqual(chain.held(UP), 2)

    def test_held_goes(self) -> None:
        """`DONE` and `Bypass` let it go; a rest replaces it."""
        for verdict, effects in (
            (DONE, [Write(UP, b"ab"), Unseen(UP)]),
            (Bypass(3), [Write(UP, b"ab"), Unseen(UP, 3)]),
            ([Forward(b"a"), NeedMore(rest=b"b")], [Write(UP, b"a")]),
            (NEED_MORE, []),
        ):
            chain = relaying(Scripted(received=[NEED_MORE, Wake(1)], woken=verdict))
            chain.received(UP, b"ab")
            self.assertEqual(chain.due(1), effects, verdict)

    def test_unknown(self) -> None:
        """A key that is no more, or never was, does nothing."""
        one = Scripted(received=Wake(1))
        chain = relaying(one)
        chain.received(UP, b"x")
        chain.due(1)
        self.assertEqual((chain.due(1), chain.due(17), one.told("woken")), ([], [], 1))


class Forgiving(Scripted):
    """Says what follows if what it awaited raised."""

    def failed(self, error: BaseException) -> Verdict:
        return self._answer("failed", error)  # type: ignore[no-any-return]


class AwaitTests(SynchronousTestCase):
    """Filters that wait for something."""

    come: Callable[[Chain], list[Effect]]

    def test_it_raises(self) -> None:
        """What an `Await` raises is no result: the session is aborted, and nothing that was held passes."""
        for event in ("opened", "received", "ended"):
            one = Scripted(**{event: Await(Deferred())}, resumed=DONE)
            chain = chain_of(one)
            chain.open()
            chain.connected(UPSTREAM)
            chain.received(UP, b"x")
            if event == "ended":
                chain.ended(UP)
            error = TimeoutError("the server is down")
            *_, trouble, finish = chain.failed(1, error)
            self.assertEqual(trouble, Trouble("a", error))
            detail = "filter a awaited a result that raised TimeoutError"
            self.assertEqual(finish, Finish(detail, abort=True, filter="a"))
            self.assertEqual(one.told("resumed"), 0)

    def test_it_raises_bypass(self) -> None:
        """With ``on_error`` bypass the filter is left out, and what was held passes."""
        chain = relaying(seat(Scripted(received=Await(Deferred())), on_error="bypass"))
        chain.received(UP, b"x")
        effects = chain.failed(1, TimeoutError())
        self.assertEqual((written(effects, UP), chain.finished), (b"x", False))

    def test_failed(self) -> None:
        """A filter with `failed` decides itself about the bytes that wait."""
        for verdict, passes in ((None, b"x"), (Forward(b"y"), b"y"), (Close("no"), b"")):
            error = TimeoutError()
            one = Forgiving(received=script(Await(Deferred())), failed=verdict)
            chain = relaying(one)
            chain.received(UP, b"x")
            effects = chain.failed(1, error)
            self.assertEqual((written(effects, UP), one.calls[-1]), (passes, ("failed", error)))
            self.assertEqual(chain.finished, isinstance(verdict, Close))

    def test_failed_raises(self) -> None:
        """And if that raises too, its error counts."""
        chain = relaying(Forgiving(received=Await(Deferred()), failed=KeyError("no")))
        chain.received(UP, b"x")
        *_, finish = chain.failed(1, TimeoutError())
        self.assertEqual(finish, Finish("filter a raised KeyError", abort=True, filter="a"))

    def test_result_in_a_method(self) -> None:
        """A result that comes while a filter is being called is told after the verdict of that call."""
        chain: Chain

        def received(way: Direction, data: bytes) -> Verdict:
            return [Wake(1), Await(Deferred())]

        def woken(token: object) -> Verdict:
            self.assertEqual(self.come(chain), [])
            self.assertEqual((one.told("resumed"), one.told("failed")), (0, 0))
            return Forward(b"first ")

        then = [Forward(b"then"), b""]
        for self.come in (lambda chain: chain.settled(2, "yes"), lambda chain: chain.failed(2, KeyError())):
            one = Forgiving(received=received, woken=woken, resumed=then, failed=then)
            chain = relaying(one)
            chain.received(UP, b"ask")
            self.assertEqual(written(chain.due(1), UP), b"first then")

    def test_result_in_another_method(self) -> None:
        """So is one that another filter's method brings about."""
        chain: Chain
        far = Scripted(received=script(Await(Deferred())), resumed=Forward(b"result "))

        def received(way: Direction, data: bytes) -> Verdict:
            if data == b"second":
                self.assertEqual(chain.settled(1, None), [])
                self.assertEqual(far.told("resumed"), 0)
            return data

        chain = relaying(Scripted(received=received), far)
        chain.received(UP, b"first")
        self.assertEqual(written(chain.received(UP, b"second"), UP), b"result second")

    def test_too_long(self) -> None:
        """A factory that limits holding limits awaiting as well; then ``on_timeout`` decides."""
        for on_timeout in ("close", "pass"):
            one = Scripted(received=script(Await(Deferred())), resumed=b"late")
            chain = relaying(seat(one, hold_timeout=2.0, on_timeout=on_timeout))
            (arm,) = (effect for effect in chain.received(UP, b"x") if isinstance(effect, Arm))
            self.assertEqual(arm.seconds, 2.0)
            effects = chain.due(arm.key)
            if on_timeout == "close":
                why = "filter a waited for a result for 2s"
                self.assertEqual(effects[-1], Finish(why, abort=True, filter="a"))
            else:
                self.assertEqual(written(effects, UP), b"x")
            self.assertEqual(chain.settled(1, None), [])
            self.assertEqual(one.told("resumed"), 0)

    def test_in_time(self) -> None:
        """A result in time takes the limit back, and the next one has its own."""
        one = Scripted(received=script(Await(Deferred())), resumed=script([Await(Deferred()), DONE]))
        chain = relaying(seat(one, hold_timeout=2.0))
        first = [effect for effect in chain.received(UP, b"x") if isinstance(effect, Arm)]
        effects = chain.settled(1, None)
        self.assertIn(Disarm(first[0].key), effects)
        self.assertEqual(len([effect for effect in effects if isinstance(effect, Arm)]), 1)

    def test_alone(self) -> None:
        """The bytes are kept, reading stops, and the result's verdict is theirs."""
        waiting: Deferred[object] = Deferred()
        one = Scripted(received=script(Await(waiting)), resumed=None)
        chain = relaying(one)
        self.assertEqual(chain.received(UP, b"x"), [PauseReading(UP), Begin(1, waiting)])
        self.assertTrue(chain.watches(UP))
        self.assertEqual(chain.settled(1, "yes"), [ReadOn(UP), Write(UP, b"x")])
        self.assertEqual(one.calls[-1], ("resumed", "yes"))

    def test_one_close(self) -> None:
        """A filter that closes because of what was flushed when another one did adds no reply of its own."""
        near = Scripted(connected=[Forward(b"head")], received=Close("first", reply=b"bye"))
        far = Scripted(received=lambda way, _: Close("second", reply=b"no") if way is UP else None)
        chain = chain_of(near, far)
        chain.open()
        chain.received(UP, b"x")
        told = chain.connected(UPSTREAM)
        self.assertEqual(told, [Write(DOWN, b"bye"), Finish("first", filter="a")])

    def test_answers_meanwhile(self) -> None:
        """Answers of a filter behind wait as well; when they are many, who asks is not read until they go."""
        near = seat(Scripted(received=lambda way, _: Await(Deferred()) if way is DOWN else None), max_hold=4)
        chain = relaying(near, Scripted(received=lambda way, data: [Reply(data), b""] if way is UP else None))
        self.assertEqual(chain.received(DOWN, b"x")[0], PauseReading(DOWN))
        self.assertEqual(chain.received(UP, b"abcd"), [])
        self.assertEqual(chain.received(UP, b"e"), [PauseReading(UP)])
        self.assertEqual(chain.held(DOWN), 6)
        self.assertIn(ReadOn(UP), chain.settled(1, None))

    def test_verdicts(self) -> None:
        """Whatever is said of bytes can be said of them then."""
        for verdict, effects in (
            (b"y", [Write(UP, b"y")]),
            (NEED_MORE, []),
            (DONE, [Write(UP, b"x"), Unseen(UP)]),
            ([Forward(b"y"), None], [Write(UP, b"y"), Write(UP, b"x")]),
            (Reply(b"n"), [Write(DOWN, b"n")]),
            (Close("no", b"n"), [Write(DOWN, b"n"), Finish("no", filter="a")]),
        ):
            chain = relaying(Scripted(received=Await(Deferred()), resumed=verdict))
            chain.received(UP, b"x")
            self.assertEqual(chain.settled(1, None), [ReadOn(UP), *effects], verdict)

    def test_meanwhile(self) -> None:
        """What comes all the same waits before the filter; the other direction goes on."""
        one = Scripted(received=lambda _, data: Await(Deferred()) if data == b"a" else None)
        chain = relaying(one)
        chain.received(UP, b"a")
        self.assertEqual(chain.received(UP, b"b"), [])
        self.assertEqual(chain.ended(UP), [])
        self.assertEqual(chain.received(DOWN, b"c"), [Write(DOWN, b"c")])
        self.assertEqual(chain.held(UP), 2)
        self.assertEqual(chain.settled(1, 0), [Write(UP, b"a"), Write(UP, b"b"), SendEnd(UP)])
        self.assertEqual(one.seen(UP), [b"a", b"b"])

    def test_again(self) -> None:
        """A filter may wait again for each piece, and none overtakes another."""
        one = Scripted(received=lambda *_: Await(Deferred()))
        chain = relaying(one)
        for data in (b"a", b"b", b"c"):
            chain.received(UP, data)
        effects = [effect for key in (1, 2, 3) for effect in chain.settled(key, None)]
        self.assertEqual(written(effects, UP), b"abc")
        self.assertEqual(one.seen(), [b"a", b"b", b"c"])

    def test_twice(self) -> None:
        """Two awaits are two: the filter is called when both have come."""
        one = Scripted(received=script([NEED_MORE, Await(Deferred()), Await(Deferred())], None))
        one.answers["resumed"] = NEED_MORE
        chain = relaying(one)
        chain.received(UP, b"a")
        chain.received(UP, b"b")
        self.assertEqual(chain.settled(2, None), [])
        self.assertEqual(chain.settled(1, None), [ReadOn(UP), Write(UP, b"ab")])

    def test_held(self) -> None:
        """What is held is what is judged, too."""
        chain = relaying(Scripted(received=[NEED_MORE, Await(Deferred())], resumed=None))
        chain.received(UP, b"x")
        self.assertEqual(chain.settled(1, None), [ReadOn(UP), Write(UP, b"x")])

    def test_passed(self) -> None:
        """Bytes that were passed before are gone."""
        chain = relaying(Scripted(received=[None, Await(Deferred())], resumed=None))
        self.assertEqual(chain.received(UP, b"x")[0], Write(UP, b"x"))
        self.assertEqual(chain.settled(1, None), [ReadOn(UP)])

    def test_opened(self) -> None:
        """Who waits when opened, or connected, sees nothing of either side before."""
        for event in ("opened", "connected"):
            one = Scripted(**{event: Await(Deferred())}, resumed=[Forward(b"u"), Reply(b"c")])
            chain = chain_of(one)
            effects = chain.open() + chain.connected(UPSTREAM)
            self.assertEqual(
                [effect for effect in effects if isinstance(effect, PauseReading)],
                [PauseReading(UP), PauseReading(DOWN)],
            )
            self.assertEqual(chain.received(UP, b"1") + chain.received(DOWN, b"2"), [])
            effects = chain.settled(1, None)
            self.assertEqual(effects[:2], [ReadOn(UP), ReadOn(DOWN)])
            self.assertEqual((written(effects, UP), written(effects, DOWN)), (b"u1", b"c2"))

    def test_end(self) -> None:
        """From `ended` it holds up the end, and what was held."""
        chain = relaying(Scripted(received=NEED_MORE, ended=Await(Deferred()), resumed=None))
        chain.received(UP, b"x")
        self.assertIsInstance(chain.ended(UP)[-1], Begin)
        self.assertEqual(chain.settled(1, None), [Write(UP, b"x"), SendEnd(UP)])

    def test_end_keeps_nothing(self) -> None:
        """After it there is nothing more to wait for: what a filter wants to keep goes."""
        chain = relaying(Scripted(received=NEED_MORE, ended=Await(Deferred()), resumed=NEED_MORE))
        chain.received(UP, b"x")
        chain.ended(UP)
        self.assertEqual(chain.settled(1, None), [Write(UP, b"x"), SendEnd(UP)])

    def test_unknown(self) -> None:
        """A result that nobody waits for does nothing."""
        self.assertEqual(relaying(Scripted()).settled(17, None), [])


class EndTests(SynchronousTestCase):
    """Ends, which cannot be swallowed."""

    def test_through_the_chain(self) -> None:
        """Each filter is told in the order of the bytes, with what is held for it."""
        near, far = Scripted(received=NEED_MORE, ended=None), Scripted(received=NEED_MORE, ended=b"END")
        chain = relaying(near, far)
        chain.received(UP, b"x")
        self.assertEqual(chain.ended(UP), [Write(UP, b"END"), SendEnd(UP)])
        self.assertEqual(near.calls[-1], ("ended", UP, b"x"))
        self.assertEqual(far.calls[-2:], [("received", UP, b"x"), ("ended", UP, b"x")])

    def test_need_more(self) -> None:
        """There is no more: what a filter wants to keep goes on, or the rest of it."""
        for verdict, left in ((NEED_MORE, b"xy"), (NeedMore(100), b"xy"), (NeedMore(rest=b"y"), b"y")):
            chain = relaying(Scripted(received=NEED_MORE, ended=verdict))
            chain.received(UP, b"xy")
            self.assertEqual(chain.ended(UP), [Write(UP, left), SendEnd(UP)])

    def test_total_not_reached(self) -> None:
        """What came of a total is shown at the end."""
        one = Scripted(received=NeedMore(10))
        chain = relaying(one)
        chain.received(UP, b"a")
        chain.received(UP, b"b")
        self.assertEqual(chain.ended(UP), [Write(UP, b"ab"), SendEnd(UP)])
        self.assertEqual(one.calls[-1], ("ended", UP, b"ab"))

    def test_drop(self) -> None:
        """What is held may be dropped; the end goes on."""
        chain = relaying(Scripted(received=NEED_MORE, ended=DROP))
        chain.received(UP, b"x")
        self.assertEqual(chain.ended(UP), [SendEnd(UP)])

    def test_half_close(self) -> None:
        """The other direction goes on, and may be replied to."""
        one = Scripted(ended=script(Reply(b"bye")))
        chain = relaying(one)
        self.assertEqual(chain.ended(UP), [Write(DOWN, b"bye"), SendEnd(UP)])
        self.assertEqual(chain.received(DOWN, b"x"), [Write(DOWN, b"x")])
        self.assertEqual(chain.ended(DOWN), [SendEnd(DOWN)])

    def test_once(self) -> None:
        """An end that is told twice is one."""
        one = Scripted()
        chain = relaying(one)
        chain.ended(UP)
        self.assertEqual((chain.ended(UP), one.told("ended")), ([], 1))


class CloseTests(SynchronousTestCase):
    """The end of the session."""

    def test_close(self) -> None:
        """The reply goes to the side whose bytes were seen, what was written before is flushed."""
        one = Scripted(received=[b"last", Close("not SSH", b"SSH only\r\n"), b"never"])
        chain = relaying(one)
        self.assertEqual(
            chain.received(UP, b"x"),
            [Write(UP, b"last"), Write(DOWN, b"SSH only\r\n"), Finish("not SSH", filter="a")],
        )
        self.assertTrue(chain.finished)

    def test_abort(self) -> None:
        """An abort flushes nothing and replies nothing."""
        chain = relaying(Scripted(received=Close("no", b"bye", abort=True)))
        self.assertEqual(chain.received(UP, b"x"), [Finish("no", abort=True, filter="a")])

    def test_on_the_way(self) -> None:
        """What was on its way to a filter when another ended the session reaches nobody."""
        far = Scripted(received=Close("no", abort=True))
        chain = relaying(Scripted(received=[b"1", b"2"]), far)
        self.assertEqual(chain.received(UP, b"x"), [Finish("no", abort=True, filter="b")])
        self.assertEqual(far.seen(), [b"1"])

    def test_abort_with_delays(self) -> None:
        """What is delayed when it breaks off goes no more, in either direction."""
        latency = Scripted(received=lambda _, data: Delay(9, data))
        breaking = Scripted(received=lambda way, _: 1 / 0 if way is UP else None)
        chain = chain_of(latency, breaking, Scripted(opened=Wake(1), woken=Close("no")))
        chain.open()
        chain.connected(UPSTREAM)
        chain.received(UP, b"up")
        chain.received(DOWN, b"down")
        effects = chain.due(1)
        self.assertIsInstance(effects[0], Trouble)
        self.assertEqual(effects[1:], [Finish("filter b raised ZeroDivisionError", abort=True, filter="b")])

    def test_afterwards(self) -> None:
        """Nothing is returned and no filter is called any more, but for `closed`."""
        one, other = Scripted(received=[Wake(1), Await(Deferred()), Close("no")]), Scripted()
        chain = relaying(one, other)
        chain.received(UP, b"x")
        before = len(one.calls), len(other.calls)
        for effects in (
            chain.received(DOWN, b"x"), chain.ended(UP), chain.connected(None), chain.passed(UP, 1),
            chain.due(1), chain.settled(2, None), chain.dial_failed(ConnectRefused("no")),
        ):  # fmt: skip
            self.assertEqual(effects, [])
        self.assertEqual((len(one.calls), len(other.calls)), before)
        self.assertEqual((chain.watches(UP), chain.watches(DOWN)), (False, False))
        self.assertEqual(chain.closed(SUMMARY), [])
        self.assertEqual((one.calls[-1], other.calls[-1]), (("closed", SUMMARY), ("closed", SUMMARY)))

    def test_reply_passes_nearer_filters(self) -> None:
        """Filters nearer the client see the reply."""
        near = Scripted(received=lambda way, data: data.upper() if way is DOWN else None)
        chain = relaying(near, Scripted(received=Close("no", b"bye")))
        self.assertEqual(chain.received(UP, b"x"), [Write(DOWN, b"BYE"), Finish("no", filter="b")])

    def test_delays_are_cut_short(self) -> None:
        """What is delayed, the reply too, goes out at once, filter by filter."""
        latency = [Scripted(received=lambda _, data: Delay(9, data)) for _ in range(3)]
        chain = chain_of(*latency, Scripted(opened=Wake(1), woken=Close("no", b"bye")))
        chain.open()
        chain.connected(UPSTREAM)
        chain.received(UP, b"a")
        chain.received(DOWN, b"b")
        effects = chain.due(1)
        self.assertEqual((written(effects, UP), written(effects, DOWN)), (b"a", b"bbye"))
        self.assertEqual(effects[-1], Finish("no", filter="d"))

    def test_refused_once(self) -> None:
        """What is flushed to a filter behind the bytes that it refused is not shown, and goes nowhere."""
        latency = Scripted(received=lambda way, data: Delay(len(data), data) if way is UP else None)
        refusing = Scripted(received=lambda way, _: Close("no", b"bye") if way is UP else None)
        chain = relaying(latency, refusing)
        chain.received(UP, b"x")
        chain.received(UP, b"xyz")
        self.assertEqual(chain.due(1), [Write(DOWN, b"bye"), Finish("no", filter="b")])
        self.assertEqual(refusing.seen(), [b"x"])

    def test_no_end_before_it(self) -> None:
        """No end goes out before it: it could be the second, and the session over in order."""
        near = Scripted(received=lambda way, _: Close("no", b"bye") if way is DOWN else None)
        chain = relaying(near, Scripted(ended=lambda way, _: b"last" if way is DOWN else None))
        self.assertEqual(chain.ended(UP), [SendEnd(UP)])
        self.assertEqual(chain.ended(DOWN), [Finish("no", filter="a")])

    def test_held_is_not_passed(self) -> None:
        """What was held is undecided, and stays so."""
        chain = relaying(Scripted(received=script(NEED_MORE, Close("no"))))
        chain.received(UP, b"x")
        self.assertEqual(chain.received(UP, b"y"), [Finish("no", filter="a")])

    def test_first_counts(self) -> None:
        """Of two that close, the first gives the reason."""
        near = Scripted(received=lambda way, _: Close("near") if way is DOWN else None)
        chain = relaying(near, Scripted(received=Close("far", b"bye")))
        self.assertEqual(chain.received(UP, b"x"), [Finish("far", filter="b")])

    def test_abort_while_closing(self) -> None:
        """A filter that breaks while the session closes makes an abort of it, and nothing follows."""
        near = seat(Scripted(received=lambda way, data: Delay(1, data) if way is UP else 1 / 0))
        chain = relaying(near, Scripted(received=Close("far", b"bye")))
        chain.received(UP, b"x")
        effects = chain.due(1)
        self.assertIsInstance(effects[0], Trouble)
        self.assertEqual(effects[1:], [Finish("filter a raised ZeroDivisionError", abort=True, filter="a")])

    def test_opened(self) -> None:
        """A session may be refused when it is opened; filters behind are told of its close only."""
        one, other = Scripted(opened=[b"x", Close("full", b"try later")]), Scripted()
        chain = chain_of(Scripted(opened=b"early"), one, other)
        self.assertEqual(chain.open(), [Write(DOWN, b"try later"), Finish("full", filter="b")])
        chain.closed(SUMMARY)
        self.assertEqual(other.calls, [("closed", SUMMARY)])

    def test_connected(self) -> None:
        """Or when it is connected."""
        other = Scripted()
        chain = chain_of(Scripted(connected=Close("wrong one", b"bye")), other)
        chain.open()
        chain.received(UP, b"x")
        self.assertEqual(chain.connected(UPSTREAM), [Write(DOWN, b"bye"), Finish("wrong one", filter="a")])
        self.assertEqual((other.told("connected"), other.seen()), (0, []))

    def test_closed_once(self) -> None:
        """Every filter is told once that it is over, with the summary, whatever came before."""
        one = Scripted()
        chain = chain_of(one)
        chain.closed(SUMMARY)
        self.assertEqual(chain.closed(SUMMARY), [])
        self.assertEqual(one.calls, [("closed", SUMMARY)])
        self.assertEqual(chain.received(UP, b"x"), [])

    def test_closed_raises(self) -> None:
        """One that raises then is told of, and keeps the others from nothing."""
        error, other = ValueError("no"), Scripted()
        chain = relaying(Scripted(closed=error), other)
        self.assertEqual(chain.closed(SUMMARY), [Trouble("a", error)])
        self.assertEqual(other.told("closed"), 1)


class CopyAndAnnounceTests(SynchronousTestCase):
    """Verdicts that leave the bytes alone."""

    def test_copy(self) -> None:
        """A copy goes to its sink, and the bytes pass."""
        chain = relaying(Scripted(received=lambda _, data: Copy(SINK, data)))
        self.assertEqual(chain.received(UP, b"x"), [Store(SINK, b"x"), Write(UP, b"x")])

    def test_announce(self) -> None:
        """The connection is another client's, for the filters behind as well, and is judged anew."""
        real, place = InetAddress("203.0.113.9", 4000), InetAddress("203.0.113.10", 443)
        seen: list[object] = []
        connection = nobody()
        announcing = Scripted(received=[Announce(real, place, ((4, b"x"),)), Forward(b"rest"), DONE])
        behind = Scripted(received=lambda *_: seen.append((connection.source, connection.destination)))
        chain = chain_of(announcing, behind, connection=connection)
        chain.open()
        chain.connected(UPSTREAM)
        self.assertEqual(chain.received(UP, b"PROXY rest"), [Judge(real, place)])
        self.assertEqual(chain.judged()[0], Write(UP, b"rest"))
        self.assertEqual(seen, [(real, place)])
        self.assertEqual(connection.tags[PROXY_TLVS], ((4, b"x"),))
        self.assertEqual((connection.client, connection.local), (CLIENT, LOCAL))


class BehindTests(SynchronousTestCase):
    """Filters behind one that announces the client."""

    REAL = InetAddress("203.0.113.9", 4000)

    def chain(self, announcing: Any, *behind: Any, routes: bool = True, **options: Any) -> Chain:
        """A chain whose first filter announces; the factories behind it note when they build."""
        self.order: list[str] = []

        def build(connection: Connection, name: str, one: Any) -> Any:
            self.order.append(f"{name} {connection.source}")
            if isinstance(one, BaseException):
                raise one
            return one

        names = "abcd"
        first = Factory(partial(build, name="a", one=announcing), routes=routes, announces=True)
        later = [
            Factory(partial(build, name=name, one=one), **options)
            for name, one in zip(names[1:], behind, strict=False)
        ]
        chain = make_chain(list(zip(names, [first, *later], strict=False)), nobody())
        assert chain is not None
        return chain

    def asking(self, **answers: Any) -> Scripted:
        """A filter that notes whom it was opened for."""
        one = Scripted(**answers)
        one.answers["opened"] = lambda connection: self.order.append(f"opened for {connection.source}")
        return one

    def test_opened_behind(self) -> None:
        """They are built and opened when the client that was announced has been judged, and see the rest."""
        behind = self.asking(received=DONE)
        chain = self.chain(Scripted(received=[Announce(self.REAL), Forward(b"rest"), DONE]), behind)
        chain.open()
        self.assertEqual(chain.received(UP, b"header rest")[-1], Judge(self.REAL, None))
        self.assertEqual(self.order, [f"a {CLIENT}"])
        effects = chain.judged()
        self.assertEqual(self.order[1:], [f"b {self.REAL}", f"opened for {self.REAL}"])
        self.assertEqual(behind.seen(), [], "it is behind the last one that routes")
        self.assertIn(StartDial(), effects)
        self.assertEqual(written(chain.connected(UPSTREAM), UP), b"rest")
        self.assertEqual(behind.seen(), [b"rest"])

    def test_denied(self) -> None:
        """A client that is denied reaches none of them."""
        behind = self.asking()
        chain = self.chain(Scripted(received=[Announce(self.REAL), DONE]), behind)
        chain.open()
        chain.received(UP, b"header")
        chain.closed(SUMMARY)
        self.assertEqual((self.order, behind.calls), ([f"a {CLIENT}"], []))

    def test_not_announced(self) -> None:
        """Where nobody is announced they are opened when something passes, or the filter is done."""
        for verdict in ([Forward(b"x"), DONE], DONE, None):
            behind = self.asking(received=NEED_MORE)
            chain = self.chain(Scripted(received=verdict), behind, routes=True)
            chain.open()
            chain.received(UP, b"x")
            self.assertEqual(self.order[1:], [f"b {CLIENT}", f"opened for {CLIENT}"], verdict)
            chain.received(UP, b"y")
            self.assertTrue(chain.held(UP), verdict)

    def test_stays_out(self) -> None:
        """A factory that stays out of this connection announces nobody."""
        behind = self.asking()
        chain = self.chain(None, behind)
        chain.open()
        self.assertEqual(self.order[1:], [f"b {CLIENT}", f"opened for {CLIENT}"])

    def test_routes_behind(self) -> None:
        """One behind it that routes holds the dial, and decides."""
        behind = Factory(lambda connection: Scripted(received=[Route("there"), DONE]), routes=True)
        first = Factory(lambda connection: Scripted(received=[Announce(self.REAL), b"rest"]), announces=True)
        chain = make_chain([("a", first), ("b", behind)], nobody())
        assert chain is not None
        chain.open()
        self.assertEqual(chain.received(UP, b"x")[-1], Judge(self.REAL, None))
        self.assertIn(StartDial("there"), chain.judged())

    def test_opened(self) -> None:
        """A filter may announce as soon as it is opened."""
        behind = self.asking()
        chain = self.chain(Scripted(opened=Announce(self.REAL)), behind, routes=False)
        self.assertEqual(chain.open()[-1], Judge(self.REAL, None))
        self.assertEqual(chain.judged(), [StartDial()])
        self.assertEqual(self.order[1:], [f"b {self.REAL}", f"opened for {self.REAL}"])

    def test_fails_to_build(self) -> None:
        """One that cannot be built ends the session, or is left out."""
        for on_error, finished in (("close", True), ("bypass", False)):
            announcing = Scripted(received=[Announce(self.REAL), b"rest", DONE])
            chain = self.chain(announcing, KeyError("no"), on_error=on_error)
            chain.open()
            chain.received(UP, b"x")
            effects = chain.judged()
            self.assertIsInstance(effects[0], Trouble)
            self.assertEqual(chain.finished, finished)
            if not finished:
                self.assertEqual(written(chain.connected(UPSTREAM), UP), b"rest")

    def test_in_time(self) -> None:
        """A filter that does not announce in time lets the rest go on, if it says so."""
        behind = self.asking()
        announcing = Scripted(received=NEED_MORE)
        made = Factory(lambda connection: announcing, announces=True, on_timeout="pass")
        later = Factory(lambda connection: behind)
        chain = make_chain([("a", made), ("b", later)], nobody())
        assert chain is not None
        self.order = []
        chain.open()
        chain.received(UP, b"x")
        self.assertIn(StartDial(), chain.due(1))
        self.assertEqual(self.order, [f"opened for {CLIENT}"])
        self.assertEqual(written(chain.connected(UPSTREAM), UP), b"x")

    def test_several(self) -> None:
        """Each filter that announces holds back those behind it."""
        other = InetAddress("203.0.113.7", 1)
        second = Factory(lambda connection: Scripted(received=[Announce(other), b"z", DONE]), announces=True)
        last = self.asking()
        self.order = []
        first = Factory(
            lambda connection: Scripted(received=[Announce(self.REAL), b"y", DONE]), announces=True
        )
        clauses = [("a", first), ("b", second), ("c", Factory(lambda connection: last))]
        chain = make_chain(clauses, nobody())
        assert chain is not None
        chain.open()
        self.assertEqual(chain.received(UP, b"x")[-1], Judge(self.REAL, None))
        self.assertEqual(chain.judged()[-1], Judge(other, None))
        self.assertIn(StartDial(), chain.judged())
        self.assertEqual(self.order, [f"opened for {other}"])
        self.assertEqual(written(chain.connected(UPSTREAM), UP), b"z")


class FailureTests(SynchronousTestCase):
    """Filters that raise."""

    def failed(self, effects: list[Effect], error: type[Exception], name: str = "a") -> None:
        """`effects` end with the trouble of `name`, and an abort that does not quote it."""
        trouble, finish = effects[-2:]
        assert isinstance(trouble, Trouble)
        assert isinstance(finish, Finish)
        self.assertEqual(trouble.filter, name)
        self.assertIsInstance(trouble.error, error)
        detail = f"filter {name} raised {error.__name__}"
        self.assertEqual(finish, Finish(detail, abort=True, filter=name))

    def test_every_method(self) -> None:
        """Whichever method it is, that session is aborted."""
        error = KeyError("secret")
        chain = chain_of(Scripted(opened=error))
        self.failed(chain.open(), KeyError)
        chain = chain_of(Scripted(connected=error))
        chain.open()
        self.failed(chain.connected(None), KeyError)
        chain = chain_of(Scripted(dial_failed=error))
        chain.open()
        self.failed(chain.dial_failed(ConnectRefused("no")), KeyError)
        self.failed(relaying(Scripted(received=error)).received(DOWN, b"x"), KeyError)
        self.failed(relaying(Scripted(ended=error)).ended(UP), KeyError)
        chain = relaying(Scripted(received=Wake(1), woken=error))
        chain.received(UP, b"x")
        self.failed(chain.due(1), KeyError)
        chain = relaying(Scripted(received=Await(Deferred()), resumed=error))
        chain.received(UP, b"x")
        self.failed(chain.settled(1, None), KeyError)

    def test_whatever_leaves_it(self) -> None:
        """Nothing that a filter raises leaves the chain, a wish to end the process neither."""
        for error in (SystemExit(), KeyboardInterrupt(), CancelledError(), GeneratorExit()):
            for event in ("opened", "received", "ended", "connected", "dial_failed"):
                chain = chain_of(Scripted(**{event: error}))
                effects = chain.open()
                if event == "dial_failed":
                    effects += chain.dial_failed(ConnectRefused("no"))
                else:
                    effects += chain.connected(None) + chain.received(UP, b"x") + chain.ended(UP)
                self.failed(effects[-2:], type(error))
            chain = relaying(Scripted(closed=error))
            self.assertEqual(chain.closed(SUMMARY), [Trouble("a", error)])

            def build(connection: object, error: BaseException = error) -> None:
                raise error

            made = make_chain([("a", Factory(build))], nobody())
            assert made is not None
            self.failed(made.open()[-2:], type(error))

    def test_which_method(self) -> None:
        """The trouble names the method, also of a verdict that is none; a wrong factory is that of build."""
        for event, verdict in (
            ("received", "text"),
            ("received", KeyError()),
            ("opened", 17),
            ("ended", Delay(-1)),
        ):
            chain = chain_of(Scripted(**{event: verdict}))
            effects = [*chain.open(), *chain.connected(None), *chain.received(UP, b"x"), *chain.ended(UP)]
            (trouble,) = (one for one in effects if isinstance(one, Trouble))
            self.assertEqual(trouble.method, event)
        wrong = Factory(lambda connection: Scripted(), directions=UP)  # type: ignore[arg-type]
        made = make_chain([("a", wrong)], nobody())
        assert made is not None
        trouble, _ = made.open()
        assert isinstance(trouble, Trouble)
        self.assertEqual((trouble.method, type(trouble.error)), ("build", TypeError))

    def test_missing_method(self) -> None:
        """A filter may be anybody's class: what it lacks is its own error."""
        one: Any = object()
        chain = Chain([Stage("a", Factory(lambda connection: one), one, nobody())], nobody())
        self.failed(chain.open(), AttributeError)
        (trouble,) = chain.closed(SUMMARY)
        self.assertIsInstance(trouble, Trouble)

    def test_no_verdict(self) -> None:
        """What is no verdict is such an error, and nothing of its list has an effect."""
        for verdict in ("text", [b"x", 17], Delay(-1), [Close("x"), Forward(None)]):  # type: ignore[arg-type]
            effects = relaying(Scripted(received=verdict)).received(UP, b"y")
            self.assertEqual(len(effects), 2, verdict)
            trouble, finish = effects
            assert isinstance(trouble, Trouble)
            assert isinstance(finish, Finish)
            self.assertIsInstance(trouble.error, ValueError if isinstance(verdict, Delay) else TypeError)
            text = f"filter a returned a wrong verdict from received: {trouble.error}"
            self.assertEqual(finish, Finish(text, abort=True, filter="a"))

    def test_what_was_written_stands(self) -> None:
        """What other filters passed before is written; nothing comes behind the end."""
        far = Scripted(received=script(None, ValueError("no")))
        effects = relaying(Scripted(received=[b"a", b"b", b"c"]), far).received(UP, b"x")
        self.assertEqual(effects[0], Write(UP, b"a"))
        self.failed(effects, ValueError, "b")

    def bypassing(self, **answers: Any) -> tuple[Chain, Scripted]:
        """A chain of one filter that may be left out."""
        one = Scripted(**answers)
        return relaying(seat(one, on_error="bypass")), one

    def test_bypass(self) -> None:
        """A filter that altered nothing is left out: held bytes pass, and it is called no more."""
        chain, one = self.bypassing(received=script(NEED_MORE, ValueError("no")))
        one.answers["received"] = lambda *_: NEED_MORE if len(one.seen()) < 2 else 1 / 0
        chain.received(UP, b"a")
        effects = chain.received(UP, b"b")
        self.assertIsInstance(effects[0], Trouble)
        self.assertEqual(effects[1:], [Write(UP, b"ab"), Unseen(UP), Unseen(DOWN)])
        self.assertEqual(chain.received(DOWN, b"c"), [Write(DOWN, b"c")])
        self.assertEqual(chain.ended(UP), [SendEnd(UP)])
        self.assertEqual((len(one.seen()), one.told("ended")), (2, 0))
        chain.closed(SUMMARY)
        self.assertEqual(one.told("closed"), 1)

    def test_bypass_of_altered(self) -> None:
        """One that did alter something cannot be taken out of the middle of a stream."""
        chain, one = self.bypassing(received=b"y")
        chain.received(UP, b"x")
        one.answers["received"] = ValueError("no")
        self.failed(chain.received(UP, b"x"), ValueError)

    def test_bypass_harmless(self) -> None:
        """Looking, holding, copying and waking is not altering."""
        for verdict in (None, NEED_MORE, Bypass(0), Wake(1), Copy(SINK, b"x"), Await(Deferred())):
            chain, one = self.bypassing(received=verdict)
            effects = chain.received(UP, b"x")
            one.answers["ended"] = one.answers["resumed"] = ValueError("no")
            effects += chain.ended(UP) + chain.settled(1, None)
            self.assertEqual((written(effects, UP), effects.count(SendEnd(UP))), (b"x", 1), verdict)

    def test_bypass_from_the_other_direction(self) -> None:
        """What is held, awaited and waiting in the direction that did not fail goes on as well, in order."""
        chain, one = self.bypassing(received=script(Await(Deferred())))
        chain.received(UP, b"a")
        chain.received(UP, b"b")
        chain.ended(UP)
        one.answers["received"] = ValueError("no")
        effects = chain.received(DOWN, b"c")
        self.assertEqual((written(effects, UP), written(effects, DOWN)), (b"ab", b"c"))
        self.assertEqual(effects.count(SendEnd(UP)), 1)
        self.assertEqual(chain.settled(1, None), [])

    def test_bypass_of_opened(self) -> None:
        """One that fails when it is opened is never called again, not even to be woken."""
        one = Scripted(opened=script(Wake(1)), connected=ValueError("no"))
        chain = chain_of(seat(one, on_error="bypass"), Scripted())
        chain.open()
        chain.received(UP, b"a")
        effects = chain.connected(UPSTREAM)
        self.assertEqual(written(effects, UP), b"a")
        self.assertEqual(chain.due(1), [])
        self.assertEqual([call[0] for call in one.calls], ["opened", "connected"])


class MakeChainTests(SynchronousTestCase):
    """Chains out of factories."""

    def test_made(self) -> None:
        """Each factory builds its filter for the connection."""
        connection, one = nobody(), Scripted()
        made: list[object] = []

        def build(connection: object) -> Filter:
            made.append(connection)
            return one

        chain = make_chain([("x", Factory(build))], connection)
        assert chain is not None
        self.assertEqual(made, [connection])
        self.assertEqual(chain.open(), [StartDial()])
        self.assertEqual(one.calls, [("opened", connection)])

    def test_staying_out(self) -> None:
        """A factory may stay out of it; if all do, there is no chain."""
        none = Factory(lambda connection: None)
        self.assertIs(make_chain([("x", none), ("y", none)], nobody()), None)
        self.assertIs(make_chain([], nobody()), None)
        chain = make_chain([("x", none), ("y", Factory(lambda connection: Scripted()))], nobody())
        self.assertIn("<Chain of y:", repr(chain))

    def test_raising(self) -> None:
        """One that raises ends the session when it opens; filters that were built are told of its close."""
        one, never = Scripted(), Scripted()
        error = ValueError("no")

        def build(connection: object) -> None:
            raise error

        clauses = [
            ("a", Factory(lambda connection: one)),
            ("b", Factory(build)),
            ("c", Factory(lambda connection: never)),
        ]
        chain = make_chain(clauses, nobody())
        assert chain is not None
        self.assertEqual(
            chain.open(),
            [Trouble("b", error), Finish("filter b raised ValueError", abort=True, filter="b")],
        )
        self.assertEqual(chain.received(UP, b"x"), [])
        chain.closed(SUMMARY)
        self.assertEqual((one.calls, never.calls), ([("closed", SUMMARY)], []))

    def test_raising_and_bypassed(self) -> None:
        """Or it is left out, if its factory says so."""
        error = ValueError("no")

        def build(connection: object) -> None:
            raise error

        chain = make_chain([("b", Factory(build, on_error="bypass"))], nobody())
        assert chain is not None
        self.assertEqual(chain.open(), [Trouble("b", error), StartDial()])
        self.assertEqual(chain.connected(None), [Unseen(UP), Unseen(DOWN)])

    def test_datagrams(self) -> None:
        """It may be a chain for datagrams."""
        chain = make_chain([("a", Factory(lambda connection: Scripted()))], nobody(), datagrams=True)
        assert chain is not None
        chain.open()
        chain.connected(None)
        self.assertEqual(chain.received(UP, b""), [Write(UP, b"")])


class DatagramTests(SynchronousTestCase):
    """Chains of datagrams."""

    def test_empty(self) -> None:
        """An empty datagram is one, wherever it comes from."""
        for verdict in (None, b"", Forward(b""), Delay(0, b""), [Forward(b""), DONE]):
            chain = relaying(Scripted(received=verdict), datagrams=True)
            self.assertEqual(chain.received(UP, b"")[:1], [Write(UP, b"")], verdict)
        self.assertEqual(
            relaying(Scripted(received=Reply(b"")), datagrams=True).received(UP, b"x"), [Write(DOWN, b"")]
        )

    def test_drop(self) -> None:
        """DROP forgets one."""
        chain = relaying(Scripted(received=script(DROP, None)), datagrams=True)
        self.assertEqual(chain.received(UP, b"x"), [])
        self.assertEqual(chain.received(UP, b"y"), [Write(UP, b"y")])
        self.assertEqual([stage.dropped for stage in chain.stages], [1])

    def test_drop_for_now(self) -> None:
        """One that is to come later is not counted as dropped."""
        chain = relaying(Scripted(received=[DROP, Wake(1)]), datagrams=True)
        chain.received(UP, b"x")
        self.assertEqual([stage.dropped for stage in chain.stages], [0])

    def test_several(self) -> None:
        """Each is judged for itself, and a list makes several of one."""
        one = Scripted(received=lambda _, data: [data, data])
        chain = relaying(one, datagrams=True)
        self.assertEqual(chain.received(UP, b"x"), [Write(UP, b"x"), Write(UP, b"x")])

    def test_nothing_held(self) -> None:
        """Who asks for more is wrong."""
        effects = relaying(Scripted(received=NEED_MORE), datagrams=True).received(UP, b"x")
        self.assertIsInstance(effects[0], Trouble)
        self.assertIsInstance(effects[1], Finish)

    def test_done(self) -> None:
        """Who is done need not be shown more."""
        chain = relaying(Scripted(received=DONE), datagrams=True)
        self.assertEqual(chain.received(UP, b"x"), [Write(UP, b"x"), Unseen(UP)])

    def test_no_end(self) -> None:
        """Nothing ends."""
        one = Scripted()
        self.assertEqual(relaying(one, datagrams=True).ended(UP), [])
        self.assertEqual(one.told("ended"), 0)

    def test_delay(self) -> None:
        """They may go later, an empty one too, in order."""
        chain = relaying(Scripted(received=lambda _, data: Delay(1, data)), datagrams=True)
        chain.received(UP, b"")
        chain.received(UP, b"x")
        self.assertEqual(chain.due(2), [])
        self.assertEqual(chain.due(1), [Write(UP, b""), Write(UP, b"x")])

    def test_await(self) -> None:
        """One may wait for a result, an empty one too, and others behind it."""
        chain = relaying(Scripted(received=script(Await(Deferred()))), datagrams=True)
        chain.received(UP, b"")
        chain.received(UP, b"x")
        self.assertEqual(chain.settled(1, None), [ReadOn(UP), Write(UP, b""), Write(UP, b"x")])

    def test_bounded(self) -> None:
        """Too many that wait are dropped and counted: before a filter, behind it, before the dial."""
        before = relaying(Scripted(received=script(Await(Deferred()))), datagrams=True)
        behind = relaying(Scripted(received=lambda *_: Delay(1, b"")), datagrams=True)
        dialling, gate = chain_of(datagrams=True), chain_of(Scripted(), datagrams=True)
        for chain in (before, behind, dialling, gate):
            chain.open()
            for _ in range(MAX_DATAGRAMS + 11):
                chain.received(UP, b"")
            self.assertIn(chain.dropped, (10, 11))
        self.assertEqual(len(dialling.connected(None)), MAX_DATAGRAMS + len(Direction))
