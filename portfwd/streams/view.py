# -*- test-case-name: tests.streams.test_view -*-
"""
The view of a flow: whether a viewer sees all bytes, none of a counted number of bytes, or none any more.

Each direction of a session with filters has a `View`, for sockets and transports; a flow without filters has
none. The flow reads and writes, and asks its view whether to show the bytes.
"""

from __future__ import annotations

from typing import Protocol

from portfwd.streams.allowance import UNBOUND, Allowance
from portfwd.streams.stream import Stream, Viewer


class Bounded(Protocol):
    """
    A flow.

    :ivar allowance: bytes that it may still read; None for no limit.
    """

    allowance: Allowance | None


class View:
    """
    The view of one flow.

    :ivar viewer: the viewer; None if bytes are not shown any more.
    :ivar unseen: whether a counted number of bytes passes without being shown.
    :ivar on_hold: whether the viewer has stopped reading.
    :ivar unanswered: whether reading waits until the source has accepted its answers.
    :ivar showing: whether the viewer is being called; bytes that it writes to the source are then answers.
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
        """Whether bytes are shown now."""
        return self.viewer is not None and not self.unseen

    @property
    def stops_reading(self) -> bool:
        """Whether reading is stopped now."""
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
        """Let the next `count` bytes of `flow` pass without being shown; None for all, permanently."""
        if count is None:
            self.viewer = None
        self.unseen = count is not None
        self._stretch = UNBOUND if count is None else count
        _bound(flow, self._stretch)

    def settle(self, flow: Bounded) -> int:
        """Show bytes again; return how many have passed without being shown since `pass_on`."""
        if not self.unseen:
            return 0
        passed = 0 if flow.allowance is None else self._stretch - flow.allowance.counted
        self.unseen = False
        _bound(flow, UNBOUND)
        return passed

    def stretch_passed(self, flow: Bounded, source: Stream) -> None:
        """The counted bytes have passed: call the viewer."""
        passed = self.settle(flow)
        if self.viewer is not None:
            self.viewer.passed(source, passed)


def _bound(flow: Bounded, count: int) -> None:
    allowance = flow.allowance
    if allowance is not None and (allowance.is_paced or count != UNBOUND):
        allowance.counted = count
    else:
        flow.allowance = None if count == UNBOUND else Allowance(count)
