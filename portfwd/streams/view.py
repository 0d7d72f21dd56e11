# -*- test-case-name: tests.streams.test_view -*-
"""
What a viewer sees of a flow: all that is read, nothing of a counted stretch, or nothing any more.

Sockets and transports have one `View` for each direction of a session with filters; a flow without filters
has none. A view reads and writes nothing: the flow does, and asks its view what becomes of the bytes.
"""

from __future__ import annotations

from typing import Protocol

from portfwd.streams.allowance import UNBOUND, Allowance
from portfwd.streams.stream import Stream, Viewer


class Bounded(Protocol):
    """
    A flow.

    :ivar allowance: what it may still read; None: any number.
    """

    allowance: Allowance | None


class View:
    """
    One flow, as its viewer has it.

    :ivar viewer: who sees the bytes; None when nobody does any more.
    :ivar unseen: a counted number of bytes passes unseen just now.
    :ivar on_hold: the viewer wants nothing to be read.
    :ivar unanswered: nothing is read before the source has taken what it was answered.
    :ivar showing: the viewer is shown something just now: what it writes to the source is an answer.
    """

    __slots__ = ("_stretch", "on_hold", "showing", "unanswered", "unseen", "viewer")

    def __init__(self, viewer: Viewer | None = None) -> None:
        self.viewer = viewer
        self.unseen = False
        self.on_hold = False
        self.unanswered = False
        self.showing = False
        self._stretch = 0

    def __repr__(self) -> str:
        what = "nothing" if self.viewer is None else "not a stretch" if self.unseen else "all"
        return f"<View {what}{' on hold' if self.on_hold else ''}>"

    @property
    def is_shown(self) -> bool:
        """Whether what is read now is shown."""
        return self.viewer is not None and not self.unseen

    @property
    def stops_reading(self) -> bool:
        """Whether nothing may be read now."""
        return self.on_hold or self.unanswered

    def show(self, source: Stream, data: bytes) -> None:
        """Show `data`, which was read from `source`."""
        if self.viewer is not None:
            self.showing = True
            try:
                self.viewer.shown(source, data)
            finally:
                self.showing = False

    def pass_on(self, flow: Bounded, count: int | None) -> None:
        """Let the next `count` bytes of `flow` pass unseen, None: all of them, for good."""
        if count is None:
            self.viewer = None
        self.unseen = count is not None
        self._stretch = UNBOUND if count is None else count
        _bound(flow, self._stretch)

    def settle(self, flow: Bounded) -> int:
        """Show again; say how many bytes passed unseen since `pass_on`."""
        if not self.unseen:
            return 0
        passed = 0 if flow.allowance is None else self._stretch - flow.allowance.counted
        self.unseen = False
        _bound(flow, UNBOUND)
        return passed

    def stretch_passed(self, flow: Bounded, source: Stream) -> None:
        """What may pass unseen has passed: tell the viewer."""
        passed = self.settle(flow)
        if self.viewer is not None:
            self.viewer.passed(source, passed)


def _bound(flow: Bounded, count: int) -> None:
    allowance = flow.allowance
    if allowance is not None and (allowance.is_paced or count != UNBOUND):
        allowance.counted = count
    else:
        flow.allowance = None if count == UNBOUND else Allowance(count)
