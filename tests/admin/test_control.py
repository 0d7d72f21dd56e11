"""Tests of the control socket's conversation: one request after the other, and clients that misbehave."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import LogLevel, capturedLogs
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from portfwd.admin.commands import COMMANDS
from portfwd.admin.control import IDLE, MAX_WAITING, STUCK, ControlProtocol
from portfwd.admin.requests import MAX_LINE
from portfwd.admin.turns import SLICE, Turns
from portfwd.rules.admin_lines import Level
from tests.admin.fakes import FakeOperator, FakeSession, objects, one_turn


class Wire(StringTransport):
    """The client's side: what it got, and whether it reads."""

    aborted = False

    def abortConnection(self) -> None:
        self.aborted = True
        self.disconnecting = True

    def unregisterProducer(self) -> None:
        self.producer = None


class Conversation:
    """A protocol, its clock and its wire."""

    def __init__(self, operator: FakeOperator, level: Level = Level.OPERATOR) -> None:
        self.clock = Clock()
        self.wire = Wire()
        self.protocol = ControlProtocol(operator, level, self.clock, "uid 0")
        self.protocol.makeConnection(self.wire)

    def say(self, *lines: str) -> None:
        """Send requests, and let them be served."""
        self.protocol.dataReceived("".join(f"{line}\n" for line in lines).encode())
        self.turn()

    def turn(self) -> None:
        for _ in range(6):
            self.clock.advance(0)

    def heard(self) -> list[dict[str, Any]]:
        """What came since the last time, the greeting left out."""
        found = objects(self.wire.value())
        self.wire.clear()
        return [one for one in found if "portfwd" not in one]

    def leave(self) -> None:
        self.protocol.connectionLost(Failure(ConnectionDone()))


