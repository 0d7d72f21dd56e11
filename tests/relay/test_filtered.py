"""
Sessions with filters, each as a short conversation: what the chain asks for is done, what happens is told.

Streams are of memory and time is a `Clock`, as in `tests.relay.test_session`. Filters do what a test says.
"""

from __future__ import annotations

from asyncio import CancelledError
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import Logger, LogLevel, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from portfwd.errors import ConnectRefused, NameNotResolved, NotPermitted
from portfwd.filters import (
    DONE,
    NEED_MORE,
    TO_CLIENT,
    TO_UPSTREAM,
    Announce,
    Await,
    Bypass,
    Close,
    Copy,
    Delay,
    End,
    Factory,
    Forward,
    Reply,
    Route,
    Sink,
    Wake,
)
from portfwd.relay.destination import Destination
from portfwd.relay.filtered import FilteredSession, FilterLog
from portfwd.relay.live import LiveRule
from portfwd.relay.session import Session
from portfwd.relay.states import State
from portfwd.rules.model import AclEntry, Kind, OnDeny, PortRange, TargetSpec
from portfwd.streams.stream import Loss
from portfwd.values import CloseReason, InetAddress, SessionSummary, Side, UnixAddress
from tests.events import EventsOf
from tests.filters.scripted import Scripted, script
from tests.relay.fakes import (
    CLIENT,
    UPSTREAM,
    FakeDial,
    FakeStream,
    Fault,
    SessionLines,
    a_live_rule,
    changed,
    dialled_by,
)

UP, DOWN = TO_UPSTREAM, TO_CLIENT
SINK = Sink("file", "/tmp/copy", 1024)
OTHER = InetAddress("203.0.113.9", 443)


class FakeSinks:
    """Sinks that note what they are told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def store(self, session: int, sink: Sink, data: bytes, **way: object) -> None:
        self.told.append((session, sink, data))

    def closed(self, session: int) -> None:
        self.told.append((session, "closed"))


class FilteredCase(SynchronousTestCase):
    """A session with filters."""

    def setUp(self) -> None:
        """Time, a log, sinks, and dials that the test answers."""
        self.clock = Clock()
        self.clock.advance(100.0)
        self.lines = SessionLines()
        self.sinks = FakeSinks()
        self.dials: list[FakeDial] = []
        self.closed_calls = 0
        #: An upstream that is there as soon as it is dialled.
        self.at_once: FakeStream | None = None

        def make_dial(*arguments: Any, **named: Any) -> FakeDial:
            dial = FakeDial(*arguments, **named)
            self.dials.append(dial)
            upstream = self.at_once
            if upstream is not None:
                dial.start = lambda: dial.succeeds(upstream)  # type: ignore[method-assign]
            return dial

        self.patch(LiveRule, "dial", make_dial)

    def accept(
        self, *filters: Any, access: tuple[AclEntry, ...] = (), factory: dict[str, Any] | None = None,
        client: FakeStream | None = None, **options: Any,
    ) -> Session:  # fmt: skip
        """
        A client of a rule with these filters, whose names are the letters from a on.

        :param factory: what the factory of each of them says.
        """
        self.filters = filters
        clauses = [
            (name, Factory(lambda connection, one=one: one, **(factory or {})))
            for name, one in zip("abcd", filters, strict=False)
        ]
        self.rule = a_live_rule(
            self.clock, self.lines, changed(None, **options), access, clauses, sinks=self.sinks
        )
        self.client = client or FakeStream(self.clock)

        def closed() -> None:
            self.closed_calls += 1

        return self.rule.accept(self.client, closed)

    def connect(self) -> None:
        """The upstream is there."""
        self.upstream = FakeStream(self.clock, UPSTREAM)
        self.dials[-1].succeeds(self.upstream)

    def relaying(self, *filters: Any, **options: Any) -> Session:
        """A session that relays."""
        session = self.accept(*filters, **options)
        self.connect()
        self.assertIs(session.state, State.RELAYING)
        return session

    def assertClosed(self, reason: CloseReason, first: Side | None = None) -> None:
        """One closing line, every filter told once, and nothing left behind."""
        self.assertEqual(self.lines.reasons, [reason])
        self.assertIs(self.lines.last.ended_first, first)
        self.assertEqual(self.closed_calls, 1)
        self.assertEqual(self.rule.sessions, {})
        self.assertEqual(self.clock.getDelayedCalls(), [])
        for one in self.filters:
            self.assertEqual(one.told("closed"), 1)
            self.assertEqual(one.calls[-1][0], "closed")
        self.assertEqual(self.sinks.told[-1], (1, "closed"))
        self.assertEqual(self.client.asked_too_late, [])

    def both_end(self) -> None:
        """The client ends, then the upstream."""
        self.client.ends()
        self.upstream.ends()


class ByteTests(FilteredCase):
    """Bytes, and what verdicts make of them."""

    def test_both_ways(self) -> None:
        """Filters see both sides' bytes; what they pass is written to the other side."""
        self.relaying(Scripted(received=lambda _, data: data.upper()))
        self.client.says(b"ping")
        self.upstream.says(b"pong")
        self.assertEqual((self.upstream.written, self.client.written), (b"PING", b"PONG"))
        self.both_end()
        self.assertClosed(CloseReason.NORMAL, Side.CLIENT)

    def test_replies(self) -> None:
        """A reply goes back to the side whose bytes were seen."""
        self.relaying(Scripted(received=lambda _, data: [Reply(b"no "), data]))
        self.client.says(b"ping")
        self.upstream.says(b"pong")
        self.assertEqual((self.upstream.written, self.client.written), (b"pingno ", b"no pong"))

    def test_nobody_wants_to_see(self) -> None:
        """Where every factory stays out of it, the session is a plain one."""
        session = self.accept(None)
        self.filters = ()
        self.connect()
        self.assertIsInstance(session, FilteredSession)
        self.assertEqual(self.client.calls, ["own", "join", "start"])
        self.assertEqual(self.upstream.calls, ["own", "join", "start"])
        self.both_end()
        self.assertEqual((self.lines.reasons, self.sinks.told), ([CloseReason.NORMAL], []))

    def test_plain_failure(self) -> None:
        """So it is where its dial fails."""
        self.accept(None)
        self.dials[0].fails(ConnectRefused("refused"))
        self.assertEqual(self.lines.reasons, [CloseReason.CONNECT_REFUSED])

    def test_early_bytes(self) -> None:
        """What a client says before the dial is seen then, and written when there is an upstream."""
        self.accept(Scripted(received=None, connected=Forward(b"PROXY ")), factory={"routes": True})
        self.assertEqual((self.client.calls, self.dials), (["own", "watch", "start"], []))
        self.filters[0].answers["received"] = [Route(None), None]
        self.client.says(b"hello")
        self.connect()
        self.assertEqual(self.upstream.written, b"helloPROXY ")

    def test_a_word_first(self) -> None:
        """What a filter says when it is connected comes before what the upstream says."""
        self.accept(Scripted(connected=[Forward(b"header "), Reply(b"ready ")]))
        self.connect()
        self.assertEqual(self.upstream.calls, ["watch", "hold", "own", "join", "start", "go on"])
        self.client.says(b"x")
        self.upstream.says(b"y")
        self.assertEqual((self.upstream.written, self.client.written), (b"header x", b"ready y"))

    def test_dialled_at_once(self) -> None:
        """An upstream that is there before the dial is begun changes nothing of the order."""
        self.upstream = self.at_once = FakeStream(self.clock, UPSTREAM)
        self.accept(
            Scripted(connected=Forward(b"header "), received=[Route(), None]), factory={"routes": True}
        )
        self.client.says(b"one ")
        self.filters[0].answers["received"] = None
        self.client.says(b"two")
        self.assertEqual(self.upstream.written, b"one header two")
        self.assertFalse(self.upstream.on_hold)

    def test_connection(self) -> None:
        """Filters know who connected, where, and after the dial to whom."""
        session = self.accept(Scripted())
        (_, connection), *_ = self.filters[0].calls
        self.assertEqual((connection.id, connection.rule, connection.network), (1, "web", "tcp"))
        self.assertEqual((connection.client, connection.local), (CLIENT, self.client.local))
        self.connect()
        self.assertEqual(connection.upstream, UPSTREAM)
        session.kill(CloseReason.KILLED)
        self.accept(Scripted(), client=FakeStream(self.clock, UnixAddress("@peer")))
        self.assertEqual(self.filters[0].calls[0][1].network, "unix")

    def test_log(self) -> None:
        """A filter's events name the rule and the session, whatever its own values are called."""
        told: list[dict[str, Any]] = []
        log = FilterLog(Logger(observer=told.append), "web", 7)  # type: ignore[arg-type]
        log.info("saw {rule}", rule="mine", session="mine")
        log.warn("saw {count}", count=3)
        self.assertEqual(
            [(event["log_level"].name, formatEvent(event)) for event in told],
            [("info", "web: session 7: saw mine"), ("warn", "web: session 7: saw 3")],
        )

    def test_log_of_what_clients_say(self) -> None:
        """Texts that could forge a line or move a terminal's cursor are escaped; what was is not again."""
        told: list[dict[str, Any]] = []
        log = FilterLog(Logger(observer=told.append), "web", 7)  # type: ignore[arg-type]
        log.info("{name} {escaped}", name="a\r\n\x1b[2J", escaped="\\x0a")
        self.assertEqual(formatEvent(told[0]), "web: session 7: a\\x0d\\x0a\\x1b[2J \\x0a")

    def test_copies(self) -> None:
        """Copies go to the sinks, which hear of the end of the session, once."""
        self.relaying(Scripted(received=lambda _, data: [Copy(SINK, data), None]))
        self.client.says(b"x")
        self.both_end()
        self.assertEqual(self.sinks.told, [(1, SINK, b"x"), (1, "closed")])


