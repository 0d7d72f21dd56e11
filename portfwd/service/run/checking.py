# -*- test-case-name: tests.service.run.test_checking -*-
"""
Runs the checks of all rules: each check of a target once, however many rules have it.

A check is never begun before the one before has ended, so checks do not pile up. Their beginnings are spread
at random. The checks of rules that a reload has replaced or removed go on while these have sessions, for
targets that no newer rule has.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from heapq import heappop, heappush
from random import random
from typing import Final, cast

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from portfwd.kernel.failures import log_failure
from portfwd.kernel.turn_clock import AT_ONCE
from portfwd.limits.descriptors import DescriptorBudget
from portfwd.relay.context import RelayContext
from portfwd.relay.destination import Destination
from portfwd.relay.live import LiveRule
from portfwd.service.build.checks import ReadyCheck
from portfwd.service.run.check_runs import (
    CONNECTED,
    ConnectRun,
    Run,
    check_destination,
    make_run,
    plain_address,
)
from portfwd.upstreams.checks.api import CheckCarrier
from portfwd.upstreams.health import Verdict
from portfwd.upstreams.states import TargetHealth
from portfwd.upstreams.timeout_queue import TimeoutQueue

#: Seconds in which the first check of a target begins, so that what is down is known soon.
SOON: Final = 0.5
#: Checks that begin at once at the start; more are spread over their ``inter``.
FEW: Final = 50
#: Programs that run at a time, of all checks ``exec``.
MAX_PROGRAMS: Final = 8
#: Seconds after which a check that found no place for its program tries again.
BUSY: Final = 0.1
#: Seconds of which checks begin together: a turn of the reactor costs as much as a check.
TICK: Final = 0.05


class Schedule:
    """Calls checkers when they are due: one timer for all, and those of one `TICK` together."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._due: list[tuple[float, int, Checker]] = []
        self._count = 0
        self._timer: IDelayedCall | None = None
        self._timer_at = 0.0

    def __repr__(self) -> str:
        return f"<Schedule {len(self._due)} due>"

    def after(self, seconds: float, checker: Checker) -> None:
        """Begin a check of `checker` in `seconds`."""
        at = math.ceil((self._clock.seconds() + seconds) / TICK) * TICK
        self._count += 1
        heappush(self._due, (at, self._count, checker))
        if self._timer is None or at < self._timer_at:
            self._wait(at)

    def _wait(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._clock.callLater(max(0.0, at - self._clock.seconds()), self._call)

    def _call(self) -> None:
        self._timer = None
        now, due = self._clock.seconds() + TICK / 2, self._due
        for _ in range(min(AT_ONCE, len(due))):
            if due[0][0] > now:
                break
            heappop(due)[2].begin()
        if due and self._timer is None:
            self._wait(due[0][0])

    def clear(self) -> None:
        """Forget all checkers."""
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Checker:
    """One check of one target, again and again."""

    def __init__(
        self, checks: Checks, health: TargetHealth, ready: ReadyCheck, destination: Destination
    ) -> None:
        """:param destination: where the check goes; see `check_destination`."""
        self._checks = checks
        self._health = health
        self._ready = ready
        self._run: Run | None = None
        self._begun = 0.0
        self._is_stopped = False
        self.update(ready, destination)
        self._limit: IDelayedCall | None = None

    def __repr__(self) -> str:
        state = "under way" if self._run is not None else "waiting"
        return f"<Checker {self._ready.name} of {self._health.label} {state}>"

    def update(self, ready: ReadyCheck, destination: Destination) -> None:
        """Go on with another timing, or other options of the target."""
        self._ready, self._destination = ready, destination
        self._plain = plain_address(ready, destination, self._checks.context)
        self._connected = Verdict(True, f"check {ready.name}: {CONNECTED.cause}")

    def start(self, *, few: bool) -> None:
        """Begin soon."""
        most = min(SOON, self._ready.timing.inter) if few else self._ready.timing.inter
        self._checks.schedule.after(random() * most, self)  # noqa: S311

    def stop(self) -> None:
        """Check no more."""
        self._is_stopped = True
        if self._limit is not None and self._limit.active():
            self._limit.cancel()
        run, self._run = self._run, None
        if run is not None:
            run.cancel()
            self._checks.ended(self._ready)

    def begin(self) -> None:
        """It is due."""
        if self._is_stopped:
            return
        checks, ready = self._checks, self._ready
        self._begun = checks.reactor.seconds()
        if not checks.may_begin(ready):
            checks.schedule.after(BUSY, self)
            return
        run: Run
        if self._plain is not None:
            timeouts = checks.timeouts(ready.timing.timeout)
            run = ConnectRun(checks.context, self._plain, self._destination, timeouts, self._done)
        else:
            run = make_run(ready, self._destination, checks.context, self._done)
            self._limit = checks.reactor.callLater(ready.timing.timeout, self._timed_out)
        self._run = run
        try:
            run.start()
        except Exception:
            log_failure(checks.log, "{checker!r}: it could not be begun", checker=self)
            self._done(None)

    def _timed_out(self) -> None:
        run = self._run
        if run is not None:
            run.cancel()
            self._done(Verdict(False, f"no answer within {self._ready.timing.timeout:g} s"))

    def _done(self, verdict: Verdict | None) -> None:
        run, self._run = self._run, None
        if run is None:
            return
        checks, ready = self._checks, self._ready
        checks.ended(ready)
        if self._limit is not None and self._limit.active():
            self._limit.cancel()
        now = checks.reactor.seconds()
        if verdict is not None and (run.judged or not ready.check.silent):
            told = self._connected if verdict is CONNECTED else self._named(verdict)
            checks.context.targets.checked(
                self._health, ready.identity, told, now - self._begun, ready.timing.rise, ready.timing.fall
            )
        undecided = self._health.checks[ready.identity].undecided
        wait = ready.timing.wait(undecided=undecided, draw=random())  # noqa: S311
        checks.schedule.after(max(0.0, self._begun + wait - now), self)

    def _named(self, verdict: Verdict) -> Verdict:
        """`verdict` with the name of the check in its cause."""
        cause = f"check {self._ready.name}: {verdict.cause}" if verdict.cause else f"check {self._ready.name}"
        return Verdict(verdict.passed, cause, verdict.drain, verdict.share)


class Checks:
    """
    All checkers.

    :ivar context: what checks need to connect.
    """

    log = Logger()

    def __init__(
        self, context: RelayContext, budget: DescriptorBudget, rules: Callable[[], Iterable[LiveRule]]
    ) -> None:
        """
        :param budget: is asked for the descriptor of each check.
        :param rules: those at work, then those that only have sessions left.
        """
        self.context = context
        self.reactor = context.reactor
        self.schedule = Schedule(context.reactor)
        self._budget = budget
        self._rules = rules
        self._runs = False
        self._checkers: dict[tuple[TargetHealth, str], Checker] = {}
        self._timeouts: dict[float, TimeoutQueue] = {}
        self._programs = 0

    def __repr__(self) -> str:
        return f"<Checks of {len(self._checkers)}>"

    def start(self) -> None:
        """Begin."""
        self._runs = True
        self.follow()

    def stop(self) -> None:
        """Check nothing any more."""
        self._runs = False
        self.follow()
        self.schedule.clear()

    def rule_gone(self, live: LiveRule) -> None:
        """A rule that a reload has replaced has no session left."""
        if live.balancing.checks:
            self.follow()

    def follow(self) -> None:
        """Check the targets of the rules as they are now; of several that have one the first counts."""
        wanted: dict[tuple[TargetHealth, str], tuple[ReadyCheck, Destination]] = {}
        for live in self._rules() if self._runs else ():
            checks = cast("tuple[ReadyCheck, ...]", live.balancing.checks)
            if not checks:
                continue
            for destination, health in live.balancing.healths():
                for ready in checks if live.decides_about(destination) else ():
                    wanted.setdefault((health, ready.identity), (ready, destination))
        for key in self._checkers.keys() - wanted.keys():
            self._checkers.pop(key).stop()
        few = len(wanted) <= FEW
        for key, (ready, destination) in wanted.items():
            try:
                there = check_destination(destination, ready, self.context)
            except (OSError, ValueError) as problem:
                self.log.error(
                    "check {name} of {target}: {problem}",
                    name=ready.name, target=destination.label, problem=str(problem),
                )  # fmt: skip
                continue
            checker = self._checkers.get(key)
            if checker is None:
                checker = self._checkers[key] = Checker(self, key[0], ready, there)
                checker.start(few=few)
            else:
                checker.update(ready, there)

    def timeouts(self, seconds: float) -> TimeoutQueue:
        """The queue of all checks with that ``timeout``."""
        found = self._timeouts.get(seconds)
        if found is None:
            found = self._timeouts[seconds] = TimeoutQueue(self.reactor, seconds)
        return found

    def may_begin(self, ready: ReadyCheck) -> bool:
        """Whether there is a descriptor, and a place for a program, for one more check; it is taken then."""
        is_program = ready.check.carrier is CheckCarrier.COMMAND
        if (is_program and self._programs >= MAX_PROGRAMS) or not self._budget.take(1):
            return False
        self._programs += is_program
        return True

    def ended(self, ready: ReadyCheck) -> None:
        """One check is over."""
        self._programs -= ready.check.carrier is CheckCarrier.COMMAND
        self._budget.give_back(1)
