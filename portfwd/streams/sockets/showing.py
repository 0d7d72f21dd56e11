# -*- test-case-name: tests.streams.sockets.test_watched -*-
"""
Shows bytes of a socket to a viewer, which writes the bytes to pass on.

Reading waits for writing: nothing is read while the destination has not accepted the written bytes, or the
source has not accepted its answers. At most one read and the viewer's output for it are kept; in bulk a
larger read, for a limited number of flows (`BulkReads`). Otherwise the directions are independent: a peer
that does not read may still send.
"""

from __future__ import annotations

from portfwd.streams.sockets.bulk_reads import BulkReader
from portfwd.streams.sockets.flow_state import FlowState, Watching


def show(flow: FlowState, view: Watching) -> None:
    """Read and show until the socket is empty, or the viewer needs no more."""
    source, setup, left = flow.source, flow.setup, flow.setup.quantum
    size = len(setup.buffer)
    receive = source.socket.recv
    while source.readable and not source.read_ended and not source.lost:
        if view.viewer is None or view.unseen or left <= 0:
            flow.take_turn()
            return
        if view.on_hold or flow.discarding:
            return
        if flow.kept or view.behind:
            flow.pause()
            return
        if view.unanswered:
            if source.dead:
                source.look_for_death()
            return
        allowance, larger, most = flow.allowance, view.larger, size
        if allowance is not None:
            most = min(size, allowance.left)
            if most <= 0:
                flow.spent()
                return
        elif larger is not None:
            most = larger.next_size(size)
        try:
            data = receive(most)
        except BlockingIOError:
            source.readable = False
            flow.return_slot()
            return
        except OSError as problem:
            flow.return_slot()
            source.read_failed(problem)
            return
        if not data:
            flow.return_slot()
            source.read_nothing()
            return
        count = len(data)
        if larger is not None:
            larger.filled = count >= size
        elif count >= size and setup.bulk is not None:
            view.larger = BulkReader(setup.bulk)
        flow.reads += 1
        left -= count
        if allowance is not None:
            allowance.take(count)
        source.moved_at = setup.poller.now
        if source.first_at is None:
            source.first_at = source.moved_at
        if count < most and not source.more:
            source.readable = False
        try:
            view.show(source, data)
        finally:
            flow.return_slot()
        if view.larger is not None and (view.on_hold or view.unanswered):
            # A viewer that keeps or answers bytes gets small reads.
            view.larger.filled = False
