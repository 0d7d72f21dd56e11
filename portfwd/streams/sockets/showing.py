# -*- test-case-name: tests.streams.sockets.test_watched -*-
"""
Shows what is read of a socket to a viewer, who writes what should be passed on.

Reading waits for writing: while the destination has not taken what was written, nothing is read; nor is it
while the source has not taken what it was answered. So at most one read, and what the viewer made of it, is
kept; in bulk a larger one, by some flows at a time (`BulkReads`). Beyond that the two directions know nothing
of each other: a peer that does not read what the other side sends may still send.
"""

from __future__ import annotations

from portfwd.streams.sockets.bulk_reads import BulkReader
from portfwd.streams.sockets.flow_state import FlowState, Watching


def show(flow: FlowState, view: Watching) -> None:
    """Read and show, until there is nothing to be read, or the viewer wants something else."""
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
            # Whoever keeps or answers what it sees is shown little at a time.
            view.larger.filled = False
