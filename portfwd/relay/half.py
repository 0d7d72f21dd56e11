# -*- test-case-name: tests.relay.test_session -*-
"""The state of one side of a session."""

from __future__ import annotations

import enum

from portfwd.relay.closing import Closing
from portfwd.relay.ends import Flow
from portfwd.streams.stream import Stream
from portfwd.values import Side


class Hold(enum.Enum):
    """The ownership of a stream by its session."""

    NONE = "none"
    OWNED = "owned"
    LOST = "lost"


class Half:
    """
    One side: its stream, and the flow from it.

    :ivar flow: state of that flow.
    :ivar hold: whether the session owns the stream, or the stream is closed.
    :ivar closing: closes the stream after the session has finished.
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
        """Whether its connection is closed."""
        return self.hold is Hold.LOST