class UnseenTests(FilteredCase):
    """Directions that nobody looks at."""

    def test_done(self) -> None:
        """A direction that every filter is done with is the streams' own, and so is its end."""
        self.relaying(Scripted(received=DONE))
        self.assertNotIn("pass on all", self.client.calls)
        self.client.says(b"x")
        self.assertEqual(self.client.calls[-1], "pass on all")
        self.client.says(b"unseen")
        self.assertEqual(self.filters[0].seen(), [b"x"])
        self.client.ends()
        self.assertEqual((self.upstream.calls[-1], self.filters[0].told("ended")), ("end", 0))
        self.upstream.ends()
        self.assertEqual(self.filters[0].told("ended"), 1)
        self.assertClosed(CloseReason.NORMAL, Side.CLIENT)

    def test_done_from_the_start(self) -> None:
        """A direction that no factory names is passed on when the upstream is there."""
        self.relaying(Scripted(), factory={"directions": frozenset({UP})})
        self.assertIn("pass on all", self.upstream.calls)
        self.assertNotIn("pass on all", self.client.calls)

    def test_counted(self) -> None:
        """So many bytes pass unseen, then all are seen again."""
        self.relaying(Scripted(received=script(Bypass(5))))
        self.client.says(b"head")
        self.assertEqual(self.client.calls[-1], "pass on 5")
        self.client.says(b"12")
        self.client.says(b"345next")
        self.client.says(b"more")
        self.assertEqual(self.filters[0].seen(), [b"head", b"next", b"more"])

    def test_end_in_a_count(self) -> None:
        """An end before the count is full is told, behind what passed."""
        self.relaying(Scripted(received=script(Bypass(5))))
        self.client.says(b"head")
        self.client.says(b"12")
        self.client.ends()
        self.assertEqual(self.filters[0].calls[-1], ("ended", UP, b""))
        self.assertEqual((self.client.moved, self.upstream.calls[-1]), (0, "end"))

    def test_another_count(self) -> None:
        """A new count begins where it is made: what passed before belongs to the former one."""
        self.relaying(Scripted(received=script([Bypass(1000), Wake(1)]), woken=Bypass(50)))
        self.client.says(b"head")
        self.client.says(b"x" * 20)
        self.clock.advance(1)
        self.assertEqual(self.client.calls[-2:], ["pass on 980", "pass on 50"])
        self.client.says(b"y" * 50 + b"seen")
        self.assertEqual(self.filters[0].seen()[-1], b"seen")

    def test_delay_in_a_count(self) -> None:
        """Later bytes do not overtake what is delayed, though some or all of them pass unseen."""
        for first in (Bypass(1000), DONE):
            self.setUp()
            self.relaying(Scripted(received=script([first, Wake(1)]), woken=Delay(2, b"late")))
            self.client.says(b"head")
            self.client.says(b"x" * 20)
            self.clock.advance(1)
            self.client.says(b"behind")
            self.assertEqual(self.upstream.written, b"head")
            self.clock.advance(2)
            self.assertEqual(self.upstream.written, b"headlatebehind")
            self.assertIn(self.client.calls[-1], ("pass on 974", "pass on all"))
            self.client.ends()
            self.assertEqual(self.upstream.calls[-1], "end")

    def test_settled_first(self) -> None:
        """Whatever the chain is told, it hears of what has passed unseen before it."""
        self.relaying(Scripted(received=lambda way, data: Bypass(1000) if way is UP else None))
        self.client.says(b"head")
        self.client.says(b"x" * 20)
        self.upstream.says(b"answer")
        self.assertEqual(self.client.calls[-1], "pass on 980")

    def test_done_in_a_count(self) -> None:
        """A filter that is done with a direction in the middle of a count lets all of it pass."""
        self.relaying(Scripted(received=script([Bypass(1000), Wake(1)]), woken=DONE))
        self.client.says(b"head")
        self.client.says(b"x" * 20)
        self.clock.advance(1)
        self.assertEqual(self.client.calls[-1], "pass on all")
        self.client.ends()
        self.assertEqual(self.filters[0].told("ended"), 0)

    def test_a_word_behind_the_unseen(self) -> None:
        """A filter may still speak in a direction that it is done with, but not behind its end."""
        self.relaying(Scripted(received=script([DONE, Wake(1), Wake(2)]), woken=Forward(b"word")))
        self.client.says(b"x")
        self.clock.advance(1)
        self.assertEqual(self.upstream.written, b"xword")
        self.client.ends()
        self.clock.advance(1)
        self.assertEqual((self.upstream.written, self.upstream.asked_too_late), (b"xword", []))

    def test_offered_too_late(self) -> None:
        """What may pass of a side that has ended, or is lost, does not matter any more."""
        self.relaying(Scripted(received=script([None, Wake(1)]), woken=DONE))
        self.client.says(b"x")
        self.client.ends()
        self.clock.advance(1)
        self.assertNotIn("pass on all", self.client.calls)


