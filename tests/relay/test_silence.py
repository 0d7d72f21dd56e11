"""How long nothing may move, and what is movement."""

from __future__ import annotations

import itertools

from twisted.trial.unittest import SynchronousTestCase

from portfwd.relay.ends import Ends, Flow
from portfwd.relay.silence import EARLY, LONGEST_STEP, LOOKS, next_look, shrank, silence_limit, silence_reason
from portfwd.rules.model import Options
from portfwd.values import CloseReason, Side

OPEN = Ends()
CLIENT_ENDED = Ends(Flow.END_OUT)
UPSTREAM_ENDED = Ends(Flow.OPEN, Flow.END_OUT)
UPSTREAM_GONE = Ends(Flow.BROKEN)


class LimitTests(SynchronousTestCase):
    """Which limit holds."""

    def test_limits(self) -> None:
        """``idle`` always, ``half-close`` behind an end if shorter; ``linger`` when a side is gone."""
        plain, idle = Options(half_close=60.0, linger=5.0), Options(idle=20.0, half_close=60.0, linger=5.0)
        self.assertEqual([silence_limit(plain, one) for one in (OPEN, CLIENT_ENDED)], [None, 60.0])
        self.assertEqual([silence_limit(idle, one) for one in (OPEN, UPSTREAM_ENDED)], [20.0, 20.0])
        self.assertEqual([silence_limit(one, UPSTREAM_GONE) for one in (plain, idle)], [5.0, 5.0])
        # An end that waits behind bytes has not gone out: half-close does not hold yet.
        self.assertIsNone(silence_limit(plain, Ends(Flow.END_ASKED)))

    def test_undelivered(self) -> None:
        """While a peer has bytes to take ``half-close`` does not hold; ``idle`` does, and ``linger``."""
        plain, idle = Options(half_close=60.0, linger=5.0), Options(idle=90.0, half_close=60.0, linger=5.0)
        for ends in (CLIENT_ENDED, UPSTREAM_ENDED):
            self.assertIsNone(silence_limit(plain, ends, undelivered=True))
            self.assertEqual(silence_limit(idle, ends, undelivered=True), 90.0)
        self.assertEqual(silence_limit(plain, UPSTREAM_GONE, undelivered=True), 5.0)
        reason = silence_reason(idle, CLIENT_ENDED, {}, undelivered=True)
        self.assertEqual(reason, (CloseReason.UPSTREAM_IDLE, "idle=90s"))

    def test_reasons(self) -> None:
        """The reason names the side whose turn it was, the text the limit."""
        options = Options(idle=90.0, half_close=60.0, linger=5.0)
        for ends, spoke, reason, text in (
            (OPEN, {}, CloseReason.CLIENT_IDLE, "idle=90s"),
            (OPEN, {Side.CLIENT: 2.0, Side.UPSTREAM: 1.0}, CloseReason.UPSTREAM_IDLE, "idle=90s"),
            (CLIENT_ENDED, {}, CloseReason.UPSTREAM_HALF_CLOSE_IDLE, "half-close=60s"),
            (UPSTREAM_ENDED, {}, CloseReason.CLIENT_HALF_CLOSE_IDLE, "half-close=60s"),
            (UPSTREAM_GONE, {}, CloseReason.UPSTREAM_RESET, "nothing was acknowledged within linger=5s"),
        ):
            self.assertEqual(silence_reason(options, ends, spoke), (reason, text))
        short = Options(idle=9.0)
        self.assertEqual(silence_reason(short, CLIENT_ENDED, {}), (CloseReason.UPSTREAM_IDLE, "idle=9s"))


class LookTests(SynchronousTestCase):
    """When a session is looked at, and what a look finds."""

    def test_nothing_undelivered(self) -> None:
        """One look early, for what may wait in a send queue, and one at the end of the limit."""
        self.assertEqual(next_look(80.0, OPEN, 0.0, undelivered=False), 80.0 / LOOKS)
        self.assertEqual(next_look(80.0, OPEN, 10.0, undelivered=False), 70.0)
        self.assertEqual(next_look(80.0, OPEN, 80.0, undelivered=False), 0.0)
        self.assertEqual(next_look(0.3, OPEN, 0.1 + 0.2, undelivered=False), 0.0)

    def test_undelivered(self) -> None:
        """While a peer acknowledges, looks are regular, so that its last step is known well enough."""
        self.assertEqual(next_look(80.0, OPEN, 0.0, undelivered=True), 10.0)
        self.assertEqual(next_look(80.0, OPEN, 75.0, undelivered=True), 5.0)
        self.assertEqual(next_look(80.0, OPEN, 80.0, undelivered=True), 0.0)

    def test_slow_steps(self) -> None:
        """A limit shorter than the steps of a slow reader waits for them; not when it is linger."""
        self.assertEqual(next_look(2.0, OPEN, 2.0, undelivered=True), 2.0)
        self.assertEqual(next_look(30.0, OPEN, 30.0, undelivered=True), LONGEST_STEP / LOOKS)
        self.assertEqual(next_look(2.0, OPEN, LONGEST_STEP, undelivered=True), 0.0)
        self.assertEqual(next_look(2.0, UPSTREAM_GONE, 2.0, undelivered=True), 0.0)

    def test_never_before_and_never_after_the_limit(self) -> None:
        """
        With everything acknowledged a session is silent at its limit, whatever its reader did before.

        While a peer has bytes to acknowledge, `LONGEST_STEP` holds if it is longer; but not for ``linger``.
        """
        limits = (0.1, 0.3, 1.0, 2.0, 8.0, 59.9, LONGEST_STEP, 72.0, 3600.0)
        parts = (0.0, 0.01, 0.1, 1 / LOOKS, 0.3, 0.5, 0.9, 0.999, 1.0, 1.5, 30.0, 1e6)
        for limit, part, ends, undelivered in itertools.product(
            limits, parts, (OPEN, CLIENT_ENDED, UPSTREAM_GONE), (False, True)
        ):
            allowed = max(limit, LONGEST_STEP) if undelivered and ends is not UPSTREAM_GONE else limit
            for quiet in (limit * part, allowed * part):
                wait = next_look(limit, ends, quiet, undelivered=undelivered)
                what = f"limit={limit} quiet={quiet} {ends} {undelivered}"
                left = allowed - quiet
                if left < EARLY:
                    self.assertEqual(wait, 0.0, what)
                else:
                    self.assertGreater(wait, 0.0, what)
                    self.assertLessEqual(wait, left, what)

    def test_shrank(self) -> None:
        """Movement is a queue that has become shorter, in either direction."""
        self.assertFalse(shrank(None, (5, 5)))
        self.assertFalse(shrank((5, 5), (5, 6)))
        self.assertTrue(shrank((5, 5), (4, 9)))
        self.assertTrue(shrank((5, 5), (5, 0)))
