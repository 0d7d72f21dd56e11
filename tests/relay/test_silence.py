"""How long nothing may move, and what is movement."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from portfwd.relay.ends import Ends, Flow
from portfwd.relay.silence import LONGEST_STEP, LOOKS, next_look, shrank, silence_limit, silence_reason
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
        self.assertEqual(next_look(80.0, OPEN, 0.0, slow=False), 80.0 / LOOKS)
        self.assertEqual(next_look(80.0, OPEN, 10.0, slow=False), 70.0)
        self.assertEqual(next_look(80.0, OPEN, 80.0, slow=False), 0.0)
        self.assertEqual(next_look(0.3, OPEN, 0.1 + 0.2, slow=False), 0.0)

    def test_undelivered(self) -> None:
        """While a peer acknowledges, looks are regular, so that its last step is known well enough."""
        self.assertEqual(next_look(80.0, OPEN, 0.0, slow=True), 10.0)
        self.assertEqual(next_look(80.0, OPEN, 75.0, slow=True), 5.0)
        self.assertEqual(next_look(80.0, OPEN, 80.0, slow=True), 0.0)

    def test_slow_steps(self) -> None:
        """A limit shorter than the steps of a slow reader waits for them; not when it is linger."""
        self.assertEqual(next_look(2.0, OPEN, 2.0, slow=True), 2.0)
        self.assertEqual(next_look(30.0, OPEN, 30.0, slow=True), LONGEST_STEP / LOOKS)
        self.assertEqual(next_look(2.0, OPEN, LONGEST_STEP, slow=True), 0.0)
        self.assertEqual(next_look(2.0, UPSTREAM_GONE, 2.0, slow=True), 0.0)

    def test_shrank(self) -> None:
        """Movement is a queue that has become shorter, in either direction."""
        self.assertFalse(shrank(None, (5, 5)))
        self.assertFalse(shrank((5, 5), (5, 6)))
        self.assertTrue(shrank((5, 5), (4, 9)))
        self.assertTrue(shrank((5, 5), (5, 0)))
