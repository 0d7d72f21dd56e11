"""
A session's rules, each as a short conversation between a client, a session and an upstream.

Streams are of memory and time is a `Clock`. What the session asked of a stream
stands in its `calls`; "end" is FIN, "abort" is RST.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from portfwd.errors import (
    ConnectFailed,
    ConnectRefused,
    ConnectTimedOut,
    DialError,
    NameNotResolved,
    OutOfResources,
    TLSFailed,
)
from portfwd.relay.closing import DELIVERY_LIMIT, LONGEST_LOOK
from portfwd.relay.handshakes import Handshakes
from portfwd.relay.live import LiveRule
from portfwd.relay.reasons import reason_of
from portfwd.relay.session import Session
from portfwd.relay.states import State
from portfwd.rules.model import AclEntry, OnDeny
from portfwd.streams.stream import Loss
from portfwd.values import CloseReason, FlowSummary, InetAddress, Side, UnixAddress
from tests.relay.fakes import (
    CLIENT,
    UPSTREAM,
    FakeDial,
    FakeStream,
    Fault,
    SessionLines,
    a_live_rule,
    changed,
)

#: What a session asks of a stream that it relays.
JOINED = ["own", "join", "start"]


class SessionCase(SynchronousTestCase):
    """A session that is relaying, unless a test says otherwise."""

    def setUp(self) -> None:
        """Time, a log, and dials that the test answers."""
        self.clock = Clock()
        self.clock.advance(100.0)
        self.lines = SessionLines()
        self.dials: list[FakeDial] = []
        self.closed_calls = 0

        def make_dial(*arguments: Any, **named: Any) -> FakeDial:
            self.dials.append(FakeDial(*arguments, **named))
            return self.dials[-1]

        self.patch(LiveRule, "dial", make_dial)

    def dialling(self, *, access: tuple[AclEntry, ...] = (), **options: Any) -> Session:
        """A session that waits for its upstream."""
        self.rule = a_live_rule(self.clock, self.lines, changed(None, **options), access)
        self.client = FakeStream(self.clock)
        return self.accept(self.client)

    def accept(self, client: FakeStream) -> Session:
        """One more client of the same rule."""

        def closed() -> None:
            self.closed_calls += 1

        return self.rule.accept(client, closed)

    def relaying(self, **options: Any) -> Session:
        """A session that relays."""
        session = self.dialling(**options)
        self.upstream = FakeStream(self.clock, UPSTREAM)
        self.dials[0].succeeds(self.upstream)
        self.assertIs(session.state, State.RELAYING)
        return session

    def wait(self, seconds: float, step: float = 0.05) -> None:
        """Let time pass as it does: in small steps."""
        for _ in range(round(seconds / step)):
            self.clock.advance(step)

    def assertClosed(self, reason: CloseReason, first: Side | None = None) -> None:
        """One closing line, with this reason; nothing left behind."""
        self.assertEqual(self.lines.reasons, [reason])
        self.assertIs(self.lines.last.ended_first, first)
        self.assertEqual(self.closed_calls, 1)
        self.assertEqual(self.rule.sessions, {})
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def assertAsked(self, stream: FakeStream, *calls: str) -> None:
        """What was asked of a relayed stream beyond being relayed."""
        self.assertEqual(stream.calls, [*JOINED, *calls])


class OrderlyTests(SessionCase):
    """Ends that are ends."""

    def test_first_words(self) -> None:
        """The dial is told whether the client has spoken already."""
        self.dialling()
        client = FakeStream(self.clock)
        client.has_spoken = True
        self.accept(client)
        self.assertEqual([dial.will_send for dial in self.dials], [False, True])

    def test_client_ends_first(self) -> None:
        """The client's end travels; the answer goes on, ends, and both are released: ``--``."""
        self.relaying()
        self.client.ends()
        self.assertAsked(self.upstream, "end")
        self.assertAsked(self.client)
        self.upstream.speaks()
        self.upstream.ends()
        self.assertAsked(self.client, "end", "close")
        self.assertAsked(self.upstream, "end", "close")
        self.assertClosed(CloseReason.NORMAL, Side.CLIENT)

    def test_upstream_ends_first(self) -> None:
        """The mirror."""
        self.relaying()
        self.upstream.ends()
        self.assertAsked(self.client, "end")
        self.assertAsked(self.upstream)
        self.client.ends()
        self.assertAsked(self.upstream, "end", "close")
        self.assertClosed(CloseReason.NORMAL, Side.UPSTREAM)

    def test_end_waits_for_bytes(self) -> None:
        """A flow whose bytes are not all out yet is not over, whatever the other one does."""
        session = self.relaying()
        self.upstream.unsent = 1000
        self.client.ends()
        self.upstream.ends()
        self.assertIs(session.state, State.RELAYING)
        self.upstream.takes(999)
        self.assertIs(session.state, State.RELAYING)
        self.upstream.takes(1)
        self.assertClosed(CloseReason.NORMAL, Side.CLIENT)

    def test_stopped_reader(self) -> None:
        """A sender ends while the reader stands still for an hour: without idle= nothing is cut."""
        session = self.relaying()
        self.upstream.unsent = 50_000_000
        self.client.ends()
        self.clock.advance(3600)
        self.assertIs(session.state, State.RELAYING)
        self.upstream.takes(50_000_000)
        self.upstream.ends()
        self.assertClosed(CloseReason.NORMAL, Side.CLIENT)

    def test_streams_that_answer_later(self) -> None:
        """It is the same with streams whose ends and losses come in a later turn."""
        self.relaying()
        self.client.later = self.upstream.later = True
        self.client.ends()
        self.upstream.ends()
        self.assertEqual(self.lines.reasons, [])
        self.clock.advance(0)
        self.assertAsked(self.client, "end", "close")
        self.clock.advance(0)
        self.assertClosed(CloseReason.NORMAL, Side.CLIENT)

    def test_close_that_stands_still(self) -> None:
        """A stream that is released but does not go away within linger is reset; the reason stays."""
        self.relaying(linger=2.0)
        self.client.close = lambda: self.client.calls.append("close")  # type: ignore[method-assign]
        self.client.ends()
        self.upstream.ends()
        self.wait(1.8)
        self.assertAsked(self.client, "end", "close")
        self.wait(0.5)
        self.assertAsked(self.client, "end", "close", "abort")
        self.assertClosed(CloseReason.NORMAL, Side.CLIENT)

    def test_max_time(self) -> None:
        """A session ends when it has lasted for max-time, however busy it is."""
        session = self.relaying(max_time=60.0, idle=50.0)
        self.clock.advance(40)
        self.client.moved_at = self.clock.seconds()
        self.clock.advance(19.9)
        self.assertIs(session.state, State.RELAYING)
        self.clock.advance(0.2)
        self.assertIs(session.reason, CloseReason.MAX_TIME)
        self.assertEqual(session.summary().detail, "max-time=60s")

    def test_max_time_not_reached(self) -> None:
        """One that ends before leaves no timer."""
        session = self.relaying(max_time=60.0)
        session.kill(CloseReason.KILLED)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_transport_without_half_close(self) -> None:
        """An upstream that can only close ends both directions; the client gets its end and is read out."""
        self.relaying()
        self.upstream.loses(Loss.ORDERLY)
        self.assertAsked(self.client, "end", "discard")
        self.client.ends()
        self.assertAsked(self.client, "end", "discard", "close")
        self.assertClosed(CloseReason.NORMAL, Side.UPSTREAM)

    def test_client_without_half_close(self) -> None:
        """A client that can only close ends both directions; the upstream gets its end."""
        self.relaying()
        self.client.loses(Loss.ORDERLY)
        self.assertAsked(self.upstream, "end", "discard")
        self.upstream.ends()
        self.assertClosed(CloseReason.NORMAL, Side.CLIENT)

    def test_close_after_an_end(self) -> None:
        """An end that was passed on already is not passed on again when the side closes after it."""
        self.relaying()
        self.client.ends()
        self.client.loses(Loss.ORDERLY)
        self.assertAsked(self.upstream, "end", "discard")
        self.upstream.ends()
        self.assertClosed(CloseReason.NORMAL, Side.CLIENT)

    def test_closed_but_the_other_takes_no_more(self) -> None:
        """An orderly close does not make a session normal whose other side had refused bytes."""
        self.relaying()
        self.client.refuses()
        self.upstream.loses(Loss.ORDERLY)
        self.assertAsked(self.client, "abort")
        self.assertClosed(CloseReason.CLIENT_RESET, Side.CLIENT)


