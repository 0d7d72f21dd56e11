"""
Every relay does the same: one script, played over the pair, copied, spliced and adaptive flows, and over some
of them with a filter that lets everything pass.

Real sockets, a reactor that the test turns, and time that is the test's: see `tests.relay.stage`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from attrs import evolve
from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from portfwd.relay.ends import Flow
from portfwd.streams.stream import moved_by
from portfwd.values import CloseReason, Side
from tests.relay.stage import FAMILIES, FILTERED, FITS, KINDS, STREAMS, Outcome, Session, Stage

C, U = Side.CLIENT, Side.UPSTREAM

Script = list[tuple[Side, str, int]]

SIZES = st.one_of(st.integers(1, 4000), st.sampled_from([8191, 8192, 8193]), st.integers(4000, 200 * 1024))
STEPS = st.tuples(
    st.sampled_from(list(Side)),
    st.sampled_from(["send", "send", "send", "urgent", "end", "stop", "crawl", "resume", "reset", "close"]),
    SIZES,
)
SCRIPTS = st.lists(STEPS, max_size=9)


def without_resets(outcome: Outcome) -> Outcome:
    """
    An outcome over unix sockets, of which a close is all that can be seen.

    Their kernel makes a reset of a close with unread input, so a peer sees one or not as the relay
    happened to have read its last bytes before it closed.
    """
    seen = {side: "end" if how == "reset" else how for side, how in outcome.seen.items()}
    return evolve(outcome, seen=seen, broken=dict.fromkeys(Side, False))


def brief(outcome: Outcome) -> str:
    """An outcome in a line; bytes are counted."""
    sides = [
        f"{side.value} got {len(outcome.received[side])} then {outcome.seen[side]}"
        f"{' broken' if outcome.broken[side] else ''}"
        for side in Side
    ]
    first = outcome.ended_first.value if outcome.ended_first is not None else "nobody"
    return f"{outcome.reason} {first} first; {', '.join(sides)}"


class StageCase(SynchronousTestCase):
    """With a stage."""

    def stage(
        self,
        options: str = "linger=1000s half-close=1000s",
        lines: str = "",
        kinds: tuple[str, ...] = KINDS + FILTERED,
    ) -> Stage:
        """One that is closed in the end, with limits of time that no script reaches unless it wants to."""
        stage = Stage(options, lines, kinds)
        self.addCleanup(stage.close)
        return stage

    def check_relay(self, kind: str, outcome: Outcome, *, urgent: bool = False) -> None:
        """
        The relay that was asked for did the work, as its counters say.

        :param urgent: there were urgent bytes, over which a splice does not go.
        """
        summary = outcome.summary
        assert summary is not None
        relay, _, filtered = kind.partition("-")
        flows = (summary.to_upstream, summary.to_client)
        auto = moved_by("splice", *flows)
        self.assertEqual(outcome.relay, {"auto": auto, "splice": auto}.get(relay, relay if auto else ""))
        for flow in flows:
            if relay in ("pair", "copy") or filtered == "pass":
                self.assertEqual(flow.spliced, 0)
            elif kind == "splice":
                self.assertEqual(flow.spliced, flow.spliced if urgent else flow.bytes)
            else:
                self.assertLess(flow.spliced, flow.bytes or 1)  # the first read is always copied

    def check_bytes(self, family: str, outcome: Outcome) -> None:
        """What arrived is a prefix of what was sent; the whole of it where it ended in order."""
        summary = outcome.summary
        assert summary is not None
        for side, flow in ((C, summary.to_upstream), (U, summary.to_client)):
            received, sent = outcome.received[side.other], STREAMS[side]
            self.assertEqual(received, bytes(sent[: len(received)]))
            self.assertGreaterEqual(flow.bytes, len(received))
            if outcome.seen[side.other] == "end" and (family == "tcp" or outcome.ended[side]):
                # A broken stream never looks complete.
                self.assertEqual((outcome.ended[side], len(received)), (True, outcome.wanted[side]))

    def over(self, session: Session, stage: Stage) -> Outcome:
        """The outcome of a session that is over by itself, and was relayed as it should be."""
        outcome = session.outcome()
        self.assertIsNotNone(outcome.reason, f"{session.name}: not over")
        self.check_relay(session.name.partition("-")[2], outcome)
        if outcome.summary is not None and outcome.summary.connect_time is not None:
            self.check_bytes(session.name.partition("-")[0], outcome)
        self.assertEqual(stage.forwarder.session_count, 0)
        session.client.close()
        session.upstream.close()
        return outcome


class ScriptCase(StageCase):
    """One script over every relay."""

    def setUp(self) -> None:
        self.the_stage = self.stage()

    def play_all(self, family: str, script: Script, early: int) -> dict[str, Outcome]:
        """The script over every relay."""
        outcomes = {}
        for kind in KINDS + FILTERED:
            session = self.the_stage.play(kind, family, script, early)
            outcomes[kind] = outcome = self.the_stage.finish(session)
            try:
                self.assertIsNotNone(outcome.reason, "not over")
                self.check_relay(kind, outcome, urgent="urgent" in [act for _, act, _ in script])
                self.check_bytes(family, outcome)
            except AssertionError as problem:
                raise self.failureException(f"{family} {kind} {early} {script} {brief(outcome)}") from problem
        self.assertEqual(self.the_stage.forwarder.session_count, 0)
        return outcomes

    def check_script(self, family: str, script: Script, early: int) -> None:
        """Whoever moves the bytes, the outcome is the same."""
        outcomes = self.play_all(family, script, early)
        if family == "unix":
            outcomes = {kind: without_resets(outcome) for kind, outcome in outcomes.items()}
        first = outcomes["pair"]
        for kind in (KINDS + FILTERED)[1:]:
            if kind in FILTERED and (C, "reset") in [step[:2] for step in script[:early]]:
                # A client that a filter looks at is read before there is an upstream, so what it said before
                # it was gone may get there; `check_bytes` says the rest.
                continue
            self.compare(first, outcomes[kind], f"{family} {kind} {early} {script}")

    def compare(self, one: Outcome, other: Outcome, what: str) -> None:
        """Equal, but for what depends on how much a relay holds."""
        held = max(one.held, other.held) > FITS
        held_end = max(one.held_end, other.held_end) > FITS
        if held:
            # How much of what a stopped reader held up is in which buffer, and so is lost with the
            # connection that broke, is each relay's own: both are prefixes, `check_bytes` says.
            other = evolve(other, received=one.received)
        if held_end:
            # Nor does each of them see at once an end that is behind such bytes.
            other = evolve(other, ended_first=one.ended_first)
        self.assertEqual(brief(one), brief(other), what)
        self.assertEqual(one, other, what)


class DifferentialTests(ScriptCase):
    """Hypothesis writes the scripts."""

    @settings(max_examples=80, deadline=None)
    @given(family=st.sampled_from(FAMILIES), script=SCRIPTS, early=st.integers(0, 2))
    @example(family="tcp", script=[(U, "stop", 0), (C, "send", 204800), (C, "end", 0)], early=0)
    def test_same_script_same_outcome(self, family: str, script: Script, early: int) -> None:
        """Bytes, ends, resets, the close reason and who ended first are the same over every relay."""
        self.check_script(family, script, early)


class EndTests(StageCase):
    """Each rule of the ends, over every relay and both kinds of sockets."""

    def over_all(self, families: tuple[str, ...] = FAMILIES) -> Iterator[tuple[str, str]]:
        """Every relay over every family."""
        return itertools.product(KINDS + FILTERED, families)

    def test_end_after_everything(self) -> None:
        """EOF travels only when everything before it is written: a stopped reader gets all, then FIN."""
        stage = self.stage()
        for kind, family in self.over_all():
            for side in Side:
                script: Script = [(side.other, "stop", 0), (side, "send", 600_000), (side, "end", 0)]
                session = stage.play(kind, family, script)
                reader = session.peer(side.other)
                self.assertEqual((reader.received, reader.seen), (b"", "open"))
                stage.settle(session, 40)
                self.assertIsNone(session.line)  # somebody has undelivered bytes: it is not over
                session.do(side.other, "resume")
                stage.settle(session)
                self.assertEqual((len(reader.received), reader.seen), (600_000, "end"))
                session.do(side.other, "end")
                stage.settle(session)
                outcome = self.over(session, stage)
                self.assertEqual((outcome.reason, outcome.ended_first), (CloseReason.NORMAL, side))
                summary = outcome.summary
                assert summary is not None
                flow = summary.to_upstream if side is C else summary.to_client
                if kind == "auto":
                    self.assertGreater(flow.spliced, 400_000)
                self.assertGreater(flow.paused, 39)

    def test_half_close(self) -> None:
        """FIN is forwarded as FIN, in either order, and the open direction goes on."""
        stage = self.stage()
        for kind, family in self.over_all():
            for side in Side:
                session = stage.play(kind, family, [(side, "send", 10), (side, "end", 0)])
                other, ender = session.peer(side.other), session.peer(side)
                self.assertEqual((len(other.received), other.seen, ender.seen), (10, "end", "open"))
                session.do(side.other, "send", 300_000)
                stage.settle(session)
                self.assertEqual((len(ender.received), ender.seen), (300_000, "open"))
                session.do(side.other, "end")
                stage.settle(session)
                self.assertEqual(ender.seen, "end")
                outcome = self.over(session, stage)
                self.assertEqual((outcome.reason, outcome.ended_first), (CloseReason.NORMAL, side))

    def test_end_before_the_dial_completes(self) -> None:
        """A client that sends and ends before there is an upstream: its bytes and its end are forwarded."""
        stage = self.stage()
        for kind, family in self.over_all():
            session = stage.play(kind, family, [(C, "send", 5000), (C, "end", 0)], early=2)
            self.assertEqual((len(session.upstream.received), session.upstream.seen), (5000, "end"))
            session.do(U, "send", 7)
            session.do(U, "end")
            stage.settle(session)
            outcome = self.over(session, stage)
            self.assertEqual((outcome.reason, len(outcome.received[C])), (CloseReason.NORMAL, 7))

    def test_silent_half_close(self) -> None:
        """A half-closed session that is silent for half-close is reset; one that is not silent never is."""
        stage = self.stage("half-close=60s linger=5s")
        for kind, family in self.over_all():
            for side in Side:
                session = stage.play(kind, family, [(side, "end", 0)])
                for _ in range(6):
                    session.do(side.other, "send", 1)
                    stage.settle(session, 50)
                    self.assertIsNone(session.line)
                stage.settle(session, 70)
                outcome = self.over(session, stage)
                self.assertEqual(str(outcome.reason), "sH" if side is C else "cH")
                self.assertEqual(outcome.seen[side], "reset" if family == "tcp" else "end")
                self.assertEqual(outcome.seen[side.other], "end")

    def test_reset_after_what_was_received(self) -> None:
        """Bytes that came before a reset are delivered, then the reset: the stream does not look complete."""
        stage = self.stage()
        for kind in KINDS + FILTERED:
            for side in Side:
                session = stage.play(kind, "tcp", [])
                session.do(side, "send", FITS)
                session.peer(side).act()
                session.do(side, "reset")
                stage.settle(session)
                outcome = self.over(session, stage)
                self.assertEqual(len(outcome.received[side.other]), FITS)
                self.assertEqual((outcome.seen[side.other], outcome.ended_first), ("reset", side))
                self.assertEqual(str(outcome.reason), "CD" if side is C else "SD")

    def test_reset_behind_a_stopped_reader(self) -> None:
        """A reset waits until the send queue is empty, and no longer than linger."""
        stage = self.stage("linger=5s half-close=1000s")
        for kind in KINDS + FILTERED:
            for patient in (True, False):
                session = stage.play(kind, "tcp", [(C, "stop", 0), (U, "send", 400_000), (U, "reset", 0)])
                self.assertIsNone(session.line)
                if not patient:
                    stage.settle(session, 4)
                    self.assertIsNone(session.line)
                    stage.settle(session, 8)
                    self.over(session, stage)
                    continue
                session.do(C, "resume")
                stage.settle(session)
                outcome = self.over(session, stage)
                self.assertEqual((outcome.seen[C], outcome.reason), ("reset", CloseReason.UPSTREAM_RESET))
                summary = outcome.summary
                assert summary is not None
                self.assertEqual(len(outcome.received[C]), summary.to_client.bytes)
                self.assertGreater(len(outcome.received[C]), 2 * FITS)

    def test_reset_at_once(self) -> None:
        """With nothing undelivered a reset is immediate: no time has to pass."""
        stage = self.stage()
        for kind in KINDS + FILTERED:
            for side in Side:
                session = stage.play(kind, "tcp", [(C, "send", 10), (U, "send", 10)])
                session.do(side, "reset")
                stage.settle(session, 0.0)
                outcome = self.over(session, stage)
                self.assertEqual(outcome.seen[side.other], "reset")

    def test_reset_that_a_write_was_told_of(self) -> None:
        """Whichever call is told of the reset: the reads that drain what came before it end in no end."""
        stage = self.stage()
        for kind in KINDS + FILTERED:
            for side in Side:
                for writes_first in (True, False):
                    session = stage.play(kind, "tcp", [])
                    session.do(side, "send", 20_000)
                    session.peer(side).act()
                    if not writes_first:
                        session.do(side, "reset")
                    session.do(side.other, "send", 10)
                    session.peer(side.other).act()
                    session.do(side, "reset")
                    stage.settle(session)
                    outcome = self.over(session, stage)
                    self.assertEqual((len(outcome.received[side.other])), 20_000)
                    self.assertEqual(outcome.seen[side.other], "reset", f"{kind} {side} {writes_first}")

    def test_a_failed_write_ends_its_own_flow(self) -> None:
        """An upstream that answers, ends and closes during an upload: the whole answer, then the end."""
        stage = self.stage()
        for kind, family in self.over_all():
            session = stage.play(kind, family, [(U, "stop", 0), (C, "send", 500_000), (U, "send", 20_000)])
            session.do(U, "end")
            session.upstream.act()
            stage.settle(session)
            self.assertEqual(session.client.seen, "end")
            session.do(U, "close")
            stage.settle(session)
            session.do(C, "end")
            stage.settle(session)
            outcome = self.over(session, stage)
            self.assertEqual((len(outcome.received[C]), outcome.seen[C]), (20_000, "end"))
            self.assertEqual(str(outcome.reason), "SH")

    def test_a_close_during_an_upload(self) -> None:
        """The same where answer, end and close come at once: the whole answer; what follows is no matter."""
        stage = self.stage()
        for kind, family in self.over_all():
            session = stage.play(kind, family, [(U, "stop", 0), (C, "send", 500_000)])
            session.do(U, "send", 20_000)
            session.upstream.act()
            session.do(U, "close")
            stage.settle(session)
            session.do(C, "end")
            stage.settle(session)
            outcome = self.over(session, stage)
            self.assertEqual((len(outcome.received[C]), str(outcome.reason)), (20_000, "SD"))

    def test_other_reasons_reset(self) -> None:
        """Every close reason but a normal one resets the directions that are open."""
        for reason, code in ((CloseReason.KILLED, "KD"), (CloseReason.DRAIN, "TD"), (None, "cD")):
            stage = self.stage("idle=30s linger=5s")
            for kind, family in self.over_all():
                session = stage.play(kind, family, [(U, "send", 10)])
                if reason is not None:
                    stage.forwarder.cut(reason)
                stage.settle(session, 80)
                outcome = self.over(session, stage)
                self.assertEqual(str(outcome.reason), code)
                how = "reset" if family == "tcp" else "end"
                self.assertEqual(set(outcome.seen.values()), {how})

    def test_refusals(self) -> None:
        """A refused client sees FIN although it had sent something, then a reset for more."""
        for options, seen in (("", "end"), ("on-deny=rst", "reset")):
            stage = self.stage(options, "deny 127.*")
            for kind in KINDS + FILTERED:
                session = stage.play(kind, "tcp", [(C, "send", 50_000)], early=1)
                self.assertEqual((session.client.seen, session.client.broken), (seen, False))
                session.do(C, "send", 50_000)
                stage.settle(session)
                self.assertEqual((session.client.seen, session.client.broken), (seen, seen == "end"))
                session.do(C, "end")
                stage.settle(session)
                outcome = self.over(session, stage)
                self.assertEqual((str(outcome.reason), outcome.relay), ("AC", ""))
                self.assertIs(session.upstream.socket, None)

    def test_both_end_at_once(self) -> None:
        """Two ends that cross are two ends, and nothing is reset."""
        stage = self.stage()
        for kind, family in self.over_all():
            session = stage.play(kind, family, [])
            for side in Side:
                session.do(side, "send", 3000)
                session.do(side, "end")
                session.peer(side).act()
            stage.settle(session)
            outcome = self.over(session, stage)
            self.assertEqual((outcome.reason, set(outcome.seen.values())), (CloseReason.NORMAL, {"end"}))
            self.assertEqual(set(outcome.broken.values()), {False})

    def test_a_peer_that_dies_unread(self) -> None:
        """A side that nobody reads, because the other takes no more, resets: that is seen at once."""
        stage = self.stage("linger=5s half-close=1000s")
        for kind in KINDS + FILTERED:
            session = stage.play(kind, "tcp", [(U, "stop", 0), (C, "send", 700_000), (C, "reset", 0)])
            stage.settle(session, 12)
            outcome = self.over(session, stage)
            self.assertEqual(str(outcome.reason), "CD")


class CloseTests(StageCase):
    """A filter ends a session in order: `Close`."""

    def test_behind_an_end_that_is_asked_for(self) -> None:
        """What was written before goes out whole, though the end behind it was asked for and is not out."""
        kinds = ("pair-close", "copy-close", "auto-close")
        stage = self.stage("linger=40s half-close=1000s", kinds=kinds)
        for kind, family in itertools.product(kinds, FAMILIES):
            session = stage.begin(kind, family)
            session.added = 2_000_000
            stage.settle(session)
            session.do(C, "stop")
            session.do(U, "send", 100)
            session.do(U, "end")
            stage.settle(session)
            (live,) = (one for rule in stage.forwarder.rules for one in rule.sessions.values())
            self.assertIs(live.ends.to_client, Flow.END_ASKED)
            session.do(C, "send", 1)
            session.do(C, "end")
            stage.settle(session)
            self.assertIsNone(session.line, kind)
            session.do(C, "resume")
            stage.settle(session)
            received = session.client.received
            self.assertEqual((len(received), session.client.seen), (2_000_100, "end"), kind)
            line = session.line
            assert line is not None, kind
            self.assertEqual((str(line.reason), line.detail), ("FD", "the client spoke"))
            session.upstream.close()


class SlowReaderTests(StageCase):
    """A reader that is slower than every limit of time is not silent, and loses nothing."""

    #: Bytes of which most are in the kernels and relays between a sender that ended and a reader.
    SENT = 700_000
    #: Bytes and seconds of each of its reads: 40 times slower than what the limits allow for.
    READ, PAUSE = 60_000, 15.0

    def crawl(self, stage: Stage, session: Session, side: Side) -> None:
        """Read all of it, slowly."""
        for _ in range(2 * self.SENT // self.READ):
            if session.peer(side).seen != "open":
                break
            session.do(side, "crawl", self.READ)
            stage.settle(session, self.PAUSE)

    def over_all(self, kinds: tuple[str, ...] = KINDS + FILTERED) -> Iterator[tuple[str, str, Side]]:
        """Every relay over both kinds of sockets, with either side as the reader."""
        return itertools.product(kinds, FAMILIES, Side)

    def test_behind_an_end(self) -> None:
        """Whatever limit is set, a reader behind an end gets everything, then the end."""
        for options in ("half-close=60s linger=5s", "half-close=20s idle=10s linger=5s"):
            stage = self.stage(options)
            for kind, family, reader in self.over_all():
                session = stage.play(kind, family, [(reader, "stop", 0), (reader.other, "send", self.SENT)])
                session.do(reader.other, "end")
                self.crawl(stage, session, reader)
                what = f"{options} {kind} {family} {reader} {session.line}"
                got = session.peer(reader)
                self.assertEqual((len(got.received), got.seen), (self.SENT, "end"), what)
                session.do(reader, "end")
                stage.settle(session)
                line = session.line
                assert line is not None
                self.assertEqual(str(line.reason), "--")
                session.client.close()
                session.upstream.close()

    def test_paused_behind_an_end(self) -> None:
        """A reader that pauses for hours behind an end, as a printer without paper, has everything then."""
        stage = self.stage("half-close=60s linger=5s")
        for (kind, family, reader), size in itertools.product(self.over_all(), (200_000, self.SENT)):
            session = stage.play(kind, family, [(reader, "stop", 0), (reader.other, "send", size)])
            session.do(reader.other, "end")
            for _ in range(12):
                stage.settle(session, 900.0)
            session.do(reader, "resume")
            stage.settle(session)
            got = session.peer(reader)
            what = f"{kind} {family} {reader} {size} {session.line}"
            self.assertEqual((len(got.received), got.seen), (size, "end"), what)
            session.do(reader, "end")
            stage.settle(session)
            line = session.line
            assert line is not None, what
            self.assertEqual(str(line.reason), "--", f"{what} {line}")
            session.client.close()
            session.upstream.close()

    def test_a_limit_delivers_first(self) -> None:
        """When a deadline comes, what was received goes to a slow reader before the reset, kept bytes too."""
        stage = self.stage("linger=40s")
        for (kind, family, reader), size in itertools.product(self.over_all(), (100_000, 400_000)):
            session = stage.play(kind, family, [(reader, "stop", 0), (reader.other, "send", size)])
            (live,) = (one for rule in stage.forwarder.rules for one in rule.sessions.values())
            kept = live.undelivered()[0 if reader is C else 1]
            stage.forwarder.cut(CloseReason.DRAIN)
            self.crawl(stage, session, reader)
            stage.settle(session)
            got, line = session.peer(reader), session.line
            what = f"{kind} {family} {reader} {size} {kept} {line}"
            assert line is not None, what
            how = "reset" if family == "tcp" else "end"
            flow = line.to_client if reader is C else line.to_upstream
            self.assertEqual((len(got.received), got.seen), (flow.bytes, how), what)
            self.assertEqual(str(line.reason), "TD")
            if size == 100_000:
                self.assertEqual(len(got.received), size)
            elif family == "tcp":
                self.assertGreater(kept, 0, what)
            session.client.close()
            session.upstream.close()

    def test_a_reader_that_stands_still(self) -> None:
        """A reader that takes nothing is silent, a minute later than it would be with nothing to read."""
        stage = self.stage("idle=10s linger=5s")
        for kind in KINDS + FILTERED:
            session = stage.play(kind, "tcp", [(C, "stop", 0), (U, "send", self.SENT)])
            stage.settle(session, 40)
            self.assertIsNone(session.line, kind)
            stage.settle(session, 60)
            stage.settle(session, 12)
            line = session.line
            assert line is not None, kind
            self.assertEqual(str(line.reason), "cD")
            self.assertRegex(line.detail, r"^idle=10s; \d+ bytes for the client were not acknowledged$")
            session.client.close()
            session.upstream.close()


class UrgentTests(StageCase):
    """Urgent bytes."""

    def test_in_their_place(self) -> None:
        """They arrive where they were sent, among the others, whoever moves the bytes, however they come."""
        stage = self.stage()
        for kind, family in itertools.product(KINDS + FILTERED, FAMILIES):
            for side in Side:
                session = stage.play(kind, family, [(side, "urgent", 1), (side, "urgent", 300)])
                for size in (1, 1, 5000, 70_000, 1, 100_000):
                    session.do(side, "urgent", size)
                    session.do(side, "send", 3)
                    session.peer(side).act()
                stage.settle(session)
                session.do(side, "urgent", 10)
                session.do(side, "end")
                stage.settle(session)
                other = session.peer(side.other)
                what = f"{kind} {family} {side}"
                self.assertEqual((len(other.received), other.seen), (session.peer(side).wanted, "end"), what)
                session.do(side.other, "end")
                stage.settle(session)
                line = session.line
                assert line is not None, what
                self.assertEqual(str(line.reason), "--", what)
                session.client.close()
                session.upstream.close()


class NobodyReadsTests(StageCase):
    """A side whose peer is gone learns it as soon as it has acknowledged what was for it."""

    def test_goes_on_sending(self) -> None:
        """An upstream that answers, ends and closes unread: the answer, the end, then write errors."""
        stage = self.stage("linger=1000s half-close=1000s")
        for kind in KINDS + FILTERED:
            for answer in (0, 20_000):
                session = stage.play(kind, "tcp", [(U, "stop", 0), (C, "send", 5_000), (U, "send", answer)])
                session.do(U, "end")
                session.upstream.act()
                stage.settle(session, 0.0)
                session.do(U, "close")
                stage.settle(session, 0.0)
                for _ in range(3):
                    session.do(C, "send", 1_000)
                    stage.settle(session)
                self.assertEqual((len(session.client.received), session.client.seen), (answer, "end"), kind)
                self.assertTrue(session.client.broken, kind)
                line = session.line
                assert line is not None, kind
                self.assertEqual((str(line.reason), line.detail), ("SH", "Connection reset by peer"), kind)
                session.client.close()

    def test_slow_reader_of_the_answer(self) -> None:
        """A client that reads the answer slowly has all of it before the reset."""
        stage = self.stage("linger=40s half-close=60s")
        for kind in KINDS + FILTERED:
            session = stage.play(kind, "tcp", [(C, "stop", 0), (U, "send", 100_000), (U, "end", 0)])
            session.do(U, "close")
            session.do(C, "send", 1_000)
            stage.settle(session, 0.0)
            while session.client.seen == "open":
                session.do(C, "crawl", 20_000)
                stage.settle(session, 15.0)
            self.assertEqual((len(session.client.received), session.client.seen), (100_000, "end"), kind)
            self.assertIsNotNone(session.line)
            session.client.close()