class TimeTests(FilteredCase):
    """Timers and results."""

    def test_wake(self) -> None:
        """A filter is woken when it asked to be, with its token."""
        self.relaying(Scripted(opened=Wake(5, "token"), woken=lambda token: Forward(token.encode())))
        self.clock.advance(4.9)
        self.assertEqual(self.upstream.written, b"")
        self.clock.advance(0.2)
        self.assertEqual(self.upstream.written, b"token")

    def test_woken_from_outside(self) -> None:
        """A filter is woken in a turn of its own by whoever has its connection; not when it is over."""
        self.relaying(Scripted(woken=lambda token: Forward(token)))
        connection = self.filters[0].calls[0][1]
        connection.wake(b"one ")
        connection.wake(b"two")
        self.assertEqual(self.upstream.written, b"")
        self.clock.advance(0)
        self.assertEqual(self.upstream.written, b"one two")
        connection.wake(b"late")
        self.both_end()
        self.assertClosed(CloseReason.NORMAL, Side.CLIENT)
        connection.wake(b"later")

    def test_delay(self) -> None:
        """Bytes are written when their time has come, and the end behind them."""
        self.relaying(Scripted(received=lambda _, data: Delay(2, data)))
        self.client.says(b"later")
        self.client.ends()
        self.assertEqual((self.upstream.written, self.upstream.calls[-1]), (b"", "go on"))
        self.clock.advance(2)
        self.assertEqual((self.upstream.written, self.upstream.calls[-1]), (b"later", "end"))

    def test_too_much_delayed(self) -> None:
        """A side is not read while too much of what it said is delayed."""
        self.relaying(Scripted(received=lambda _, data: Delay(2, data)), factory={"max_hold": 100})
        self.client.says(b"x" * 101)
        self.assertTrue(self.client.on_hold)
        self.assertFalse(self.upstream.on_hold)
        self.clock.advance(2)
        self.assertFalse(self.client.on_hold)

    def test_timers_go_with_the_session(self) -> None:
        """However the session ends, no timer is left and nobody is woken any more."""
        for over in (
            lambda: self.both_end(),
            lambda: self.client.resets(),
            lambda: self.client.loses(Loss.FAILED),
            lambda: self.filters[0].answers.update(received=Close("enough")) or self.client.says(b"x"),
        ):
            self.setUp()
            self.relaying(Scripted(opened=[Wake(5), Wake(500)]))
            over()
            self.client.loses(Loss.ABORTED)
            self.upstream.loses(Loss.ABORTED)
            self.assertEqual(self.clock.getDelayedCalls(), [])
            self.assertEqual((self.filters[0].told("woken"), self.filters[0].told("closed")), (0, 1))

    def test_undecided(self) -> None:
        """A routing filter that cannot decide in time: the client is closed, or goes to the rule's target."""
        for on_timeout, dials in (("close", 0), ("pass", 1)):
            self.setUp()
            session = self.accept(
                Scripted(received=NEED_MORE),
                factory={"routes": True, "on_timeout": on_timeout, "hold_timeout": 2.0},
            )
            self.assertIs(session.state, State.PEEKING)
            self.client.says(b"who")
            self.clock.advance(2)
            self.assertEqual(len(self.dials), dials)
            if dials:
                self.connect()
                self.assertEqual(self.upstream.written, b"who")
            else:
                self.assertEqual(self.client.calls[-2:], ["end", "discard"])
                self.client.ends()
                self.assertClosed(CloseReason.FILTER)
                self.assertIn("could not decide within 2s", self.lines.last.detail)

    def test_decided_in_time(self) -> None:
        """The limit of a filter that has decided is forgotten."""
        self.accept(Scripted(received=Route(OTHER)), factory={"routes": True})
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.client.says(b"x")
        self.assertEqual((self.clock.getDelayedCalls(), self.dials[0].target), ([], OTHER))

    def test_await(self) -> None:
        """A filter gets the result; nothing of its direction is read meanwhile."""
        waiting: Deferred[object] = Deferred()
        self.relaying(
            Scripted(received=script(Await(waiting)), resumed=lambda result: Forward(b"<%d>" % result))
        )
        self.client.says(b"question")
        self.assertEqual((self.client.on_hold, self.upstream.on_hold), (True, False))
        waiting.callback(7)
        self.clock.advance(0)
        self.assertEqual((self.upstream.written, self.client.on_hold), (b"<7>", False))

    def test_await_from_the_start(self) -> None:
        """A result that is waited for since the client came holds up both sides, the upstream too."""
        waiting: Deferred[object] = Deferred()
        self.relaying(Scripted(opened=Await(waiting), resumed=Reply(b"hello ")))
        self.assertEqual((self.client.on_hold, self.upstream.on_hold), (True, True))
        waiting.callback(None)
        self.clock.advance(0)
        self.assertEqual((self.client.on_hold, self.upstream.on_hold), (False, False))
        self.upstream.says(b"banner")
        self.assertEqual(self.client.written, b"hello banner")

    def test_await_when_connected(self) -> None:
        """So does one that a filter waits for when the upstream is there."""
        waiting: Deferred[object] = Deferred()
        self.relaying(Scripted(connected=Await(waiting)))
        self.assertEqual((self.client.on_hold, self.upstream.on_hold), (True, True))
        waiting.callback(None)
        self.clock.advance(0)
        self.assertEqual((self.client.on_hold, self.upstream.on_hold), (False, False))


