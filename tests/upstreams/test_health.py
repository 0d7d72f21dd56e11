"""Tests of `portfwd.upstreams.health`: observations in, a state and its cause out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from portfwd.upstreams.health import (
    MAX_EJECTION,
    Ejection,
    Health,
    StateChange,
    TargetState,
    Verdict,
    slow_share,
)

EJECTION = Ejection(3, 10.0)
DOWN, UP, DRAIN = TargetState.DOWN, TargetState.UP, TargetState.DRAIN


class PassiveTests(SynchronousTestCase):
    """The outcomes of sessions' dials."""

    def setUp(self) -> None:
        self.health = Health("10.0.0.5:80")

    def eject(self, now: float = 0.0) -> StateChange | None:
        """As many failures as it takes."""
        return [self.health.dial_failed(now, "refused", EJECTION) for _ in range(3)][-1]

    def test_max_fails(self) -> None:
        """That many failures in a row eject, with the last cause; a success between starts the count anew."""
        self.assertIsNone(self.health.dial_failed(0, "refused", EJECTION))
        self.assertIsNone(self.health.dial_failed(1, "refused", EJECTION))
        self.assertIsNone(self.health.dial_succeeded(1.5))
        self.assertIsNone(self.health.dial_failed(2, "refused", EJECTION))
        self.assertIsNone(self.health.dial_failed(3, "refused", EJECTION))
        change = self.health.dial_failed(4, "no answer", EJECTION)
        self.assertEqual(change, StateChange(UP, DOWN, "3 dials in a row failed, the last: no answer"))
        self.assertEqual((self.health.state, self.health.since, self.health.changes), (DOWN, 4, 1))
        self.assertEqual(
            repr(self.health), "<Health 10.0.0.5:80 down (3 dials in a row failed, the last: no answer)>"
        )

    def test_one_failure(self) -> None:
        """``max-fails=1`` ejects at once, and ``off`` never."""
        change = self.health.dial_failed(0, "refused", Ejection(1, 10))
        self.assertEqual(change, StateChange(UP, DOWN, "a dial failed: refused"))
        other = Health("b")
        for _ in range(100):
            self.assertIsNone(other.dial_failed(0, "refused", Ejection(None, 10)))

    def test_trial(self) -> None:
        """After ``fail-timeout`` one session may try; its success readmits the target."""
        self.eject()
        self.assertEqual(self.health.trial_at, 10)
        self.health.try_it(12, 5)
        self.assertEqual(self.health.trial_at, 17)
        change = self.health.dial_succeeded(12.1)
        self.assertEqual(change, StateChange(DOWN, UP, "a dial succeeded"))
        self.assertEqual((self.health.recovered_at, self.health.trial_at), (12.1, None))

    def test_failed_trial(self) -> None:
        """A failed trial ejects at once, and for longer each time, but not for ever."""
        self.eject()
        for count in range(2, 40):
            now = self.health.trial_at
            assert now is not None
            self.health.try_it(now, 1000)
            self.assertIsNone(self.health.dial_failed(now, "refused", EJECTION))
            self.assertEqual(self.health.trial_at, now + min(MAX_EJECTION, 10 * count))

    def test_late_failures(self) -> None:
        """Dials that began before the ejection and fail after it do not prolong it."""
        self.eject()
        self.health.dial_failed(5, "refused", EJECTION)
        self.assertEqual(self.health.trial_at, 10)

    def test_forgiven(self) -> None:
        """A target that was well for as long as it was ejected is ejected for the short time again."""
        self.eject()
        self.health.dial_succeeded(10)
        self.health.dial_succeeded(15)
        self.eject(16)
        self.assertEqual(self.health.trial_at, 36)
        self.health.dial_succeeded(36)
        self.health.dial_succeeded(57)
        self.eject(60)
        self.assertEqual(self.health.trial_at, 70)