class SlowReaderTests(SessionCase):
    """A reader that acknowledges a little, again and again, outlasts no limit."""

    def crawl(self, seconds: float) -> None:
        """Let time pass, in which both readers acknowledge a byte a second."""
        for _ in range(round(seconds)):
            self.client.takes(1)
            self.upstream.takes(1)
            self.wait(1.0)

    def full(self, **options: Any) -> Session:
        """A session in which much is undelivered on both sides."""
        session = self.relaying(linger=5.0, **options)
        self.client.unsent = self.upstream.unsent = 1_000_000
        return session

    def assertBounded(self, reason: CloseReason, session: Session) -> None:
        """Until `DELIVERY_LIMIT` it delivers, and then it is over and says how much was not acknowledged."""
        self.assertIs(session.state, State.CLOSING)
        self.crawl(DELIVERY_LIMIT - 2)
        self.assertEqual(self.lines.reasons, [])
        self.crawl(3)
        self.assertEqual((self.client.calls[-1], self.upstream.calls[-1]), ("abort", "abort"))
        self.assertIn("bytes for the client were not acknowledged", self.lines.last.detail)
        self.assertIn("bytes for the upstream were not acknowledged", self.lines.last.detail)
        self.assertClosed(reason, self.lines.last.ended_first)

    def test_max_time(self) -> None:
        """``max-time``."""
        session = self.full(max_time=60.0)
        self.crawl(60)
        self.assertBounded(CloseReason.MAX_TIME, session)

    def test_cut(self) -> None:
        """``on-remove=cut``, and the deadlines of drains."""
        for reason in (CloseReason.KILLED, CloseReason.DRAIN):
            self.setUp()
            session = self.full()
            session.cut(reason)
            self.crawl(30)
            session.cut(CloseReason.DRAIN)  # it does not begin anew
            self.assertIs(session.reason, reason)
            self.crawl(DELIVERY_LIMIT - 29)
            self.assertClosed(reason)

    def test_silence(self) -> None:
        """``idle``: who acknowledged nothing for so long, and a little from then on."""
        session = self.full(idle=90.0)
        self.wait(90.0)
        self.assertBounded(CloseReason.CLIENT_IDLE, session)

    def test_already_closing(self) -> None:
        """A session that one side has reset delivers for as long as it takes, unless a limit ends that."""
        for end in (lambda session: session.cut(CloseReason.DRAIN), lambda session: session.lasted()):
            self.setUp()
            session = self.full(max_time=1e9)
            self.upstream.resets()
            self.crawl(10 * DELIVERY_LIMIT)
            self.assertIs(session.state, State.CLOSING)
            end(session)
            self.crawl(DELIVERY_LIMIT + 1)
            self.assertClosed(CloseReason.UPSTREAM_RESET, Side.UPSTREAM)

    def test_kill(self) -> None:
        """An operator's ``kill`` waits for nobody, also where a limit has ended the session already."""
        session = self.full()
        session.cut(CloseReason.DRAIN)
        self.crawl(1)
        session.kill(CloseReason.KILLED)
        self.assertClosed(CloseReason.DRAIN)

    def test_delivered_in_time(self) -> None:
        """One whose readers take everything before is over then, and no timer is left."""
        session = self.full()
        session.cut(CloseReason.DRAIN)
        self.client.takes(1_000_000)
        self.upstream.takes(1_000_000)
        self.wait(1.0)
        self.assertClosed(CloseReason.DRAIN)


class HalfCloseTests(SessionCase):
    """One direction is over: silence in the other."""

    def test_upstream_silent(self) -> None:
        """The client has ended and the upstream is silent for half-close: ``sH``, both are reset."""
        self.relaying(half_close=60.0)
        self.clock.advance(500)
        self.client.ends()
        self.clock.advance(59.5)
        self.assertEqual(self.lines.reasons, [])
        self.clock.advance(0.5)
        self.assertAsked(self.client, "abort")
        self.assertAsked(self.upstream, "end", "abort")
        self.assertClosed(CloseReason.UPSTREAM_HALF_CLOSE_IDLE, Side.CLIENT)

    def test_client_silent(self) -> None:
        """The mirror: ``cH``."""
        self.relaying(half_close=60.0)
        self.upstream.ends()
        self.clock.advance(60)
        self.assertClosed(CloseReason.CLIENT_HALF_CLOSE_IDLE, Side.UPSTREAM)

    def test_dripping(self) -> None:
        """A byte a second in the open direction is never cut."""
        session = self.relaying(half_close=2.0)
        self.client.ends()
        for _ in range(600):
            self.clock.advance(1.0)
            self.upstream.speaks()
        self.assertIs(session.state, State.RELAYING)
        self.upstream.ends()
        self.assertClosed(CloseReason.NORMAL, Side.CLIENT)

    def test_silence_begins_with_the_end(self) -> None:
        """A connection that was silent for long gets all of half-close after its end."""
        session = self.relaying(half_close=10.0)
        self.clock.advance(3600)
        self.client.ends()
        self.clock.advance(9.9)
        self.assertIs(session.state, State.RELAYING)

    def test_idle_is_shorter(self) -> None:
        """With an idle limit below half-close the idle limit holds, and names the reason: ``sD``."""
        self.relaying(half_close=60.0, idle=5.0)
        self.client.ends()
        self.clock.advance(5.0)
        self.assertClosed(CloseReason.UPSTREAM_IDLE, Side.CLIENT)

    def test_idle_is_longer(self) -> None:
        """With an idle limit above half-close, half-close holds."""
        self.relaying(half_close=5.0, idle=60.0)
        self.upstream.ends()
        self.clock.advance(5.0)
        self.assertClosed(CloseReason.CLIENT_HALF_CLOSE_IDLE, Side.UPSTREAM)