class AnnounceTests(FilteredCase):
    """Clients that are somebody else."""

    def announced(self, client: Any, **options: Any) -> Session:
        """A client of which a filter says who it is."""
        return self.accept(
            Scripted(received=[Announce(client, OTHER), Route(None), None]),
            factory={"routes": True},
            **options,
        )

    def test_summary(self) -> None:
        """The log has who was announced, and where that client connected to."""
        who = InetAddress("198.51.100.77", 1234)
        self.announced(who, access=(AclEntry(False, "10.*"),))
        self.client.says(b"x")
        self.connect()
        self.both_end()
        self.assertClosed(CloseReason.NORMAL, Side.CLIENT)
        self.assertEqual((self.lines.last.client, self.lines.last.local), (who, OTHER))

    def test_denied(self) -> None:
        """Access lists judge the client that was announced; it is refused as one that came itself."""
        for on_deny, calls in ((OnDeny.FIN, ["end", "discard"]), (OnDeny.RST, ["abort"])):
            self.setUp()
            self.announced(InetAddress("10.1.2.3", 1), access=(AclEntry(False, "10.*"),), on_deny=on_deny)
            self.client.says(b"x")
            self.assertEqual((self.client.calls[-len(calls) :], self.dials), (calls, []))
            if on_deny is OnDeny.FIN:
                self.client.ends()
            self.assertClosed(CloseReason.ACCESS)
            self.assertEqual(self.lines.last.access_step, self.rule.access.decide("10.1.2.3").step)

    def test_denied_while_relaying(self) -> None:
        """So it is where the upstream is there already: it is reset."""
        self.relaying(
            Scripted(received=Announce(InetAddress("10.1.2.3", 1))), access=(AclEntry(False, "10.*"),)
        )
        self.client.says(b"x")
        self.assertEqual((self.upstream.calls[-1], self.upstream.written), ("abort", b""))
        self.assertEqual(self.client.calls[-2:], ["end", "discard"])

    def test_without_an_address(self) -> None:
        """A client whose address is a path passes no list of addresses that are allowed, but any other."""
        for entries, dials in (
            ((AclEntry(False, "10.*"),), 1),
            ((AclEntry(True, "*"),), 1),
            ((AclEntry(True, "192.*"), AclEntry(True, "unix")), 1),
            ((AclEntry(True, "192.*"),), 0),
            ((AclEntry(False, "unix"),), 0),
        ):
            self.setUp()
            self.announced(UnixAddress("/run/192.0.2.1"), access=entries, on_deny=OnDeny.RST)
            self.client.says(b"x")
            self.assertEqual(len(self.dials), dials)
            self.assertEqual(self.lines.reasons, [] if dials else [CloseReason.ACCESS])

    def behind(self, authorises: Scripted, who: InetAddress, **options: Any) -> None:
        """A rule whose second filter authorises, behind one that announces `who`."""
        header = Scripted(received=[Announce(who, OTHER), Forward(b"rest"), DONE])
        self.filters = (header, authorises)
        clauses = [
            ("a", Factory(lambda connection: header, routes=True, announces=True)),
            ("b", Factory(lambda connection: authorises)),
        ]
        access = options.pop("access", ())
        self.rule = a_live_rule(
            self.clock, self.lines, changed(None, **options), access, clauses, sinks=self.sinks
        )
        self.client = FakeStream(self.clock)
        self.rule.accept(self.client, lambda: None)

    def test_authorised(self) -> None:
        """A filter behind it that authorises in `opened` is asked about the client that was announced."""
        allowed, who = InetAddress("198.51.100.77", 1), InetAddress("10.1.2.3", 1)
        one = Scripted(opened=lambda connection: Close("no") if connection.source != allowed else None)
        self.behind(one, who)
        self.assertEqual(one.calls, [])
        self.client.says(b"header rest")
        self.assertEqual((one.told("opened"), self.dials, self.lines.reasons), (1, [], []))
        self.client.ends()
        self.assertEqual(self.lines.reasons, [CloseReason.FILTER])
        self.setUp()
        self.behind(one, allowed)
        self.client.says(b"header rest")
        self.connect()
        self.assertEqual(self.upstream.written, b"rest")

    def test_denied_before_it(self) -> None:
        """And is not asked about one that access lists or limits refuse."""
        who = InetAddress("10.1.2.3", 1)
        one = Scripted()
        for options in ({"access": (AclEntry(False, "10.*"),)}, {"max_conns_per_source": 0}):
            self.behind(one, who, on_deny=OnDeny.RST, **options)
            self.client.says(b"header rest")
            self.assertEqual(one.calls, [])
            self.assertEqual(self.lines.last.client, who)

    def shaking(self, who: Any, **options: Any) -> Session:
        """A client over TLS, before whose handshake a header says who it is."""
        header = Scripted(received=[Announce(who, OTHER), DONE])
        clauses = [("a", Factory(lambda connection: header, routes=True, announces=True))]
        access = options.pop("access", ())
        self.rule = a_live_rule(
            self.clock, self.lines, changed(None, **options), access, clauses, sinks=self.sinks
        )
        self.client = FakeStream(self.clock)
        self.client.handshaking = "the peer said nothing"
        session = self.rule.accept(self.client, lambda: None)
        session.announced(self.client, who, OTHER)
        return session

    def test_before_the_handshake(self) -> None:
        """A header before TLS is judged when it is complete: nobody who is denied shakes hands."""
        who = InetAddress("10.1.2.3", 1)
        session = self.shaking(who, access=(AclEntry(False, "10.*"),), on_deny=OnDeny.RST)
        self.assertEqual((session.state, self.lines.reasons), (State.CLOSED, [CloseReason.ACCESS]))
        self.assertEqual((self.lines.last.client, self.rule.handshakes.silent), (who, 0))

    def test_limits_before_the_handshake(self) -> None:
        """Limits of each source count who is named there, once; so do the bounds of handshakes."""
        one, two = InetAddress("10.1.2.3", 1), InetAddress("10.1.2.4", 1)
        first = self.shaking(one, max_conns_per_source=1, rate_per_source=1.0, on_deny=OnDeny.RST)
        rule, client = self.rule, self.client
        for who, reasons in ((one, [CloseReason.LIMIT]), (two, [CloseReason.LIMIT])):
            self.client = FakeStream(self.clock)
            self.client.handshaking = "the peer said nothing"
            rule.accept(self.client, lambda: None).announced(self.client, who, OTHER)
            self.assertEqual(self.lines.reasons, reasons)
        client.handshaking = ""
        first.began(client)
        first.opened(client)
        client.says(b"header")
        self.assertEqual((first.state, len(self.dials)), (State.DIALING, 1))

    def test_handshake_fails(self) -> None:
        """The closing line of a failed handshake names the client that was announced."""
        who = InetAddress("10.1.2.3", 1)
        self.shaking(who)
        self.client.loses(Loss.RESET, "TLS handshake: no")
        self.assertEqual((self.lines.last.client, self.lines.last.local), (who, OTHER))


class SourceTests(FilteredCase):
    """Limits of sources, behind a proxy that says who its clients are: all come from one address."""

    ONE, TWO = InetAddress("198.51.100.1", 1000), InetAddress("198.51.100.2", 1000)

    def begin(self, announces: bool = True, **limits: Any) -> None:
        """A rule whose filter announces what `come` was told."""
        self.said: list[Any] = []

        def make(connection: Any) -> Any:
            said = self.said.pop()
            return said if said is None else Scripted(received=said)

        factory = Factory(make, routes=True, announces=announces)
        self.rule = a_live_rule(
            self.clock, self.lines, changed(None, **limits), (), [("a", factory)], sinks=self.sinks
        )

    def come(self, *said: Any) -> FakeStream:
        """One more client, of which the filter says so; None: it stays out of it."""
        self.said.append(None if said == (None,) else [*said, None])
        client = FakeStream(self.clock)
        self.rule.accept(client, lambda: None)
        if said != (None,):
            client.says(b"x")
        return client

    def refused(self, client: FakeStream, limit: str) -> None:
        """`client` was refused because of this limit."""
        self.assertEqual(client.calls[-2:], ["end", "discard"])
        client.ends()
        self.assertEqual((self.lines.last.reason, self.lines.last.detail), (CloseReason.LIMIT, limit))

    def test_announced(self) -> None:
        """Each client that is announced is a source of its own; the proxy is none."""
        self.begin(max_conns_per_source=1)
        first = self.come(Announce(self.ONE), Route(None))
        self.come(Announce(self.TWO), Route(None))
        self.refused(self.come(Announce(self.ONE), Route(None)), "max-conns-per-source=1")
        self.assertEqual(len(self.dials), 2)
        self.dials[0].fails(ConnectRefused("refused"))
        self.assertTrue(first.is_lost)
        self.come(Announce(self.ONE), Route(None))
        self.assertEqual(len(self.dials), 3)

    def test_not_announced(self) -> None:
        """Where the filter announces nobody the client is the one that came: it is judged before the dial."""
        self.begin(max_conns_per_source=1)
        self.come(Route(None))
        self.refused(self.come(Route(None)), "max-conns-per-source=1")
        self.assertEqual(len(self.dials), 1)

    def test_without_filters(self) -> None:
        """So is one that every filter stays out of."""
        self.begin(rate_per_source=1.0)
        self.come(None)
        self.refused(self.come(None), "rate-per-source=1/s")
        self.assertEqual(len(self.dials), 1)

    def test_unforeseen(self) -> None:
        """A filter that announces without having said so moves its client to the other source."""
        self.begin(announces=False, max_conns_per_source=1)
        self.come(Announce(self.ONE), Route(None))
        self.come(Announce(self.TWO), Route(None))
        self.refused(self.come(Announce(self.ONE), Route(None)), "max-conns-per-source=1")

    def test_unlimited(self) -> None:
        """Where nothing is limited nobody is judged."""
        self.begin()
        self.come(Announce(self.ONE), Route(None))
        self.come(Route(None))
        self.assertEqual(len(self.dials), 2)


