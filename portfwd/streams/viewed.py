# -*- test-case-name: tests.streams.sockets.test_watched,tests.streams.transports.test_watched_transport -*-
"""
The part of a stream that hands what a viewer asks to the flows, the same for sockets and transports.

A stream that nobody watches has a flow only once it is joined; before that there is nothing to ask.
"""

from __future__ import annotations

from typing import Protocol

from portfwd.streams.stream import Viewer
from portfwd.values import Address


class ViewedFlow(Protocol):
    """What is asked of a flow; see `portfwd.streams.stream.Watched` for each request."""

    def pass_on(self, count: int | None) -> None:
        """Move the next `count` bytes unseen, None: all of them."""

    def show(self, viewer: Viewer) -> None:
        """Show what is read from here on to `viewer`."""

    def settle(self) -> int:
        """Show again; say how many bytes passed unseen."""

    def hold(self) -> None:
        """Read no more."""

    def go_on(self) -> None:
        """Read again."""

    def go_as(self, client: Address) -> None:
        """The limits of `client` hold from now on."""


class ViewedStream:
    """
    The requests.

    :ivar source: the flow whose source this stream is, once joined or watched.
    :ivar drain: the flow that writes here.
    """

    __slots__ = ()

    source: ViewedFlow | None
    drain: ViewedFlow | None

    def pass_on(self, count: int | None) -> None:
        """Move the next `count` bytes that are read here unseen, None: all of them."""
        if self.source is not None:
            self.source.pass_on(count)

    def settle(self) -> int:
        """Show again; say how many bytes were moved unseen since `pass_on`."""
        return 0 if self.source is None else self.source.settle()

    def show(self, viewer: Viewer) -> None:
        """Show what is read from here on to `viewer`, whatever `pass_on` said before."""
        if self.source is not None:
            self.source.show(viewer)

    def hold(self) -> None:
        """Read no more until `go_on`."""
        if self.source is not None:
            self.source.hold()

    def go_on(self) -> None:
        """Read again."""
        if self.source is not None:
            self.source.go_on()

    def go_as(self, client: Address) -> None:
        """The client turned out to be `client`: both directions count for that address."""
        for flow in (self.source, self.drain):
            if flow is not None:
                flow.go_as(client)
