# -*- test-case-name: tests.streams.sockets.test_socket_flow -*-
"""
Moves bytes between two sockets through a pipe, so they stay in the kernel.

A pipe is borrowed for bulk data and returned when the source is empty. The flow then splices first at its
next event, until events are small again. These rules must hold (each was broken in a prototype or in another
program):

- ``EAGAIN`` of a splice from a socket means that the socket is empty *or the pipe is full*, so it is called
  only with an empty pipe.
- The slots of a pipe can be full long before its bytes, so the flow never waits for "room for n bytes".
- A pipe with bytes is never returned.
- ``SPLICE_F_MORE`` is never set: it delays small answers by 40 to 200 ms.
- After ``EINVAL``, ``ENOSYS`` or missing memory, the bytes in the pipe are read and sent, and this flow
  copies from then on.
"""

from __future__ import annotations

import errno
import os
from typing import Final

from portfwd.streams.sockets.copying import copy
from portfwd.streams.sockets.flow_state import LITTLE, FlowState

#: Errors of splice(2) after which a flow copies: not supported for these descriptors, or no memory.
_CANNOT: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOMEM, errno.EOPNOTSUPP, errno.EPERM})

_FLAGS: Final = getattr(os, "SPLICE_F_MOVE", 1) | getattr(os, "SPLICE_F_NONBLOCK", 2)


def splice(flow: FlowState) -> None:
    """Move bytes through the pipe until one side is not ready, or the turn ends."""
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
    A splice has moved no bytes: read, to find the cause.

    A splice stops at urgent data (RFC 9293 section 3.8.5) as if the socket were empty, or as if it had ended
    if an end follows them. A read continues after them.
    """
    _source_is_dry(flow, moved)
    copy(flow)


def _source_is_dry(flow: FlowState, moved: int) -> None:
    flow.return_pipe()
    allowance = flow.allowance
    if allowance is not None and allowance.is_paced:
        # Many slices together are bulk, even if one is small.
        moved, allowance.taken = allowance.taken, 0
    if moved < LITTLE and not (flow.setup.splice_first and flow.pool is not None):
        flow.bulk = False


def copy_from_now_on(flow: FlowState) -> None:
    """Change to copying, because splicing is not possible. No bytes are lost."""
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
    """Write the bytes in the pipe without reading; return whether it is empty."""
    source = flow.source
    readable, source.readable = source.readable, False
    splice(flow)
    source.readable = readable and not source.read_ended
    return not flow.in_pipe
