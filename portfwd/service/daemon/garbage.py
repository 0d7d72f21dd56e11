# -*- test-case-name: tests.service.daemon.test_garbage -*-
"""
Schedules full collections of Python's garbage collector in the daemon.

A full collection scans all objects and blocks traffic: for 37 ms with 10 000 plain sessions, for 30 ms with
1000 sessions that have a filter. Sessions, associations and rules of portfwd leave no reference cycles, so a
full collection frees none of their objects. Short-lived cycles, such as those of an exception, are freed by
the collections of generations 0 and 1, which are not changed. Only long-lived cycles of filters, plug-ins and
libraries need a full collection. `FullRounds` turns Python's own full collections off, checks once per second
how much the process uses, and runs a full collection only if rules and sessions do not explain it.

What a cycle keeps may be small objects, a large buffer, or an open file, so three numbers are checked: memory
blocks, resident memory and descriptors. Where the operating system does not tell the resident memory,
Python's own full collections stay on.

`collector_off` turns the collector off while rules are made. At a start, and if there are more than
`MOST_SCANNED` rules, it freezes all objects, which excludes them from collections. It does not freeze at each
reload: a cycle that is frozen while it is in use is not freed by later collections, and may keep memory of
OpenSSL that the number of blocks does not show. If a full collection does not free enough blocks, another
one includes the frozen objects.

A forwarder inside another program does not change the collector.
"""

from __future__ import annotations

import gc
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Final

from attrs import define, field
from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from portfwd.kernel.usage import lowest_free_descriptor, resident_bytes, return_free_memory

#: A context manager around the making of rules, with a function that counts them: `collector_off` or
#: `collector_unchanged`.
Making = Callable[[Callable[[], float]], AbstractContextManager[None]]

#: Rules whose objects a full collection may scan: a rule is some 40 objects, and 50 000 take 20 to 40 ms.
MOST_SCANNED: Final = 1000

#: Seconds between two checks. A check takes 0.1 ms with two million blocks.
CHECK_INTERVAL: Final = 1.0
#: Maximum share of the time that full collections take: after one of 100 ms the next one follows after 2 s.
SHARE: Final = 0.05
#: Collections of generation 1 after which Python runs a full one. CPython 3.14.0 ignores it, because its
#: collector is incremental. Later versions have the collector of 3.13 again (python/cpython#148726).
NEVER: Final = 2**31 - 1
#: Expected maximum of memory blocks (``sys.getallocatedblocks``) of a rule. A plain rule has 195.
RULE_BLOCKS: Final = 400
#: Expected maximum of memory blocks of a session. A plain session has 18, one with two filters 140.
SESSION_BLOCKS: Final = 200
#: Expected maximum of resident bytes of a rule. A plain rule has 12 KiB.
RULE_BYTES: Final = 64 * 1024
#: Expected maximum of resident bytes of a session. A plain session has 2 KiB, one with TLS after bulk 42 KiB.
SESSION_BYTES: Final = 64 * 1024
#: Expected maximum of descriptors of a rule.
RULE_DESCRIPTORS: Final = 4
#: Expected maximum of descriptors of a session: two sockets, and in bulk two pipes.
SESSION_DESCRIPTORS: Final = 6
#: Minimum growth factor since the last full collection before the next one, as in Python.
GROWTH: Final = 1.25
#: Up to this number of sessions a full collection takes less than 5 ms, and runs every `QUIET` seconds.
FEW_SESSIONS: Final = 100
#: Seconds between full collections with few sessions.
QUIET: Final = 60.0


@define
class Use:
    """
    One number that tells how much the process uses.

    :ivar read: returns the number, or 0 if this system does not tell it.
    :ivar per_rule: its expected maximum for a rule.
    :ivar per_session: its expected maximum for a session.
    """

    read: Callable[[], int]
    per_rule: int
    per_session: int
    _base: int = field(default=0, init=False)
    _left: int = field(default=0, init=False)

    def start(self) -> None:
        """Take the present number as the one without rules and sessions."""
        self._base = self._left = self.read()

    def settle(self) -> None:
        """Take the present number as the one after a full collection."""
        self._left = self.read()

    def is_excessive(self, rules: Callable[[], int], sessions: Callable[[], int]) -> bool:
        """
        Whether the number has grown since the last full collection, and is larger than expected.

        :param rules: counts the rules; called only if the number has grown, as `sessions`.
        """
        now = self.read()
        # What was freed without a collection lowers the base of the growth.
        self._left = min(self._left, now)
        if now <= GROWTH * self._left:
            return False
        return now > self._base + self.per_rule * rules() + self.per_session * sessions()


