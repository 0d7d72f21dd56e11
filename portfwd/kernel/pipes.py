# -*- test-case-name: tests.kernel.test_pipes -*-
"""
A bounded pool of pipes for splicing. Flows with bulk data borrow pipes and give them back empty.

- A pipe that is not empty is closed instead of reused. Its bytes would otherwise reach another user.
- The kernel limits the pipes of an unprivileged user to ``pipe-user-pages-soft`` pages. Beyond that, new
  pipes have two pages and cannot grow. The pool stays below the limit and checks the real size of each pipe.
  A flow that gets no pipe of a useful size copies instead.
- Each pipe takes two descriptors of the budget that sessions use too.
"""

from __future__ import annotations

import os
from typing import Final, Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

#: Bytes of the smallest useful pipe. Copying is faster than splicing through a smaller one.
SMALLEST: Final = 65536

#: Bytes of the pipes that are lent while more than half of the allowance is in use. Large pipes move more
#: bytes per call, but a flow without a pipe must copy.
FRUGAL: Final = 256 * 1024

#: Descriptors of one pipe.
PIPE_DESCRIPTORS: Final = 2

#: Empty pipes kept for later flows; further ones are closed.
MAX_IDLE: Final = 32

#: Seconds between trims. A trim closes the pipes that have been idle since the last one.
TRIM_INTERVAL: Final = 0.5

#: Bytes of all pipes together if the kernel sets no limit (root).
MOST_BYTES: Final = 256 * 1024 * 1024

#: The part of an unprivileged user's limit that the pool uses. Other processes of the user need pipes too.
SHARE: Final = 0.75

_PIPE_PAGES: Final = "/proc/sys/fs/pipe-user-pages-soft"


def pipe_allowance(limit_file: str = _PIPE_PAGES) -> int:
    """
    Bytes that all pipes of this process may have together.

    :param limit_file: file of the kernel with the limit of a user in pages; 0 means no limit.
    """
    try:
        with open(limit_file, encoding="ascii") as file:
            pages = int(file.read())
    except (OSError, ValueError):
        return MOST_BYTES
    allowance = int(pages * os.sysconf("SC_PAGE_SIZE") * SHARE)
    # The kernel exempts CAP_SYS_RESOURCE and CAP_SYS_ADMIN. A process that starts as root may drop them
    # later, so the limit of ordinary users applies.
    return min(allowance, MOST_BYTES) if pages else MOST_BYTES


class DescriptorAllowance(Protocol):
    """The budget of descriptors that pipes are taken from."""

    def take(self, count: int) -> bool:
        """Spend `count` descriptors. False if fewer are left; nothing is spent then."""

    def give_back(self, count: int) -> None:
        """Return `count` descriptors."""


class KernelPipe:
    """
    One pipe of the kernel.

    :ivar reader: descriptor for reading.
    :ivar writer: descriptor for writing.
    :ivar asked: requested size in bytes.
    :ivar size: capacity in bytes; it can be smaller, because each slot (page) may be partly filled.
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

    :ivar lent: number of pipes in use by flows.
    :ivar total_bytes: sum of the sizes of all pipes, lent and idle.
    :ivar refused: number of requests without a pipe to lend.
    """

    def __init__(self, allowance: int, budget: DescriptorAllowance, clock: IReactorTime) -> None:
        """:param allowance: bytes that all pipes may have together."""
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
        """Lend an empty pipe of about `size` bytes, or a smaller one if many are lent. None: copy instead."""
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
        """Take back `pipe`, which must be empty."""
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
        """Close the pipes that have been idle since the last trim."""
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
        """Close the idle pipes. Lent pipes come back through `discard`."""
        for pipes in self._idle.values():
            for pipe in pipes:
                self._close(pipe)
        self._idle.clear()
        self._idle_count = 0
        if self._trimming is not None:
            self._trimming.cancel()
            self._trimming = None
