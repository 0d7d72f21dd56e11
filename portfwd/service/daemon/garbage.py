# -*- test-case-name: tests.service.daemon.test_garbage -*-
"""
Schedules full collections of Python's garbage collector in the daemon.

A full collection scans all objects and blocks traffic: for 37 ms with 10 000 plain sessions, for 30 ms with
1000 sessions that have a filter. Sessions, associations and rules of portfwd leave no reference cycles, so a
full collection frees none of their objects. Short-lived cycles, such as those of an exception, are freed by
the collections of generations 0 and 1, which are not changed. Only long-lived cycles of filters, plug-ins and
libraries need a full collection. `FullRounds` turns Python's own full collections off, checks the memory in
use once per second, and runs a full collection only if rules and sessions do not explain the memory in use.

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
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Final

from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall, IReactorTime

#: A context manager around the making of rules, with a function that counts them: `collector_off` or
#: `collector_unchanged`.
Making = Callable[[Callable[[], float]], AbstractContextManager[None]]

#: Rules whose objects a full collection may scan: a rule is some 40 objects, and 50 000 take 20 to 40 ms.
MOST_SCANNED: Final = 1000

#: Seconds between two checks of the memory in use. A check takes 0.1 ms with two million blocks.
CHECK_INTERVAL: Final = 1.0
#: Collections of generation 1 after which Python runs a full one. CPython 3.14.0 ignores it, because its
#: collector is incremental. Later versions have the collector of 3.13 again (python/cpython#148726).
NEVER: Final = 2**31 - 1
#: Expected maximum of memory blocks (``sys.getallocatedblocks``) of a rule. A plain rule has 195.
RULE_BLOCKS: Final = 400
#: Expected maximum of memory blocks of a session. A plain session has 18, one with two filters 140.
SESSION_BLOCKS: Final = 200
#: Minimum growth factor of the blocks since the last full collection before the next one, as in Python.
GROWTH: Final = 1.25
#: Up to this number of sessions a full collection takes less than 5 ms, and runs every `QUIET` seconds.
FEW_SESSIONS: Final = 100
#: Seconds between full collections with few sessions.
QUIET: Final = 60.0


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

    Cyclic garbage is bounded by `RULE_BLOCKS` per rule plus `SESSION_BLOCKS` per session, or by a quarter of
    the blocks after the last full collection, whichever is more.

    :ivar rounds: number of full collections.
    """

    name = "portfwd garbage collector"

    def __init__(self, clock: IReactorTime, rules: Callable[[], int], sessions: Callable[[], int]) -> None:
        """
        :param rules: counts the rules.
        :param sessions: counts the open sessions.
        """
        self._clock = clock
        self._rules = rules
        self._sessions = sessions
        self._before = gc.get_threshold()
        self._next: IDelayedCall | None = None
        self._last = 0.0
        self._base = self._left = 0
        self.rounds = 0

    def __repr__(self) -> str:
        return f"<FullRounds {self.rounds} left={self._left}>"

    def startService(self) -> None:
        """Turn Python's full collections off, and start the checks."""
        super().startService()
        self._before = gc.get_threshold()
        gc.set_threshold(*self._before[:2], NEVER)
        self._base = self._left = sys.getallocatedblocks()
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
        quiet = self._clock.seconds() - self._last >= QUIET and self._sessions() <= FEW_SESSIONS
        if not (quiet or self._excessive()):
            return
        gc.collect()
        if self._excessive():
            # Either the cycles were frozen, or something has grown that is in use.
            gc.unfreeze()
            gc.collect()
            gc.freeze()
        self.rounds += 1
        self._left = sys.getallocatedblocks()
        self._last = self._clock.seconds()

    def _excessive(self) -> bool:
        """Whether more blocks are in use than expected for the rules and sessions."""
        blocks = sys.getallocatedblocks()
        # Blocks that were freed without a collection lower the base of the growth.
        self._left = min(self._left, blocks)
        if blocks <= GROWTH * self._left:
            return False
        return blocks > self._base + RULE_BLOCKS * self._rules() + SESSION_BLOCKS * self._sessions()
