# -*- test-case-name: tests.streams.sockets.test_socket_flow -*-
"""What all flows between the sockets of a rule have in common, and the system call that splices."""

from __future__ import annotations

import errno
import os
from typing import Final, Protocol

from portfwd.kernel.pipes import PipePool
from portfwd.kernel.polling import Polling
from portfwd.streams.sockets.bulk_reads import BulkReads

#: Bytes after which a turn is over, so at most this and one pipe, or one larger read, more; others have
#: theirs, and small events come between. One turn of a spliced flow is a few tenths of a millisecond.
QUANTUM: Final = 256 * 1024


class Splice(Protocol):
    """splice(2) between two descriptors."""

    def __call__(self, src: int, dst: int, count: int, /, *, flags: int) -> int:
        """Move up to `count` bytes; 0 at the source's end; an `OSError` as the kernel has it."""


def _never(src: int, dst: int, count: int, /, *, flags: int) -> int:
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


class FlowSetup:
    """
    What all flows of a rule have in common.

    :ivar poller: knows the time.
    :ivar turns: gives them their turns.
    :ivar buffer: shared with other flows; what is in it is gone after each `SocketFlow.run`.
    :ivar pool: where pipes are borrowed; None to copy always.
    :ivar pipe_size: bytes of a pipe.
    :ivar splice_first: splice from the first byte on, bulk or not.
    :ivar splice: the system call.
    :ivar quantum: bytes after which a turn is over.
    :ivar bulk: larger reads of what cannot be spliced; None: there are none.
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
        Keep it.

        :param splice: None for the kernel's own.
        :param turns: the rule's group of `poller`, which is slower to tell the time; None: `poller` itself.
        """
        self.poller = poller
        self.turns = poller if turns is None else turns
        self.buffer = buffer
        self.pool = pool
        self.pipe_size = pipe_size
        self.quantum = QUANTUM
        self.splice_first = splice_first
        # Looked up here: this module is imported where there is no such call.
        self.splice: Splice = os.splice if splice is None and pool is not None else splice or _never
        self.bulk = bulk
