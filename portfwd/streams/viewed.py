# -*- test-case-name: tests.streams.sockets.test_watched,tests.streams.transports.test_watched_transport -*-
"""
Passes requests of a viewer to the flows of a stream, for sockets and transports.

A stream without a viewer has a flow only after it is joined. Before that there is nothing to request.
"""

from __future__ import annotations

from typing import Protocol

from portfwd.streams.stream import Viewer
from portfwd.values import Address


class ViewedFlow(Protocol):
    """The requests to a flow; see `portfwd.streams.stream.Watched`."""

    def pass_on(self, count: int | None) -> None:
        """Move the next `count` bytes without showing them; None for all."""

    def show(self, viewer: Viewer) -> None:
        """Show all further bytes to `viewer`."""

    def settle(self) -> int:
        """Show bytes again; return how many have passed without being shown."""

    def hold(self) -> None:
        """Stop reading."""

    def go_on(self) -> None:
        """Read again."""

    def go_as(self, client: Address) -> None:
        """Apply the limits of `client` from now on."""


class ViewedStream:
    """
    The requests.

    :ivar source: the flow from this stream, after it is joined or watched.
    :ivar drain: the flow to this stream.
    """

    __slots__ = ()

    source: ViewedFlow | None
    drain: ViewedFlow | None

    def pass_on(self, count: int | None) -> None:
        """Move the next `count` bytes of this stream without showing them; None for all."""
        if self.source is not None:
            self.source.pass_on(count)

    def settle(self) -> int:
        """Show bytes again; return how many were moved without being shown since `pass_on`."""
        return 0 if self.source is None else self.source.settle()

    def show(self, viewer: Viewer) -> None:
        """Show all further bytes to `viewer`, even if `pass_on` was called before."""
        if self.source is not None:
            self.source.show(viewer)

    def hold(self) -> None:
        """Stop reading until `go_on`."""
        if self.source is not None:
            self.source.hold()

    def go_on(self) -> None:
        """Read again."""
        if self.source is not None:
            self.source.go_on()

    def go_as(self, client: Address) -> None:
        """The client was announced as `client`: both directions count for that address."""
        for flow in (self.source, self.drain):
            if flow is not None:
                flow.go_as(client)
