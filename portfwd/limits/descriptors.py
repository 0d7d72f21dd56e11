# -*- test-case-name: tests.limits.test_descriptors -*-
"""
How many sessions this process has descriptors for.

A client that was accepted but cannot be given an upstream's socket would have
to be cut. So descriptors are counted before accepting: who does not fit waits
in the backlog, where the kernel keeps it. The count is ours and an estimate;
what the kernel says (``EMFILE``) is still obeyed where it is met.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

#: Kept free for log files that are reopened, certificates, resolver threads
#: (each opens a socket) and a second attempt of a dial.
RESERVE: Final = 12

#: A session on a transport pair: the client's socket and the upstream's.
PER_SESSION: Final = 2


class DescriptorBudget:
    """
    Descriptors that may still be spent.

    :ivar limit: the process's limit, 0 for none.
    :ivar spent: descriptors that are taken, those at the start included.
    """

    __slots__ = ("_waiting", "limit", "spent")

    def __init__(self, limit: int, spent: int) -> None:
        self.limit = limit
        self.spent = spent
        self._waiting: dict[Callable[[], None], None] = {}

    def __repr__(self) -> str:
        return (
            f"<DescriptorBudget {self.spent} of {self.limit or 'any number'}, {len(self._waiting)} waiting>"
        )

    def take(self, count: int) -> bool:
        """Spend `count` descriptors; False, and nothing is spent, where they would eat into the reserve."""
        spent = self.spent + count
        if self.limit and spent > self.limit - RESERVE:
            return False
        self.spent = spent
        return True

    def has_room(self, count: int) -> bool:
        """Whether `take` would give `count` descriptors."""
        return not self.limit or self.spent + count <= self.limit - RESERVE

    def give_back(self, count: int) -> None:
        """Return `count` descriptors and wake those who waited for some, in their order."""
        self.spent -= count
        if not self._waiting:
            return
        for wake in tuple(self._waiting):
            # Who was forgotten by one that was woken before is not woken; who waits again is woken next time.
            if wake in self._waiting:
                del self._waiting[wake]
                wake()

    def wait(self, wake: Callable[[], None]) -> None:
        """Call `wake` once when descriptors have been given back."""
        self._waiting[wake] = None

    def forget(self, wake: Callable[[], None]) -> None:
        """`wake` is not to be called any more."""
        self._waiting.pop(wake, None)