class IdleTests(SessionCase):
    """Nobody says anything."""

    def test_nobody_ever_spoke(self) -> None:
        """The client was the one to speak: ``cD``."""
        self.relaying(idle=10.0)
        self.clock.advance(9.9)
        self.assertEqual(self.lines.reasons, [])
        self.clock.advance(0.1)
        self.assertAsked(self.client, "abort")
        self.assertAsked(self.upstream, "abort")
        self.assertClosed(CloseReason.CLIENT_IDLE, Side.CLIENT)

    def test_client_spoke_last(self) -> None:
        """The upstream owed an answer: ``sD``."""
        self.relaying(idle=10.0)
        self.upstream.speaks()
        self.clock.advance(4)
        self.client.speaks()
        self.clock.advance(6)
        self.assertEqual(self.lines.reasons, [])
        self.clock.advance(4)
        self.assertClosed(CloseReason.UPSTREAM_IDLE, Side.UPSTREAM)

    def test_upstream_spoke_last(self) -> None:
        """The client owed a question: ``cD``."""
        self.relaying(idle=10.0)
        self.client.speaks()
        self.clock.advance(1)
        self.upstream.speaks()
        self.clock.advance(10)
        self.assertClosed(CloseReason.CLIENT_IDLE, Side.CLIENT)

    def test_at_the_clocks_zero(self) -> None:
        """Bytes that come when the clock reads 0 are bytes: the client spoke, the upstream is asked."""
        self.clock = Clock()
        self.relaying(idle=10.0)
        self.client.speaks()
        self.clock.advance(10)
        self.assertClosed(CloseReason.UPSTREAM_IDLE, Side.UPSTREAM)

    def test_acknowledged(self) -> None:
        """Bytes that a peer acknowledges are movement, though no stream reads or writes."""
        session = self.relaying(idle=80.0)
        self.upstream.speaks()
        self.client.unsent = 50
        for _ in range(50):
            self.clock.advance(40)
            self.client.takes(1)
        self.assertIs(session.state, State.RELAYING)
        self.clock.advance(79)
        self.assertIs(session.state, State.RELAYING)
        self.clock.pump([10.0] * 10)
        self.assertClosed(CloseReason.CLIENT_IDLE, Side.CLIENT)
        self.assertEqual(self.lines.last.detail, "idle=80s")

    def test_slow_steps(self) -> None:
        """A limit shorter than the steps of a slow reader waits for them, and a minute after the last one."""
        session = self.relaying(idle=5.0)
        self.upstream.speaks()
        self.client.unsent = 3
        for _ in range(3):
            self.clock.pump([1.0] * 50)
            self.client.takes(1)
        self.clock.pump([1.0] * 58)
        self.assertIs(session.state, State.RELAYING)
        self.clock.pump([1.0] * 10)
        self.assertClosed(CloseReason.CLIENT_IDLE, Side.CLIENT)

    def test_paused_behind_an_end(self) -> None:
        """Half-close begins when the end has arrived; a reader may pause before it for any time."""
        session = self.relaying(half_close=60.0)
        self.client.speaks()
        self.client.ends()
        self.upstream.unsent = 3
        self.clock.pump([5.0] * 5000)
        self.assertIs(session.state, State.RELAYING)
        self.upstream.takes(2)
        self.clock.pump([5.0] * 5000)
        self.assertIs(session.state, State.RELAYING)
        self.upstream.takes(1)
        self.clock.pump([5.0] * 11)
        self.assertIs(session.state, State.RELAYING)
        self.clock.pump([5.0] * 3)
        self.assertClosed(CloseReason.UPSTREAM_HALF_CLOSE_IDLE, Side.CLIENT)

    def test_no_limit(self) -> None:
        """Without idle= nothing is cut, and no timer waits."""
        session = self.relaying()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.clock.advance(10_000_000)
        self.assertIs(session.state, State.RELAYING)

    def test_sums_of_seconds(self) -> None:
        """A limit whose sum with the time is inexact ends all the same, and not by a timer that spins."""
        self.clock.advance(1e9 + 0.123456789)
        self.relaying(idle=0.3)
        for _ in range(7):
            self.clock.advance(0.1)
        self.assertClosed(CloseReason.CLIENT_IDLE, Side.CLIENT)


