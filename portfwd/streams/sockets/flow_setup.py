# -*- test-case-name: tests.streams.sockets.test_socket_flow -*-
"""The common part of all flows between the sockets of a rule, and the splice system call."""

from __future__ import annotations

import errno
import os
from typing import Final, Protocol

from portfwd.kernel.pipes import PipePool
from portfwd.kernel.polling import Polling
from portfwd.streams.sockets.bulk_reads import BulkReads

#: Bytes after which a turn ends, so a turn moves at most this and one pipe or one larger read more. One turn
#: of a spliced flow takes a few tenths of a millisecond.
QUANTUM: Final = 256 * 1024


class Splice(Protocol):
    """splice(2) between two descriptors."""

    def __call__(self, src: int, dst: int, count: int, /, *, flags: int) -> int:
        """Move up to `count` bytes. 0 at the end of the source. Raises `OSError`."""


def _never(src: int, dst: int, count: int, /, *, flags: int) -> int:
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


class FlowSetup:
    """
    The common part of all flows of a rule.

    :ivar poller: has the time.
    :ivar turns: queues their turns.
    :ivar buffer: a buffer shared with other flows. Its contents are invalid after each `SocketFlow.run`.
    :ivar pool: the pool of pipes; None to copy always.
    :ivar pipe_size: bytes of a pipe.
    :ivar splice_first: whether to splice from the first byte on, even small amounts.
    :ivar splice: the system call.
    :ivar quantum: bytes after which a turn ends.
    :ivar bulk: larger reads of bytes that cannot be spliced; None for none.
    """

    __slots__ = (
        "buffer",
        "bulk",
        "pipe_size",
        "poller",
        "pool",
        "quantum",
        "splice",
        "splice_first",
        "turns",
    )

    def __init__(
        self,
        poller: Polling,
        buffer: memoryview,
        pool: PipePool | None = None,
        pipe_size: int = 0,
        *,
        splice_first: bool = False,
        splice: Splice | None = None,
        bulk: BulkReads | None = None,
        turns: Polling | None = None,
    ) -> None:
        """
        :param splice: the system call; None for that of the kernel.
        :param turns: the rule's group of `poller`; None for `poller` itself, whose time is faster to read.
        """
        self.poller = poller
        self.turns = poller if turns is None else turns
        self.buffer = buffer
        self.pool = pool
        self.pipe_size = pipe_size
        self.quantum = QUANTUM
        self.splice_first = splice_first
        # Looked up here, because systems without this call import this module too.
        self.splice: Splice = os.splice if splice is None and pool is not None else splice or _never
        self.bulk = bulk
