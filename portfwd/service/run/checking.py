# -*- test-case-name: tests.service.run.test_checking -*-
"""
Runs the checks of all rules. Rules with the same check of a target share it.

A check starts only after the previous one has ended, so checks do not pile up. Their starts are spread at
random. Checks of rules that a reload has replaced or removed continue while these rules have sessions, for
targets that no newer rule has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from heapq import heappop, heappush
from math import ceil
from random import random
from typing import Final, cast

from attrs import evolve
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from portfwd.kernel.failures import log_failure
from portfwd.kernel.turn_clock import AT_ONCE
from portfwd.limits.descriptors import DescriptorBudget
from portfwd.relay.context import RelayContext
from portfwd.relay.destination import Destination
from portfwd.relay.live import LiveRule
from portfwd.service.build.checks import ReadyCheck
from portfwd.service.run.check_results import NoVerdict, RaisedVerdict, Run
from portfwd.service.run.check_runs import check_destination, make_run, plain_address
from portfwd.service.run.connect_run import ConnectRun
from portfwd.upstreams.checks.api import CheckCarrier
from portfwd.upstreams.health import Verdict
from portfwd.upstreams.states import TargetHealth

#: Seconds within which the first check of a target starts, so down targets are detected soon.
SOON: Final = 0.5
#: Checks that start at once at the beginning. Further ones are spread over their ``inter``.
FEW: Final = 50
#: Most programs that run at the same time, of all ``exec`` checks.
MAX_PROGRAMS: Final = 8
#: Seconds after which a check that could not start its program tries again.
BUSY: Final = 0.1
#: Seconds whose checks start together, because a turn of the reactor costs as much as a check. Timeouts are
#: detected late by the same time.
TICK: Final = 0.05


class Schedule:
    """Wakes checkers with one timer, those of one `TICK` together."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        # By number of the tick. A heap of thousands of checkers would cost as much as the checks.
        self._due: dict[int, list[Checker]] = {}
        self._ticks: list[int] = []
        self._timer: IDelayedCall | None = None
        self._timer_at = 0

    def __repr__(self) -> str:
        return f"<Schedule {sum(map(len, self._due.values()))} due>"

    def at(self, when: float, checker: Checker) -> None:
        """Wake `checker` at `when` or soon after."""
        tick = ceil(when / TICK)
        due = self._due.get(tick)
        if due is not None:
            due.append(checker)
            return
        self._due[tick] = [checker]
        heappush(self._ticks, tick)
        if self._timer is None or tick < self._timer_at:
            self._wait(tick)

    def _wait(self, tick: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = tick
        self._timer = self._clock.callLater(max(0.0, tick * TICK - self._clock.seconds()), self._call)

    def _call(self) -> None:
        self._timer = None
        now, left = self._clock.seconds() + TICK / 2, AT_ONCE
        while left and self._ticks and self._ticks[0] * TICK <= now:
            due = self._due[self._ticks[0]]
            now_due, due[:left] = due[:left], []
            left -= len(now_due)
            if not due:
                del self._due[heappop(self._ticks)]
            for checker in now_due:
                checker.wake(now)
        # Woken checkers wait again. The remaining ones are woken in the next turn.
        if self._ticks and (self._timer is None or self._ticks[0] < self._timer_at):
            self._wait(self._ticks[0])

    def clear(self) -> None:
        """Remove all checkers."""
        self._due.clear()
        self._ticks.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Checker:
    """Repeats one check of one target."""

    def __init__(
        self, checks: Checks, health: TargetHealth, ready: ReadyCheck, destination: Destination
    ) -> None:
        """:param destination: the destination of the check; see `check_destination`."""
        self._checks = checks
        self._health = health
        self._state = health.checks[ready.identity]
        self._run: Run | None = None
        self._begun = self._next_at = self._wake_at = 0.0
        self._is_stopped = self._has_raised = False
        self.update(ready, destination)

    def __repr__(self) -> str:
        state = "under way" if self._run is not None else "waiting"
        return f"<Checker {self._ready.name} of {self._health.label} {state}>"

    def update(self, ready: ReadyCheck, destination: Destination) -> None:
        """Continue with another timing or other options of the target."""
        self._ready, self._destination = ready, destination
        context = self._checks.context
        address, sockets = plain_address(ready, destination, context), context.sockets
        self._connect: ConnectRun | None = None
        if address is not None and sockets is not None:
            # Always the same object, so an unchanged verdict is recognised.
            told = partial(self._judged, Verdict(True, f"check {ready.name}: connected"))
            self._connect = ConnectRun(address, destination.options.src, sockets.poller, told, self._done)

    def start(self, *, few: bool) -> None:
        """Begin soon."""
        most = min(SOON, self._ready.timing.inter) if few else self._ready.timing.inter
        self._next_at = self._checks.reactor.seconds() + random() * most  # noqa: S311
        self._wait_until(self._next_at)

    def stop(self) -> None:
        """Stop checking."""
        self._is_stopped = True
        run, self._run = self._run, None
        if run is not None:
            run.cancel()
            self._checks.ended(self._ready)

    def _wait_until(self, when: float) -> None:
        self._wake_at = when
        self._checks.schedule.at(when, self)

    def wake(self, now: float) -> None:
        """Start the next check, or end one that takes too long."""
        if self._is_stopped or now < self._wake_at:
            return
        if self._run is not None:
            if now < self._begun + self._ready.timing.timeout:
                self._wait_until(self._begun + self._ready.timing.timeout)
                return
            self._run.cancel()
            self._done(self._too_late)
        if now < self._next_at:
            self._wait_until(self._next_at)
        else:
            self._begin()

    @property
    def _too_late(self) -> Verdict:
        return Verdict(False, f"no answer within {self._ready.timing.timeout:g} s")

    def _begin(self) -> None:
        checks, ready = self._checks, self._ready
        self._begun = now = checks.reactor.seconds()
        if not checks.may_begin(ready):
            self._next_at = now + BUSY
            self._wait_until(self._next_at)
            return
        timing = ready.timing
        undecided = self._state.undecided
        self._next_at = now + timing.wait(undecided=undecided, draw=random())  # noqa: S311
        self._wait_until(min(self._next_at, now + timing.timeout))
        run: Run | None = self._connect
        if run is None:
            run = make_run(ready, self._destination, checks.context, self._done)
        self._run = run
        try:
            run.start()
        except Exception:
            run.cancel()
            self._done(RaisedVerdict.of(Failure()))

    def _done(self, result: Verdict | NoVerdict | None) -> None:
        """A check has ended. Add its name to the cause, and log the first of the same exceptions."""
        before, self._has_raised = self._has_raised, isinstance(result, RaisedVerdict)
        if isinstance(result, RaisedVerdict):
            if not before:
                self._log_raised(result)
            result = Verdict(False, result.cause)
        if result is not None:
            name = f"check {self._ready.name}"
            result = evolve(result, cause=f"{name}: {result.cause}" if result.cause else name)
        self._judged(result)

    def _log_raised(self, result: RaisedVerdict) -> None:
        log_failure(
            self._checks.log,
            "{rules}: target {target}: check {name} raised an exception",
            result.failure,
            rules=self._checks.context.targets.rules_of(self._health),
            target=self._health.label,
            name=self._ready.name,
        )

    def _judged(self, result: Verdict | NoVerdict | None) -> None:
        run, self._run = self._run, None
        if run is None:
            return
        checks, ready = self._checks, self._ready
        checks.ended(ready)
        now = checks.reactor.seconds()
        targets, timing = checks.context.targets, ready.timing
        if isinstance(result, NoVerdict) or (result is not None and ready.check.silent and not run.judged):
            targets.unanswered(self._health, ready.identity, result.cause)
        elif result is not None:
            seconds = now - self._begun
            targets.checked(self._health, ready.identity, result, seconds, timing.rise, timing.fall)
        if timing.fastinter is None:
            return
        wait = timing.wait(undecided=self._state.undecided, draw=random())  # noqa: S311
        self._next_at = self._begun + wait
        if self._next_at < self._wake_at:
            self._wait_until(max(now, self._next_at))


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
        :param budget: the budget for the descriptors of checks.
        :param rules: the active rules, then those that only have sessions left.
        """
        self.context = context
        self.reactor = context.reactor
        self.schedule = Schedule(context.reactor)
        self._budget = budget
        self._rules = rules
        self._runs = False
        self._checkers: dict[tuple[TargetHealth, str], Checker] = {}
        self.programs = 0

    def __repr__(self) -> str:
        return f"<Checks of {len(self._checkers)}>"

    def start(self) -> None:
        """Begin."""
        self._runs = True
        self.follow()

    def stop(self) -> None:
        """Stop all checks."""
        self._runs = False
        self.follow()
        self.schedule.clear()

    def rule_gone(self, live: LiveRule) -> None:
        """A rule that a reload has replaced has no sessions left."""
        if live.balancing.checks:
            self.follow()

    def follow(self) -> None:
        """Check the targets of the current rules. If several have a target, the first one decides."""
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
                rules = self.context.targets.rules_of(key[0])
                there = check_destination(destination, ready, self.context, rules)
            except (OSError, ValueError) as problem:
                # It cannot be made, so it has failed until a reload.
                if key in self._checkers:
                    self._checkers.pop(key).stop()
                failed = Verdict(False, f"check {ready.name}: {problem}")
                self.context.targets.checked(key[0], key[1], failed, 0.0, rise=1, fall=1)
                continue
            checker = self._checkers.get(key)
            if checker is None:
                checker = self._checkers[key] = Checker(self, key[0], ready, there)
                checker.start(few=few)
            else:
                checker.update(ready, there)

    def may_begin(self, ready: ReadyCheck) -> bool:
        """Take a descriptor, and a slot for a program, for one more check; return whether there was one."""
        is_program = ready.check.carrier is CheckCarrier.COMMAND
        if (is_program and self.programs >= MAX_PROGRAMS) or not self._budget.take(1):
            return False
        self.programs += is_program
        return True

    def ended(self, ready: ReadyCheck) -> None:
        """One check has ended."""
        self.programs -= ready.check.carrier is CheckCarrier.COMMAND
        self._budget.give_back(1)