class BrokenWriteTests(SessionCase):
    """One side takes no more: its flow is over, the other is read to its end."""

    def test_answer_during_upload(self) -> None:
        """
        An upstream answers, ends and refuses the rest of the upload: the whole answer arrives.

        The client is reset when it has acknowledged the answer and the end: ``SH``.
        """
        self.relaying()
        self.client.speaks()
        self.upstream.refuses()
        self.assertAsked(self.client, "discard")
        self.upstream.speaks()
        self.client.unsent = 5
        self.upstream.ends()
        self.assertEqual(self.lines.reasons, [])
        self.client.takes(5)
        self.assertAsked(self.upstream, "abort")
        self.assertAsked(self.client, "discard", "end", "abort")
        self.assertClosed(CloseReason.UPSTREAM_RESET_HALF_CLOSED, Side.UPSTREAM)
        self.assertEqual(self.lines.last.detail, "Connection reset by peer")

    def test_answer_ended_before(self) -> None:
        """The same when the end came before the refusal."""
        self.relaying()
        self.upstream.ends()
        self.client.unsent = 5
        self.upstream.refuses()
        self.assertAsked(self.client, "end", "discard")
        self.assertAsked(self.upstream, "abort")
        self.client.takes(5)
        self.wait(0.2)
        self.assertAsked(self.client, "end", "discard", "abort")
        self.assertClosed(CloseReason.UPSTREAM_RESET_HALF_CLOSED, Side.UPSTREAM)

    def test_upstream_resets_after_refusing(self) -> None:
        """What came before the reset is delivered, then the client is reset too."""
        self.relaying()
        self.upstream.refuses()
        self.client.unsent = 10
        self.upstream.resets()
        self.assertAsked(self.client, "discard", "discard")
        self.client.takes(10)
        self.wait(0.2)
        self.assertAsked(self.client, "discard", "discard", "abort")
        self.assertClosed(CloseReason.UPSTREAM_RESET, Side.UPSTREAM)

    def test_client_refuses(self) -> None:
        """A client that takes no more is still read to its end; then the upstream is reset: ``CD``."""
        self.relaying()
        self.client.refuses()
        self.assertAsked(self.upstream, "discard")
        self.client.speaks()
        self.client.ends()
        self.assertAsked(self.upstream, "discard", "end", "abort")
        self.assertClosed(CloseReason.CLIENT_RESET_HALF_CLOSED, Side.CLIENT)

    def test_upstream_ends_after_the_client_refused(self) -> None:
        """The client was reset while both directions were open, whatever the upstream does then: ``CD``."""
        self.relaying()
        self.client.refuses()
        self.upstream.ends()
        self.client.resets()
        self.assertClosed(CloseReason.CLIENT_RESET, Side.CLIENT)

    def test_client_refuses_after_its_end(self) -> None:
        """A client that ended and then takes no answer is over at once."""
        self.relaying()
        self.client.ends()
        self.client.refuses()
        self.assertAsked(self.upstream, "end", "abort")
        self.assertClosed(CloseReason.CLIENT_RESET_HALF_CLOSED, Side.CLIENT)

    def test_client_dies_after_the_upstreams_end(self) -> None:
        """A client that dies when the answer is out is read on; the upstream takes what it sent."""
        session = self.relaying(linger=5.0)
        self.upstream.ends()
        self.client.refuses()
        self.assertIs(session.state, State.RELAYING)
        self.wait(4.9)
        self.client.speaks()
        self.wait(4.9)
        self.assertIs(session.state, State.RELAYING)
        self.client.resets()
        self.assertAsked(self.upstream, "abort")
        self.assertClosed(CloseReason.CLIENT_RESET_HALF_CLOSED, Side.UPSTREAM)

    def test_reads_stand_still(self) -> None:
        """When nothing moves for linger after a refusal, both sides are reset: who refused is the reason."""
        self.relaying(linger=5.0, idle=3600.0)
        self.upstream.refuses()
        self.wait(4.9)
        self.upstream.speaks()
        self.wait(4.9)
        self.assertEqual(self.lines.reasons, [])
        self.wait(0.3)
        self.assertAsked(self.client, "discard", "abort")
        self.assertClosed(CloseReason.UPSTREAM_RESET, Side.UPSTREAM)

    def test_both_refuse(self) -> None:
        """Neither side takes bytes: ``BD``, nothing can be delivered."""
        self.relaying()
        self.client.refuses()
        self.upstream.refuses()
        self.assertAsked(self.client, "abort")
        self.assertAsked(self.upstream, "discard", "abort")
        self.assertClosed(CloseReason.BOTH_RESET, Side.CLIENT)

    def test_discard_tells_an_end_at_once(self) -> None:
        """A stream that finds its end while it is asked to discard ends the session once."""
        self.relaying()
        discard = self.client.discard

        def discard_and_end() -> None:
            discard()
            if not self.client.has_ended:
                self.client.ends()

        self.client.discard = discard_and_end  # type: ignore[method-assign]
        self.upstream.refuses()
        self.upstream.ends()
        self.assertClosed(CloseReason.UPSTREAM_RESET_HALF_CLOSED, Side.UPSTREAM)


class ResetTests(SessionCase):
    """A broken stream never looks complete."""

    def test_client_resets(self) -> None:
        """With nothing undelivered the upstream is reset at once: ``CD``."""
        self.relaying()
        self.client.resets()
        self.assertAsked(self.upstream, "abort")
        self.assertClosed(CloseReason.CLIENT_RESET, Side.CLIENT)
        self.assertEqual(self.lines.last.detail, "connection reset")

    def test_upstream_resets(self) -> None:
        """The mirror: ``SD``."""
        self.relaying()
        self.upstream.resets()
        self.assertAsked(self.client, "abort")
        self.assertClosed(CloseReason.UPSTREAM_RESET, Side.UPSTREAM)

    def test_reset_waits_for_bytes(self) -> None:
        """A reset goes out after what was received before it has been delivered."""
        self.relaying(linger=5.0)
        self.client.unsent = 1000
        self.upstream.resets()
        self.wait(4.0)
        self.assertAsked(self.client, "discard")
        self.client.takes(1000)
        self.wait(0.2)
        self.assertAsked(self.client, "discard", "abort")
        self.assertClosed(CloseReason.UPSTREAM_RESET, Side.UPSTREAM)

    def test_reset_soon_after_delivery(self) -> None:
        """A queue that empties in a round trip is noticed within milliseconds."""
        self.relaying()
        self.client.unsent = 1
        self.upstream.resets()
        self.client.takes(1)
        self.clock.advance(0.01)
        self.assertClosed(CloseReason.UPSTREAM_RESET, Side.UPSTREAM)

    def test_progress_extends_linger(self) -> None:
        """As long as some of it is taken within linger the rest is waited for."""
        self.relaying(linger=1.0)
        self.client.unsent = 20
        self.upstream.resets()
        for _ in range(20):
            self.assertAsked(self.client, "discard")
            self.wait(0.8)
            self.client.takes(1)
        self.wait(0.2)
        self.assertClosed(CloseReason.UPSTREAM_RESET, Side.UPSTREAM)

    def test_linger_cuts(self) -> None:
        """When nothing is taken for linger, the rest is dropped."""
        self.relaying(linger=1.0)
        self.client.unsent = 20
        self.upstream.resets()
        self.wait(0.9)
        self.assertAsked(self.client, "discard")
        self.wait(0.1 + LONGEST_LOOK)
        self.assertAsked(self.client, "discard", "abort")
        self.assertClosed(CloseReason.UPSTREAM_RESET, Side.UPSTREAM)

    def test_both_reset(self) -> None:
        """The other side resets before it could be told: ``BD``."""
        self.relaying()
        self.client.unsent = 20
        self.upstream.resets()
        self.client.resets()
        self.assertClosed(CloseReason.BOTH_RESET, Side.UPSTREAM)

    def test_reset_after_a_whole_answer(self) -> None:
        """An upstream that ended and then resets: the client has its answer and its end before the reset."""
        self.relaying()
        self.upstream.ends()
        self.client.unsent = 1
        self.upstream.resets()
        self.assertAsked(self.client, "end", "discard")
        self.client.takes(1)
        self.wait(0.2)
        self.assertAsked(self.client, "end", "discard", "abort")
        self.assertClosed(CloseReason.UPSTREAM_RESET_HALF_CLOSED, Side.UPSTREAM)

    def test_reset_after_the_clients_end(self) -> None:
        """A client that ended and then resets takes no answer: the upstream is reset."""
        self.relaying()
        self.client.ends()
        self.upstream.speaks()
        self.client.resets()
        self.assertAsked(self.upstream, "end", "abort")
        self.assertClosed(CloseReason.CLIENT_RESET_HALF_CLOSED, Side.CLIENT)

    def test_end_behind_a_reset_is_nothing(self) -> None:
        """What else a side says while it is seen off does not change the reason."""
        self.relaying()
        self.client.unsent = 20
        self.upstream.resets()
        self.client.ends()
        self.client.refuses()
        self.wait(0.2)
        self.assertClosed(CloseReason.UPSTREAM_RESET, Side.UPSTREAM)


