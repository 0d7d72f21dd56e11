"""Tests of `portfwd.relay.sinks`: copies get where they should, and sessions never notice."""

from __future__ import annotations

from typing import Any, cast

from attrs import evolve
from twisted.internet.task import Clock
from twisted.logger import LogPublisher, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from portfwd.filters.api import Sink
from portfwd.logs.recording import Chunk, read_recording
from portfwd.relay.sink_files import COMPLAINT_INTERVAL, SinkFile
from portfwd.relay.sinks import Sinks
from portfwd.values import TO_CLIENT, TO_UPSTREAM, Address, InetAddress
from tests.relay.test_shadows import LOOPS, NO_NAMES, FakeEndpoint

#: Far more than any wait of these tests takes on a busy machine.
LONG = 30.0
SHADOW = Sink("stream", "192.0.2.7:80", 100, address=InetAddress("192.0.2.7", 80))


class Broken(Exception):
    """What a fake raises."""


class SinksTests(SynchronousTestCase):
    """All sinks."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.endpoints: list[FakeEndpoint] = []
        self.asked: list[Address] = []
        self.sinks = self.make()
        self.path = self.mktemp()
        self.events: list[dict[str, Any]] = []
        assert isinstance(globalLogPublisher, LogPublisher)
        globalLogPublisher.addObserver(cast(Any, self.events.append))
        self.addCleanup(globalLogPublisher.removeObserver, cast(Any, self.events.append))

    def make(self, **options: Any) -> Sinks:
        """Sinks whose shadows connect when the test says so."""
        made = Sinks(
            self.clock,
            NO_NAMES,
            LOOPS,
            connect=cast(Any, self.connect),
            wall_clock=lambda: 1000.0 + self.clock.seconds(),
            **options,
        )
        self.addCleanup(made.close, 0.1)
        return made

    def connect(self, address: Address, passage: object) -> FakeEndpoint:
        """An endpoint for `address`."""
        self.asked.append(address)
        self.endpoints.append(FakeEndpoint())
        return self.endpoints[-1]

    def content(self) -> bytes:
        """What the file holds, now that all is written."""
        self.assertTrue(self.sinks.close(LONG))
        with open(self.path, "rb") as file:
            return file.read()

    def warnings(self) -> list[str]:
        """What was logged."""
        return [event.get("text", "") for event in self.events if event["log_level"].name != "info"]

    def test_file(self) -> None:
        """Copies of all sessions come into a file in their order."""
        sink = Sink("file", self.path, 1000)
        self.sinks.store(1, sink, b"one ")
        self.sinks.store(2, sink, b"two ")
        self.sinks.store(2, sink, b"")
        self.sinks.closed(1)
        self.sinks.store(2, sink, b"three")
        self.assertEqual(repr(self.sinks), "<Sinks: 1 files, 0 shadows, 0 bytes dropped>")
        self.assertEqual((self.content(), self.sinks.stored), (b"one two three", 13))

    def test_record(self) -> None:
        """A record has every session with its times, ends and closing."""
        sink = Sink("record", self.path, 10_000)
        up, down = evolve(sink, direction=TO_UPSTREAM), evolve(sink, direction=TO_CLIENT)
        self.sinks.store(7, evolve(sink, mark="opened", notes=(("rule", "web"),)), b"")
        self.clock.advance(1)
        self.sinks.store(7, up, b"question")
        self.sinks.store(8, down, b"banner")
        self.clock.advance(1)
        self.sinks.store(7, evolve(down, mark="ended"), b"")
        self.sinks.closed(7)
        self.sinks.closed(7)
        first, second = read_recording(self.content().splitlines(keepends=True))
        self.assertEqual((first.number, first.opened_at, first.notes), (7, 1000.0, {"rule": "web"}))
        self.assertEqual(
            first.chunks,
            [Chunk(1001.0, TO_UPSTREAM, b"question"), Chunk(1002.0, TO_CLIENT, b"", end=True)],
        )
        self.assertEqual((first.closed, second.closed), (True, False))
        self.assertEqual(second.chunks, [Chunk(1001.0, TO_CLIENT, b"banner")])

    def test_record_full(self) -> None:
        """A record that has reached its limit ends with a line that says so."""
        up = Sink("record", self.path, 300, direction=TO_UPSTREAM)
        for _ in range(10):
            self.sinks.store(7, up, b"x" * 50)
        lines = self.content().splitlines(keepends=True)
        self.assertLessEqual(sum(map(len, lines)), 300)
        self.assertIn(b'"full":true', lines[-1])
        (session,) = read_recording(lines)
        self.assertEqual(session.size(TO_UPSTREAM), 50 * (len(lines) - 2))
        self.assertGreater(self.sinks.dropped, 400)

    def test_record_lost(self) -> None:
        """What is missing because the disk was too slow is told where it is missing."""
        room = [True]

        class Choosy(SinkFile):
            def write(self, data: bytes) -> bool:
                return room[0] and super().write(data)

        self.sinks = self.make(make_file=Choosy)
        up = Sink("record", self.path, 10_000, direction=TO_UPSTREAM)
        self.sinks.store(7, up, b"a")
        room[0] = False
        self.sinks.store(7, up, b"bc")
        self.sinks.store(7, up, b"d")
        self.assertEqual(self.sinks.dropped, 1)
        room[0] = True
        self.sinks.store(7, up, b"e")
        (session,) = read_recording(self.content().splitlines(keepends=True))
        self.assertEqual(b"".join(chunk.data for chunk in session.chunks), b"ae")
        self.assertEqual(session.lost, 3)

    def test_shadow(self) -> None:
        """Each session has a shadow of its own, connected with its first copy and finished with it."""
        self.sinks.store(1, SHADOW, b"one")
        self.sinks.store(2, SHADOW, b"two")
        self.sinks.store(1, SHADOW, b" more")
        self.assertEqual(self.asked, [SHADOW.address, SHADOW.address])
        first = self.endpoints[0].connects()
        self.assertEqual(first.written, b"one more")
        self.sinks.closed(1)
        self.assertEqual(first.calls, ["end"])
        self.assertEqual(repr(self.sinks), "<Sinks: 0 files, 2 shadows, 0 bytes dropped>")
        self.assertTrue(self.sinks.close(0))
        self.assertEqual(first.calls, ["end", "abort"])
        self.assertTrue(self.endpoints[1].cancelled)
        self.assertEqual((self.sinks.dropped, self.clock.getDelayedCalls()), (3, []))

    def test_shadow_fails(self) -> None:
        """A shadow that cannot be reached costs copies, and one line in a while for all sessions."""
        for number in range(5):
            self.sinks.store(number, SHADOW, b"xx")
            self.endpoints[number].connecting.errback(Broken("nobody there"))
            self.sinks.closed(number)
        self.assertEqual(self.sinks.dropped, 10)
        self.assertEqual(self.warnings(), ["shadow 192.0.2.7:80: nobody there; 2 bytes dropped so far"])
        self.clock.advance(COMPLAINT_INTERVAL)
        self.sinks.store(9, SHADOW, b"xx")
        self.endpoints[-1].connecting.errback(Broken("nobody there"))
        self.assertEqual(len(self.warnings()), 2)

    def test_too_many_copies(self) -> None:
        """What a shadow's limit does not hold is dropped and counted."""
        self.sinks.store(1, SHADOW, b"x" * 101)
        self.assertEqual(self.sinks.dropped, 1)
        self.assertEqual(len(self.warnings()), 1)

    def test_never_raises(self) -> None:
        """Whatever goes wrong is logged once in a while, and no session's affair."""
        for sink in (
            Sink("tape", "x", 1),
            Sink("stream", "x", 1),
            Sink("record", self.path, 1000),
            Sink("stream", "y", 1),
        ):
            self.sinks.store(1, sink, b"x")
        self.assertEqual(self.sinks.dropped, 4)
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 2)

        class Fragile(SinkFile):
            def write(self, data: bytes) -> bool:
                raise Broken

        self.sinks = self.make(make_file=Fragile)
        self.sinks.store(1, Sink("record", self.path, 1000, direction=TO_CLIENT), b"x")
        self.sinks.closed(1)
        self.assertEqual(len(self.flushLoggedErrors(Broken)), 2)

    def test_reopen(self) -> None:
        """After a file was moved away a new one is opened, for a record with its first line."""
        up = Sink("record", self.path, 10_000, direction=TO_UPSTREAM)
        self.sinks.store(7, up, b"a")
        self.sinks.reopen()
        self.sinks.store(7, up, b"b")
        sessions = read_recording(self.content().splitlines(keepends=True))
        self.assertEqual(b"".join(chunk.data for one in sessions for chunk in one.chunks), b"ab")
