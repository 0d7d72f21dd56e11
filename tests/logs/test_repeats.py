"""Tests of `portfwd.logs.repeats`, and of the access log that uses it."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from portfwd.logs.access_log import AccessLog, is_probe
from portfwd.logs.repeats import FIRST, MOST, WINDOW, Repeats
from portfwd.rules.model import AccessLogFormat as Form
from portfwd.values import CloseReason, FlowSummary, InetAddress, SessionSummary, Side, UnixAddress
from tests.logs.summaries import PLAIN


def failed(number: int = 1, client: str = "192.0.2.1", **parts: Any) -> SessionSummary:
    """A session for which no upstream could be reached."""
    return PLAIN._replace(
        **{
            "id": number,
            "client": InetAddress(client, 1024 + number),
            "reason": CloseReason.CONNECT_REFUSED,
            "to_upstream": FlowSummary(),
            "to_client": FlowSummary(),
            "detail": "Connection refused",
            **parts,
        }
    )


class RepeatsTests(SynchronousTestCase):
    """What is kept, and for how long."""

    def test_storm(self) -> None:
        """The first ones are written as they come; one line at the end of each window tells of the others."""
        repeats = Repeats()
        kept = [repeats.keep(failed(number), 0.001 * number) for number in range(100)]
        self.assertEqual(kept, [False] * FIRST + [True] * (100 - FIRST))
        self.assertEqual(repeats.due(WINDOW - 1), [])
        self.assertEqual(repeats.next_at, WINDOW)
        self.assertEqual(repeats.due(WINDOW), [failed(99, repeated=100 - FIRST)])
        self.assertTrue(repeats.keep(failed(100), WINDOW + 1))
        self.assertEqual(repeats.due(2 * WINDOW), [failed(100, repeated=1)])
        self.assertEqual((repeats.due(3 * WINDOW), repeats.next_at), ([], None))
        self.assertFalse(repeats.keep(failed(101), 3 * WINDOW))

    def test_different(self) -> None:
        """Another client, cause, rule or detail has lines of its own."""
        repeats = Repeats()
        others: list[dict[str, Any]] = [
            {},
            {"client": UnixAddress("/x")},
            {"client": None},
            {"reason": CloseReason.LIMIT},
            {"rule": "other"},
            {"detail": "other"},
        ]
        for _ in range(FIRST):
            for other in others:
                self.assertFalse(repeats.keep(failed()._replace(**other), 0))
        self.assertTrue(all(repeats.keep(failed()._replace(**other), 0) for other in others))
        self.assertEqual(len(repeats.all()), len(others))
        self.assertIn("of 0 clients", repr(repeats))

    def test_not_kept(self) -> None:
        """Sessions that worked, that an operator ended, or that told the client something have a line."""
        repeats = Repeats()
        for parts in (
            {"reason": CloseReason.NORMAL},
            {"reason": CloseReason.KILLED},
            {"reason": None},
            {"to_client": FlowSummary(1)},
        ):
            self.assertFalse(any(repeats.keep(failed()._replace(**parts), 0) for _ in range(99)), parts)

    def test_bounded(self) -> None:
        """A flood of clients costs no more than the bound; those beyond have a line each."""
        repeats = Repeats()
        for number in range(MOST + 10):
            repeats.keep(failed(client=f"10.{number >> 8}.{number & 255}.1"), 0)
        last = failed(client="198.51.100.1")
        self.assertFalse(any(repeats.keep(last, 0) for _ in range(99)))


class AccessLogTests(SynchronousTestCase):
    """The log with a clock."""

    def log(self, form: Form = Form.TEXT, **options: Any) -> tuple[AccessLog, list[str], Clock]:
        """A log, its lines and its clock."""
        clock, lines = Clock(), cast(list[str], [])
        writer: Any = type("Writer", (), {"write": lambda self, line: lines.append(line)})()
        return AccessLog(form, writer, cast(Any, None), clock=clock, **options), lines, clock

    def test_in_time(self) -> None:
        """A storm's lines come at the end of each window, until it is over; then nothing is waited for."""
        log, lines, clock = self.log()
        for number in range(FIRST + 7):
            log.closed(failed(number))
        self.assertEqual(len(lines), FIRST)
        clock.advance(WINDOW)
        self.assertTrue(lines[-1].endswith(" repeated=7"))
        clock.advance(WINDOW)
        self.assertEqual((len(lines), clock.getDelayedCalls()), (FIRST + 1, []))

    def test_json(self) -> None:
        """JSON has a key for it."""
        log, lines, _ = self.log(Form.JSON)
        for number in range(FIRST + 2):
            log.closed(failed(number))
        log.flush()
        self.assertIn('"repeated":2', lines[-1])
        log.flush()
        self.assertEqual(len(lines), FIRST + 1)

    def test_flush(self) -> None:
        """What is kept is written when the log is closed."""
        log, lines, clock = self.log()
        for number in range(FIRST + 2):
            log.closed(failed(number))
        log.flush()
        self.assertEqual((len(lines), clock.getDelayedCalls()), (FIRST + 1, []))

    def test_probes(self) -> None:
        """A connection that its client ended without a byte has no line with ``probes=off``."""
        empty = {"to_upstream": FlowSummary(), "to_client": FlowSummary(), "ended_first": Side.CLIENT}
        probe = PLAIN._replace(**empty)  # type: ignore[arg-type]
        self.assertTrue(is_probe(probe))
        for parts in (
            {"to_upstream": FlowSummary(1)},
            {"to_client": FlowSummary(1)},
            {"ended_first": Side.UPSTREAM},
            {"reason": CloseReason.CONNECT_REFUSED},
        ):
            self.assertFalse(is_probe(probe._replace(**parts)), parts)  # type: ignore[arg-type]
        for probes in (True, False):
            log, lines, _ = self.log(probes=probes)
            log.closed(probe)
            log.closed(PLAIN)
            self.assertEqual(len(lines), 1 + probes)
