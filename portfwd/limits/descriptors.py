# -*- test-case-name: tests.limits.test_descriptors -*-
"""
How many sessions this process has descriptors for.

A client that was accepted but cannot be given an upstream's socket would have
to be cut. So descriptors are counted before accepting: who does not fit waits
in the backlog, where the kernel keeps it. The count is ours and an estimate;
what the kernel says (``EMFILE``) is still obeyed where it is met.

No rule may take them all, unless it is the only one. Each has a share that grows and shrinks with what is
free: at most `SHARE` times as many descriptors as are left. The first rule that needs very many gets two
thirds, a second one two thirds of the rest, and both the same in the end. There is always a rest. These are
the dynamic thresholds by which switches share their memory among ports (Choudhury and Hahne, IEEE/ACM
Transactions on Networking 6(2), 1998). Fixed parts would leave most descriptors unused: most rules need few.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol
from weakref import WeakValueDictionary

#: Kept free for log files that are reopened, certificates, resolver threads
#: (each opens a socket) and a second attempt of a dial.
RESERVE: Final = 12

#: A session on a transport pair: the client's socket and the upstream's.
PER_SESSION: Final = 2


#: How many times as many descriptors as are free one rule of several may have. With 1024 in all, 30 are left
#: when three rules have as many as they can get; twice as many for each rule would leave 6.
SHARE: Final = 2

#: Descriptors that rules leave to operators (control sockets, metrics, the manhole), and which part of the
#: limit that is at most.
OPERATORS: Final = 64
OPERATORS_PART: Final = 16


class Descriptors(Protocol):
    """Where whoever opens sockets asks before."""

    def take(self, count: int) -> bool:
        """Spend `count` descriptors; False, and nothing is spent, where that is too many."""

    def give_back(self, count: int) -> None:
        """Return `count` descriptors."""

    def wait(self, wake: Callable[[], None]) -> None:
        """Call `wake` once when descriptors have been given back."""

    def forget(self, wake: Callable[[], None]) -> None:
        """`wake` is not to be called any more."""


class DescriptorBudget:
    """
    Descriptors that may still be spent.

    :ivar limit: the process's limit, 0 for none.
    :ivar spent: descriptors that are taken, those at the start included.
    """

    __slots__ = ("_shares", "_waiting", "limit", "spent")

    def __init__(self, limit: int, spent: int) -> None:
        self.limit = limit
        self.spent = spent
        self._shares: WeakValueDictionary[str, Share] = WeakValueDictionary()
        self._waiting: dict[Callable[[], None], None] = {}

    def __repr__(self) -> str:
        return (
            f"<DescriptorBudget {self.spent} of {self.limit or 'any number'}, {len(self._waiting)} waiting>"
        )

    def share(self, name: str) -> Share:
        """The share of the rule `name`: the same one for as long as somebody has it."""
        found = self._shares.get(name)
        if found is None:
            found = self._shares[name] = Share(name, self)
        return found

    @property
    def has_one_rule(self) -> bool:
        """Whether nobody else needs descriptors."""
        return len(self._shares) < 2

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


class Share:
    """
    What one rule may spend of a budget.

    :ivar taken: descriptors that it has.
    """

    __slots__ = ("__weakref__", "_budget", "_name", "taken")

    def __init__(self, name: str, budget: DescriptorBudget) -> None:
        self._name = name
        self._budget = budget
        self.taken = 0

    def __repr__(self) -> str:
        return f"<Share of {self._name}: {self.taken}, {self._budget!r}>"

    def has_room(self, count: int) -> bool:
        """Whether `take` would give `count` descriptors."""
        limit = self._budget.limit
        if not limit:
            return True
        free = limit - RESERVE - min(OPERATORS, limit // OPERATORS_PART) - self._budget.spent
        return count <= free and (self._budget.has_one_rule or self.taken + count <= SHARE * free)

    def take(self, count: int) -> bool:
        """Spend `count` descriptors; False, and nothing is spent, where the rule has its share."""
        if not self.has_room(count):
            return False
        self._budget.spent += count
        self.taken += count
        return True

    def give_back(self, count: int) -> None:
        """Return `count` descriptors; this wakes whoever waits, of any rule."""
        self.taken -= count
        self._budget.give_back(count)

    def wait(self, wake: Callable[[], None]) -> None:
        """Call `wake` once when descriptors have been given back, by whomever."""
        self._budget.wait(wake)

    def forget(self, wake: Callable[[], None]) -> None:
        """`wake` is not to be called any more."""
        self._budget.forget(wake)