class FinishTests(FilteredCase):
    """Filters that end the session."""

    def test_in_order(self) -> None:
        """What was written goes out, both sides get their end; the reason is ``FD``."""
        self.relaying(Scripted(received=Close("not allowed", reply=b"403")))
        self.client.says(b"GET")
        self.assertEqual((self.client.written, self.upstream.written), (b"403", b""))
        self.assertEqual(self.client.calls[-2:], ["end", "discard"])
        self.assertEqual(self.upstream.calls[-2:], ["end", "discard"])
        self.client.ends()
        self.upstream.ends()
        self.assertClosed(CloseReason.FILTER)
        self.assertEqual((self.lines.last.detail, str(CloseReason.FILTER)), ("not allowed", "FD"))

    def test_abort(self) -> None:
        """Or both are reset."""
        self.relaying(Scripted(received=[Reply(b"x"), Close("attack", reply=b"unsaid", abort=True)]))
        self.client.says(b"GET")
        self.assertEqual((self.client.calls[-1], self.upstream.calls[-1]), ("abort", "abort"))
        self.assertEqual(self.client.written, b"x")
        self.assertClosed(CloseReason.FILTER)

    def test_when_opened(self) -> None:
        """A filter may refuse a client at once: nothing is dialled, and its answer goes out."""
        self.accept(Scripted(opened=Close("no", reply=b"go away")))
        self.assertEqual((self.dials, self.client.written), ([], b"go away"))
        self.assertEqual(self.client.calls, ["own", "watch", "end", "discard"])
        self.client.ends()
        self.assertClosed(CloseReason.FILTER)

    def test_while_dialling(self) -> None:
        """A dial that is under way is cancelled."""
        self.accept(Scripted(opened=Wake(1), woken=Close("enough")))
        self.clock.advance(1)
        self.assertTrue(self.dials[0].cancelled)
        self.client.ends()
        self.assertClosed(CloseReason.FILTER)

    def test_when_connected(self) -> None:
        """Nor does the upstream get a word where a filter refuses it."""
        self.accept(Scripted(connected=Close("not this one", reply=b"sorry")))
        self.connect()
        self.assertEqual((self.client.written, self.upstream.written), (b"sorry", b""))
        self.assertTrue(self.upstream.on_hold or "go on" not in self.upstream.calls)
        self.both_end()
        self.assertClosed(CloseReason.FILTER)

    def test_dial_failed(self) -> None:
        """A client that is told is closed in order, one that is not is reset; the reason is the dial's."""
        for verdict, calls, problem, reason in (
            (Reply(b"502"), ["end", "discard"], ConnectRefused("no"), CloseReason.CONNECT_REFUSED),
            (None, ["abort"], NameNotResolved("no"), CloseReason.NAME_NOT_RESOLVED),
            (Close("x", reply=b"502"), ["end", "discard"], NotPermitted("no"), CloseReason.FILTER),
        ):
            self.setUp()
            self.accept(Scripted(dial_failed=verdict))
            self.dials[0].fails(problem)
            self.assertEqual(self.client.calls[-len(calls) :], calls)
            self.assertEqual(self.client.written, b"502" if verdict else b"")
            self.assertEqual(self.lines.reasons, [] if verdict else [reason])
            if verdict:
                self.client.ends()
            self.assertClosed(reason)
            self.assertEqual(self.lines.last.upstream, UPSTREAM)
            self.assertEqual(self.lines.last.to_client.bytes, 3 if verdict else 0)
            self.assertEqual(self.lines.last.detail, "x" if isinstance(verdict, Close) else "no")

    def test_what_comes_after(self) -> None:
        """When it is over nothing is shown, told or done any more."""
        self.relaying(Scripted(received=Close("enough")))
        self.client.says(b"x")
        calls = list(self.filters[0].calls)
        session = self.rule.sessions[1]
        assert isinstance(session, FilteredSession)
        session.shown(self.upstream, b"late")
        session.passed(self.upstream, 5)
        self.upstream.ends()
        self.assertEqual(self.filters[0].calls, calls)

    def test_one_closes_two_speak(self) -> None:
        """What was asked for before the end is done, what would come behind it is not."""
        self.relaying(Scripted(received=[b"last", Close("done"), Forward(b"unsaid"), Wake(1)]))
        self.client.says(b"x")
        self.assertEqual(self.upstream.written, b"last")
        self.assertEqual(self.filters[0].told("woken"), 0)


