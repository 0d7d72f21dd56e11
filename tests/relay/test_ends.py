"""
The table of ends, resets and limits: what holds in all of it, and the cases that have a story.

Every state that a session can reach is enumerated: nothing here is sampled.
"""

from __future__ import annotations

from collections.abc import Iterator

from twisted.trial.unittest import SynchronousTestCase

from portfwd.relay.ends import (
    MEANINGS,
    MODES,
    RELAYING,
    Action,
    CloseStep,
    Consequence,
    Ends,
    Event,
    Flow,
    Mode,
    SessionOutcome,
    close_step,
    outcome_reason,
    reachable,
    reset_reason,
    resetting_side,
    step,
)
from portfwd.values import CloseReason, Side

CLOSING = (
    Event.CLOSING,
    Event.ENDED,
    Event.END_SENT,
    Event.REFUSED,
    Event.SPOKE,
    Event.LOOKED,
    Event.STALLED,
)
#: Each flow goes forward only, as these numbers do.
ORDER = {
    Flow.OPEN: 0,
    Flow.ENDED: 1,
    Flow.END_ASKED: 2,
    Flow.END_OUT: 3,
    Flow.BROKEN: 4,
    Flow.BROKEN_ENDED: 5,
}


class RelayingTests(SynchronousTestCase):
    """While both sides are there."""

    def every(self) -> Iterator[tuple[Ends, Event, Consequence]]:
        """Every reachable state with every event."""
        for ends in reachable():
            for event in RELAYING:
                yield ends, event, step(*ends, event)

    def test_both_over_is_over(self) -> None:
        """No session goes on whose flows are both over."""
        for ends in reachable():
            self.assertFalse(ends.to_upstream.over and ends.to_client.over, ends)

    def test_only_forward(self) -> None:
        """No event takes a flow back; what was broken stays so, and an end is not taken back."""
        for ends, event, after in self.every():
            for before, now in ((ends.to_upstream, after.mine), (ends.to_client, after.theirs)):
                self.assertGreaterEqual(ORDER[now], ORDER[before], (ends, event))
                self.assertLessEqual(before.source_ended, now.source_ended, (ends, event))

    def test_normal(self) -> None:
        """A session is normal only when both ends are out, or a transport without half-close was closed."""
        for ends, event, after in self.every():
            if after.outcome is SessionOutcome.NORMAL and event is not Event.CLOSED:
                self.assertEqual((after.mine, after.theirs), (Flow.END_OUT, Flow.END_OUT), (ends, event))
            if after.outcome is SessionOutcome.NORMAL:
                self.assertFalse(after.mine.broken or after.theirs.broken)

    def test_broken_never_looks_complete(self) -> None:
        """Unless it was normal, no side is ended in order: it is reset, now or behind what is for it."""
        for ends, event, after in self.every():
            if after.action is Action.FINISH and after.outcome is not SessionOutcome.NORMAL:
                self.assertLessEqual({after.this, after.other}, {Mode.RESET, Mode.DELIVER}, (ends, event))

    def test_delivered_first(self) -> None:
        """Whatever ends a session but an operator, a side that takes bytes gets those that are for it."""
        for ends, event, after in self.every():
            if after.action is not Action.FINISH or event in (Event.KILLED, Event.STALLED):
                continue
            if not after.mine.broken and after.outcome is not SessionOutcome.NORMAL:
                self.assertIs(after.other, Mode.DELIVER, (ends, event))

    def test_end_is_asked_once(self) -> None:
        """An end is asked for exactly when the flow gets there."""
        for ends, event, after in self.every():
            asked = after.action in (Action.ASK_END, Action.ASK_LAST_END)
            self.assertEqual(
                asked, ends.to_upstream is not after.mine and after.mine is Flow.END_ASKED, event
            )
            if after.action is Action.ASK_LAST_END:
                self.assertIs(after.theirs, Flow.END_OUT)

    def test_silence_is_watched(self) -> None:
        """When a flow becomes over and the session goes on, the silence of the other one is watched."""
        for ends, event, after in self.every():
            became = (after.mine.over and not ends.to_upstream.over) or (
                after.theirs.over and not ends.to_client.over
            )
            if became and after.action is not Action.FINISH:
                self.assertIn(after.action, (Action.WATCH, Action.DISCARD), (ends, event))

    def test_other_events(self) -> None:
        """What happens only to a session that is over has no place here."""
        self.assertRaises(ValueError, step, Flow.OPEN, Flow.OPEN, Event.LOOKED)


