# -*- test-case-name: tests.limits.test_guesses -*-
"""
The order and rate of password checks.

A check takes a thread for up to 0.2 seconds, and an attacker can cause any number of them. Therefore each
source has at most one running check, few waiting ones, and a delay that doubles with each failure. Sources
are served in turn, so an attacker does not delay other sources. The number of waiting checks of one source,
of all sources, and of remembered failures is bounded.

This module starts no check itself; time is an argument.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Final, Generic, TypeVar

from attrs import define, field

#: Checks that run at the same time. Each takes a whole core; most machines have two or more.
AT_ONCE: Final = 2
#: Waiting checks of one source. Browsers open six connections to a proxy at once.
MOST_OF_SOURCE: Final = 16
#: Waiting checks of all sources. At 100 ms each, more could not finish before the clients time out.
MOST_WAITING: Final = 1024
#: Seconds before the next check of a source after its first failure. The delay doubles with each further one.
FIRST_DELAY: Final = 0.25
#: Longest delay in seconds. It is less than the ten seconds of a client's time limit, so a correct password
#: is still accepted.
LONGEST_DELAY: Final = 8.0
#: Seconds after the last failure until a source is removed.
FORGET: Final = 300.0
#: Number of sources whose failures are kept. The one with the oldest failure is removed first.
MOST_SOURCES: Final = 10_000

Job = TypeVar("Job")


@define
class _Failures:
    """The failures of one source."""

    count: int = 0
    last: float = 0.0
    not_before: float = 0.0


@define
class Guesses(Generic[Job]):
    """
    The waiting and the running checks.

    :ivar most_sources: number of sources whose failures are kept.
    """

    most_sources: int = MOST_SOURCES
    _waiting: OrderedDict[str, deque[Job]] = field(factory=OrderedDict)
    _under_way: set[str] = field(factory=set)
    _failures: OrderedDict[str, _Failures] = field(factory=OrderedDict)
    _count: int = 0

    def __repr__(self) -> str:
        return f"<Guesses {self._count} waiting, {len(self._under_way)} under way>"

    def is_free(self, source: str, now: float) -> bool:
        """Whether `source` has no waiting or running check and no delay."""
        failures = self._failures.get(source)
        delayed = failures is not None and failures.not_before > now
        return not delayed and source not in self._under_way and source not in self._waiting

    def add(self, source: str, job: Job) -> bool:
        """Queue `job`. False if too many are waiting."""
        waiting = self._waiting.get(source)
        if self._count >= MOST_WAITING or (waiting is not None and len(waiting) >= MOST_OF_SOURCE):
            return False
        if waiting is None:
            waiting = self._waiting[source] = deque()
        waiting.append(job)
        self._count += 1
        return True

    def withdraw(self, source: str, job: Job) -> None:
        """Remove `job` from the queue if it is there, because its client is gone."""
        waiting = self._waiting.get(source)
        if waiting is not None and job in waiting:
            waiting.remove(job)
            self._count -= 1
            if not waiting:
                del self._waiting[source]

    def next(self, now: float) -> tuple[str, Job] | float | None:
        """The next check and its source; or the seconds until one may start; None: when a check ends."""
        if len(self._under_way) >= AT_ONCE:
            return None
        soonest: float | None = None
        for source, waiting in self._waiting.items():
            if source in self._under_way:
                continue
            failures = self._failures.get(source)
            if failures is None or failures.not_before <= now:
                job = waiting.popleft()
                self._count -= 1
                # Its next check comes after those of the other sources.
                if waiting:
                    self._waiting.move_to_end(source)
                else:
                    del self._waiting[source]
                self._under_way.add(source)
                return source, job
            soonest = min(soonest or failures.not_before, failures.not_before)
        return None if soonest is None else soonest - now

    def done(self, source: str, right: bool, now: float) -> None:
        """The running check of `source` has ended with the result `right`."""
        self._under_way.discard(source)
        if right:
            # A success does not reset the delay: the owner of one password may still guess others.
            return
        failures = self._failures.pop(source, None)
        if failures is None or failures.last + FORGET <= now:
            failures = _Failures()
        delay = min(FIRST_DELAY * 2.0 ** min(failures.count, 32), LONGEST_DELAY)
        self._failures[source] = _Failures(failures.count + 1, now, now + delay)
        while len(self._failures) > self.most_sources or self._oldest_is_over(now):
            self._failures.popitem(last=False)

    def _oldest_is_over(self, now: float) -> bool:
        return next(iter(self._failures.values())).last + FORGET <= now