class DialTests(SessionCase):
    """Before there is an upstream."""

    def test_client_gone(self) -> None:
        """A client that resets while dialling ends the dial: ``CC``, with the address that was tried."""
        self.dialling()
        self.client.resets()
        self.assertTrue(self.dials[0].cancelled)
        self.assertClosed(CloseReason.CLIENT_GONE_EARLY, Side.CLIENT)
        self.assertEqual(self.lines.last.upstream, UPSTREAM)
        self.assertIsNone(self.lines.last.connect_time)

    def test_client_refuses(self) -> None:
        """A client that died is seen though it is not read."""
        self.dialling()
        self.client.refuses()
        self.assertEqual(self.client.calls, ["own", "abort"])
        self.assertClosed(CloseReason.CLIENT_GONE_EARLY, Side.CLIENT)

    def test_bytes_before_a_reset(self) -> None:
        """
        Unread bytes of a client that died are delivered to the upstream, which is reset then.

        What the upstream sends meanwhile is dropped.
        """
        self.dialling()
        self.client.has_spoken = True
        self.client.refuses()
        self.assertEqual((self.dials[0].cancelled, self.lines.reasons), (False, []))
        upstream = FakeStream(self.clock, UPSTREAM)
        self.dials[0].succeeds(upstream)
        self.assertEqual(upstream.calls[:3], ["own", "join", "discard"])
        self.client.resets()
        self.assertEqual(upstream.calls[-1], "abort")
        self.assertClosed(CloseReason.CLIENT_RESET, Side.CLIENT)

    def test_bytes_before_a_reset_and_a_dial_that_fails(self) -> None:
        """The reason is that of the dial: it says why the bytes reached nobody."""
        self.dialling()
        self.client.has_spoken = True
        self.client.refuses()
        self.dials[0].fails(ConnectRefused("refused"))
        self.assertClosed(CloseReason.CONNECT_REFUSED, Side.CLIENT)

    def test_client_closed(self) -> None:
        """A client whose transport knows no half-close is gone with its close."""
        self.dialling()
        self.client.loses(Loss.ORDERLY)
        self.assertClosed(CloseReason.CLIENT_GONE_EARLY, Side.CLIENT)

    def test_lost_before_it_is_owned(self) -> None:
        """A client that was gone before the session began is not dialled for."""
        self.dialling()
        gone = FakeStream(self.clock)
        gone.lost_before = Loss.RESET
        self.accept(gone)
        self.assertEqual(len(self.dials), 1)
        self.assertEqual(self.lines.reasons, [CloseReason.CLIENT_GONE_EARLY])

    def test_end_before_the_upstream(self) -> None:
        """An end that waits in the client's stream travels as soon as the upstream is there."""
        self.dialling()
        start = self.client.start

        def start_and_end() -> None:
            start()
            self.client.ends()

        self.client.start = start_and_end  # type: ignore[method-assign]
        self.upstream = FakeStream(self.clock, UPSTREAM)
        self.dials[0].succeeds(self.upstream)
        self.assertEqual(self.upstream.calls, ["own", "join", "end", "start"])
        self.upstream.ends()
        self.assertClosed(CloseReason.NORMAL, Side.CLIENT)

    def test_upstream_lost_at_once(self) -> None:
        """An upstream that resets between its connection and its session: opened, then ``SD``."""
        self.dialling()
        self.upstream = FakeStream(self.clock, UPSTREAM)
        self.upstream.lost_before = Loss.RESET
        self.dials[0].succeeds(self.upstream)
        self.assertEqual(self.client.calls, ["own", "abort"])
        self.assertEqual(len(self.lines.opened_lines), 1)
        self.assertClosed(CloseReason.UPSTREAM_RESET, Side.UPSTREAM)

    def test_client_lost_at_its_first_read(self) -> None:
        """A client whose first read is its reset: the upstream is not even read."""
        self.dialling()

        def start() -> None:
            self.client.resets()

        self.client.start = start  # type: ignore[method-assign]
        self.upstream = FakeStream(self.clock, UPSTREAM)
        self.dials[0].succeeds(self.upstream)
        self.assertEqual(self.upstream.calls, ["own", "join", "abort"])
        self.assertClosed(CloseReason.CLIENT_RESET, Side.CLIENT)

    def test_dial_failed(self) -> None:
        """Each failure of the dial has its reason; the client is reset, the line has the text."""
        for problem, reason in (
            (ConnectRefused("refused"), CloseReason.CONNECT_REFUSED),
            (ConnectFailed("no route"), CloseReason.CONNECT_REFUSED),
            (DialError("whatever"), CloseReason.CONNECT_REFUSED),
            (ConnectTimedOut("slow"), CloseReason.CONNECT_TIMEOUT),
            (NameNotResolved("who"), CloseReason.NAME_NOT_RESOLVED),
            (TLSFailed("not who it should be"), CloseReason.TLS_FAILED),
            (OutOfResources("no descriptor"), CloseReason.RESOURCES),
        ):
            self.assertIs(reason_of(problem), reason)
            self.setUp()
            self.dialling()
            self.dials[0].fails(problem)
            self.assertEqual(self.client.calls, ["own", "abort"])
            self.assertClosed(reason)
            self.assertEqual(self.lines.last.detail, str(problem))
            self.assertEqual(self.lines.last.upstream, UPSTREAM)

    def test_dial_broke(self) -> None:
        """A mistake in the dial is ``ID``, with a traceback in the log."""
        self.dialling()
        try:
            raise Fault("dial")
        except Fault:
            from twisted.python.failure import Failure

            self.dials[0].owner.broke(Failure())
        self.assertClosed(CloseReason.INTERNAL)
        self.assertEqual(len(self.flushLoggedErrors(Fault)), 1)


