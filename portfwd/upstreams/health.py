# -*- test-case-name: tests.upstreams.test_health -*-
"""
The health of one target: computes its state and the cause from observations.

Observations are the outcomes of sessions' dials (passive health) and the verdicts of checks (active health).
Both form one state. The state belongs to an address, so all rules that have this target with the same checks
share it, and it survives reloads. `portfwd.upstreams.pool` adds the orders of operators, which are for one
rule. This module runs no checks and starts no timers.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Final

from attrs import define, frozen

from portfwd.values import counted

#: Maximum length of an ejection, seconds.
MAX_EJECTION: Final = 300.0
#: The fraction of its weight with which a target begins slow start.
FIRST_SHARE: Final = 0.1


class TargetState(enum.Enum):
    """
    The state of a target.

    ``STARTING``: up after a recovery, with a weight that grows during ``slowstart``. ``DRAIN``: gets new
    sessions only from clients that ``stick=`` to it.
    """

    UP = "up"
    STARTING = "starting"
    DRAIN = "drain"
    DOWN = "down"


@frozen
class Verdict:
    """
    The result of one check.

    :ivar passed: whether the target is fit for sessions.
    :ivar cause: the reason in a few words, for the log.
    :ivar drain: whether the target asks for no new sessions.
    :ivar share: the fraction of its weight that the target asks for, 0 or more; None if it does not ask.
    """

    passed: bool
    cause: str = ""
    drain: bool = False
    share: float | None = None


@frozen
class StateChange:
    """One change of state. :ivar after: never `TargetState.STARTING`, because slow start is set by rule."""

    before: TargetState
    after: TargetState
    cause: str


@frozen
class Ejection:
    """When failed dials eject a target: ``max-fails`` (None: never) and ``fail-timeout`` in seconds."""

    max_fails: int | None = 3
    fail_timeout: float = 10.0


@define
class CheckState:
    """
    The state of one check.

    :ivar passing: the effective result; None before the first verdict.
    :ivar run: number of consecutive verdicts that differ from `passing`.
    :ivar verdict: the last verdict.
    :ivar seconds: duration of the last check; None before the first one.
    :ivar unanswered: why the last check gave no verdict; empty if it gave one.
    """

    passing: bool | None = None
    run: int = 0
    verdict: Verdict = Verdict(True)
    seconds: float | None = None
    unanswered: str = ""

    @property
    def problem(self) -> str:
        """Why the last check gave no verdict, or failed although the check still passes; empty otherwise."""
        if self.unanswered or self.verdict.passed or self.passing is False:
            return self.unanswered
        return self.verdict.cause

    @property
    def undecided(self) -> bool:
        """Whether the last verdicts differ from `passing`, or there is none yet."""
        return self.passing is None or self.run > 0

    def tell(self, verdict: Verdict, rise: int, fall: int) -> None:
        """Count one verdict; the first one takes effect at once."""
        self.verdict = verdict
        if self.passing is None:
            self.passing = verdict.passed
        elif verdict.passed is self.passing:
            self.run = 0
        else:
            self.run += 1
            if self.run >= (rise if verdict.passed else fall):
                self.passing, self.run = verdict.passed, 0


class Health:
    """
    The health of one address.

    :ivar label: the name of the target in messages.
    :ivar state: up, drain or down; the methods that change it return the change.
    :ivar cause: the cause of the state.
    :ivar since: time of the last change; None if there was none.
    :ivar recovered_at: time at which the target last ceased to be down; None if it never was down.
    :ivar checks: states of the checks, by identity of the check.
    :ivar changes: number of changes of the state.
    """

    def __init__(self, label: str, checks: Iterable[str] = ()) -> None:
        """:param checks: identities of the checks that determine the state."""
        self.label = label
        self.checks = {identity: CheckState() for identity in checks}
        self.state = TargetState.UP
        self.cause = ""
        self.since: float | None = None
        self.recovered_at: float | None = None
        self.changes = 0
        self._fails = 0
        self._ejections = 0
        self._length = 0.0
        self._ejected_until: float | None = None
        self._trial_until = 0.0
        self._dial_cause = ""

    def __repr__(self) -> str:
        cause = f" ({self.cause})" if self.cause else ""
        return f"<Health {self.label} {self.state.value}{cause}>"

    def inherit(self, other: Health) -> None:
        """Begin with the state of `other`, which is the same address with other checks."""
        for identity in self.checks.keys() & other.checks.keys():
            self.checks[identity] = other.checks[identity]
        for name in (
            "_fails", "_ejections", "_length", "_ejected_until", "_dial_cause", "recovered_at", "changes",
        ):  # fmt: skip
            setattr(self, name, getattr(other, name))
        self.state, self.cause = self._judge()
        self.since = other.since if self.state is other.state else None

    # Observations

    def dial_failed(self, now: float, cause: str, ejection: Ejection) -> StateChange | None:
        """A session could not reach the target: an error, a failed TLS handshake, or no answer in time."""
        self._fails += 1
        if ejection.max_fails is None or (self.is_ejected and now < (self._ejected_until or 0.0)):
            return None
        if self._fails < ejection.max_fails and not self.is_ejected:
            return None
        # A trial that failed ejects at once.
        self._ejections += 1
        self._length = min(MAX_EJECTION, ejection.fail_timeout * self._ejections)
        self._ejected_until, self._trial_until = now + self._length, 0.0
        dials = counted(self._fails, "dial")
        count = f"{dials} in a row failed, the last: " if self._fails > 1 else "a dial failed: "
        self._dial_cause = f"{count}{cause}"
        return self._decide(now)

    def dial_succeeded(self, now: float) -> StateChange | None:
        """A session has reached the target."""
        self._fails = 0
        if self._ejected_until is None:
            return None
        if self.is_ejected:
            return self._readmit(now, "a dial succeeded")
        if now >= self._ejected_until + self._length:
            # It has worked for as long as it was ejected: the next ejection has the shortest length again.
            self._ejections, self._ejected_until = 0, None
        return None

    def is_told_again(self, identity: str, verdict: Verdict, seconds: float) -> bool:
        """
        Whether the verdict of a check changes nothing, because it is the previous one and is effective.

        :param seconds: duration of the check.
        """
        check = self.checks[identity]
        check.seconds = seconds
        is_same = verdict is check.verdict and not check.undecided and not check.unanswered
        return is_same and not self.is_ejected

    def checked(
        self, identity: str, verdict: Verdict, now: float, seconds: float, rise: int = 2, fall: int = 3
    ) -> StateChange | None:
        """
        A check has a verdict.

        :param seconds: duration of the check.
        :param rise, fall: number of consecutive verdicts that take effect.
        """
        check = self.checks[identity]
        check.seconds, check.unanswered = seconds, ""
        check.tell(verdict, rise, fall)
        if verdict.passed and self.is_ejected and not self.is_checked_down:
            return self._readmit(now, verdict.cause or "a check passed")
        return self._decide(now)

    def unanswered(self, identity: str, cause: str) -> bool:
        """
        A check gave no verdict; the state is kept.

        :param cause: the reason in a few words.
        :returns: whether the check before gave one, or was the first.
        """
        check = self.checks[identity]
        before, check.unanswered = check.unanswered, cause
        return not before

    # Results

    @property
    def is_ejected(self) -> bool:
        """Whether the target is down because of failed dials."""
        return bool(self._dial_cause)

    @property
    def is_checked_down(self) -> bool:
        """Whether the target is down because of a check."""
        return any(one.passing is False for one in self.checks.values())

    @property
    def trial_at(self) -> float | None:
        """The time from which one session may try the ejected target; None if a check decides about it."""
        if not self.is_ejected or self.checks:
            return None
        return max(self._ejected_until or 0.0, self._trial_until)

    def try_it(self, now: float, seconds: float) -> None:
        """A session tries the ejected target. No other one may for `seconds` or until the outcome."""
        self._trial_until = now + seconds

    @property
    def share(self) -> float:
        """The fraction of its weight that the checks allow."""
        shares = [one.verdict.share for one in self.checks.values() if one.verdict.share is not None]
        return min(shares, default=1.0)

    def _readmit(self, now: float, cause: str) -> StateChange | None:
        self._fails, self._dial_cause = 0, ""
        return self._decide(now, cause)

    def _judge(self) -> tuple[TargetState, str]:
        for check in self.checks.values():
            if check.passing is False:
                return TargetState.DOWN, check.verdict.cause
        if self.is_ejected:
            return TargetState.DOWN, self._dial_cause
        for check in self.checks.values():
            if check.verdict.drain:
                return TargetState.DRAIN, check.verdict.cause
        return TargetState.UP, ""

    def _decide(self, now: float, why_up: str = "") -> StateChange | None:
        state, cause = self._judge()
        before = self.state
        if state is before:
            self.cause = cause if state is not TargetState.UP else self.cause
            return None
        if not cause:
            passed = (one.verdict.cause for one in self.checks.values() if one.verdict.cause)
            cause = why_up or next(passed, "its checks pass")
        self.state, self.cause, self.since = state, cause, now
        self.changes += 1
        if before is TargetState.DOWN:
            self.recovered_at = now
        return StateChange(before, state, cause)


def slow_share(recovered_at: float | None, slowstart: float | None, now: float) -> float:
    """The fraction of its weight that a target has in slow start: `FIRST_SHARE` to 1."""
    if recovered_at is None or not slowstart or now >= recovered_at + slowstart:
        return 1.0
    return FIRST_SHARE + (1 - FIRST_SHARE) * max(0.0, now - recovered_at) / slowstart