class ActiveTests(SynchronousTestCase):
    """The verdicts of checks."""

    def setUp(self) -> None:
        self.health = Health("a", ["tcp", "agent"])

    def check(self, passed: bool, now: float = 0, name: str = "tcp", cause: str = "") -> StateChange | None:
        """One verdict."""
        return self.health.checked(name, Verdict(passed, cause), now, 0.001)

    def test_first(self) -> None:
        """Before the first verdict a target is up; the first one counts at once."""
        self.assertIs(self.health.state, UP)
        self.assertEqual(self.check(False, 1, cause="refused"), StateChange(UP, DOWN, "refused"))

    def test_rise_and_fall(self) -> None:
        """``fall`` bad verdicts in a row take it down, ``rise`` good ones up; less is undecided."""
        self.check(True)
        self.assertFalse(self.health.checks["tcp"].undecided)
        self.assertIsNone(self.check(False))
        self.assertTrue(self.health.checks["tcp"].undecided)
        self.assertIsNone(self.check(True))
        self.assertIsNone(self.check(False))
        self.assertIsNone(self.check(False))
        self.assertIsNotNone(self.check(False, cause="503"))
        self.assertIsNone(self.check(True))
        self.assertEqual(self.check(True, 9, cause="200"), StateChange(DOWN, UP, "200"))
        self.assertEqual(self.health.recovered_at, 9)

    def test_all_must_pass(self) -> None:
        """One check that fails is enough, and all must pass again."""
        self.check(False, cause="refused")
        self.check(False, name="agent", cause="down")
        self.assertIsNone(self.check(True) or self.check(True))
        self.assertEqual(self.health.cause, "down")
        self.check(True, name="agent")
        self.assertEqual(self.check(True, name="agent"), StateChange(DOWN, UP, "its checks pass"))

    def test_drain(self) -> None:
        """A check may ask for no new sessions, or for a part of the weight."""
        self.health.checked("agent", Verdict(True, "drain", drain=True), 1, 0.1)
        self.assertEqual((self.health.state, self.health.cause), (DRAIN, "drain"))
        change = self.health.checked("agent", Verdict(True, "50%", share=0.5), 2, 0.1)
        self.assertEqual(change, StateChange(DRAIN, UP, "50%"))
        self.assertEqual(self.health.share, 0.5)
        self.assertIsNone(self.health.recovered_at)

    def test_ends_ejection(self) -> None:
        """A good verdict ends a passive ejection at once; until then no session tries the target."""
        for _ in range(3):
            self.health.dial_failed(1, "refused", EJECTION)
        self.assertIsNone(self.health.trial_at)
        self.assertEqual(self.check(True, 2, cause="connected"), StateChange(DOWN, UP, "connected"))

    def test_inherit(self) -> None:
        """Other checks of the same address begin with what is known of it."""
        self.check(False, 3, cause="refused")
        heir = Health("a", ["tcp", "http"])
        heir.inherit(self.health)
        self.assertEqual((heir.state, heir.since, heir.cause), (DOWN, 3, "refused"))
        self.assertIsNone(heir.checks["http"].passing)
        freed = Health("a", ["http"])
        freed.inherit(self.health)
        self.assertIs(freed.state, UP)

    @given(st.lists(st.one_of(st.booleans(), st.sampled_from(["fail", "reach"])), max_size=60))
    def test_changes_are_changes(self, events: list[bool | str]) -> None:
        """Every reported change leads from the state before to another one, and up means that all is well."""
        health, state = Health("a", ["tcp"]), UP
        for now, event in enumerate(events):
            if event == "fail":
                change = health.dial_failed(now, "refused", EJECTION)
            elif event == "reach":
                change = health.dial_succeeded(now)
            else:
                change = health.checked("tcp", Verdict(bool(event)), now, 0.0)
            if change is not None:
                self.assertEqual(change.before, state)
                self.assertNotEqual(change.after, state)
            state = health.state
            self.assertEqual(state is UP, not health.is_ejected and not health.is_checked_down)


class SlowStartTests(SynchronousTestCase):
    """The share after a recovery."""

    def test_share(self) -> None:
        """It grows from 10 % to 100 %; without ``slowstart``, or without a recovery, it is whole."""
        self.assertEqual(slow_share(100, 30, 100), 0.1)
        self.assertAlmostEqual(slow_share(100, 30, 115), 0.55)
        self.assertEqual(slow_share(100, 30, 130), 1.0)
        self.assertEqual(slow_share(None, 30, 0), 1.0)
        self.assertEqual(slow_share(100, None, 100), 1.0)