class RefusalTests(SessionCase):
    """Clients that may not come in."""

    DENY = (AclEntry(False, "192.0.2.*"),)

    def test_denied(self) -> None:
        """A refused client gets an end, not a reset, and is read out: ``AC``; no dial."""
        self.dialling(access=self.DENY)
        self.assertEqual(self.dials, [])
        self.assertEqual(self.client.calls, ["own", "end", "discard"])
        self.client.ends()
        self.assertEqual(self.client.calls, ["own", "end", "discard", "close"])
        self.assertClosed(CloseReason.ACCESS)
        self.assertEqual(self.lines.last.access_step, 4)
        self.assertIsNone(self.lines.last.upstream)

    def test_denied_by_reset(self) -> None:
        """With on-deny=rst it is a reset."""
        self.dialling(access=self.DENY, on_deny=OnDeny.RST)
        self.assertEqual(self.client.calls, ["own", "abort"])
        self.assertClosed(CloseReason.ACCESS)

    def test_refused_client_that_stays(self) -> None:
        """A refused client that does not end is reset after linger, however much it sends."""
        self.dialling(access=self.DENY, linger=1.0)
        for _ in range(12):
            self.client.speaks()
            self.wait(0.1)
        self.assertEqual(self.client.calls, ["own", "end", "discard", "abort"])
        self.assertClosed(CloseReason.ACCESS)

    def test_allowed(self) -> None:
        """Who is not denied is dialled for."""
        self.dialling(access=(AclEntry(False, "10.0.0.1"),))
        self.assertTrue(self.dials[0].started)

    def test_clients_without_an_address(self) -> None:
        """A client of a unix socket has no address that a list could judge."""
        self.dialling(access=self.DENY)
        self.accept(FakeStream(self.clock, UnixAddress("")))
        self.assertEqual(len(self.dials), 1)

    def test_max_conns(self) -> None:
        """Beyond max-conns clients are refused with ``LC``, and let in again when one has left."""
        self.relaying(max_conns=1)
        second = FakeStream(self.clock)
        self.accept(second)
        self.assertEqual(second.calls, ["own", "end", "discard"])
        second.ends()
        self.assertEqual(self.lines.reasons, [CloseReason.LIMIT])
        self.assertEqual(self.lines.last.detail, "max-conns=1")
        self.assertEqual(len(self.dials), 1)
        self.client.resets()
        self.accept(FakeStream(self.clock))
        self.assertEqual(len(self.dials), 2)

    def test_refused_do_not_count(self) -> None:
        """A refused client that lingers takes nobody's place."""
        self.dialling(max_conns=2)
        self.accept(FakeStream(self.clock))
        third, fourth = FakeStream(self.clock), FakeStream(self.clock)
        self.accept(third)
        self.client.resets()
        self.accept(fourth)
        self.assertEqual(third.calls, ["own", "end", "discard"])
        self.assertEqual(fourth.calls, ["own"])


class CutTests(SessionCase):
    """Sessions that somebody else ends."""

    def test_kill_while_relaying(self) -> None:
        """Both sides are reset: ``KD``."""
        session = self.relaying()
        self.client.unsent = 100
        session.kill(CloseReason.KILLED)
        self.assertAsked(self.client, "abort")
        self.assertAsked(self.upstream, "abort")
        self.assertClosed(CloseReason.KILLED)
        self.assertEqual(self.lines.last.detail, "100 bytes for the client were not acknowledged")

    def test_kill_while_dialling(self) -> None:
        """The dial is cancelled; the drain deadline's reason is ``TD``."""
        session = self.dialling()
        session.kill(CloseReason.DRAIN)
        self.assertTrue(self.dials[0].cancelled)
        self.assertEqual(self.client.calls, ["own", "abort"])
        self.assertClosed(CloseReason.DRAIN)

    def test_cut_delivers_first(self) -> None:
        """A deadline resets a side when it has acknowledged what is for it: ``TD``."""
        session = self.relaying()
        self.client.unsent = 100
        session.cut(CloseReason.DRAIN)
        self.assertAsked(self.upstream, "abort")
        self.assertAsked(self.client, "discard")
        session.cut(CloseReason.KILLED)
        self.client.takes(100)
        self.wait(0.2)
        self.assertAsked(self.client, "discard", "abort")
        self.assertClosed(CloseReason.DRAIN)

    def test_cut_of_a_reader_that_stands_still(self) -> None:
        """One that acknowledges nothing for linger is reset, and the log says what it missed."""
        session = self.relaying(linger=2.0)
        self.client.unsent = 100
        session.cut(CloseReason.DRAIN)
        self.wait(2.3)
        self.assertAsked(self.client, "discard", "abort")
        self.assertClosed(CloseReason.DRAIN)
        self.assertEqual(self.lines.last.detail, "100 bytes for the client were not acknowledged")

    def test_cut_while_dialling(self) -> None:
        """There is nothing to deliver: the client is reset."""
        session = self.dialling()
        session.cut(CloseReason.DRAIN)
        self.assertEqual(self.client.calls, ["own", "abort"])
        self.assertClosed(CloseReason.DRAIN)

    def test_kill_while_closing(self) -> None:
        """A session that delivers its last bytes is cut, but its reason was fixed before."""
        session = self.relaying()
        self.client.unsent = 100
        self.upstream.resets()
        session.kill(CloseReason.DRAIN)
        self.assertAsked(self.client, "discard", "abort")
        self.assertClosed(CloseReason.UPSTREAM_RESET, Side.UPSTREAM)
        detail = "connection reset; 100 bytes for the client were not acknowledged"
        self.assertEqual(self.lines.last.detail, detail)

    def test_kill_when_closed(self) -> None:
        """Nothing happens."""
        session = self.relaying()
        session.kill(CloseReason.KILLED)
        session.kill(CloseReason.DRAIN)
        self.assertClosed(CloseReason.KILLED)

    def test_stream_out_of_memory(self) -> None:
        """A stream for which the kernel has no memory left ends its session alone: ``RC``."""
        self.relaying()
        self.client.loses(Loss.EXHAUSTED, "no buffer space")
        self.assertAsked(self.upstream, "abort")
        self.assertClosed(CloseReason.RESOURCES)
        self.assertEqual(self.lines.last.detail, "no buffer space")


