# -*- test-case-name: tests.service.daemon.test_garbage -*-
"""
Python's garbage collector in the daemon: when it looks through all objects.

A full round looks at every object while traffic waits: 37 ms with ten thousand plain sessions, 30 ms
with a thousand sessions that have a filter. Sessions, associations and rules of ours end without cycles of
references, so such a round finds nothing of theirs. Cycles that die young, as those of an exception, are
found by the short rounds of generations 0 and 1, which stay as they are. What is left are cycles of
filters, plug-ins and libraries that lived for a while. `FullRounds` turns Python's own full rounds off,
looks once a second at how much memory is in use, and makes a round only if that is more than rules and
sessions explain.

`kept` keeps the collector off while rules are made, and freezes all objects at the end: a round leaves
them out. A round that does not free enough is followed by one over the frozen objects too.

A forwarder inside another program leaves the collector alone.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Final

from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall, IReactorTime

#: Is entered while rules are made: `kept` or `as_usual`.
Making = Callable[[], AbstractContextManager[None]]

#: Seconds between two looks at the memory in use. A look takes 0.1 ms with two million blocks.
LOOK: Final = 1.0
#: Rounds of generation 1 after which Python begins a full one. CPython 3.14.0 ignores it: its collector
#: divides full rounds. Later ones have that of 3.13 again (python/cpython#148726).
NEVER: Final = 2**31 - 1
#: Blocks of memory (``sys.getallocatedblocks``) that a rule may have. A plain one has 195.
RULE_BLOCKS: Final = 400
#: Blocks that a session may have. A plain one has 18, with two filters 140.
SESSION_BLOCKS: Final = 200
#: A round is due in any case if blocks have become so many times what the last one left, as Python's own.
GROWTH: Final = 1.25
#: With so few sessions a full round takes less than 5 ms, and there is one in each `QUIET` seconds.
FEW_SESSIONS: Final = 100
#: See `FEW_SESSIONS`.
QUIET: Final = 60.0


@contextmanager
def kept() -> Iterator[None]:
    """
    Turn the collector off, and freeze all objects at the end.

    A context manager and a decorator, for whoever makes rules. While they are made, the collector would look
    through all of them again and again and find nothing: a third of a start with ten thousand rules.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_on:
            gc.enable()


def as_usual() -> AbstractContextManager[None]:
    """Leave the collector alone: for a forwarder inside another program."""
    return nullcontext()


class FullRounds(Service):
    """
    Makes the collector's full rounds while it runs; Python makes none.

    Cyclic garbage is bounded by `RULE_BLOCKS` for each rule and `SESSION_BLOCKS` for each session, or by a
    quarter of what was in use after the last round, whichever is more.

    :ivar rounds: how many there were.
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
        """Replace Python's full rounds."""
        super().startService()
        self._before = gc.get_threshold()
        gc.set_threshold(*self._before[:2], NEVER)
        self._base = self._left = sys.getallocatedblocks()
        self._last = self._clock.seconds()
        self._next = self._clock.callLater(LOOK, self._look)

    def stopService(self) -> None:
        """Let Python make them again."""
        super().stopService()
        gc.set_threshold(*self._before)
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _look(self) -> None:
        self._next = self._clock.callLater(LOOK, self._look)
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
        """Whether more blocks are in use than rules and sessions explain."""
        blocks = sys.getallocatedblocks()
        # What is freed with its last reference needs no round.
        self._left = min(self._left, blocks)
        if blocks <= GROWTH * self._left:
            return False
        return blocks > self._base + RULE_BLOCKS * self._rules() + SESSION_BLOCKS * self._sessions()
