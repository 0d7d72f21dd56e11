# -*- test-case-name: tests.streams.sockets.test_socket_flow -*-
"""
Moves bytes between two sockets through a pipe, so that they stay in the kernel.

A pipe is borrowed for bulk and goes back when the source runs dry. The flow remembers what it was doing, and
splices first at its next event, until events bring little again. What must hold (each was broken in a
prototype, or in a peer):

- ``EAGAIN`` of a splice from a socket means that the socket is empty *or the pipe is
  full*: it is asked only with an empty pipe.
- A pipe's slots can be full long before its bytes are: it is never waited for
  "room for n bytes".
- A pipe with bytes in it is never given back.
- ``SPLICE_F_MORE`` is never set: it corks small answers for 40 to 200 ms.
- ``EINVAL``, ``ENOSYS`` and no memory: what is in the pipe is read out and sent, and this
  flow copies for the rest of its life.
"""

from __future__ import annotations

import errno
import os
from typing import Final

from portfwd.streams.sockets.copying import copy
from portfwd.streams.sockets.flow_state import LITTLE, FlowState

#: Errors of splice(2) after which this flow copies: not possible between these
#: descriptors, or no memory for it just now.
_CANNOT: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOMEM, errno.EOPNOTSUPP, errno.EPERM})

_FLAGS: Final = getattr(os, "SPLICE_F_MOVE", 1) | getattr(os, "SPLICE_F_NONBLOCK", 2)


def splice(flow: FlowState) -> None:
    """Move bytes through the pipe, until one side has no more to do, or the turn is over."""
    source, destination, call, pipe = flow.source, flow.destination, flow.setup.splice, flow.pipe
    if pipe is None:
        return
    left, moved, most = flow.setup.quantum, 0, pipe.size
    allowance = flow.allowance
    if allowance is not None:
        most = min(most, allowance.left)
        left = min(1, most)  # one read at a time, as in copying
    while True:
        while flow.in_pipe:
            if not destination.writable:
                flow.pause()
                return
            try:
                count = call(pipe.reader, destination.descriptor, flow.in_pipe, flags=_FLAGS)
            except BlockingIOError:
                destination.writable = False
                continue
            except OSError as problem:
                if problem.errno in _CANNOT:
                    copy_from_now_on(flow)
                else:
                    flow.write_failed(problem)
                return
            flow.in_pipe -= count
            flow.writes += 1
            flow.moved += count
            flow.spliced += count
            source.moved_at = flow.setup.poller.now
        if destination.end_asked or source.lost or flow.discarding:
            flow.return_pipe()
            destination.written_out()
            return
        if not source.readable or source.read_ended:
            break
        if left <= 0:
            flow.take_turn()
            return
        try:
            count = call(source.descriptor, pipe.writer, most, flags=_FLAGS)
        except BlockingIOError:
            if source.more:
                _ask_again_by_copying(flow, moved)
                return
            source.readable = False
            break
        except OSError as problem:
            if problem.errno in _CANNOT:
                copy_from_now_on(flow)
            else:
                flow.return_pipe()
                source.read_failed(problem)
            return
        if not count:
            _ask_again_by_copying(flow, moved)
            return
        flow.in_pipe = count
        flow.reads += 1
        left -= count
        if allowance is not None:
            allowance.take(count)
        moved += count
        if source.first_at is None:
            source.first_at = flow.setup.poller.now
    _source_is_dry(flow, moved)


def _ask_again_by_copying(flow: FlowState, moved: int) -> None:
    """
    Nothing could be spliced: a read says what that means.

    A splice stops at urgent data (RFC 9293 section 3.8.5) as if the socket were empty, and
    as if it had ended once the end is behind them. A read goes on after them.
    """
    _source_is_dry(flow, moved)
    copy(flow)


def _source_is_dry(flow: FlowState, moved: int) -> None:
    flow.return_pipe()
    allowance = flow.allowance
    if allowance is not None and allowance.is_paced:
        # Bulk is what many slices have brought, not one of them.
        moved, allowance.taken = allowance.taken, 0
    if moved < LITTLE and not (flow.setup.splice_first and flow.pool is not None):
        flow.bulk = False


def copy_from_now_on(flow: FlowState) -> None:
    """Splicing cannot be had: nothing is lost by it."""
    pipe = flow.pipe
    if pipe is not None and flow.in_pipe:
        parts = []
        while flow.in_pipe:
            part = os.read(pipe.reader, flow.in_pipe)
            flow.in_pipe -= len(part)
            parts.append(part)
        flow.kept = b"".join(parts)
    flow.return_pipe()
    flow.pool = None
    flow.bulk = False
    flow.take_turn()


def empty_pipe(flow: FlowState) -> bool:
    """Write what is in the pipe, and read nothing; say whether it is empty."""
    source = flow.source
    readable, source.readable = source.readable, False
    splice(flow)
    source.readable = readable and not source.read_ended
    return not flow.in_pipe