class MistakeTests(SessionCase):
    """Exceptions: ``ID``, a traceback in the log, and nobody else is harmed."""

    def test_stream_failed(self) -> None:
        """A stream that says our code failed: both sides are reset."""
        self.relaying()
        self.client.loses(Loss.FAILED, "boom")
        self.assertAsked(self.upstream, "abort")
        self.assertClosed(CloseReason.INTERNAL)
        self.assertEqual(self.lines.last.detail, "boom")

    def test_abort_that_nobody_asked_for(self) -> None:
        """A stream that somebody of ours aborted behind the session's back is our mistake."""
        self.relaying()
        self.upstream.loses(Loss.ABORTED)
        self.assertClosed(CloseReason.INTERNAL)

    def test_every_request_may_raise(self) -> None:
        """Whatever a stream raises at, the session is closed with ``ID``."""
        for name in ("own", "join", "start", "end", "discard", "close"):
            for who in ("client", "upstream"):
                with self.subTest(name=name, who=who):
                    self.setUp()
                    self.check_fault(name, who)

    def check_fault(self, name: str, who: str) -> None:
        """A conversation that asks everything of both sides, one of which breaks at `name`."""
        self.rule = a_live_rule(self.clock, self.lines)
        self.client, self.upstream = FakeStream(self.clock), FakeStream(self.clock, UPSTREAM)
        (self.client if who == "client" else self.upstream).faults.add(name)
        self.accept(self.client)
        if self.dials:
            self.dials[0].succeeds(self.upstream)
        if not self.lines.reasons and name in ("discard", "end"):
            other = self.upstream if who == "client" else self.client
            if name == "discard":
                other.refuses()
            else:
                other.ends()
        if not self.lines.reasons:
            self.client.ends()
            self.upstream.ends()
        self.assertEqual(self.lines.reasons, [CloseReason.INTERNAL])
        self.assertEqual(self.closed_calls, 1)
        self.assertEqual(self.rule.sessions, {})
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(len(self.flushLoggedErrors(Fault)), 1)

    def test_abort_raises(self) -> None:
        """A stream that cannot even be aborted is given up; the session closes all the same."""
        self.relaying()
        self.upstream.faults.add("abort")
        self.client.resets()
        self.assertEqual(self.lines.reasons, [CloseReason.INTERNAL])
        self.assertEqual(self.closed_calls, 1)
        self.assertEqual(len(self.flushLoggedErrors(Fault)), 2)
        self.upstream.loses(Loss.RESET)
        self.assertClosed(CloseReason.INTERNAL, Side.CLIENT)

    def test_timer_raises(self) -> None:
        """A stream that raises when its send queue is looked at, from a timer."""
        self.relaying()
        self.client.unsent = 1
        self.upstream.resets()
        self.client.faults.add("undelivered")
        self.wait(0.2)
        self.assertEqual(self.lines.reasons, [CloseReason.INTERNAL])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(len(self.flushLoggedErrors(Fault)), 1)

    def test_dial_cannot_be_cancelled(self) -> None:
        """A dial that raises when it is cancelled does not keep its session."""
        self.dialling()
        self.dials[0].fault = True
        self.client.resets()
        self.assertEqual(self.lines.reasons, [CloseReason.INTERNAL])
        self.assertEqual(len(self.flushLoggedErrors(Fault)), 1)

    def test_both_are_broken(self) -> None:
        """A session whose dial cannot be cancelled and which breaks before that."""
        session = self.dialling()
        self.dials[0].fault = True
        try:
            raise Fault("first")
        except Fault:
            from twisted.python.failure import Failure

            session.broke(Failure())
            session.broke(Failure())
        self.assertEqual(self.lines.reasons, [CloseReason.INTERNAL])
        self.assertEqual(len(self.flushLoggedErrors(Fault)), 3)

    def test_log_raises_at_the_end(self) -> None:
        """A log that breaks its promise costs its line, never a descriptor."""
        self.relaying()
        self.lines.fault = True
        self.client.resets()
        self.assertEqual(self.closed_calls, 1)
        self.assertEqual(self.rule.sessions, {})
        self.assertEqual(len(self.flushLoggedErrors(Fault)), 1)

    def test_log_raises_at_the_opening(self) -> None:
        """And its session goes on."""
        self.lines.fault = True
        self.relaying()
        self.assertEqual(len(self.flushLoggedErrors(Fault)), 1)

    def test_bytes_cannot_be_counted(self) -> None:
        """A stream that cannot sum up its flow costs the count, not the line."""
        self.relaying()
        self.upstream.faults.add("summary")
        self.client.resets()
        self.assertEqual(self.lines.last.to_client, FlowSummary(bytes=7))
        self.assertEqual(self.lines.last.to_upstream, FlowSummary())
        self.assertClosed(CloseReason.CLIENT_RESET, Side.CLIENT)
        self.assertEqual(len(self.flushLoggedErrors(Fault)), 1)


class SummaryTests(SessionCase):
    """What the lines say."""

    def test_times(self) -> None:
        """Connect time, time to first byte and duration are told apart."""
        self.dialling()
        self.clock.advance(0.5)
        self.upstream = FakeStream(self.clock, UPSTREAM)
        self.dials[0].succeeds(self.upstream)
        opened = self.lines.opened_lines[0]
        self.assertEqual((opened.reason, opened.connect_time), (None, 0.5))
        self.clock.advance(0.25)
        self.upstream.speaks()
        self.clock.advance(1.0)
        self.client.resets()
        line = self.lines.last
        self.assertEqual((line.connect_time, line.first_byte, line.duration), (0.5, 0.25, 1.75))
        self.assertEqual(line.opened_at, 1_000_100.0)

    def test_who_and_where(self) -> None:
        """Addresses, names and flows."""
        self.relaying()
        self.client.resets()
        line = self.lines.last
        self.assertEqual((line.id, line.rule, line.relay), (1, "web", "fake"))
        self.assertEqual((line.client, line.upstream), (CLIENT, UPSTREAM))
        self.assertEqual(line.local, InetAddress("192.0.2.1", 8080))
        self.assertEqual(line.written, ("192.0.2.1", "8080", UPSTREAM.host, "80"))
        self.assertEqual((line.to_upstream, line.to_client), (FlowSummary(bytes=7), FlowSummary(bytes=7)))
        self.assertIsNone(line.first_byte)

    def test_tcp_info(self) -> None:
        """With ``tcp-info=on`` the closing line has what the kernel told of both sides at last."""
        for on in (True, False):
            session = self.relaying(tcp_info=on)
            self.assertIsNone(session.summary().tcp_info)
            self.client.info, self.upstream.info = b"client", b"upstream"
            self.assertEqual((session.reached, session.tcp_info()), (True, (b"client", b"upstream")))
            self.client.resets()
            self.assertEqual(self.lines.last.tcp_info, (b"client", b"upstream") if on else None)
            self.dials.clear()
            self.lines = SessionLines()

    def test_tcp_info_of_none(self) -> None:
        """A session without an upstream tells of neither side."""
        session = self.dialling(tcp_info=True)
        self.client.info = b"client"
        self.assertEqual((session.reached, session.tcp_info()), (False, (b"client", b"")))
        self.dials[0].fails(ConnectRefused("refused"))
        self.assertIsNone(self.lines.last.tcp_info)

    def test_never_relayed(self) -> None:
        """Without an upstream there are no bytes and no relay."""
        self.dialling()
        self.dials[0].fails(ConnectRefused("refused"))
        self.assertEqual(self.lines.last.to_upstream, FlowSummary())
        self.assertEqual(self.lines.last.relay, "")

    def test_unwanted_lines(self) -> None:
        """A log that wants no lines is not given any."""
        self.lines.wants_opened = self.lines.wants_closed = False
        self.relaying()
        self.client.resets()
        self.assertEqual((self.lines.opened_lines, self.lines.closed_lines), ([], []))
        self.assertEqual(self.closed_calls, 1)

    def test_repr(self) -> None:
        """One line says who, where and how it stands."""
        session = self.relaying()
        self.assertEqual(repr(session), f"<Session 1 web {CLIENT} -> {UPSTREAM} relaying>")
        self.client.resets()
        self.assertEqual(repr(session), f"<Session 1 web {CLIENT} -> {UPSTREAM} closed CD>")
        session = self.accept(FakeStream(self.clock, None))
        self.assertEqual(repr(session), "<Session 2 web None -> - dialing>")
        session.opened(self.client)
        self.assertIs(session.state, State.DIALING)


