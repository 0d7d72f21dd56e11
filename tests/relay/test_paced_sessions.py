"""
Sessions whose bandwidth is limited, over every relay, on a stage: real sockets, and the test's time.

How many bytes arrive a second is measured in `tests.integration.test_bandwidth` as well; here it is that
nothing else changes: not the ends, not the reasons, not what is counted.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from portfwd.filters import DONE, Announce, Connection, Direction, Filter, Verdict
from portfwd.values import CloseReason, InetAddress, Side
from tests.relay import test_differential as unpaced
from tests.relay.stage import FAMILIES, FILTERED, KINDS, Session, Stage

C, U = Side.CLIENT, Side.UPSTREAM


class Introducer(Filter):
    """Says of each session that its client is another one."""

    routes = True

    def opened(self, connection: Connection) -> Verdict:
        """See `IFilter`."""
        return Announce(InetAddress(f"192.0.2.{connection.id}", 1))

    def received(self, direction: Direction, data: bytes) -> Verdict:
        """See `IFilter`: the rest passes unseen."""
        return DONE


class PacedDifferentialTests(unpaced.ScriptCase):
    """Scripts of hypothesis, with a limit that nobody reaches."""

    def stage(self, options: str = "linger=1000s half-close=1000s", lines: str = "") -> Stage:
        """With a limit."""
        return super().stage(f"{options} bandwidth=1GiB/s", lines)

    @settings(max_examples=25, deadline=None)
    @given(family=st.sampled_from(FAMILIES), script=unpaced.SCRIPTS, early=st.integers(0, 2))
    def test_same_script_same_outcome(self, family: str, script: unpaced.Script, early: int) -> None:
        """Over every relay the same."""
        self.check_script(family, script, early)


class PacedEndTests(unpaced.EndTests):
    """The rules of the ends, with a limit that nobody reaches."""

    def stage(self, options: str = "linger=1000s half-close=1000s", lines: str = "") -> Stage:
        """With limits of both kinds."""
        return super().stage(
            f"{options} bandwidth=1GiB/s bandwidth-per-source=512MiB/s bandwidth-per-connection=256MiB/s",
            lines,
        )


class WaitingTests(unpaced.StageCase):
    """Sessions that have to wait."""

    def pass_time(self, stage: Stage, session: Session, seconds: float, step: float = 0.05) -> None:
        """Let time pass in steps, in each of which everybody does what he may."""
        for _ in range(round(seconds / step)):
            stage.settle(session, step)

    def test_waiting_is_no_silence(self) -> None:
        """Limits of silence that are shorter than the wait for a slice cut only who does not wait."""
        stage = self.stage("bandwidth=1KiB/s idle=400ms half-close=300ms linger=300ms")
        for kind in KINDS:
            session = stage.begin(kind, "tcp")
            session.do(C, "send", 6000)
            stage.settle(session, 0)
            session.do(U, "send", 3000)
            session.do(U, "end")
            self.pass_time(stage, session, 3.5)
            self.assertIsNone(session.line, kind)
            self.assertEqual((len(session.client.received), session.client.seen), (3000, "end"), kind)
            self.pass_time(stage, session, 5)
            line = session.line
            assert line is not None, kind
            # All that the client sent has arrived; then it was silent, half-closed.
            self.assertEqual((len(session.upstream.received), str(line.reason)), (6000, "cH"), kind)
            self.assertGreater(line.to_upstream.paced, 3)
            self.assertEqual(line.to_upstream.paused, 0)
            session.client.close()
            session.upstream.close()

    def test_rates(self) -> None:
        """Over every relay as much arrives as the limit allows, and every byte in the end."""
        stage = self.stage("bandwidth-up=100KiB/s half-close=1000s")
        for kind in KINDS:
            for family in ("tcp", "unix"):
                session = stage.begin(kind, family)
                stage.settle(session, 0)
                stage.reactor.now += 1  # whoever was here before has left a full bucket
                session.do(C, "send", 200 * 1024)
                session.do(C, "end")
                stage.settle(session, 0)
                began = stage.reactor.now
                most = 10 * 1024 + (8 * 1024 if kind == "pair" else 0)
                while session.upstream.seen == "open" and stage.reactor.now < began + 5:
                    arrived = len(session.upstream.received)
                    allowed = most + (stage.reactor.now - began) * 100 * 1024
                    self.assertLessEqual(arrived, allowed, kind)
                    self.pass_time(stage, session, 0.02, 0.02)
                self.assertEqual(len(session.upstream.received), 200 * 1024, kind)
                self.assertTrue(1.8 < stage.reactor.now - began < 2.1, stage.reactor.now - began)
                session.do(U, "end")
                stage.settle(session)
                outcome = session.outcome()
                self.assertEqual(outcome.reason, CloseReason.NORMAL)
                assert outcome.summary is not None
                flow = outcome.summary.to_upstream
                spliced = {"splice": flow.bytes, "auto": 0.9 * flow.bytes}.get(kind, 0)
                self.assertGreaterEqual(flow.spliced, spliced)
                session.client.close()
                session.upstream.close()

    def test_only_its_direction(self) -> None:
        """A limit of one direction is that direction's, over every relay and with any filter."""
        for option, limited in (("bandwidth-up", C), ("bandwidth-down", U)):
            stage = self.stage(f"{option}=100KiB/s half-close=1000s")
            for kind in KINDS + FILTERED:
                session = stage.begin(kind, "tcp")
                stage.settle(session, 0)
                session.do(C, "send", 60_000)
                session.do(U, "send", 60_000)
                stage.settle(session, 0)
                self.assertEqual(len(session.peer(limited).received), 60_000, kind)
                self.assertLess(len(session.peer(limited.other).received), 40_000, kind)
                session.client.close()
                session.upstream.close()
                stage.settle(session, 2)

    def test_reset_while_it_waits(self) -> None:
        """That a side has reset is known at once, though what it sent before still waits for its turn."""
        stage = self.stage("bandwidth-up=10KiB/s linger=2s half-close=1000s")
        for kind in KINDS:
            session = stage.begin(kind, "tcp")
            session.do(C, "send", 30_000)
            stage.settle(session, 0)
            session.do(C, "reset")
            self.pass_time(stage, session, 0.2)
            session.do(U, "send", 100_000)
            self.pass_time(stage, session, 5)
            outcome = session.outcome()
            self.assertEqual((len(outcome.received[U]), outcome.seen[U]), (30_000, "reset"), kind)
            self.assertEqual((outcome.reason, outcome.ended_first), (CloseReason.CLIENT_RESET, C), kind)
            session.upstream.close()

    def test_killed_while_it_waits(self) -> None:
        """A session that is ended while it waits leaves nothing behind."""
        stage = self.stage("bandwidth=10KiB/s bandwidth-per-source=10KiB/s")
        for kind in KINDS:
            session = stage.begin(kind, "tcp")
            session.do(C, "send", 30_000)
            session.do(U, "send", 30_000)
            stage.settle(session, 0)
            stage.forwarder.cut(CloseReason.KILLED)
            stage.settle(session, 0)
            self.assertEqual(session.outcome().reason, CloseReason.KILLED)
            session.client.close()
            session.upstream.close()
        limiters = [call for call in stage.reactor.getDelayedCalls() if "RateLimiter" in str(call.func)]
        self.assertEqual((limiters, stage.forwarder.session_count), ([], 0))


class SourceTests(unpaced.StageCase):
    """``bandwidth-per-source``."""

    def bursts(self, kind: str, options: str) -> list[int]:
        """What two sessions of one peer get at once, the first one first."""
        stage = self.stage(f"bandwidth-per-source=100KiB/s {options}")
        sessions = [stage.begin(kind, "tcp") for _ in range(2)]
        for session in sessions:
            session.do(C, "send", 50_000)
            stage.settle(session, 0)
        return [len(session.upstream.received) for session in sessions]

    def test_one_client(self) -> None:
        """Sessions of one address share what it has."""
        for kind in ("auto", "pair"):
            first, second = self.bursts(kind, "")
            self.assertGreaterEqual(first, 10 * 1024)
            # The pair pays for its first read after it.
            self.assertLessEqual(second, 8 * 1024 if kind == "pair" else 0)

    def test_announced_clients(self) -> None:
        """Behind a proxy it is the announced address that counts: each client has his own."""
        for kind in ("auto", "splice", "pair"):
            first, second = self.bursts(kind, f"\n    filter python:{__name__}.Introducer")
            self.assertGreaterEqual(first, 10 * 1024)
            self.assertEqual(first, second)
