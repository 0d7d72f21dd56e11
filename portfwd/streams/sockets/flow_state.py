# -*- test-case-name: tests.streams.sockets.test_socket_flow -*-
"""
What a flow between two sockets has in hand, what it counts, and how it writes what it keeps.

The movers work on it: `copying`, `splicing` and `showing`. They are functions, so that a flow may change from
one to another at any read; `portfwd.streams.sockets.socket_flow` chooses. At most one buffer or one pipe of
bytes is in flight; besides, what a viewer writes.
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

#: An event that brought less than this is no bulk: copying it costs less than
#: to borrow a pipe.
LITTLE: Final = 16 * 1024


class Watching(View):
    """
    A view of a flow between sockets, which reads and keeps for its viewer.

    :ivar behind: what was written while earlier bytes waited, in pieces; None: nothing.
    :ivar larger: larger reads of what is shown; None: no read has filled the buffer yet, or there are none.
    """

    __slots__ = ("behind", "larger")

    def __init__(self) -> None:
        super().__init__()
        self.behind: list[bytes] | None = None
        self.larger: BulkReader | None = None


class FlowState:
    """
    One direction, from `source` to `destination`.

    :ivar setup: what it has in common with the other flows of its rule.
    :ivar allowance: what it may still read; None: any number. Lowered by each read.
    :ivar view: who looks at it; None for a flow that nobody ever looked at.
    :ivar pool: where it borrows pipes; None: it copies.
    :ivar bulk: it moves much, and takes turns with others that do.
    :ivar pipe: the pipe that it has borrowed, if it has one now.
    :ivar in_pipe: bytes in that pipe.
    :ivar kept: bytes that were read and that the destination has refused so far.
    :ivar queued: it waits for its turn; the poller's.
    :ivar paused: seconds for which it has waited for the destination, without the present wait.
    :ivar paused_at: when the present wait began; None: the destination takes bytes.
    :ivar discarding: what is read is thrown away.
    :ivar moved: bytes that the destination's kernel took.
    :ivar reads: system calls that took bytes from the source.
    :ivar writes: system calls that gave the destination bytes.
    :ivar spliced: bytes that never left the kernel.
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
        """Whether it stopped because the destination takes no more."""
        return self.paused_at is not None

    @property
    def keeps_bytes(self) -> bool:
        """Whether bytes were read, or written by a viewer, and not yet taken."""
        view = self.view
        return bool(self.kept) or self.in_pipe > 0 or (view is not None and bool(view.behind))

    @property
    def kept_bytes(self) -> int:
        """How many they are."""
        behind = None if self.view is None else self.view.behind
        return len(self.kept) + self.in_pipe + sum(map(len, behind or ()))

    def run(self) -> None:
        """Take the turn."""
        raise NotImplementedError

    def failed(self, failure: Failure) -> None:
        """Our own code failed in `run`: the source's connection ends, or the one that there is."""
        (self.source if self.source.is_connected else self.destination).failed(failure)

    @property
    def is_stopped(self) -> bool:
        """Whether its viewer or a rate limiter lets it read nothing just now."""
        allowance, view = self.allowance, self.view
        return (view is not None and view.stops_reading) or (allowance is not None and allowance.waits)

    def take_turn(self) -> None:
        """Run soon, when others who are always ready have had their turns."""
        self.setup.turns.take_turn(self)

    def spent(self) -> None:
        """
        The allowance is used up.

        The viewer is told of the counted bound; of the granted one the next run asks for more.
        """
        allowance, view = self.allowance, self.view
        if view is not None and view.unseen and (allowance is None or allowance.counted <= 0):
            view.stretch_passed(self, self.source)
            self.take_turn()
        elif self.wants_to_read() and not self.is_stopped:
            self.take_turn()

    def wants_to_read(self) -> bool:
        """Whether it would read now if it were granted bytes."""
        source, view = self.source, self.view
        return (
            source.readable
            and not (source.read_ended or source.lost or self.discarding)
            and not (view is not None and view.stops_reading)
            and not self.keeps_bytes
        )

    # Waiting for the destination

    def pause(self) -> None:
        """Wait until the destination takes bytes again."""
        if self.paused_at is None:
            self.paused_at = self.setup.poller.now
        if self.source.dead and not self.source.lost:
            self.source.look_for_death()

    def stop_pause(self) -> None:
        """The wait is over."""
        if self.paused_at is not None:
            self.paused += self.setup.poller.now - self.paused_at
            self.paused_at = None

    # Writing what is kept

    def write_kept(self) -> bool:
        """Send what is kept; say whether more may be written now."""
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
        """A write had an error; the destination tells what follows."""
        self.destination.break_writing(problem.errno or errno.EPIPE)

    # What a viewer's flow keeps

    def all_taken(self) -> None:
        """Nothing is kept any more: what waited for that goes on."""
        self.return_slot()
        self.answers_taken()

    def return_slot(self) -> None:
        """Give the slot back, unless something of the last read, or of its answer, waits to be written."""
        view = self.view
        if view is None or view.larger is None or self.kept or view.behind or view.unanswered:
            return
        view.larger.release()

    def answers_taken(self) -> None:
        """The destination has what it was answered, or will never have it: it may be read again."""
        reverse = self.destination.source
        if reverse is not None:
            reverse.read_on()

    def read_on(self) -> None:
        """The source has taken what it was answered."""
        view = self.view
        if view is not None and view.unanswered:
            view.unanswered = False
            self.return_slot()
            self.take_turn()

    # Pipes

    def has_pipe(self) -> bool:
        """Borrow a pipe, unless there is one; say whether there is."""
        if self.pipe is None and self.pool is not None:
            self.pipe = self.pool.borrow(self.setup.pipe_size)
        return self.pipe is not None

    def return_pipe(self) -> None:
        """Have no pipe any more; what is in it is lost."""
        pipe, self.pipe = self.pipe, None
        if pipe is not None and self.pool is not None:
            if self.in_pipe:
                self.in_pipe = 0
                self.pool.discard(pipe)
            else:
                self.pool.give_back(pipe)
