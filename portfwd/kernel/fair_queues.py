# -*- test-case-name: tests.kernel.test_fair_queues -*-
"""
Events and turns that wait, by group, so that a group with many of them does not delay the others.

A group is everything that belongs to one rule. The kernel tells of events in the order in which they came:
when five thousand clients of one rule are reset at once, or all send a byte, an event of another rule comes
behind five thousand of theirs. So when there are many events they wait here, and `QUOTA` of each group are
delivered before the kernel is asked for the next ones. Turns are one at a time, a group after the other.

It calls nobody and knows no descriptors but their numbers.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from portfwd.kernel.polling import Turn

#: Events of one group that are delivered before those of others, and before a turn: ends of connections cost
#: most, some 80 microseconds each.
QUOTA: Final = 32


class Group:
    """
    What waits of one group.

    :ivar name: the rule's.
    """

    __slots__ = ("__weakref__", "arrived", "bits", "name", "turns")

    def __init__(self, name: str) -> None:
        self.name = name
        # Descriptors in the order of their first event that was not delivered, and all their events since.
        self.arrived: deque[int] = deque()
        self.bits: dict[int, int] = {}
        self.turns: deque[Turn] = deque()

    def __repr__(self) -> str:
        return f"<Group {self.name} events={len(self.bits)} turns={len(self.turns)}>"

    def forget(self, descriptor: int) -> None:
        """No event that waits is for `descriptor` any more."""
        self.bits.pop(descriptor, None)


class FairQueues:
    """
    All groups that have something waiting.

    :ivar with_events: those of which events wait, in the order in which they are served.
    :ivar with_turns: those of which turns wait, the next one first.
    """

    def __init__(self) -> None:
        self.with_events: deque[Group] = deque()
        self.with_turns: deque[Group] = deque()

    def __repr__(self) -> str:
        return f"<FairQueues {list(self.with_events)} {list(self.with_turns)}>"

    def add_event(self, group: Group, descriptor: int, events: int) -> None:
        """`descriptor` of `group` has had `events`."""
        waiting = group.bits.get(descriptor)
        if waiting is not None:
            group.bits[descriptor] = waiting | events
            return
        if not group.arrived:
            self.with_events.append(group)
        group.arrived.append(descriptor)
        group.bits[descriptor] = events

    def next_events(self) -> list[tuple[int, int]]:
        """Descriptors and their events: `QUOTA` of each group at most."""
        found: list[tuple[int, int]] = []
        for _ in range(len(self.with_events)):
            group = self.with_events.popleft()
            arrived, bits, left = group.arrived, group.bits, QUOTA
            while arrived and left:
                descriptor = arrived.popleft()
                events = bits.pop(descriptor, 0)
                if events:  # else it was forgotten
                    found.append((descriptor, events))
                    left -= 1
            if arrived:
                self.with_events.append(group)
        return found

    def add_turn(self, group: Group, turn: Turn) -> None:
        """`turn` is the last one of `group`."""
        if not group.turns:
            self.with_turns.append(group)
        group.turns.append(turn)

    def next_turn(self) -> Turn:
        """The next one, of the group that has waited longest; there is one."""
        group = self.with_turns.popleft()
        turn = group.turns.popleft()
        if group.turns:
            self.with_turns.append(group)
        return turn

    def clear(self) -> None:
        """Nothing waits any more."""
        while self.with_turns:
            self.next_turn().queued = False
        while self.with_events:
            group = self.with_events.popleft()
            group.arrived.clear()
            group.bits.clear()
