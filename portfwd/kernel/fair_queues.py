# -*- test-case-name: tests.kernel.test_fair_queues -*-
"""
Queues of events and turns by group, so that a busy group does not delay the others.

A group has the descriptors and turns of one rule. The kernel returns events in order of arrival. If five
thousand clients of one rule are reset at once, an event of another rule comes after five thousand others.
When there are many events, the poller therefore queues them here and delivers at most `QUOTA` of each group
before it asks the kernel again. Turns run one at a time, from one group after the other.

This module delivers nothing itself; the poller does.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from portfwd.kernel.polling import Turn

#: Events of one group delivered before those of other groups and before a turn. The most expensive events are
#: ends of connections, about 80 microseconds each.
QUOTA: Final = 32


class Group:
    """
    The waiting events and turns of one group.

    :ivar name: name of the rule.
    :ivar bits: waiting events by descriptor. The poller removes those of a descriptor that is closed.
    """

    __slots__ = ("__weakref__", "arrived", "bits", "name", "turns")

    def __init__(self, name: str) -> None:
        self.name = name
        # Descriptors in the order of their first undelivered event, and their merged undelivered events.
        self.arrived: deque[int] = deque()
        self.bits: dict[int, int] = {}
        self.turns: deque[Turn] = deque()

    def __repr__(self) -> str:
        return f"<Group {self.name} events={len(self.bits)} turns={len(self.turns)}>"


class FairQueues:
    """
    All groups that have waiting events or turns.

    :ivar with_events: groups with waiting events, the next one first.
    :ivar with_turns: groups with waiting turns, the next one first.
    """

    def __init__(self) -> None:
        self.with_events: deque[Group] = deque()
        self.with_turns: deque[Group] = deque()

    def __repr__(self) -> str:
        return f"<FairQueues {list(self.with_events)} {list(self.with_turns)}>"

    def add_event(self, group: Group, descriptor: int, events: int) -> None:
        """Queue `events` of `descriptor`, merged with its waiting ones."""
        waiting = group.bits.get(descriptor)
        if waiting is not None:
            group.bits[descriptor] = waiting | events
            return
        if not group.arrived:
            self.with_events.append(group)
        group.arrived.append(descriptor)
        group.bits[descriptor] = events

    def next_events(self) -> list[tuple[int, int]]:
        """Take descriptors and their events, at most `QUOTA` of each group."""
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
        """Queue `turn` as the last one of `group`."""
        if not group.turns:
            self.with_turns.append(group)
        group.turns.append(turn)

    def next_turn(self) -> Turn:
        """Take the next turn, of the group that has waited longest. There must be one."""
        group = self.with_turns.popleft()
        turn = group.turns.popleft()
        if group.turns:
            self.with_turns.append(group)
        return turn

    def clear(self) -> None:
        """Drop all waiting events and turns."""
        while self.with_turns:
            self.next_turn().queued = False
        while self.with_events:
            group = self.with_events.popleft()
            group.arrived.clear()
            group.bits.clear()
