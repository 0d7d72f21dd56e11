# -*- test-case-name: tests.streams.sockets.test_socket_flow -*-
"""
Moves bytes between two sockets by copying, and discards bytes.

A read goes into the buffer that all flows share and is sent at once; only bytes that the destination does not
accept are kept. After a read that fills the buffer, the flow splices if it can.
"""

from __future__ import annotations

import errno
import socket
from typing import Final

from portfwd.kernel.sockets import EXHAUSTED
from portfwd.streams.sockets.flow_state import FlowState
from portfwd.streams.sockets.socket_end import SocketEnd

#: A hang-up was seen: EPOLLRDHUP | EPOLLHUP.
_HUNG_UP: Final = 0x2010
#: There are urgent data: EPOLLPRI.
_URGENT: Final = 0x2
_WITH_THE_END: Final = int(getattr(socket, "MSG_MORE", 0))
_PEEK: Final = int(socket.MSG_PEEK)


def copy(flow: FlowState) -> None:
    """Read and send until one side is not ready, or the turn ends."""
    source, destination, setup, allowance = flow.source, flow.destination, flow.setup, flow.allowance
    buffer = setup.buffer
    size = full = len(buffer)
    left = setup.quantum
    if allowance is not None:
        left = 1  # one read at a time: the next one may have another size
        if allowance.left < full:
            size = allowance.left
            buffer = buffer[:size]
    while source.readable and not source.read_ended and not source.lost:
        if not destination.writable:
            flow.pause()
            return
        if left <= 0:
            flow.take_turn()
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
        flow.reads += 1
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
                # A peek would skip urgent data and leave them unread, and closing would then send a reset.
                ends = _ends_here(source)
        try:
            sent = destination.socket.send(buffer[:count], _WITH_THE_END if ends else 0)
        except BlockingIOError:
            sent = 0
            destination.writable = False
        except OSError as problem:
            flow.write_failed(problem)
            return
        flow.writes += 1
        flow.moved += sent
        if sent < count:
            flow.kept = bytes(buffer[sent:count])
            if not flow.write_kept():
                return
        if ends:
            source.read_nothing()
            _let_go(destination)
            return
        if count == full and flow.pool is not None:
            flow.bulk = True
            flow.take_turn()
            return


def _ends_here(source: SocketEnd) -> bool:
    """Whether the source's end directly follows the bytes that were read."""
    try:
        return not source.socket.recv(1, _PEEK)
    except BlockingIOError:
        source.readable = False
    except OSError as problem:
        # The error is reported once and is needed after the bytes before it are written.
        if problem.errno not in EXHAUSTED:
            source.gone = problem.errno or errno.ECONNRESET
    return False


def _let_go(destination: SocketEnd) -> None:
    """The source has ended: send the held back bytes even if the end cannot be sent now."""
    if not (destination.end_out or destination.lost or destination.write_broken):
        destination.push()


def throw_away(flow: FlowState) -> None:
    """Read and drop the bytes."""
    source, left = flow.source, flow.setup.quantum
    while source.readable and not source.read_ended and not source.lost:
        if left <= 0:
            flow.take_turn()
            return
        try:
            count = source.socket.recv_into(flow.setup.buffer)
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
        flow.reads += 1
        source.thrown_away(count)