class StoryTests(SynchronousTestCase):
    """Cases that were got wrong somewhere."""

    def follow(self, *events: tuple[Side, Event]) -> tuple[Ends, Consequence, CloseReason | None]:
        """The flows after `events`, the last step, and the close reason if it is over."""
        flows = {Side.CLIENT: Flow.OPEN, Side.UPSTREAM: Flow.OPEN}
        reason = None
        for side, event in events:
            self.assertIsNone(reason)
            last = step(flows[side], flows[side.other], event)
            flows[side], flows[side.other] = last.mine, last.theirs
            ends = Ends(flows[Side.CLIENT], flows[Side.UPSTREAM])
            if last.outcome is not None:
                reason = outcome_reason(last.outcome, side, ends)
        return ends, last, reason

    def test_both_end(self) -> None:
        """Two orderly ends; the second may leave with the close."""
        c, u = Side.CLIENT, Side.UPSTREAM
        _, last, _ = self.follow((c, Event.END_DUE), (u, Event.END_SENT), (u, Event.END_DUE))
        self.assertIs(last.action, Action.ASK_LAST_END)
        _, last, reason = self.follow(
            (c, Event.END_DUE), (u, Event.END_SENT), (u, Event.END_DUE), (c, Event.END_SENT)
        )
        self.assertEqual((last.this, last.other, reason), (Mode.CLOSE, Mode.CLOSE, CloseReason.NORMAL))

    def test_nobody_reads_any_more(self) -> None:
        """An upstream that answered, ended and takes no more: the client is reset behind the answer."""
        c, u = Side.CLIENT, Side.UPSTREAM
        for events in (
            [(u, Event.END_DUE), (c, Event.END_SENT), (u, Event.REFUSED)],
            [(u, Event.REFUSED), (u, Event.END_DUE), (c, Event.END_SENT)],
            [(u, Event.END_DUE), (u, Event.REFUSED), (c, Event.END_SENT)],
        ):
            ends, last, reason = self.follow(*events)
            modes = (last.this, last.other) if events[-1][0] is c else (last.other, last.this)
            self.assertEqual(modes, (Mode.DELIVER, Mode.RESET))
            self.assertEqual((reason, ends.half_closed), (CloseReason.UPSTREAM_RESET_HALF_CLOSED, True))

    def test_closed_in_order_by_a_transport_without_half_close(self) -> None:
        """The other side gets its end, and is reset only if it goes on sending."""
        _, last, reason = self.follow((Side.UPSTREAM, Event.CLOSED))
        self.assertEqual((reason, last.other), (CloseReason.NORMAL, Mode.END_OR_RESET))

    def test_both_refuse(self) -> None:
        """Neither side can be told of the other."""
        for last in (Event.REFUSED, Event.RESET):
            _, _, reason = self.follow((Side.CLIENT, Event.REFUSED), (Side.UPSTREAM, last))
            self.assertIs(reason, CloseReason.BOTH_RESET)

    def test_reasons(self) -> None:
        """A reset is told apart by side, and by whether a side had ended."""
        for side, data, half in (
            (Side.CLIENT, CloseReason.CLIENT_RESET, CloseReason.CLIENT_RESET_HALF_CLOSED),
            (Side.UPSTREAM, CloseReason.UPSTREAM_RESET, CloseReason.UPSTREAM_RESET_HALF_CLOSED),
        ):
            self.assertIs(reset_reason(side, Ends()), data)
            self.assertIs(reset_reason(side, Ends(Flow.END_OUT)), half)
            self.assertIs(reset_reason(side, Ends(Flow.OPEN, Flow.BROKEN_ENDED)), half)
            self.assertEqual([resetting_side(one) for one in (data, half)], [side, side])
        self.assertIsNone(resetting_side(CloseReason.NORMAL))


class ClosingTests(SynchronousTestCase):
    """Once a session is over."""

    def every(self) -> Iterator[tuple[Mode, Flow, Flow, Event, CloseStep]]:
        """Every mode with every state and every event."""
        for mode in Mode:
            for mine in Flow:
                for theirs in Flow:
                    for event in CLOSING:
                        yield mode, mine, theirs, event, close_step(mode, mine, theirs, event)

    def test_end_that_was_asked_for(self) -> None:
        """An end that was asked for is waited for: a side is released only when it is out."""
        for mode, mine, theirs, event, after in self.every():
            if after.action is Action.CLOSE and mode is not Mode.CLOSE:
                self.assertIs(after.theirs, Flow.END_OUT, (mode, mine, theirs, event))
                self.assertTrue(after.mine.source_ended)
            if after.action is Action.END:
                self.assertFalse(theirs.end_asked)

    def test_linger_ends_all(self) -> None:
        """Whatever the mode, a side on which nothing moved for linger is reset."""
        for _, _, _, event, after in self.every():
            if event is Event.STALLED:
                self.assertIs(after.action, Action.RESET)

    def test_who_goes_on_sending(self) -> None:
        """A side whose peer was closed in order is reset when it goes on sending, behind what is for it."""
        after = close_step(Mode.END_OR_RESET, Flow.OPEN, Flow.END_ASKED, Event.SPOKE)
        self.assertEqual((after.mode, after.action), (Mode.DELIVER, Action.NOTHING))
        self.assertIs(close_step(*after[:3], Event.LOOKED).action, Action.RESET)
        refused = close_step(Mode.END_AND_READ, Flow.OPEN, Flow.END_ASKED, Event.SPOKE)
        self.assertIs(refused.mode, Mode.END_AND_READ)

    def test_refused_and_goes_on_sending(self) -> None:
        """What a refused peer sends once it has acknowledged the end resets it; what came before does not."""
        early = close_step(Mode.REFUSE, Flow.OPEN, Flow.END_OUT, Event.SPOKE)
        self.assertEqual((early.mode, early.action), (Mode.REFUSE, Action.NOTHING))
        self.assertIs(close_step(Mode.REFUSE, Flow.OPEN, Flow.END_ASKED, Event.LOOKED).mode, Mode.REFUSE)
        told = close_step(*early[:3], Event.LOOKED)
        self.assertEqual((told.mode, told.action), (Mode.END_OR_RESET, Action.NOTHING))
        late = close_step(*told[:3], Event.SPOKE)
        self.assertIs(close_step(*late[:3], Event.LOOKED).action, Action.RESET)

    def test_broken(self) -> None:
        """A side that takes no more cannot be ended: it is reset."""
        after = close_step(Mode.END_AND_READ, Flow.OPEN, Flow.BROKEN, Event.CLOSING)
        self.assertEqual((after.mode, after.action), (Mode.RESET, Action.RESET))

    def test_said_of_all(self) -> None:
        """Each state and each mode is explained."""
        self.assertEqual((set(MEANINGS), set(MODES)), (set(Flow), set(Mode)))
