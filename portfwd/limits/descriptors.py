# -*- test-case-name: tests.limits.test_descriptors -*-
"""
A budget of file descriptors for sessions.

A client that was accepted must be cut if no descriptor is left for the upstream's socket. So listeners take
descriptors from this budget before they accept. Further clients wait in the backlog of the kernel. The budget
is an estimate; errors of the kernel (``EMFILE``) are handled as well.

If there are several rules, none may take all descriptors. The share of a rule is at most `SHARE` times the
number of free descriptors. The first rule that needs very many gets two thirds, a second one two thirds of
the rest, and after some time both have the same. Some descriptors are always left. Switches share their
memory among ports by the same dynamic thresholds (Choudhury and Hahne, IEEE/ACM Transactions on Networking
6(2), 1998). Fixed shares would leave most descriptors unused, because most rules need few.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol
from weakref import WeakValueDictionary

#: Descriptors kept free for log files that are reopened, certificates, resolver threads (one socket each) and
#: the second attempt of a dial.
RESERVE: Final = 12

#: Descriptors of a session: the client's socket and the upstream's.
PER_SESSION: Final = 2


#: The share of a rule as a multiple of the free descriptors. With a limit of 1024, 30 are left when three
#: rules have their full share. A multiple of 4 would leave 6.
SHARE: Final = 2

#: Descriptors reserved for operators (control sockets, metrics, the manhole). At most this part of the limit:
#: one in `OPERATORS_PART`.
OPERATORS: Final = 64
OPERATORS_PART: Final = 16


class Descriptors(Protocol):
    """A budget from which descriptors are taken before sockets are opened."""

    def take(self, count: int) -> bool:
        """Spend `count` descriptors. False if they are too many; nothing is spent then."""

    def give_back(self, count: int) -> None:
        """Return `count` descriptors."""

    def wait(self, wake: Callable[[], None]) -> None:
        """Call `wake` once when descriptors have been given back."""

    def forget(self, wake: Callable[[], None]) -> None:
        """Do not call `wake` any more."""


class DescriptorBudget:
    """
    The budget of the process.

    :ivar limit: the limit of the process; 0 for none.
    :ivar spent: number of descriptors in use, including those open at the start.
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
        """The share of the rule `name`; the same object as long as it is referenced."""
        found = self._shares.get(name)
        if found is None:
            found = self._shares[name] = Share(name, self)
        return found

    @property
    def has_one_rule(self) -> bool:
        """Whether at most one rule uses descriptors."""
        return len(self._shares) < 2

    def take(self, count: int) -> bool:
        """Spend `count` descriptors. False if they would use the reserve; nothing is spent then."""
        spent = self.spent + count
        if self.limit and spent > self.limit - RESERVE:
            return False
        self.spent = spent
        return True

    def has_room(self, count: int) -> bool:
        """Whether `take` would give `count` descriptors."""
        return not self.limit or self.spent + count <= self.limit - RESERVE

    def give_back(self, count: int) -> None:
        """Return `count` descriptors and wake all waiters in order."""
        self.spent -= count
        if not self._waiting:
            return
        for wake in tuple(self._waiting):
            # A waiter that an earlier one removes is not woken. One that waits again is woken the next time.
            if wake in self._waiting:
                del self._waiting[wake]
                wake()

    def wait(self, wake: Callable[[], None]) -> None:
        """Call `wake` once when descriptors have been given back."""
        self._waiting[wake] = None

    def forget(self, wake: Callable[[], None]) -> None:
        """Do not call `wake` any more."""
        self._waiting.pop(wake, None)


class Share:
    """
    The share of one rule in a budget.

    :ivar taken: number of descriptors that the rule uses.
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
        budget = self._budget
        limit = budget.limit
        if not limit:
            return True
        free = limit - RESERVE - min(OPERATORS, limit // OPERATORS_PART) - budget.spent
        return count <= free and (self.taken + count <= SHARE * free or budget.has_one_rule)

    def take(self, count: int) -> bool:
        """Spend `count` descriptors. False if they exceed the share of the rule; nothing is spent then."""
        if not self.has_room(count):
            return False
        self._budget.spent += count
        self.taken += count
        return True

    def give_back(self, count: int) -> None:
        """Return `count` descriptors and wake the waiters of all rules."""
        self.taken -= count
        self._budget.give_back(count)

    def wait(self, wake: Callable[[], None]) -> None:
        """Call `wake` once when any rule has given descriptors back."""
        self._budget.wait(wake)

    def forget(self, wake: Callable[[], None]) -> None:
        """Do not call `wake` any more."""
        self._budget.forget(wake)
