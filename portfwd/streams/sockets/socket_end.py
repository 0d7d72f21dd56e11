# -*- test-case-name: tests.streams.sockets.test_socket_flow -*-
"""The interface of a socket stream to its flows."""

from __future__ import annotations

import socket
from typing import Protocol

from twisted.python.failure import Failure

from portfwd.streams.stream import Stream
from portfwd.values import Side


class ReverseFlow(Protocol):
    """The interface of a flow to the flow in the opposite direction."""

    @property
    def is_showing(self) -> bool:
        """Whether its viewer is being called."""

    def wait_for_answer(self) -> None:
        """Stop reading until the source has accepted its answers."""

    def read_on(self) -> None:
        """The source has accepted its answers."""


class NotConnected:
    """
    A placeholder for a stream that is not connected yet. It neither provides nor accepts bytes.

    It has only the attributes that a flow uses.
    """

    __slots__ = ("first_at", "moved_at")

    side = Side.UPSTREAM
    is_connected = False
    lost = write_broken = read_ended = dead = more = False
    readable = writable = end_asked = False
    descriptor = -1
    source = None

    def __init__(self) -> None:
        self.moved_at = 0.0
        self.first_at: float | None = None

    def __repr__(self) -> str:
        return "<NotConnected>"

    def written_out(self) -> None:
        """Do nothing."""


class SocketEnd(Stream, Protocol):
    """
    One end of a flow; see `portfwd.streams.sockets.socket_stream.SocketStream` for the members.

    The flow sets `readable`, `writable`, `gone`, `moved_at` and `first_at`.
    """

    socket: socket.socket
    descriptor: int
    readable: bool
    writable: bool
    more: int
    dead: bool
    gone: int
    read_ended: bool
    write_broken: bool
    end_asked: bool
    end_out: bool
    lost: bool

    @property
    def is_connected(self) -> bool:
        """Whether there is a socket. False before the upstream is connected."""

    @property
    def source(self) -> ReverseFlow | None:
        """The flow from this stream, after it is joined."""

    def read_failed(self, problem: OSError) -> None:
        """A read failed."""

    def read_nothing(self) -> None:
        """A read returned no bytes."""

    def thrown_away(self, count: int) -> None:
        """Bytes were read and dropped."""

    def break_writing(self, code: int) -> None:
        """A write failed."""

    def written_out(self) -> None:
        """No bytes are kept for this end any more."""

    def push(self) -> None:
        """Send bytes that were held back to be sent together with an end."""

    def look_for_death(self) -> None:
        """Report that the peer accepts no more, unless reading will report the cause."""

    def failed(self, failure: Failure) -> None:
        """The flow raised an exception."""
