# -*- test-case-name: tests.relay.test_session -*-
"""
What a session knows of one of its two sides.

A record without decisions: the session reads and writes it.
"""

from __future__ import annotations

from portfwd.relay.farewell import Farewell
from portfwd.streams.stream import Stream
from portfwd.values import Side


class Half:
    """
    What a session knows of one side: its stream, and the flow that it is the source of.

    :ivar ended: the peer ended.
    :ivar flow_done: everything it sent, and its end, was given to the other side; or that side takes no more.
    :ivar flow_broken: the other side takes no more.
    :ivar end_asked: the stream was asked to end its direction.
    :ivar owned: the stream tells us what happens to it.
    """

    __slots__ = (
        "end_asked",
        "ended",
        "farewell",
        "flow_broken",
        "flow_done",
        "lost",
        "owned",
        "side",
        "stream",
    )

    def __init__(self, side: Side) -> None:
        self.side = side
        self.stream: Stream | None = None
        self.ended = False
        self.flow_done = False
        self.flow_broken = False
        self.end_asked = False
        self.lost = False
        self.owned = False
        self.farewell: Farewell | None = None
