# -*- test-case-name: tests.limits.test_guesses -*-
"""
When secrets are checked: at most so many at a time, one at a time for each source, later after each failure.

A check costs a thread for as long as a fifth of a second, and whoever guesses causes them without end. So a
source has one check under way, few that wait, and a delay that doubles with each failure. Sources take turns:
one that guesses does not delay another. All is bounded: what waits of one source, what waits in all, and the
sources whose failures are remembered.

Pure: it starts nothing, and time is an argument.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Final, Generic, TypeVar

from attrs import define, field

#: Checks at a time: they take whole cores, and the machines that run this have two or more.
AT_ONCE: Final = 2
#: Checks of one source that may wait; browsers open six connections to a proxy at once.
MOST_OF_SOURCE: Final = 16
#: Checks of all sources that may wait: at 100 ms each, more could not be done while clients wait for them.
MOST_WAITING: Final = 1024
#: Seconds before the next check of a source that failed once; it doubles with each further failure.
FIRST_DELAY: Final = 0.25
#: The longest delay: below the ten seconds that a client has, so that a right password still gets in.
LONGEST_DELAY: Final = 8.0
#: Seconds after its last failure in which a source is forgotten.
FORGET: Final = 300.0
#: Sources whose failures are remembered; the one that failed least recently is forgotten first.
MOST_SOURCES: Final = 10_000

Job = TypeVar("Job")


@define
class _Failures:
    """What is remembered of a source that failed."""

    count: int = 0
    last: float = 0.0
    not_before: float = 0.0


@define
class Guesses(Generic[Job]):
    """
    The checks that wait and those that are under way.

    :ivar most_sources: how many sources' failures are remembered.
    """

    most_sources: int = MOST_SOURCES
    _waiting: OrderedDict[str, deque[Job]] = field(factory=OrderedDict)
    _under_way: set[str] = field(factory=set)
    _failures: OrderedDict[str, _Failures] = field(factory=OrderedDict)
    _count: int = 0

    def __repr__(self) -> str:
        return f"<Guesses {self._count} waiting, {len(self._under_way)} under way>"

    def is_free(self, source: str, now: float) -> bool:
        """Whether `source` has nothing that waits or is under way, and no delay."""
        failures = self._failures.get(source)
        delayed = failures is not None and failures.not_before > now
        return not delayed and source not in self._under_way and source not in self._waiting

    def add(self, source: str, job: Job) -> bool:
        """Let `job` wait for its turn; False: too many wait."""
        waiting = self._waiting.get(source)
        if self._count >= MOST_WAITING or (waiting is not None and len(waiting) >= MOST_OF_SOURCE):
            return False
        if waiting is None:
            waiting = self._waiting[source] = deque()
        waiting.append(job)
        self._count += 1
        return True

    def withdraw(self, source: str, job: Job) -> None:
        """`job` waits no longer, if it did: the client is gone."""
        waiting = self._waiting.get(source)
        if waiting is not None and job in waiting:
            waiting.remove(job)
            self._count -= 1
            if not waiting:
                del self._waiting[source]

    def next(self, now: float) -> tuple[str, Job] | float | None:
        """The check to begin now, with its source; or seconds until then; None: when one is done."""
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
                # The others have their turns before its next one.
                if waiting:
                    self._waiting.move_to_end(source)
                else:
                    del self._waiting[source]
                self._under_way.add(source)
                return source, job
            soonest = min(soonest or failures.not_before, failures.not_before)
        return None if soonest is None else soonest - now

    def done(self, source: str, right: bool, now: float) -> None:
        """The check of `source` that was under way has said `right`."""
        self._under_way.discard(source)
        if right:
            # A success takes nothing back: whoever has one password may still guess others.
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