class HandshakeTests(SessionCase):
    """A client that speaks TLS to us is judged first, shakes hands, and is dialled for then."""

    def shaking(self, *, access: tuple[AclEntry, ...] = (), **options: Any) -> Session:
        """A session whose client has not finished its handshake."""
        self.rule = a_live_rule(self.clock, self.lines, changed(None, **options), access)
        self.client = FakeStream(self.clock)
        self.client.handshaking = "the peer said nothing"
        return self.accept(self.client)

    def counts(self) -> tuple[int, int]:
        """How many clients are silent, and how many in their handshakes."""
        return self.rule.handshakes.silent, self.rule.handshakes.begun

    def another(self, host: str = "192.0.2.8") -> Session:
        """One more client that says nothing."""
        client = FakeStream(self.clock, InetAddress(host, 40000))
        client.handshaking = "the peer said nothing"
        return self.accept(client)

    def opens(self, session: Session) -> None:
        """The handshake is through."""
        self.client.handshaking = ""
        session.opened(self.client)

    def test_good(self) -> None:
        """The dial waits for the handshake, and its time counts from there."""
        session = self.shaking()
        self.assertEqual((session.state, self.dials, self.counts()), (State.HANDSHAKING, [], (1, 0)))
        session.began(self.client)
        self.assertEqual(self.counts(), (0, 1))
        self.clock.advance(2.0)
        self.opens(session)
        self.assertEqual((session.state, len(self.dials), self.counts()), (State.DIALING, 1, (0, 0)))
        session.began(self.client)
        self.assertEqual(self.counts(), (0, 0))
        self.clock.advance(20.0)
        self.assertIs(session.reason, None, "its time limit is over")
        session.opened(self.client)
        self.assertIs(session.state, State.DIALING)
        self.dials[0].succeeds(FakeStream(self.clock, UPSTREAM))
        self.assertEqual(session.summary().connect_time, 20.0)

    def test_failed(self) -> None:
        """A handshake that fails has a reason of its own, and the log says why."""
        session = self.shaking()
        self.client.loses(Loss.RESET, "TLS handshake: no cipher that both sides have")
        self.assertIs(session.reason, CloseReason.CLIENT_TLS_FAILED)
        self.assertEqual(session.summary().detail, "TLS handshake: no cipher that both sides have")
        self.assertEqual((session.state, self.counts(), self.dials), (State.CLOSED, (0, 0), []))

    def test_reset(self) -> None:
        """So has one whose client takes no more."""
        session = self.shaking()
        session.writing_failed(self.client, "Connection reset by peer")
        self.assertIs(session.reason, CloseReason.CLIENT_TLS_FAILED)

    def test_too_slow(self) -> None:
        """One that takes too long is reset, and the log says how far it was."""
        session = self.shaking()
        self.clock.advance(9.9)
        self.assertIs(session.reason, None)
        self.clock.advance(0.1)
        self.assertIs(session.reason, CloseReason.CLIENT_TLS_TIMEOUT)
        self.assertEqual(session.summary().detail, "no TLS handshake within 10 s: the peer said nothing")
        self.assertEqual((self.client.calls[-1], self.counts()), ("abort", (0, 0)))

    def test_judged_first(self) -> None:
        """Who may not come in is refused without a handshake."""
        session = self.shaking(access=(AclEntry(False, "*"),))
        self.assertIs(session.reason, CloseReason.ACCESS)
        self.assertEqual(self.counts(), (0, 0))

    def test_killed(self) -> None:
        """An operator ends a handshake as well."""
        session = self.shaking()
        session.kill(CloseReason.KILLED)
        self.assertIs(session.reason, CloseReason.KILLED)
        self.assertEqual(self.counts(), (0, 0))

    def test_too_many(self) -> None:
        """At the bound the oldest silent client is reset, and the newest one is served."""
        first = self.shaking()
        self.rule.handshakes = Handshakes(2, 2)
        self.rule.handshakes.arrived(first, "192.0.2.7")
        second, third = self.another(), self.another("192.0.2.9")
        self.assertIs(first.reason, CloseReason.LIMIT)
        self.assertIn("2 clients had not begun their TLS handshakes", first.summary().detail)
        self.assertEqual(self.client.calls[-1], "abort")
        self.assertEqual((second.reason, third.reason, self.counts()), (None, None, (2, 0)))

    def test_limit_of_sessions(self) -> None:
        """A silent client does not keep others out at max-conns: it is dropped for the next one."""
        first = self.shaking(max_conns=2)
        second = self.another()
        second.began(second.streams[0] or self.client)
        third = self.another("192.0.2.9")
        self.assertIs(first.reason, CloseReason.LIMIT)
        self.assertIn("a limit of sessions", first.summary().detail)
        self.assertEqual((second.reason, third.reason), (None, None))
        third.began(third.streams[0] or self.client)
        fourth = self.another("192.0.2.10")
        self.assertIs(fourth.reason, CloseReason.LIMIT, "nobody is silent any more")
        self.assertEqual(fourth.summary().detail, "max-conns=2")