def uses_of_process() -> tuple[Use, ...]:
    """Memory blocks, resident memory and descriptors of this process."""
    return (
        Use(sys.getallocatedblocks, RULE_BLOCKS, SESSION_BLOCKS),
        Use(resident_bytes, RULE_BYTES, SESSION_BYTES),
        Use(lowest_free_descriptor, RULE_DESCRIPTORS, SESSION_DESCRIPTORS),
    )


def any_number() -> float:
    """More rules than `MOST_SCANNED`: a start freezes all objects, because its modules alone are 60 000."""
    return math.inf


@contextmanager
def collector_off(rules: Callable[[], float] = any_number) -> Iterator[None]:
    """
    Turn the collector off, and freeze all objects at the end if there are more than `MOST_SCANNED` rules.

    :param rules: counts the rules; called at the end.

    It is a context manager and a decorator. While rules are made, collections would scan all their objects
    repeatedly and free none, which takes a third of a start with 10 000 rules.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if rules() > MOST_SCANNED:
            gc.freeze()
        if was_on:
            gc.enable()


def collector_unchanged(rules: Callable[[], float]) -> AbstractContextManager[None]:
    """Do not change the collector, for a forwarder inside another program."""
    return nullcontext()


class FullRounds(Service):
    """
    Runs full collections instead of Python.

    What cyclic garbage keeps is bounded, for each of the three numbers, by its expected maximum per rule and
    session, or by a quarter of the number after the last full collection, whichever is more, plus what is
    added until the next check.

    :ivar rounds: number of full collections.
    """

    name = "portfwd garbage collector"

    def __init__(
        self,
        clock: IReactorTime,
        rules: Callable[[], int],
        sessions: Callable[[], int],
        *,
        uses: Callable[[], tuple[Use, ...]] = uses_of_process,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        :param rules: counts the rules.
        :param sessions: counts the open sessions.
        :param uses: returns the numbers that are checked.
        :param seconds: the clock that measures the collections.
        """
        self._clock = clock
        self._rules = rules
        self._sessions = sessions
        self._uses = uses()
        self._seconds = seconds
        self._before = gc.get_threshold()
        self._next: IDelayedCall | None = None
        self._last = 0.0
        self._not_before = 0.0
        self.rounds = 0

    def __repr__(self) -> str:
        return f"<FullRounds {self.rounds}>"

    def startService(self) -> None:
        """Turn Python's full collections off, and start the checks."""
        super().startService()
        self._before = gc.get_threshold()
        if all(use.read() for use in self._uses):
            gc.set_threshold(*self._before[:2], NEVER)
        for use in self._uses:
            use.start()
        self._last = self._clock.seconds()
        self._next = self._clock.callLater(CHECK_INTERVAL, self._check)

    def stopService(self) -> None:
        """Restore the thresholds of Python."""
        super().stopService()
        gc.set_threshold(*self._before)
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _check(self) -> None:
        self._next = self._clock.callLater(CHECK_INTERVAL, self._check)
        if not gc.isenabled():
            return  # rules are being made
        now = self._clock.seconds()
        quiet = now - self._last >= QUIET and self._sessions() <= FEW_SESSIONS
        if not quiet and (now < self._not_before or not self._is_excessive()):
            return
        begun = self._seconds()
        gc.collect()
        return_free_memory()
        if self._is_excessive():
            # Either the cycles were frozen, or something has grown that is in use.
            gc.unfreeze()
            gc.collect()
            gc.freeze()
            return_free_memory()
        self.rounds += 1
        for use in self._uses:
            use.settle()
        self._last = now
        self._not_before = now + (self._seconds() - begun) / SHARE

    def _is_excessive(self) -> bool:
        excessive = [use.is_excessive(self._rules, self._sessions) for use in self._uses]
        return any(excessive)
