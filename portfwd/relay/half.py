# -*- test-case-name: tests.relay.test_session -*-
"""What a session knows of one of its two sides."""

from __future__ import annotations

import enum

from portfwd.relay.closing import Closing
from portfwd.relay.ends import Flow
from portfwd.streams.stream import Stream
from portfwd.values import Side


class Hold(enum.Enum):
    """What a session has of a stream."""

    NONE = "none"
    OWNED = "owned"
    LOST = "lost"


class Half:
    """
    One side: its stream, and the flow that it is the source of.

    :ivar flow: how far that flow is.
    :ivar hold: whether the stream tells us what happens to it, or is gone.
    :ivar closing: closes the stream, once the session is over.
    """

    __slots__ = ("closing", "flow", "hold", "side", "stream")

    def __init__(self, side: Side) -> None:
        self.side = side
        self.stream: Stream | None = None
        self.flow = Flow.OPEN
        self.hold = Hold.NONE
        self.closing: Closing | None = None

    @property
    def lost(self) -> bool:
        """Whether its connection is gone."""
        return self.hold is Hold.LOST
