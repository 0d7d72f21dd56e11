"""Tests of the protocol of the control socket: requests in order, and misbehaving clients."""

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
    """The transport of a client, which may stop reading."""

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
        """The answers since the last call, without the greeting."""
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
        """The socket sends a greeting first: version, protocol and level."""
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
        """Invalid and failing requests are refused, and the connection stays open."""
        self.talk.say("xyzzy", 'session "1', "session 9", "status")
        found = self.talk.heard()
        self.assertEqual(
            [one.get("error") for one in found], ["unknown-command", "bad-request", "not-found", None]
        )

    def test_accident(self) -> None:
        """An exception of a command is answered as an internal error and logged; the connection stays."""
        self.operator.broken = ZeroDivisionError("oh")
        self.talk.say("status")
        self.operator.broken = None
        self.talk.say("status")
        self.assertEqual([one.get("error") for one in self.talk.heard()], ["internal", None])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_steering_is_logged(self) -> None:
        """Requests that change something are logged with the client; others are not."""
        with capturedLogs() as events:
            self.talk.say("status", "kill 1")
        texts = [event["line"] for event in events]
        self.assertEqual(texts, ["kill 1"])
        self.assertEqual(events[0]["who"], "uid 0")

    def test_next_line_ends_watching(self) -> None:
        """The next request ends a request with events, and is served then."""
        self.talk.say("top")
        self.assertIn("serving", repr(self.talk.protocol))
        self.talk.say("status")
        event, result, status = self.talk.heard()
        self.assertIn("event", event)
        self.assertEqual(result["result"]["looks"], 1)
        self.assertEqual(status["result"], {"state": "running"})

    def test_pipelined_watching(self) -> None:
        """If the next request has arrived already, a request with events sends one event."""
        self.talk.say("top", "status")
        self.assertEqual(
            [list(one) for one in self.talk.heard()], [["event"], ["ok", "result"], ["ok", "result"]]
        )

    def test_finish(self) -> None:
        """When the forwarder stops, only the present request is answered before the end."""
        self.talk.protocol.dataReceived(b"sessions\nstatus\n")
        self.talk.protocol.finish()
        self.assertFalse(self.talk.wire.disconnecting)
        self.talk.turn()
        self.assertEqual([list(one["result"]) for one in self.talk.heard()], [["count", "start", "sessions"]])
        self.assertTrue(self.talk.wire.disconnecting)

    def test_finish_of_who_waits(self) -> None:
        """When the forwarder stops, idle clients and clients with events are closed at once."""
        for line in ("", "top"):
            talk = Conversation(self.operator)
            talk.say(line)
            talk.protocol.finish()
            talk.turn()
            self.assertTrue(talk.wire.disconnecting)

    def test_end(self) -> None:
        """After a half-close all requests are answered, also an unterminated last line."""
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
        """Events continue after a half-close of the client."""
        self.talk.protocol.dataReceived(b"top")
        self.talk.protocol.readConnectionLost()
        self.talk.turn()
        self.talk.clock.advance(1)
        self.talk.turn()
        self.assertEqual(len(self.talk.heard()), 2)
        self.assertFalse(self.talk.wire.disconnecting)

    def test_left(self) -> None:
        """A client that disconnects during a request leaves no state behind."""
        self.talk.say("top")
        self.talk.leave()
        self.talk.turn()
        self.assertEqual(self.talk.clock.getDelayedCalls(), [])
        self.assertIn("gone", repr(self.talk.protocol))
        self.assertFalse(self.talk.wire.disconnecting)
        self.talk.protocol.dataReceived(b"status\n")

    def test_left_while_served(self) -> None:
        """The answer to a client that has disconnected is not written."""
        self.talk.protocol.dataReceived(b"sessions\n")
        self.talk.wire.clear()
        self.talk.leave()
        self.talk.turn()
        self.assertEqual(self.talk.heard(), [])
        self.assertEqual(self.talk.clock.getDelayedCalls(), [])

    def test_unwritable(self) -> None:
        """An answer that cannot be encoded ends the connection and is logged."""
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
        """A client that does not read is not served, and is disconnected after `STUCK` with a log line."""
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
        """Of thousands of requests only a few are served per turn, so traffic continues."""
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
        """A client that starts to read again is answered."""
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
        """Events are not written to a client that does not read; missed ones are counted."""
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
        """An idle client is disconnected after `IDLE`, without a log line."""
        with capturedLogs() as events:
            self.talk.clock.advance(IDLE - 1)
            self.talk.say("status")
            self.talk.clock.advance(IDLE - 1)
            self.assertFalse(self.talk.wire.aborted)
            self.talk.clock.advance(2)
        self.assertTrue(self.talk.wire.aborted)
        self.assertEqual(events, [])

    def test_watching_is_not_idle(self) -> None:
        """A request with events has no time limit."""
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
        """More than `MAX_WAITING` bytes of requests are refused while one is served."""
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
        """For any input in any split, answers are lines of JSON, and no exception or timer is left."""
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
