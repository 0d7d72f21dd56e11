# -*- test-case-name: tests.filters.chain.test_chain -*-
"""
Moves bytes and ends between the filters of a chain, and out of it.

There is one queue. Bytes that leave a filter wait in it until no filter is being called, so a verdict is
applied before the next call. This module handles delayed bytes, bytes that arrive before the upstream is
connected, and decides which bytes need not be read or shown. It calls no filter and applies no verdict.

Each job of the queue has the number of replies that led to it. 0 means that the bytes came from the source of
their direction; a larger number means that they answer bytes of the other side.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from itertools import count
from typing import Final

from portfwd.filters.api import Delay
from portfwd.filters.chain.effects import Arm, Effect, PauseReading, ReadOn, SendEnd, Unseen, Write
from portfwd.filters.chain.link import Delayed, Link, Stage
from portfwd.filters.chain.under_way import UnderWay
from portfwd.values import TO_CLIENT, TO_UPSTREAM, Direction

#: Bytes for the upstream that may wait for the dial before reading stops, even if a routing filter needs
#: more: the size of a read.
MAX_EARLY: Final = 64 * 1024

#: Most datagrams that wait at one filter. The default receive buffer of a socket, 208 KiB, holds about as
#: many.
MAX_DATAGRAMS: Final = 100

#: Most delayed pieces of one filter before reading stops, regardless of their size. Each takes about a
#: kilobyte with its timer.
MAX_DELAYED: Final = 4096

#: A count that means all further bytes.
_ALL: Final = -1

_OTHER: Final = {TO_UPSTREAM: TO_CLIENT, TO_CLIENT: TO_UPSTREAM}


class Passage:
    """
    The links of a chain, and the bytes between them.

    The chain inherits from it and calls the filters.

    :ivar finished: whether the session is finished; nothing is moved any more.
    :ivar dropped: number of datagrams dropped because too many were waiting.
    """

    def __init__(self, stages: Iterable[Stage], *, datagrams: bool) -> None:
        self.finished = False
        self.dropped = 0
        self._datagrams = datagrams
        self._stages: list[Stage] = []
        self._links: dict[Direction, list[Link]] = {TO_UPSTREAM: [], TO_CLIENT: []}
        self._append(list(stages))
        #: Whether the client was announced and the relay has not judged it yet. Nothing is moved meanwhile.
        self._judging = False
        # Bytes that have passed all filters while further ones are not built yet, with their number of
        # replies.
        self._unopened = False
        self._before_them: list[tuple[bytes | None, int]] = []
        self._effects: list[Effect] = []
        # Link, bytes or the end, and the number of replies that led to it.
        self._jobs: deque[tuple[Link, bytes | None, int]] = deque()
        self._under_way: UnderWay | None = None
        self._keys = count(1)
        self._timers: dict[int, Callable[[], None]] = {}
        self._dialled = False
        self._connected = False
        self._hasty = False  # bytes are not delayed any more, because the session is ending
        self._early: list[bytes | None] = []
        self._early_size = 0
        self._early_stop = False
        self._stops = {TO_UPSTREAM: 0, TO_CLIENT: 0}
        self._offered = {TO_UPSTREAM: 0, TO_CLIENT: 0}
        self._source_ended = {TO_UPSTREAM: False, TO_CLIENT: False}

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The filters in the order of the rule, with their state."""
        return tuple(self._stages)

    def _append(self, stages: list[Stage]) -> None:
        """
        Append `stages`.

        Those behind the last routing one get no bytes before the upstream is connected.
        """
        for stage in stages:
            if self._stages:
                nearer = self._stages[-1]
                nearer.up.next = stage.up
                stage.down.next = nearer.down
            self._stages.append(stage)
            self._links[TO_UPSTREAM].append(stage.up)
            self._links[TO_CLIENT].insert(0, stage.down)
        for stage in reversed(stages):
            if stage.routes:
                break
            stage.up.shut = True

    # Implemented by the chain, which knows the filters.

    def _show(self, link: Link, data: bytes, replies: int, *, again: bool = False) -> None:
        """Call a filter with `data`. `replies` led to it; `again`: the filter has seen a part of it."""
        raise NotImplementedError

    def _tell_end(self, link: Link) -> None:
        """Call a filter with the end of its direction."""
        raise NotImplementedError

    def _pass_end(self, link: Link) -> None:
        """Pass the end on from a filter, unless bytes are before it."""
        raise NotImplementedError

    def _carry_on(self, verdict: UnderWay, most: float) -> int:
        """Do `most` of the steps that are left of a verdict; say how many it were."""
        raise NotImplementedError

    # Moving bytes

    def _work(self, most: float = math.inf) -> bool:
        """
        Do what is queued, and what comes of it.

        :param most: how many bytes, ends and steps of verdicts, if others wait.
        :returns: whether that is all.
        """
        jobs = self._jobs
        while not (self.finished or self._judging):
            if self._under_way is not None:
                # Nothing enters a filter before its last verdict has had its effect.
                most -= self._carry_on(self._under_way, most)
            elif jobs:
                link, item, replies = jobs.popleft()
                self._enter(link, item, replies)
                most -= 1
            else:
                return True
            if most <= 0:
                return not (jobs or self._under_way is not None)
        return True

    def _come(self, direction: Direction, item: bytes | None) -> None:
        """Handle bytes or an end that enter the chain."""
        links = self._links[direction]
        if links:
            self._jobs.append((links[0], item, 0))
        else:
            self._write(direction, item, 0)

    def _enter(self, link: Link, item: bytes | None, replies: int) -> None:
        """Handle bytes or an end that reach a filter."""
        if link.shut or link.awaits:
            if self._has_room(len(link.waiting)):
                link.waiting.append(item)
                if link.shut and item is not None:
                    self._came_early(len(item))
                elif item is not None:
                    link.pending += len(item)
                    self._press(link, replies)
        elif item is None:
            self._tell_end(link)
        elif link.done:
            self._pass(link, item, replies)
        elif link.bypass:
            seen = item[link.bypass :]
            self._pass(link, item[: link.bypass] if seen else item, replies)
            link.bypass = max(0, link.bypass - len(item))
            if seen:
                self._enter(link, seen, replies)
        elif link.held or link.need:
            held = bool(link.held)
            link.hold(item)
            if link.size >= link.need:
                self._show(link, link.take(), replies, again=held)
        else:
            self._show(link, item, replies)

    def _pass(self, link: Link, data: bytes, replies: int = 0) -> None:
        """Pass bytes on from a filter. `replies` led to them."""
        if link.ended or not (data or self._datagrams):
            return
        if link.outbox:
            self._put(link, data, replies, ripe=True)
        else:
            self._send(link, data, replies)

    def _send(self, link: Link, item: bytes | None, replies: int = 0) -> None:
        if link.next is None:
            self._write(link.direction, item, replies)
        else:
            self._jobs.append((link.next, item, replies))

    def _write(self, direction: Direction, item: bytes | None, replies: int) -> None:
        """Handle bytes or an end that leave the chain."""
        if direction is TO_UPSTREAM and self._unopened:
            self._before_them.append((item, replies))
        elif direction is TO_UPSTREAM and not self._connected:
            if self._has_room(len(self._early)):
                self._early.append(item)
                if item is not None:
                    self._came_early(len(item))
        else:
            self._effects.append(SendEnd(direction) if item is None else Write(direction, item, replies > 0))

    def _has_room(self, count: int) -> bool:
        """Whether one more datagram may wait. Streams are paused instead."""
        if not self._datagrams or count < MAX_DATAGRAMS:
            return True
        self.dropped += 1
        return False

    def _let_in(self, link: Link) -> None:
        """Pass waiting bytes to a filter, before any later ones."""
        if link.waiting and not (link.shut or link.awaits):
            self._jobs.extendleft((link, item, 0) for item in reversed(link.waiting))
            link.waiting.clear()
            link.pending = 0
            self._ease(link)

    # Delays

    def _delay(self, link: Link, item: Delay, replies: int) -> None:
        """Delay bytes behind a filter, and all bytes after them."""
        if link.ended:
            return
        if self._hasty or not (item.seconds or link.outbox):
            self._pass(link, item.data, replies)
            return
        delayed = self._put(link, item.data, replies, ripe=not item.seconds)
        if delayed is not None and item.seconds:
            self._arm(item.seconds, partial(self._ripen, link, delayed))

    def _put(self, link: Link, data: bytes, replies: int, *, ripe: bool) -> Delayed | None:
        if link.cut or not self._has_room(len(link.outbox)):
            return None
        delayed = Delayed(data, ripe=ripe, replies=replies)
        link.outbox.append(delayed)
        link.delayed += len(data)
        self._press(link, replies)
        return delayed

    def _ripen(self, link: Link, delayed: Delayed) -> None:
        delayed.ripe = True
        while link.outbox and link.outbox[0].ripe:
            self._release(link)
        self._ease(link)
        self._pass_end(link)

    def _release(self, link: Link) -> None:
        """Pass on the first of the delayed bytes."""
        delayed = link.outbox.popleft()
        data = delayed.data
        link.delayed -= len(data)
        if data or self._datagrams:
            self._send(link, data, delayed.replies)

    def _release_all(self, link: Link) -> None:
        """Pass on all delayed bytes before their time."""
        while link.outbox:
            self._release(link)
        self._ease(link)

    def _press(self, link: Link, replies: int) -> None:
        """Stop reading the side that caused it if too many bytes wait at a filter."""
        if link.delayed + link.pending > link.stage.max_hold or len(link.outbox) > MAX_DELAYED:
            source = _OTHER[link.direction] if replies else link.direction
            if source not in link.pressed:
                link.pressed.append(source)
                self._stop(source)

    def _ease(self, link: Link) -> None:
        """Read again when half of the limit is free."""
        size = link.delayed + link.pending
        if link.pressed and 2 * size <= link.stage.max_hold and 2 * len(link.outbox) <= MAX_DELAYED:
            for direction in link.pressed:
                self._go(direction)
            link.pressed.clear()

    def _arm(self, seconds: float, action: Callable[[], None]) -> int:
        key = next(self._keys)
        self._timers[key] = action
        self._effects.append(Arm(key, seconds))
        return key

    # Bytes that need not be read or shown

    def _stop(self, direction: Direction) -> None:
        self._stops[direction] += 1
        if self._stops[direction] == 1 and not self._source_ended[direction]:
            self._effects.append(PauseReading(direction))

    def _go(self, direction: Direction) -> None:
        self._stops[direction] -= 1
        if not self._stops[direction] and not self._source_ended[direction]:
            self._effects.append(ReadOn(direction))

    def _offer(self, direction: Direction) -> None:
        """Report the number of bytes that need not be shown, if it has changed; 0 withdraws an offer."""
        if self._source_ended[direction]:
            return
        size = self._needless(direction)
        if size != self._offered[direction]:
            self._offered[direction] = size
            self._effects.append(Unseen(direction, None if size == _ALL else size))

    def _needless(self, direction: Direction) -> int:
        """The number of next bytes that need not be shown."""
        size = _ALL
        for link in self._links[direction]:
            if not (link.done or link.bypass):
                return 0
            if link.keeps or link.awaits:
                return 0  # later bytes must not overtake waiting ones
            if not link.done:
                size = link.bypass if size == _ALL else min(size, link.bypass)
        return size

    def _forget_offer(self, direction: Direction) -> None:
        """Bytes of `direction` arrived, so the current offer is used up."""
        if self._offered[direction] != _ALL:
            self._offered[direction] = 0

    # Bytes before the upstream is connected

    def _came_early(self, size: int) -> None:
        self._early_size += size
        self._stop_if_early()

    def _stop_if_early(self) -> None:
        """Stop reading if no filter needs more bytes, or if too many wait."""
        if self._early_stop or self._connected:
            return
        if self._early_size > MAX_EARLY or (self._dialled and self._early_size):
            self._early_stop = True
            self._stop(TO_UPSTREAM)

    def _stop_after_dial(self) -> None:
        self._dialled = True
        self._stop_if_early()

    def _write_early(self) -> None:
        self._connected = True
        for item in self._early:
            self._write(TO_UPSTREAM, item, 0)
        self._early.clear()

    def _go_after_dial(self) -> None:
        if self._early_stop:
            self._early_stop = False
            self._go(TO_UPSTREAM)

    def _flush(self) -> None:
        """Pass on all delayed bytes, filter by filter. Nothing is delayed any more."""
        self._hasty = True
        for links in self._links.values():
            for link in links:
                while link.outbox:
                    self._release(link)
                self._work()

    def watches(self, direction: Direction) -> bool:
        """Whether a filter may still need bytes of `direction`, or some of them wait here."""
        if self.finished:
            return False
        early = direction is TO_UPSTREAM and bool(self._early or self._before_them)
        return early or any(link.watches for link in self._links[direction])

    def held(self, direction: Direction) -> int:
        """Number of bytes of `direction` that wait here."""
        size = sum(
            link.size + link.delayed + sum(len(item) for item in link.waiting if item is not None)
            for link in self._links[direction]
        )
        if direction is TO_UPSTREAM:
            size += sum(len(item) for item in self._early if item is not None)
        return size