class ConversationTests(SynchronousTestCase):
    """Requests and their answers."""

    def setUp(self) -> None:
        self.operator = FakeOperator(FakeSession(1))
        self.talk = Conversation(self.operator)

    def test_greeting(self) -> None:
        """The socket speaks first: its version, its protocol, what may be asked."""
        (greeting,) = objects(self.talk.wire.value())
        self.assertEqual(greeting, {"portfwd": "1.2.3", "protocol": 1, "level": "operator"})
        self.assertEqual(repr(self.talk.protocol), "<ControlProtocol uid 0 operator idle>")

    def test_answers(self) -> None:
        """Each request gets its answer, in order; blank lines get none, CRLF is a line's end too."""
        self.talk.protocol.dataReceived(b"status\r\n\n  \nsessions\n")
        self.talk.turn()
        one, two = self.talk.heard()
        self.assertEqual(one, {"ok": True, "result": {"state": "running"}})
        self.assertEqual(two["result"]["count"], 1)

    def test_split_anywhere(self) -> None:
        """It does not matter in which pieces a request comes."""
        for byte in b"log-level\n":
            self.talk.protocol.dataReceived(bytes([byte]))
        self.talk.turn()
        self.assertEqual(self.talk.heard(), [{"ok": True, "result": {"level": "info"}}])

    def test_refusals(self) -> None:
        """What is not understood or cannot be done is refused, and the conversation goes on."""
        self.talk.say("xyzzy", 'session "1', "session 9", "status")
        found = self.talk.heard()
        self.assertEqual(
            [one.get("error") for one in found], ["unknown-command", "bad-request", "not-found", None]
        )

    def test_accident(self) -> None:
        """An error of ours is one, and says so; the log has the rest, and the conversation goes on."""
        self.operator.broken = ZeroDivisionError("oh")
        self.talk.say("status")
        self.operator.broken = None
        self.talk.say("status")
        self.assertEqual([one.get("error") for one in self.talk.heard()], ["internal", None])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_steering_is_logged(self) -> None:
        """The log has who changed what; looking is nobody's business."""
        with capturedLogs() as events:
            self.talk.say("status", "kill 1")
        texts = [event["line"] for event in events]
        self.assertEqual(texts, ["kill 1"])
        self.assertEqual(events[0]["who"], "uid 0")

    def test_next_line_ends_watching(self) -> None:
        """What goes on is ended by the next request, which is then served."""
        self.talk.say("top")
        self.assertIn("serving", repr(self.talk.protocol))
        self.talk.say("status")
        event, result, status = self.talk.heard()
        self.assertIn("event", event)
        self.assertEqual(result["result"]["looks"], 1)
        self.assertEqual(status["result"], {"state": "running"})

    def test_pipelined_watching(self) -> None:
        """A request that stands behind one that goes on lets that have one look."""
        self.talk.say("top", "status")
        self.assertEqual(
            [list(one) for one in self.talk.heard()], [["event"], ["ok", "result"], ["ok", "result"]]
        )

    def test_finish(self) -> None:
        """What is served when the forwarder is gone is answered before the end, and nothing else is."""
        self.talk.protocol.dataReceived(b"sessions\nstatus\n")
        self.talk.protocol.finish()
        self.assertFalse(self.talk.wire.disconnecting)
        self.talk.turn()
        self.assertEqual([list(one["result"]) for one in self.talk.heard()], [["count", "start", "sessions"]])
        self.assertTrue(self.talk.wire.disconnecting)

    def test_finish_of_who_waits(self) -> None:
        """Who asks nothing, or looks on, is let go at once."""
        for line in ("", "top"):
            talk = Conversation(self.operator)
            talk.say(line)
            talk.protocol.finish()
            talk.turn()
            self.assertTrue(talk.wire.disconnecting)

    def test_end(self) -> None:
        """Who has asked everything and ends gets the answers, then the end; a last line may be open."""
        self.talk.protocol.dataReceived(b"sessions\nstatus")
        self.talk.protocol.readConnectionLost()
        self.talk.turn()
        self.assertEqual(len(self.talk.heard()), 2)
        self.assertTrue(self.talk.wire.disconnecting)
        self.assertFalse(self.talk.wire.aborted)
        self.talk.protocol.writeConnectionLost()
        self.talk.protocol.dataReceived(b"status\n")
        self.assertEqual(self.talk.heard(), [])

    def test_watch_after_end(self) -> None:
        """Who ends and still reads can watch on."""
        self.talk.protocol.dataReceived(b"top")
        self.talk.protocol.readConnectionLost()
        self.talk.turn()
        self.talk.clock.advance(1)
        self.talk.turn()
        self.assertEqual(len(self.talk.heard()), 2)
        self.assertFalse(self.talk.wire.disconnecting)

    def test_left(self) -> None:
        """Who leaves in the middle leaves nothing behind."""
        self.talk.say("top")
        self.talk.leave()
        self.talk.turn()
        self.assertEqual(self.talk.clock.getDelayedCalls(), [])
        self.assertIn("gone", repr(self.talk.protocol))
        self.assertFalse(self.talk.wire.disconnecting)
        self.talk.protocol.dataReceived(b"status\n")

    def test_left_while_served(self) -> None:
        """An answer that nobody is there for any more is not written."""
        self.talk.protocol.dataReceived(b"sessions\n")
        self.talk.wire.clear()
        self.talk.leave()
        self.talk.turn()
        self.assertEqual(self.talk.heard(), [])
        self.assertEqual(self.talk.clock.getDelayedCalls(), [])

    def test_unwritable(self) -> None:
        """An answer that cannot be sent ends the conversation, and the log tells of it."""
        for line in ("status", "sessions"):
            talk = Conversation(self.operator)

            def break_(data: bytes) -> None:
                raise ZeroDivisionError

            talk.wire.write = break_  # type: ignore[method-assign]
            talk.say(line)
            self.assertTrue(talk.wire.aborted)
            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1, line)


