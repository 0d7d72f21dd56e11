"""Tests of looks at the bytes of one session: every relay, in its midst, without a trace afterwards."""

from __future__ import annotations

from functools import partial

from twisted.trial.unittest import SynchronousTestCase

from portfwd.relay.session import Session as RelaySession
from portfwd.relay.states import State
from portfwd.relay.tapping import Taps
from portfwd.values import TO_CLIENT, TO_UPSTREAM, CloseReason, Direction, Side
from tests.relay.stage import FAMILIES, FILTERED, KINDS, STREAMS, Session, Stage

#: More than a pipe or a buffer holds.
BULK = 300_000
DIRECTION_WORDS = {Side.CLIENT: TO_UPSTREAM, Side.UPSTREAM: TO_CLIENT}


class TappingTests(SynchronousTestCase):
    """Taps of sessions between real sockets."""

    options = ""

    def setUp(self) -> None:
        self.stage = Stage(self.options)
        self.addCleanup(self.stage.close)
        self.seen = {way: bytearray() for way in Direction}
        self.taps = Taps()

    def saw(self, direction: Direction, data: bytes) -> None:
        self.seen[direction] += data

    def session(self, talk: Session) -> RelaySession:
        """The session of a conversation."""
        (found,) = (
            one
            for live in self.stage.forwarder.rules
            if live.name == talk.name
            for one in live.sessions.values()
        )
        return found

    def exchange(self, talk: Session, count: int) -> None:
        """Both sides send that much more."""
        if talk.upstream.socket is None:
            self.stage.settle(talk)
        for side in Side:
            talk.do(side, "send", count)
        self.stage.settle(talk)

    def test_every_relay(self) -> None:
        """Exactly what is sent meanwhile is seen, every byte is delivered, and counts are right."""
        for kind in KINDS + FILTERED:
            for family in FAMILIES:
                for way in Direction:
                    self.seen[way].clear()
                talk = self.stage.begin(kind, family)
                self.exchange(talk, 1000)
                end = self.taps.begin(self.session(talk), self.saw)
                self.exchange(talk, BULK)
                end()
                self.exchange(talk, BULK)
                outcome = self.stage.finish(talk)
                total = 1000 + 2 * BULK
                for side in Side:
                    name = f"{family}-{kind} {side.value}"
                    sent = STREAMS[side]
                    self.assertEqual(self.seen[DIRECTION_WORDS[side]], sent[1000 : 1000 + BULK], name)
                    other = Side.UPSTREAM if side is Side.CLIENT else Side.CLIENT
                    self.assertEqual(outcome.received[other], sent[:total], name)
                self.assertEqual(outcome.reason, CloseReason.NORMAL)
                assert outcome.summary is not None
                self.assertEqual(outcome.summary.to_upstream.bytes, total)
                self.assertEqual(outcome.summary.to_client.bytes, total)

    def test_splices_again(self) -> None:
        """Nothing is spliced while somebody looks, and what comes afterwards is."""
        for family in FAMILIES:
            talk = self.stage.begin("splice", family)
            self.exchange(talk, BULK)
            session = self.session(talk)
            before = session.summary().to_upstream.spliced
            self.assertGreater(before, 0)
            end = self.taps.begin(session, self.saw)
            self.exchange(talk, BULK)
            during = session.summary().to_upstream.spliced
            # What was under way in a pipe when it began may still count.
            self.assertEqual(during, before)
            end()
            self.exchange(talk, BULK)
            self.assertGreater(session.summary().to_upstream.spliced, before)
            self.stage.finish(talk)

    def test_tapped_to_the_end(self) -> None:
        """A tap may outlive the session, whichever way that ends, and may be ended late."""
        for act in ("end", "reset"):
            for kind in ("pair", "splice"):
                talk = self.stage.begin(kind, "tcp")
                self.exchange(talk, 1000)
                end = self.taps.begin(self.session(talk), self.saw)
                talk.do(Side.CLIENT, act)
                self.stage.settle(talk)
                talk.do(Side.UPSTREAM, "end")
                self.stage.settle(talk)
                self.assertIsNotNone(talk.line, f"{kind} {act}")
                end()
                end()

    def test_several(self) -> None:
        """Several look at once: each sees all from its begin to its end, and ends nobody else's look."""
        for kind in ("pair", "splice"):
            talk = self.stage.begin(kind, "tcp")
            self.exchange(talk, 1000)
            session = self.session(talk)
            seen = [bytearray(), bytearray()]

            def saw(number: int, way: Direction, data: bytes, seen: list[bytearray] = seen) -> None:
                if way is TO_UPSTREAM:
                    seen[number] += data

            ends = []
            for number in (0, 1):
                ends.append(self.taps.begin(session, partial(saw, number)))
                self.exchange(talk, 500)
            for end in ends:
                end()
                end()
                self.exchange(talk, 300)
            sent = STREAMS[Side.CLIENT]
            self.assertEqual(seen, [sent[1000:2000], sent[1500:2300]])
            self.assertEqual(repr(self.taps), "<Taps sessions=0>")
            self.stage.finish(talk)

    def test_nothing_to_tap(self) -> None:
        """A session that has no two sides, or is closing, cannot be tapped."""
        talk = self.stage.begin("pair", "tcp")
        self.exchange(talk, 10)
        session = self.session(talk)
        self.assertEqual(len([one for one in session.streams if one is not None]), 2)
        session.kill(CloseReason.KILLED)
        self.stage.settle(talk)
        error = self.assertRaises(ValueError, self.taps.begin, session, self.saw)
        self.assertIn("closed: there is nothing to tap", str(error))
        self.assertIs(session.state, State.CLOSED)


class PacedTappingTests(TappingTests):
    """The same where the bandwidth is limited, by more than is used."""

    options = "bandwidth=200MiB/s"