class MistakeTests(FilteredCase):
    """Filters that raise."""

    def test_closed(self) -> None:
        """The session is aborted with ``FD``; the failure is logged with the filter's name, and counted."""
        self.relaying(Scripted(), Scripted(received=Fault("secret")))
        self.client.says(b"x")
        self.assertEqual((self.client.calls[-1], self.upstream.calls[-1]), ("abort", "abort"))
        self.assertClosed(CloseReason.FILTER)
        self.assertEqual(self.lines.last.detail, "filter b raised Fault")
        self.assertEqual((len(self.flushLoggedErrors(Fault)), self.rule.counts.filter_failures), (1, 1))

    def test_logged(self) -> None:
        """The event names filter, session and with it the rule."""
        told = EventsOf(self, FilteredSession)
        self.relaying(Scripted(received=Fault("secret")))
        self.client.says(b"x")
        (event,) = told.events
        self.assertEqual((event["filter"], event["log_failure"].type), ("a", Fault))
        self.assertIs(event["log_level"], LogLevel.error)
        self.assertIn("web", repr(event["session"]))
        self.assertEqual(len(self.flushLoggedErrors(Fault)), 1)

    def test_long_reason(self) -> None:
        """A detail is cut: an exception or a filter may say a megabyte."""
        self.relaying(Scripted(received=Close("x" * 1_000_000)))
        self.client.says(b"x")
        self.client.ends()
        self.upstream.ends()
        self.assertEqual(self.lines.last.detail, "x" * 1024 + "…")

    def test_too_many_wakes(self) -> None:
        """Wakes that are not due yet are timers, so there is a limit for them."""
        self.relaying(Scripted(received=[*[Wake(1.0)] * 1024, b"x"]))
        self.client.says(b"x")
        for _ in range(4):
            self.clock.advance(0)
        self.assertEqual(self.upstream.written, b"x")
        self.clock.advance(1)
        self.relaying(Scripted(received=[Wake(1.0)] * 1025))
        self.client.says(b"x")
        self.assertEqual(self.lines.last.reason, CloseReason.FILTER)
        (failure,) = self.flushLoggedErrors(ValueError)
        self.assertIn("more than 1024 Wakes", failure.getErrorMessage())

    def test_bypassed(self) -> None:
        """With ``on_error`` "bypass" the session goes on without a filter that has altered nothing."""
        self.relaying(Scripted(received=script(NEED_MORE, Fault())), factory={"on_error": "bypass"})
        self.client.says(b"a")
        self.client.says(b"b")
        self.assertEqual((self.upstream.written, self.client.calls[-1]), (b"ab", "pass on all"))
        self.upstream.says(b"c")
        self.both_end()
        self.assertEqual(self.lines.reasons, [CloseReason.NORMAL])
        self.assertEqual((len(self.flushLoggedErrors(Fault)), self.rule.counts.filter_failures), (1, 1))

    def test_bypass_too_late(self) -> None:
        """One that altered something cannot be left out."""
        self.relaying(Scripted(received=script(b"A", Fault())), factory={"on_error": "bypass"})
        self.client.says(b"a")
        self.client.says(b"b")
        self.assertClosed(CloseReason.FILTER)
        self.assertEqual(len(self.flushLoggedErrors(Fault)), 1)

    def test_not_built(self) -> None:
        """A factory that raises ends the session before anything is dialled, or is left out."""
        for on_error, reasons in (("close", [CloseReason.FILTER]), ("bypass", [])):
            self.setUp()

            def build(connection: object) -> None:
                raise Fault

            clauses = [("bad", Factory(build, on_error=on_error))]
            self.rule = a_live_rule(self.clock, self.lines, filters=clauses, sinks=self.sinks)
            self.client = FakeStream(self.clock)
            self.rule.accept(self.client, lambda: None)
            self.assertEqual(self.lines.reasons, reasons)
            self.assertEqual((len(self.flushLoggedErrors(Fault)), self.rule.counts.filter_failures), (1, 1))
            self.assertEqual(len(self.dials), len(reasons) ^ 1)

    def test_every_event(self) -> None:
        """Whatever it is told: a filter that raises ends the session, and the others are told so."""
        for event in ("opened", "connected", "woken", "resumed", "ended"):
            self.setUp()
            waiting: Deferred[object] = Deferred()
            answers: dict[str, Any] = {"received": script([Wake(1), Await(waiting)]), event: Fault()}
            self.accept(Scripted(**answers), Scripted())
            if event != "opened":
                self.connect()
                self.client.says(b"x") if event != "connected" else None
            self.clock.advance(1)
            waiting.callback(None)
            self.clock.advance(0)
            if not self.client.is_lost:
                self.client.ends()
            self.assertClosed(CloseReason.FILTER, Side.CLIENT if event == "ended" else None)
            self.assertEqual(len(self.flushLoggedErrors(Fault)), 1)

    def test_whatever_it_raises(self) -> None:
        """A filter that would end the process ends its session, whichever method it is."""
        for error in (SystemExit(), KeyboardInterrupt(), CancelledError()):
            for event in ("opened", "received", "connected", "ended", "woken", "resumed", "closed"):
                self.setUp()
                answers = {"received": script([Wake(1), Await(succeed(1))]), event: error}
                self.accept(Scripted(**answers), Scripted())
                if event != "opened":
                    self.connect()
                for step in (lambda: self.client.says(b"x"), lambda: self.clock.advance(1), self.both_end):
                    if not self.client.is_lost:
                        step()
                reason = CloseReason.NORMAL if event == "closed" else CloseReason.FILTER
                self.assertEqual(self.lines.reasons, [reason], (error, event))
                self.assertEqual(len(self.flushLoggedErrors(type(error))), 1)

    def test_observer_of_the_log(self) -> None:
        """An observer of the log that raises changes nothing: the session of the filter ends by a reset."""

        def observe(event: Any) -> None:
            if event.get("log_namespace", "").startswith("portfwd"):
                raise SystemExit

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        self.relaying(Scripted(received=Fault()))
        self.client.says(b"x")
        self.assertEqual((self.client.calls[-1], self.upstream.calls[-1]), ("abort", "abort"))
        self.assertEqual((self.lines.reasons, self.rule.sessions), ([CloseReason.FILTER], {}))
        self.flushLoggedErrors(Fault, SystemExit)

    def test_dial_failed(self) -> None:
        """A filter that raises when it hears of the dial's failure: the reason is the dial's."""
        self.accept(Scripted(dial_failed=Fault()))
        self.dials[0].fails(ConnectRefused("no"))
        self.assertClosed(CloseReason.CONNECT_REFUSED)
        self.assertEqual((self.client.calls[-1], len(self.flushLoggedErrors(Fault))), ("abort", 1))

    def test_closed_raises(self) -> None:
        """A filter that raises at the end of all changes nothing; the others are told."""
        self.relaying(Scripted(closed=Fault()), Scripted())
        self.both_end()
        self.assertClosed(CloseReason.NORMAL, Side.CLIENT)
        self.assertEqual((len(self.flushLoggedErrors(Fault)), self.rule.counts.filter_failures), (1, 1))

    def test_our_own(self) -> None:
        """A mistake of ours, wherever it is made, is ``ID``; filters are told of the end."""
        for fault in ("write", "hold", "settle"):
            self.setUp()
            verdicts = script(Bypass(9)) if fault == "settle" else [Await(Deferred()), b"x"]
            self.relaying(Scripted(received=verdicts))
            if fault == "settle":
                self.client.says(b"x")
            self.upstream.faults = self.client.faults = {fault}
            if fault == "settle":
                self.client.settle = lambda: 1 // 0  # type: ignore[method-assign]
                self.client.ends()
            else:
                self.client.says(b"x")
            self.assertEqual(self.lines.reasons, [CloseReason.INTERNAL])
            self.assertEqual(self.filters[0].told("closed"), 1)
            self.assertEqual(len(self.flushLoggedErrors(Fault, ZeroDivisionError)), 1)

    def test_unknown_target(self) -> None:
        """A target that no route of the rule has is a mistake, and so is one that cannot be one."""
        for target in ("app", object(), ["app"]):
            self.setUp()
            self.patch(LiveRule, "dial", LIVE_DIAL)
            self.accept(Scripted(received=Route(target)), factory={"routes": True})
            self.client.says(b"x")
            self.assertEqual(self.lines.reasons, [CloseReason.FILTER])
            said = "filter a returned a wrong verdict from received: "
            self.assertTrue(self.lines.last.detail.startswith(said), self.lines.last.detail)
            self.assertEqual(len(self.flushLoggedErrors(ValueError, TypeError)), 1)
            self.assertEqual(self.rule.counts.filter_failures, 1)

    def test_unknown_target_bypassed(self) -> None:
        """With ``on_error`` "bypass" such a filter is left out, and the rule's own target is dialled."""
        self.accept(Scripted(received=Route("app")), factory={"routes": True, "on_error": "bypass"})
        self.client.says(b"x")
        self.assertEqual(len(self.dials), 1)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)


class EndVerdictTests(FilteredCase):
    """`End`: a filter ends a direction before its source does."""

    def test_to_upstream(self) -> None:
        """The upstream gets the end behind what was passed; what the client still sends is dropped."""
        self.relaying(Scripted(received=lambda direction, data: End(UP) if direction is UP else None))
        self.client.says(b"last")
        self.assertEqual((self.upstream.written, self.upstream.calls[-1]), (b"last", "end"))
        self.client.says(b"more")
        self.upstream.says(b"answer")
        self.assertEqual((self.upstream.written, self.client.written), (b"last", b"answer"))
        self.client.ends()
        self.upstream.ends()
        self.assertEqual(self.lines.reasons, [CloseReason.NORMAL])
        self.assertEqual(self.filters[0].told("ended"), 1)

    def test_the_source_goes_on(self) -> None:
        """If the source still sends when the session ends, it is read until it ends, and not reset."""
        self.relaying(Scripted(received=lambda direction, data: End(UP) if direction is UP else None))
        self.client.says(b"last")
        self.upstream.ends()
        self.assertEqual(self.client.calls[-2:], ["end", "discard"])
        self.assertEqual(self.lines.reasons, [])
        self.client.ends()
        self.assertEqual(self.lines.reasons, [CloseReason.NORMAL])


