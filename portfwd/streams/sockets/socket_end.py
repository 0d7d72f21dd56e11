# -*- test-case-name: tests.streams.sockets.test_socket_flow -*-
"""What a flow between two sockets reads, sets and calls of the streams at its ends."""

from __future__ import annotations

import socket
from typing import Protocol

from twisted.python.failure import Failure

from portfwd.streams.stream import Stream
from portfwd.values import Side


class ReverseFlow(Protocol):
    """The flow whose source is an end, as the flow that writes to that end knows it."""

    @property
    def is_showing(self) -> bool:
        """Whether a viewer is shown something of it just now."""

    def wait_for_answer(self) -> None:
        """Read nothing before the source has taken what it was answered."""

    def read_on(self) -> None:
        """The source has taken what it was answered."""


class NotConnected:
    """
    Stands for the stream that is not connected yet: it gives nothing, and takes nothing.

    It has what a flow looks at, and no more.
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
        """Nobody waits for it."""


class SocketEnd(Stream, Protocol):
    """
    One end of a flow; `portfwd.streams.sockets.socket_stream.SocketStream` says what each member means.

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
        """Whether there is a socket; False before there is an upstream."""

    @property
    def source(self) -> ReverseFlow | None:
        """The flow whose source this stream is, once joined."""

    def read_failed(self, problem: OSError) -> None:
        """A read had an error."""

    def read_nothing(self) -> None:
        """A read returned no bytes."""

    def thrown_away(self, count: int) -> None:
        """Bytes were read that go nowhere."""

    def break_writing(self, code: int) -> None:
        """A write had an error."""

    def written_out(self) -> None:
        """Nothing is kept for this end any more."""

    def push(self) -> None:
        """Let go what was held back for an end to leave with it."""

    def look_for_death(self) -> None:
        """Say that the peer takes no more, if reading does not find out."""

    def failed(self, failure: Failure) -> None:
        """Our own code failed."""
