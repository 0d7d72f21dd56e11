# -*- test-case-name: tests.streams.sockets.test_socket_flow -*-
"""
The state of a flow between two sockets: kept bytes, counts, and writing of kept bytes.

The movers `copying`, `splicing` and `showing` use it. They are functions, so a flow can change the mover at
any read; `portfwd.streams.sockets.socket_flow` chooses. At most one buffer or one pipe of bytes is in flight,
and the bytes that a viewer has written.
"""

from __future__ import annotations

import errno
from typing import Final

from twisted.python.failure import Failure

from portfwd.kernel.pipes import KernelPipe, PipePool
from portfwd.streams.allowance import Allowance
from portfwd.streams.sockets.bulk_reads import BulkReader
from portfwd.streams.sockets.flow_setup import FlowSetup
from portfwd.streams.sockets.socket_end import SocketEnd
from portfwd.streams.view import View

#: Bytes of an event below which copying is cheaper than borrowing a pipe.
LITTLE: Final = 16 * 1024


class Watching(View):
    """
    A view of a flow between sockets.

    :ivar behind: bytes written while earlier ones waited, in pieces; None for none.
    :ivar larger: larger reads of shown bytes; None if no read has filled the buffer yet, or there are none.
    """

    __slots__ = ("behind", "larger")

    def __init__(self) -> None:
        super().__init__()
        self.behind: list[bytes] | None = None
        self.larger: BulkReader | None = None