class AwaitLimitTests(FilteredCase):
    """`Await` with a limit of time."""

    def test_too_late(self) -> None:
        """A result that takes too long closes the session; a Deferred of others stays as it is."""
        waited: Deferred[object] = Deferred()
        self.relaying(Scripted(received=Await(waited, timeout=2.0)))
        self.client.says(b"x")
        self.clock.advance(2.0)
        self.assertEqual(self.lines.reasons, [CloseReason.FILTER])
        self.assertEqual(self.lines.last.detail, "filter a awaited a result that raised TimeoutError")
        self.assertEqual(len(self.flushLoggedErrors(TimeoutError)), 1)
        self.assertFalse(waited.called)
        waited.callback(1)

    def test_in_time(self) -> None:
        """A result that comes in time is told, and the limit is forgotten."""
        waited: Deferred[object] = Deferred()
        self.relaying(Scripted(received=Await(waited, timeout=2.0), resumed=None))
        self.client.says(b"x")
        waited.callback(1)
        self.clock.advance(0)
        self.assertEqual(self.upstream.written, b"x")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_coroutine(self) -> None:
        """A coroutine that takes too long is closed."""
        ended = []

        async def ask() -> None:
            try:
                await Deferred()
            finally:
                ended.append(True)

        self.relaying(Scripted(received=lambda *_: Await(ask(), timeout=1.0)))
        self.client.says(b"x")
        self.clock.advance(1.0)
        self.assertEqual(ended, [True])
        self.flushLoggedErrors(TimeoutError)


#: What the case replaces.
LIVE_DIAL = LiveRule.dial


class RouteTests(FilteredCase):
    """Where filters send clients."""

    def test_target_and_permits(self) -> None:
        """The dial is given the target that was chosen, and who is permitted."""

        def permits(address: object) -> bool:
            return True

        self.accept(Scripted(received=[Route(OTHER, permits), None]), factory={"routes": True})
        self.client.says(b"x")
        self.assertEqual((self.dials[0].target, self.dials[0].permits), (OTHER, permits))
        self.connect()
        self.assertEqual(self.upstream.written, b"x")

    def test_no_choice(self) -> None:
        """A filter that is done without a choice leaves the rule's own target."""
        self.accept(Scripted(received=DONE), factory={"routes": True})
        self.client.says(b"x")
        self.assertEqual((self.dials[0].target, self.dials[0].permits), (None, None))


class LiveDialTests(SynchronousTestCase):
    """What a live rule makes of a filter's choice."""

    def setUp(self) -> None:
        """A rule with a route."""
        self.clock = Clock()
        rule = a_live_rule(self.clock, SessionLines())
        self.spec = TargetSpec(Kind.TCP, "app", PortRange(443, 443))
        self.app = Destination("app:443", rule.options, address=InetAddress("app", 443))
        self.rule = LiveRule(
            rule.rule, "web", rule.destinations, rule.access, rule.context, SessionLines(), lambda: 0.0,
            routes={self.spec: self.app},
        )  # fmt: skip

    def dialled(self, target: object, permits: Any = None) -> Destination:
        """The destination of a dial that was not started."""
        return dialled_by(self.rule, target, permits)

    def test_routes(self) -> None:
        """The target of a route is the destination that was made for it."""
        dialled = self.dialled(self.spec)
        self.assertEqual((dialled.label, dialled.address), (self.app.label, self.app.address))

    def test_addresses(self) -> None:
        """An address is dialled with the rule's options, whether a name or not."""
        for address in (OTHER, InetAddress("name.test", 80), UnixAddress("/run/app")):
            destination = self.dialled(address)
            self.assertEqual((destination.address, destination.label), (address, str(address)))
            self.assertIs(destination.options, self.rule.options)

    def test_own_target(self) -> None:
        """Without a choice it is the rule's own, also where somebody wants to permit it."""
        self.assertIs(self.dialled(None, lambda address: True), self.rule.destinations[0])

    def test_unknown(self) -> None:
        """Anything else is no target."""
        self.assertRaises(ValueError, self.dialled, "app")


