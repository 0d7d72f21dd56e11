# -*- test-case-name: tests.streams.sockets.test_socket_flow -*-
"""
One direction between two sockets: copied for little, spliced for bulk.

A read goes into the one buffer that all flows share and is sent at once; only
what the destination refuses is kept. A read that fills the buffer is bulk: a
pipe is borrowed and bytes stay in the kernel until the source runs dry. The
pipe goes back then, but the flow remembers what it was doing, and splices
first at its next event, until events bring little again.

What must hold (each was broken in a prototype, or in a peer):

- ``EAGAIN`` of a splice from a socket means that the socket is empty *or the pipe is
  full*: it is asked only with an empty pipe.
- A pipe's slots can be full long before its bytes are: it is never waited for
  "room for n bytes".
- A pipe with bytes in it is never given back.
- An end that is known to stand right behind the last bytes leaves in one segment with them:
  ``MSG_MORE`` is for these bytes only, and whoever held them back lets them go if the end does not follow.
- ``SPLICE_F_MORE`` is never set: it corks small answers for 40 to 200 ms.
- ``EINVAL``, ``ENOSYS`` and no memory: what is in the pipe is read out and sent, and this
  flow copies for the rest of its life.
- At most one buffer or one pipe of bytes is in flight.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import Final

from twisted.python.failure import Failure

from portfwd.kernel.pipes import KernelPipe, PipePool
from portfwd.kernel.sockets import EXHAUSTED
from portfwd.streams.allowance import Allowance
from portfwd.streams.sockets.flow_setup import FlowSetup
from portfwd.streams.sockets.socket_end import SocketEnd
from portfwd.values import FlowSummary

#: Bytes after which a turn is over, so at most this and one pipe, or one larger read, more; others have
#: theirs, and small events come between. One turn of a spliced flow is a few tenths of a millisecond.
QUANTUM: Final = 256 * 1024

#: An event that brought less than this is no bulk: copying it costs less than
#: to borrow a pipe.
LITTLE: Final = 16 * 1024

#: Errors of splice(2) after which this flow copies: not possible between these
#: descriptors, or no memory for it just now.
_CANNOT: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOMEM, errno.EOPNOTSUPP, errno.EPERM})

#: A hang-up was seen: EPOLLRDHUP | EPOLLHUP.
_HUNG_UP: Final = 0x2010
#: There are urgent data: EPOLLPRI.
_URGENT: Final = 0x2
_WITH_THE_END: Final = int(getattr(socket, "MSG_MORE", 0))
_PEEK: Final = int(socket.MSG_PEEK)

_FLAGS: Final = getattr(os, "SPLICE_F_MOVE", 1) | getattr(os, "SPLICE_F_NONBLOCK", 2)


class SocketFlow:
    """
    Moves bytes from `source` to `destination`.

    :ivar allowance: what it may still read; None: any number. Lowered here by each read, given by whoever
        bounds the flow, who is asked for more by `spent`.
    :ivar bulk: it moves much, and takes turns with others that do.
    :ivar pipe: the pipe that it has borrowed, if it has one now.
    :ivar queued: it waits for its turn; the poller's.
    :ivar waits_to_write: it stopped because the destination takes no more.
    :ivar spliced: bytes that never left the kernel.
    """

    __slots__ = (
        "_bytes",
        "_discarding",
        "_in_pipe",
        "_kept",
        "_paused",
        "_paused_at",
        "_pool",
        "_reads",
        "_setup",
        "_writes",
        "allowance",
        "bulk",
        "destination",
        "pipe",
        "queued",
        "source",
        "spliced",
        "waits_to_write",
    )

    def __init__(self, source: SocketEnd, destination: SocketEnd, setup: FlowSetup) -> None:
        """:param setup: what it has in common with the other flows of its rule."""
        self.source = source
        self.destination = destination
        self.waits_to_write = False
        self.allowance: Allowance | None = None
        self.spliced = 0
        self._setup = setup
        self._pool = setup.pool
        self.bulk = setup.splice_first
        self.pipe: KernelPipe | None = None
        self._in_pipe = 0
        self._kept = b""
        self.queued = False
        self._discarding = False
        self._bytes = 0
        self._reads = 0
        self._writes = 0
        self._paused = 0.0
        self._paused_at: float | None = None

    def __repr__(self) -> str:
        mover = "splicing" if self.pipe is not None else "copying"
        wait = " waits to write" if self.waits_to_write else ""
        return f"<SocketFlow from {self.source.side.value} {mover} kept={self.kept_bytes}{wait}>"

    @property
    def keeps_bytes(self) -> bool:
        """Whether bytes were read and not yet written."""
        return bool(self._kept) or self._in_pipe > 0

    @property
    def kept_bytes(self) -> int:
        """How many they are."""
        return len(self._kept) + self._in_pipe

    # When to run

    def take_turn(self) -> None:
        """Run soon, when others who are always ready have had their turns."""
        self._setup.turns.take_turn(self)

    def failed(self, failure: Failure) -> None:
        """Our own code failed in `run`: the source's connection ends."""
        self.source.failed(failure)

    def run(self) -> None:
        """Move up to `QUANTUM` bytes."""
        if self._discarding:
            # Whether the destination takes what was read before or not.
            self._throw_away()
        destination = self.destination
        if destination.lost or destination.write_broken:
            return
        if self._paused_at is not None:
            self._paused += self._setup.poller.now - self._paused_at
            self._paused_at = None
            self.waits_to_write = False
        if self._kept and not self._write_kept():
            return
        allowance = self.allowance
        if allowance is not None and allowance.left <= 0 and not self._in_pipe and not self._discarding:
            self._return_pipe()
            self.spent()
            return
        if self._in_pipe or (self.bulk and not self._discarding and self._has_pipe()):
            self._run_spliced()
        elif not self._discarding:
            self._run_copied()

    def spent(self) -> None:
        """The allowance is used up: nothing is read before there is another. For subclasses that give one."""

    # Copying

    def _run_copied(self) -> None:
        source, destination, setup, allowance = self.source, self.destination, self._setup, self.allowance
        buffer = setup.buffer
        size = full = len(buffer)
        left = QUANTUM
        if allowance is not None:
            left = 1  # one read at a time: the next may be smaller, or another flow's
            if allowance.left < full:
                size = allowance.left
                buffer = buffer[:size]
        while source.readable and not source.read_ended and not source.lost:
            if not destination.writable:
                self._pause()
                return
            if left <= 0:
                self.take_turn()
                return
            try:
                count = source.socket.recv_into(buffer)
            except BlockingIOError:
                source.readable = False
                return
            except OSError as problem:
                source.read_failed(problem)
                return
            if not count:
                source.read_nothing()
                return
            self._reads += 1
            left -= count
            if allowance is not None:
                allowance.take(count)
            now = source.moved_at = setup.poller.now
            if source.first_at is None:
                source.first_at = now
            ends = False
            if count < size:
                if not source.more:
                    source.readable = False
                elif source.more & _HUNG_UP and not source.more & _URGENT:
                    # A look would pass urgent data by, and leave them: to close then would be a reset.
                    ends = self._ends_here()
            try:
                sent = destination.socket.send(buffer[:count], _WITH_THE_END if ends else 0)
            except BlockingIOError:
                sent = 0
                destination.writable = False
            except OSError as problem:
                self._write_failed(problem)
                return
            self._writes += 1
            self._bytes += sent
            if sent < count:
                self._kept = bytes(buffer[sent:count])
                if not self._write_kept():
                    return
            if ends:
                source.read_nothing()
                self._let_go()
                return
            if count == full and self._pool is not None:
                self.bulk = True
                self.take_turn()
                return

    def _ends_here(self) -> bool:
        """Whether the source's end stands right behind what was read of it."""
        source = self.source
        try:
            return not source.socket.recv(1, _PEEK)
        except BlockingIOError:
            source.readable = False
        except OSError as problem:
            # It is told once, and is to be known when what came before it is written.
            if problem.errno not in EXHAUSTED:
                source.gone = problem.errno or errno.ECONNRESET
        return False

    def _let_go(self) -> None:
        """The source's end was told: if it goes no further just now, the bytes before it still do."""
        destination = self.destination
        if not (destination.end_out or destination.lost or destination.write_broken):
            destination.push()

    def _write_kept(self) -> bool:
        """Send what is kept; say whether nothing is any more."""
        kept, done = memoryview(self._kept), 0
        while done < len(kept) and self.destination.writable:
            try:
                sent = self.destination.socket.send(kept[done:])
            except BlockingIOError:
                self.destination.writable = False
                break
            except OSError as problem:
                self._write_failed(problem)
                return False
            self._writes += 1
            self._bytes += sent
            done += sent
            self.source.moved_at = self._setup.poller.now
        self._kept = self._kept[done:]
        if self._kept:
            self._pause()
            return False
        self.destination.written_out()
        return not self.destination.lost and not self.destination.write_broken

    # Splicing

    def _has_pipe(self) -> bool:
        if self.pipe is None and self._pool is not None:
            self.pipe = self._pool.borrow(self._setup.pipe_size)
        return self.pipe is not None

    def _run_spliced(self) -> None:
        source, destination, splice, pipe = self.source, self.destination, self._setup.splice, self.pipe
        if pipe is None:
            return
        left, moved, most = QUANTUM, 0, pipe.size
        allowance = self.allowance
        if allowance is not None:
            most = min(most, allowance.left)
            left = min(1, most)  # one read at a time, as in copying
        while True:
            while self._in_pipe:
                if not destination.writable:
                    self._pause()
                    return
                try:
                    count = splice(pipe.reader, destination.descriptor, self._in_pipe, flags=_FLAGS)
                except BlockingIOError:
                    destination.writable = False
                    continue
                except OSError as problem:
                    if problem.errno in _CANNOT:
                        self._copy_from_now_on()
                    else:
                        self._write_failed(problem)
                    return
                self._in_pipe -= count
                self._writes += 1
                self._bytes += count
                self.spliced += count
                source.moved_at = self._setup.poller.now
            if destination.end_asked or source.lost or self._discarding:
                self._return_pipe()
                destination.written_out()
                return
            if not source.readable or source.read_ended:
                break
            if left <= 0:
                self.take_turn()
                return
            try:
                count = splice(source.descriptor, pipe.writer, most, flags=_FLAGS)
            except BlockingIOError:
                if source.more:
                    self._ask_again_by_copying(moved)
                    return
                source.readable = False
                break
            except OSError as problem:
                if problem.errno in _CANNOT:
                    self._copy_from_now_on()
                else:
                    self._return_pipe()
                    source.read_failed(problem)
                return
            if not count:
                self._ask_again_by_copying(moved)
                return
            self._in_pipe = count
            self._reads += 1
            left -= count
            if allowance is not None:
                allowance.take(count)
            moved += count
            if source.first_at is None:
                source.first_at = self._setup.poller.now
        self._source_is_dry(moved)

    def _ask_again_by_copying(self, moved: int) -> None:
        """
        Nothing could be spliced: a read says what that means.

        A splice stops at urgent data (RFC 9293 section 3.8.5) as if the socket were empty, and
        as if it had ended once the end is behind them. A read goes on after them.
        """
        self._source_is_dry(moved)
        self._run_copied()

    def _source_is_dry(self, moved: int) -> None:
        self._return_pipe()
        if moved < LITTLE and not (self._setup.splice_first and self._pool is not None):
            self.bulk = False

    def _return_pipe(self) -> None:
        pipe, self.pipe = self.pipe, None
        if pipe is not None and self._pool is not None:
            if self._in_pipe:
                self._in_pipe = 0
                self._pool.discard(pipe)
            else:
                self._pool.give_back(pipe)

    def _copy_from_now_on(self) -> None:
        """Splicing cannot be had: nothing is lost by it."""
        pipe = self.pipe
        if pipe is not None and self._in_pipe:
            parts = []
            while self._in_pipe:
                part = os.read(pipe.reader, self._in_pipe)
                self._in_pipe -= len(part)
                parts.append(part)
            self._kept = b"".join(parts)
        self._return_pipe()
        self._pool = None
        self.bulk = False
        self.take_turn()

    def copy_only(self) -> PipePool | None:
        """Splice no more, until `splice_again` is given what this returns."""
        before = self._pool
        self._copy_from_now_on()
        return before

    def splice_again(self, pool: PipePool | None) -> None:
        """Splice as before `copy_only`."""
        self._pool = pool
        self.bulk = self._setup.splice_first and pool is not None

    # Stopping

    def _pause(self) -> None:
        self.waits_to_write = True
        if self._paused_at is None:
            self._paused_at = self._setup.poller.now
        if self.source.dead and not self.source.lost:
            self.source.look_for_death()

    def _write_failed(self, problem: OSError) -> None:
        self.destination.break_writing(problem.errno or errno.EPIPE)

    def drop(self) -> None:
        """The destination takes no more: what is kept is lost."""
        self._kept = b""
        self.waits_to_write = False
        self._return_pipe()

    def source_lost(self) -> None:
        """The source is gone; what it sent before is still written."""
        if not self._in_pipe:
            self._return_pipe()

    def discard(self) -> None:
        """From here on read and throw away; what was read before is still written."""
        self._discarding = True
        self.take_turn()

    def _throw_away(self) -> None:
        source, left = self.source, QUANTUM
        while source.readable and not source.read_ended and not source.lost:
            if left <= 0:
                self.take_turn()
                return
            try:
                count = source.socket.recv_into(self._setup.buffer)
            except BlockingIOError:
                source.readable = False
                return
            except OSError as problem:
                source.read_failed(problem)
                return
            if not count:
                source.read_nothing()
                return
            left -= count
            self._reads += 1
            source.thrown_away(count)

    def summary(self) -> FlowSummary:
        """What it did so far."""
        return FlowSummary(self._bytes, self._reads, self._writes, self.spliced, self._paused)