class MisbehaviourTests(SynchronousTestCase):
    """Clients that are slow, greedy or hostile."""

    def setUp(self) -> None:
        self.talk = Conversation(FakeOperator(FakeSession(1)))

    def test_stuck(self) -> None:
        """Who does not read is served nothing more, and dropped after a while, with a line in the log."""
        self.talk.protocol.pauseProducing()
        self.talk.wire.clear()
        self.talk.say("status", "status")
        self.assertEqual(self.talk.heard(), [])
        self.assertIn("stuck", repr(self.talk.protocol))
        with capturedLogs() as events:
            self.talk.clock.advance(STUCK)
        self.assertTrue(self.talk.wire.aborted)
        self.assertEqual([event["log_level"] for event in events], [LogLevel.warn])

    def test_many_at_once(self) -> None:
        """Requests that come by the thousand are served a few in a turn: traffic goes on between them."""
        clock, operator = self.talk.clock, FakeOperator()
        turns = Turns(clock)
        wires = []
        for _ in range(3):
            protocol = ControlProtocol(operator, Level.READ, clock, "uid 0", turns)
            protocol.makeConnection(wire := Wire())
            wires.append(wire)
            wire.clear()
            protocol.dataReceived(b"status\n" * 1000)

        def slow() -> dict[str, Any]:
            clock.rightNow += SLICE
            return {}

        operator.status = slow  # type: ignore[method-assign]
        for turn in range(5):
            self.assertEqual(sum(wire.value().count(b"\n") for wire in wires), turn)
            one_turn(clock)

    def test_reads_again(self) -> None:
        """Who reads at last is answered."""
        self.talk.protocol.pauseProducing()
        self.talk.say("status")
        self.talk.clock.advance(STUCK - 1)
        self.talk.protocol.resumeProducing()
        self.talk.turn()
        self.assertEqual(len(self.talk.heard()), 1)
        self.talk.clock.advance(2)
        self.assertFalse(self.talk.wire.aborted)

    def test_stuck_in_an_answer(self) -> None:
        """A client whose answer fills the socket has as long as any other."""
        write = self.talk.wire.write

        def full(data: bytes) -> None:
            write(data)
            self.talk.protocol.pauseProducing()

        self.talk.wire.write = full  # type: ignore[method-assign]
        for line in ("status", "sessions"):
            self.talk.say(line)
            self.talk.clock.advance(STUCK - 1)
            self.assertFalse(self.talk.wire.aborted)
            self.talk.protocol.resumeProducing()
        self.talk.say("sessions")
        self.talk.clock.advance(STUCK + 1)
        self.assertTrue(self.talk.wire.aborted)

    def test_slow_watcher(self) -> None:
        """What goes on writes nothing to who does not read: only the look that it missed is counted."""
        self.talk.say("top")
        self.talk.protocol.pauseProducing()
        self.talk.wire.clear()
        for _ in range(3):
            self.talk.clock.advance(1)
            self.talk.turn()
        self.assertEqual(self.talk.heard(), [])
        self.talk.protocol.resumeProducing()
        self.talk.say("status")
        self.assertEqual(self.talk.heard()[0]["result"], {"looks": 1, "missed": 3})

    def test_idle(self) -> None:
        """Who asks nothing for a long time is dropped, without a word in the log."""
        with capturedLogs() as events:
            self.talk.clock.advance(IDLE - 1)
            self.talk.say("status")
            self.talk.clock.advance(IDLE - 1)
            self.assertFalse(self.talk.wire.aborted)
            self.talk.clock.advance(2)
        self.assertTrue(self.talk.wire.aborted)
        self.assertEqual(events, [])

    def test_watching_is_not_idle(self) -> None:
        """Who watches may do so for ever."""
        self.talk.say("top interval=10s")
        for _ in range(100):
            self.talk.clock.advance(10)
            self.talk.turn()
        self.assertFalse(self.talk.wire.aborted)

    def test_endless_line(self) -> None:
        """A line without an end is refused, and the connection closed."""
        self.talk.protocol.dataReceived(b"x" * (MAX_LINE + 1))
        (refusal,) = self.talk.heard()
        self.assertEqual(refusal["error"], "too-much")
        self.assertTrue(self.talk.wire.disconnecting)

    def test_too_many(self) -> None:
        """So are more requests than are worth keeping while one is served."""
        self.talk.say("top")
        self.talk.protocol.pauseProducing()
        self.talk.wire.clear()
        self.talk.protocol.dataReceived(b"status\n" * (MAX_WAITING // 7 + 1))
        self.assertEqual(self.talk.heard()[-1]["error"], "too-much")
        self.talk.turn()
        self.talk.protocol.resumeProducing()
        self.talk.turn()
        self.assertTrue(self.talk.wire.disconnecting)

    def test_stop_producing(self) -> None:
        """A transport that is lost says so twice; the second time it matters."""
        self.talk.protocol.stopProducing()
        self.assertIn("idle", repr(self.talk.protocol))

    @settings(max_examples=150, deadline=None)
    @given(
        st.lists(
            st.binary(max_size=40)
            | st.sampled_from([f"{name} ".encode() for name in COMMANDS])
            | st.sampled_from([b"\n", b"\r\n", b"=", b'"', b"1", b"web", b"limit=2"]),
            max_size=30,
        ),
        st.sampled_from(Level),
    )
    def test_anything(self, pieces: list[bytes], level: Level) -> None:
        """Whatever comes in whatever pieces: answers are lines of JSON, nothing escapes, nothing is left."""
        talk = Conversation(FakeOperator(FakeSession(1)), level)
        for piece in pieces:
            if not talk.wire.disconnecting:
                talk.protocol.dataReceived(piece)
                talk.turn()
        for answer in talk.heard():
            self.assertTrue("ok" in answer or "event" in answer)
            self.assertNotEqual(answer.get("error"), "internal")
        talk.leave()
        talk.turn()
        self.assertEqual(talk.clock.getDelayedCalls(), [])