class EndTests(FilteredCase):
    """Ends, in every order."""

    def test_orders(self) -> None:
        """Whoever ends first: filters hear of each end once, and it travels."""
        for first, second in ((Side.CLIENT, Side.UPSTREAM), (Side.UPSTREAM, Side.CLIENT)):
            self.setUp()
            self.relaying(Scripted())
            sides = {Side.CLIENT: self.client, Side.UPSTREAM: self.upstream}
            sides[first].ends()
            self.assertEqual(sides[second].calls[-1], "end")
            self.assertIsNot(self.rule.sessions[1].state, State.CLOSING)
            sides[second].says(b"answer")
            self.assertEqual(sides[first].written, b"answer")
            sides[second].ends()
            self.assertEqual(self.filters[0].told("ended"), 2)
            self.assertClosed(CloseReason.NORMAL, first)

    def test_held_at_the_end(self) -> None:
        """Bytes that are held when the client ends are delivered, and its end behind them."""
        self.relaying(Scripted(received=NEED_MORE))
        self.client.says(b"half a message")
        self.client.ends()
        self.assertEqual((self.upstream.written, self.upstream.calls[-1]), (b"half a message", "end"))

    def test_before_the_dial(self) -> None:
        """A client that ends while it is looked at: its bytes and its end wait for the upstream."""
        self.accept(Scripted())
        self.client.says(b"all")
        self.client.ends()
        self.assertEqual(self.lines.reasons, [])
        self.connect()
        self.assertEqual((self.upstream.written, self.upstream.calls.count("end")), (b"all", 1))
        self.upstream.says(b"answer")
        self.upstream.ends()
        self.assertEqual(self.client.written, b"answer")
        self.assertClosed(CloseReason.NORMAL, Side.CLIENT)

    def test_undecided_at_the_end(self) -> None:
        """One that ends before a routing filter could decide is closed."""
        self.accept(Scripted(received=NEED_MORE), factory={"routes": True})
        self.client.says(b"who")
        self.client.ends()
        self.assertEqual((self.dials, self.client.calls[-2:]), ([], ["end", "close"]))
        self.assertClosed(CloseReason.FILTER, Side.CLIENT)

    def test_gone_while_peeking(self) -> None:
        """A client that resets while it is looked at was gone early; filters are told."""
        for how in (lambda: self.client.resets(), lambda: self.client.refuses()):
            self.setUp()
            self.accept(Scripted(received=NEED_MORE), factory={"routes": True})
            self.client.says(b"who")
            how()
            self.assertClosed(CloseReason.CLIENT_GONE_EARLY, Side.CLIENT)

    def test_gone_while_dialling(self) -> None:
        """So was one that resets while its upstream is dialled, without a byte."""
        self.accept(Scripted())
        self.client.resets()
        self.assertTrue(self.dials[0].cancelled)
        self.assertClosed(CloseReason.CLIENT_GONE_EARLY, Side.CLIENT)

    def test_bytes_before_a_reset_while_dialling(self) -> None:
        """What it had sent is delivered before the reset, however its loss is reported."""
        for how, reason in (
            (lambda: self.client.resets(), CloseReason.CLIENT_RESET),
            (lambda: self.client.loses(Loss.ORDERLY), CloseReason.NORMAL),
        ):
            self.setUp()
            self.accept(Scripted(received=lambda _, data: data))
            self.client.says(b"all of it")
            how()
            self.assertEqual(self.lines.reasons, [])
            self.connect()
            self.assertEqual(self.upstream.written, b"all of it")
            if reason is CloseReason.NORMAL:
                self.upstream.ends()
            self.assertClosed(reason, Side.CLIENT)

    def test_reset_while_held(self) -> None:
        """A side that resets is passed on as a reset; what filters hold of it has no end to stand before."""
        self.relaying(Scripted(received=NEED_MORE))
        self.client.says(b"held")
        self.client.resets()
        self.assertEqual(self.upstream.calls[-1], "abort")
        self.assertClosed(CloseReason.CLIENT_RESET, Side.CLIENT)

    def test_a_failed_write(self) -> None:
        """A client that takes no more is still read to its end, which the filters see."""
        self.relaying(Scripted())
        self.client.refuses()
        self.assertEqual(self.upstream.calls[-1], "discard")
        self.client.says(b"last words")
        self.client.ends()
        self.assertEqual((self.upstream.written, self.filters[0].told("ended")), (b"last words", 1))

    def test_end_behind_a_failed_write(self) -> None:
        """The end of a side whose bytes nobody takes any more is not for the filters."""
        self.relaying(Scripted())
        self.client.refuses()
        self.upstream.ends()
        self.assertEqual(self.filters[0].told("ended"), 0)
        self.client.ends()
        self.assertEqual(self.lines.reasons, [CloseReason.CLIENT_RESET_HALF_CLOSED])

    def test_end_that_comes_too_late(self) -> None:
        """An end that a filter delays until its receiver takes no more is done with."""
        self.relaying(Scripted(ended=lambda direction, held: Delay(2) if direction is DOWN else None))
        self.upstream.ends()
        self.client.refuses()
        self.clock.advance(2)
        self.client.ends()
        self.assertEqual(self.lines.reasons, [CloseReason.CLIENT_RESET_HALF_CLOSED])

    def test_idle(self) -> None:
        """``idle`` is the relay's, filters or not."""
        self.relaying(Scripted(received=NEED_MORE), idle=30.0)
        self.client.says(b"held")
        self.clock.pump([1.0] * 31)
        self.assertClosed(CloseReason.UPSTREAM_IDLE, Side.UPSTREAM)

    def test_half_close(self) -> None:
        """``half-close`` begins when the end has gone out, which a filter may delay."""
        self.relaying(Scripted(ended=lambda direction, held: Delay(50)), half_close=20.0)
        self.client.ends()
        self.clock.pump([1.0] * 49)
        self.assertEqual(self.lines.reasons, [])
        self.clock.pump([1.0] * 22)
        self.assertClosed(CloseReason.UPSTREAM_HALF_CLOSE_IDLE, Side.CLIENT)

    def test_killed(self) -> None:
        """A session that is killed tells its filters, in whatever state it is."""
        for connect in (False, True):
            self.setUp()
            session = self.accept(Scripted(received=NEED_MORE))
            if connect:
                self.connect()
            session.kill(CloseReason.KILLED)
            self.assertClosed(CloseReason.KILLED)

    def test_final_counts(self) -> None:
        """Filters are told the figures and the reason that the log has."""
        self.relaying(Scripted())
        self.clock.advance(3)
        self.both_end()
        (_, summary) = self.filters[0].calls[-1]
        self.assertIsInstance(summary, SessionSummary)
        self.assertEqual((summary.reason, summary.duration), (CloseReason.NORMAL, 3.0))
        self.assertEqual((summary.to_upstream.bytes, summary.to_client.bytes), (7, 7))

    def test_refused_before_all(self) -> None:
        """A client that access lists refuse never meets the filters."""
        self.accept(Scripted(), access=(AclEntry(False, "192.*"),))
        self.assertEqual((self.filters[0].calls, self.sinks.told), ([], []))


class WithoutHalfCloseTests(FilteredCase):
    """Transports that can only close: their end is the end of both directions."""

    def test_held(self) -> None:
        """What filters hold of an upstream that closes is delivered before the client's end."""
        self.relaying(Scripted(received=NEED_MORE))
        self.upstream.says(b"the rest")
        self.upstream.loses(Loss.ORDERLY)
        self.assertEqual((self.client.written, self.client.calls[-2:]), (b"the rest", ["end", "discard"]))
        self.client.ends()
        self.assertClosed(CloseReason.NORMAL, Side.UPSTREAM)

    def test_delayed(self) -> None:
        """So is what they delay; what the client says meanwhile has nowhere to go."""
        self.relaying(Scripted(received=lambda way, data: Delay(2, data) if way is DOWN else data))
        self.upstream.says(b"later")
        self.upstream.loses(Loss.ORDERLY)
        self.client.says(b"more")
        self.assertEqual((self.client.written, self.client.calls[-1]), (b"", "start"))
        self.clock.advance(2)
        self.assertEqual((self.client.written, self.client.calls[-2:]), (b"later", ["end", "discard"]))
        self.client.ends()
        self.assertClosed(CloseReason.NORMAL, Side.UPSTREAM)

    def test_client(self) -> None:
        """The same from the other side."""
        self.relaying(Scripted(received=NEED_MORE))
        self.client.says(b"request")
        self.client.loses(Loss.ORDERLY)
        self.assertEqual((self.upstream.written, self.upstream.calls[-2:]), (b"request", ["end", "discard"]))
        self.upstream.ends()
        self.assertClosed(CloseReason.NORMAL, Side.CLIENT)

    def test_after_its_end(self) -> None:
        """One that ended before it closed: what is delayed of it still comes first."""
        self.relaying(Scripted(received=lambda _, data: Delay(2, data)))
        self.upstream.says(b"later")
        self.upstream.ends()
        self.upstream.loses(Loss.ORDERLY)
        self.assertEqual((self.client.written, self.filters[0].told("ended")), (b"", 1))
        self.clock.advance(2)
        self.assertEqual((self.client.written, self.client.calls[-2:]), (b"later", ["end", "discard"]))

    def test_after_everything(self) -> None:
        """One that closes when its end has travelled ends the session as without filters."""
        self.relaying(Scripted())
        self.upstream.ends()
        self.upstream.loses(Loss.ORDERLY)
        self.assertEqual(self.client.calls[-2:], ["end", "discard"])
        self.assertEqual(self.client.calls.count("end"), 1)

    def test_unseen(self) -> None:
        """So does one of which nothing is seen."""
        self.relaying(Scripted(), factory={"directions": frozenset({UP})})
        self.upstream.loses(Loss.ORDERLY)
        self.assertEqual(self.client.calls[-2:], ["end", "discard"])
        self.assertEqual(self.filters[0].told("ended"), 0)

    def test_both_go(self) -> None:
        """A client that resets while bytes for it are delayed ends it all."""
        self.relaying(Scripted(received=lambda _, data: Delay(2, data)))
        self.upstream.says(b"later")
        self.upstream.loses(Loss.ORDERLY)
        self.client.resets()
        self.assertClosed(CloseReason.CLIENT_RESET_HALF_CLOSED, Side.UPSTREAM)

    def test_refused_meanwhile(self) -> None:
        """So does one that takes no more."""
        self.relaying(Scripted(received=lambda _, data: Delay(2, data)))
        self.upstream.says(b"later")
        self.upstream.loses(Loss.ORDERLY)
        self.client.refuses()
        self.clock.advance(2)
        self.client.ends()
        self.assertEqual(self.lines.reasons, [CloseReason.CLIENT_RESET_HALF_CLOSED])