class FlowState:
    """
    One direction, from `source` to `destination`.

    :ivar setup: the common part of the flows of its rule.
    :ivar allowance: bytes that it may still read, lowered by each read; None for no limit.
    :ivar view: its view; None if it never had a viewer.
    :ivar pool: the pool of pipes; None if it copies.
    :ivar bulk: whether it moves bulk data, in turns with other flows.
    :ivar pipe: the borrowed pipe, or None.
    :ivar in_pipe: number of bytes in that pipe.
    :ivar kept: bytes that were read and that the destination has not accepted yet.
    :ivar queued: see `portfwd.kernel.polling.Turn`.
    :ivar paused: seconds of waiting for the destination, without the current wait.
    :ivar paused_at: begin of the current wait; None if the destination accepts bytes.
    :ivar discarding: whether bytes are read and dropped.
    :ivar moved: number of bytes accepted by the destination's kernel.
    :ivar reads: number of system calls that read bytes.
    :ivar writes: number of system calls that wrote bytes.
    :ivar spliced: number of bytes moved inside the kernel.
    """

    __slots__ = (
        "allowance",
        "bulk",
        "destination",
        "discarding",
        "in_pipe",
        "kept",
        "moved",
        "paused",
        "paused_at",
        "pipe",
        "pool",
        "queued",
        "reads",
        "setup",
        "source",
        "spliced",
        "view",
        "writes",
    )

    def __init__(
        self,
        source: SocketEnd,
        destination: SocketEnd,
        setup: FlowSetup,
        allowance: Allowance | None = None,
    ) -> None:
        self.source = source
        self.destination = destination
        self.setup = setup
        self.pool: PipePool | None = setup.pool
        self.allowance = allowance
        self.view: Watching | None = None
        self.spliced = 0
        self.bulk = setup.splice_first
        self.pipe: KernelPipe | None = None
        self.in_pipe = 0
        self.kept = b""
        self.queued = False
        self.discarding = False
        self.moved = 0
        self.reads = 0
        self.writes = 0
        self.paused = 0.0
        self.paused_at: float | None = None

    def __repr__(self) -> str:
        mover = "splicing" if self.pipe is not None else "copying"
        wait = " waits to write" if self.waits_to_write else ""
        if self.allowance is not None:
            wait += f" {self.allowance!r}"
        return f"<SocketFlow from {self.source.side.value} {mover} kept={self.kept_bytes}{wait}>"

    @property
    def waits_to_write(self) -> bool:
        """Whether it waits for the destination."""
        return self.paused_at is not None

    @property
    def keeps_bytes(self) -> bool:
        """Whether bytes were read, or written by a viewer, that the destination has not accepted."""
        view = self.view
        return bool(self.kept) or self.in_pipe > 0 or (view is not None and bool(view.behind))

    @property
    def kept_bytes(self) -> int:
        """The number of these bytes."""
        behind = None if self.view is None else self.view.behind
        return len(self.kept) + self.in_pipe + sum(map(len, behind or ()))

    def run(self) -> None:
        """Take the turn."""
        raise NotImplementedError

    def failed(self, failure: Failure) -> None:
        """`run` raised an exception: end the connection of the source, or the one that exists."""
        (self.source if self.source.is_connected else self.destination).failed(failure)

    @property
    def is_stopped(self) -> bool:
        """Whether its viewer or a rate limiter keeps it from reading."""
        allowance, view = self.allowance, self.view
        return (view is not None and view.stops_reading) or (allowance is not None and allowance.waits)

    def take_turn(self) -> None:
        """Run soon, after the turns of other flows."""
        self.setup.turns.take_turn(self)

    def spent(self) -> None:
        """
        The allowance is used up.

        Call the viewer for the counted bound. For the granted one, the next run requests more.
        """
        allowance, view = self.allowance, self.view
        if view is not None and view.unseen and (allowance is None or allowance.counted <= 0):
            view.stretch_passed(self, self.source)
            self.take_turn()
        elif self.wants_to_read() and not self.is_stopped:
            self.take_turn()

    def wants_to_read(self) -> bool:
        """Whether it could read now if it had a grant."""
        source, view = self.source, self.view
        return (
            source.readable
            and not (source.read_ended or source.lost or self.discarding)
            and not (view is not None and view.stops_reading)
            and not self.keeps_bytes
        )

    # Waiting for the destination

    def pause(self) -> None:
        """Wait until the destination accepts bytes again."""
        if self.paused_at is None:
            self.paused_at = self.setup.poller.now
        if self.source.dead and not self.source.lost:
            self.source.look_for_death()

    def stop_pause(self) -> None:
        """The wait has ended."""
        if self.paused_at is not None:
            self.paused += self.setup.poller.now - self.paused_at
            self.paused_at = None

    # Writing kept bytes

    def write_kept(self) -> bool:
        """Send kept bytes; return whether more may be written now."""
        destination = self.destination
        kept, done = memoryview(self.kept), 0
        while done < len(kept) and destination.writable:
            try:
                sent = destination.socket.send(kept[done:])
            except BlockingIOError:
                destination.writable = False
                break
            except OSError as problem:
                self.write_failed(problem)
                return False
            self.writes += 1
            self.moved += sent
            done += sent
            self.source.moved_at = self.setup.poller.now
        self.kept = self.kept[done:]
        written = not self.kept
        if written:
            destination.written_out()
            written = not destination.lost and not destination.write_broken
        else:
            self.pause()
        if self.view is not None and not (self.kept or self.view.behind):
            self.all_taken()
        return written

    def write_failed(self, problem: OSError) -> None:
        """A write failed. The destination reports it."""
        self.destination.break_writing(problem.errno or errno.EPIPE)

    # Kept bytes of a flow with a viewer

    def all_taken(self) -> None:
        """No bytes are kept any more: continue whatever waited for that."""
        self.return_slot()
        self.answers_taken()

    def return_slot(self) -> None:
        """Return the slot, unless bytes of the last read, or their answers, wait to be written."""
        view = self.view
        if view is None or view.larger is None or self.kept or view.behind or view.unanswered:
            return
        view.larger.release()

    def answers_taken(self) -> None:
        """The destination has accepted its answers, or never will: it may be read again."""
        reverse = self.destination.source
        if reverse is not None:
            reverse.read_on()

    def read_on(self) -> None:
        """The source has accepted its answers."""
        view = self.view
        if view is not None and view.unanswered:
            view.unanswered = False
            self.return_slot()
            self.take_turn()

    # Pipes

    def has_pipe(self) -> bool:
        """Borrow a pipe if there is none; return whether there is one."""
        if self.pipe is None and self.pool is not None:
            self.pipe = self.pool.borrow(self.setup.pipe_size)
        return self.pipe is not None

    def return_pipe(self) -> None:
        """Drop the pipe and its bytes."""
        pipe, self.pipe = self.pipe, None
        if pipe is not None and self.pool is not None:
            if self.in_pipe:
                self.in_pipe = 0
                self.pool.discard(pipe)
            else:
                self.pool.give_back(pipe)
