# -*- test-case-name: tests.kernel.test_pipes -*-
"""
Pipes for splicing: borrowed by flows in bulk, given back empty, bounded.

- Only an empty pipe goes back: a pipe with bytes in it would hand one user's
  bytes to another, so it is closed.
- The kernel lets an unprivileged user have ``pipe-user-pages-soft`` pages of
  pipes in all; beyond it new pipes shrink to two pages and cannot grow.
  The pool stays below that, reads each pipe's real size back, and rather says
  no: a flow that gets no good pipe copies.
- Each pipe takes two descriptors from the same budget as sessions do.
"""

from __future__ import annotations

import os
from typing import Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from portfwd.limits.descriptors import Descriptors

#: Pipes smaller than this are not worth splicing through.
SMALLEST: Final = 65536

#: What is lent instead of a larger pipe while more than half of the allowance is taken: a large pipe
#: moves more with each call, but a flow that gets none copies.
FRUGAL: Final = 256 * 1024

#: Descriptors of one pipe.
PIPE_DESCRIPTORS: Final = 2

#: Empty pipes that are kept for the next flow; the rest are closed.
MAX_IDLE: Final = 32

#: Seconds between looks at the idle pipes: those that nobody borrowed in between are closed.
TRIM_INTERVAL: Final = 0.5

#: Bytes of all pipes together where the kernel sets no limit (root).
MOST_BYTES: Final = 256 * 1024 * 1024

#: The part of an unprivileged user's allowance that is taken: others of the
#: same user want pipes too.
SHARE: Final = 0.75

_PIPE_PAGES: Final = "/proc/sys/fs/pipe-user-pages-soft"


def pipe_allowance(limit_file: str = _PIPE_PAGES) -> int:
    """
    Bytes of pipes that this process may have in all.

    :param limit_file: where the kernel says how many pages of pipes a user gets; 0 for any number.
    """
    try:
        with open(limit_file, encoding="ascii") as file:
            pages = int(file.read())
    except (OSError, ValueError):
        return MOST_BYTES
    allowance = int(pages * os.sysconf("SC_PAGE_SIZE") * SHARE)
    # The kernel exempts CAP_SYS_RESOURCE and CAP_SYS_ADMIN; whoever starts as
    # root may give them up later, so only what all users get is counted on.
    return min(allowance, MOST_BYTES) if pages else MOST_BYTES


class KernelPipe:
    """
    One pipe of the kernel.

    :ivar reader: descriptor of its out end.
    :ivar writer: descriptor of its in end.
    :ivar asked: the size it was made for.
    :ivar size: bytes it can hold; as many as its slots (pages) allow, often fewer.
    """

    __slots__ = ("asked", "reader", "size", "writer")

    def __init__(self, reader: int, writer: int, size: int, asked: int) -> None:
        self.asked = asked
        self.reader = reader
        self.writer = writer
        self.size = size

    def __repr__(self) -> str:
        return f"<KernelPipe {self.reader} {self.writer} {self.size}>"


class PipePool:
    """
    Lends pipes.

    :ivar lent: pipes that flows have now.
    :ivar total_bytes: the sizes of all pipes, lent and idle.
    :ivar refused: how often there was none to lend.
    """

    def __init__(self, allowance: int, budget: Descriptors, clock: IReactorTime) -> None:
        """:param allowance: bytes of pipes in all."""
        self._allowance = allowance
        self._clock = clock
        self._trimming: IDelayedCall | None = None
        self._low_water = 0
        self._budget = budget
        self._idle: dict[int, list[KernelPipe]] = {}
        self._idle_count = 0
        self.lent = 0
        self.total_bytes = 0
        self.refused = 0

    def __repr__(self) -> str:
        return (
            f"<PipePool lent={self.lent} idle={self._idle_count} "
            f"bytes={self.total_bytes} of {self._allowance}>"
        )

    def borrow(self, size: int) -> KernelPipe | None:
        """An empty pipe of about `size` bytes, a smaller one when many are lent, or None: copy instead."""
        idle = self._idle.get(size)
        if not idle and size > FRUGAL and self.total_bytes + size > self._allowance // 2:
            size = FRUGAL
            idle = self._idle.get(size)
        if idle:
            self._idle_count -= 1
            self._low_water = min(self._low_water, self._idle_count)
            self.lent += 1
            return idle.pop()
        pipe = self._make(size)
        if pipe is None:
            self.refused += 1
        else:
            self.lent += 1
        return pipe

    def _make(self, size: int) -> KernelPipe | None:
        import fcntl  # here, because this module is imported where there is none

        if self.total_bytes + size > self._allowance or not self._budget.take(PIPE_DESCRIPTORS):
            return None
        try:
            reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            self._budget.give_back(PIPE_DESCRIPTORS)
            return None
        try:
            fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, size)
            got = fcntl.fcntl(writer, fcntl.F_GETPIPE_SZ)
        except OSError:
            got = 0  # EPERM: this user's allowance is used up by others
        if got < min(size, SMALLEST):
            os.close(reader)
            os.close(writer)
            self._budget.give_back(PIPE_DESCRIPTORS)
            return None
        self.total_bytes += got
        return KernelPipe(reader, writer, got, size)

    def give_back(self, pipe: KernelPipe) -> None:
        """Take `pipe` back, which is empty."""
        self.lent -= 1
        if self._idle_count < MAX_IDLE:
            self._idle_count += 1
            self._idle.setdefault(pipe.asked, []).append(pipe)
            if self._trimming is None:
                self._low_water = 0
                self._trimming = self._clock.callLater(TRIM_INTERVAL, self._trim)
        else:
            self._close(pipe)

    def _trim(self) -> None:
        """Close as many idle pipes as were idle all the time since the last look."""
        surplus = self._low_water
        for pipes in self._idle.values():
            while pipes and surplus:
                self._close(pipes.pop(0))
                self._idle_count -= 1
                surplus -= 1
        self._low_water = self._idle_count
        again = self._idle_count > 0
        self._trimming = self._clock.callLater(TRIM_INTERVAL, self._trim) if again else None

    def discard(self, pipe: KernelPipe) -> None:
        """Close `pipe`, which still has bytes in it."""
        self.lent -= 1
        self._close(pipe)

    def _close(self, pipe: KernelPipe) -> None:
        os.close(pipe.reader)
        os.close(pipe.writer)
        self.total_bytes -= pipe.size
        self._budget.give_back(PIPE_DESCRIPTORS)

    def close(self) -> None:
        """Close what is idle; pipes that are lent come back through `discard`."""
        for pipes in self._idle.values():
            for pipe in pipes:
                self._close(pipe)
        self._idle.clear()
        self._idle_count = 0
        if self._trimming is not None:
            self._trimming.cancel()
            self._trimming = None
