# -*- test-case-name: tests.wire.test_reading -*-
"""
The results of readers: a value, a request for more bytes, or an error.

Every reader in this folder is a function of all bytes received so far and keeps no state. The caller buffers
the bytes, so one place stores them and one limit bounds them.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from attrs import frozen

Value = TypeVar("Value")


class WireError(ValueError):
    """
    The bytes violate the protocol; more bytes cannot change that.

    The text is for the log. It says what was expected and never contains bytes of the peer.
    """


class TooLong(WireError):
    """The message exceeds a limit of the reader; it may be well-formed."""


@frozen
class Need:
    """
    More bytes are required.

    :ivar total: minimum number of bytes, counted from the first one, for the next call of the reader.
    """

    total: int


@frozen
class Read(Generic[Value]):
    """
    A complete value.

    :ivar used: number of bytes of the message. The bytes after it are not part of it.
    """

    value: Value
    used: int


def complete(answer: Need | Read[Value]) -> Read[Value] | None:
    """Return the value that was read; None if more bytes are required."""
    return None if isinstance(answer, Need) else answer


class Span:
    """
    A structure whose length is known, read from its start.

    The structure is complete, so missing bytes are an error and not a reason to wait for more.
    """

    __slots__ = ("_data", "_position", "_what")

    def __init__(self, data: bytes, what: str) -> None:
        self._data = data
        self._position = 0
        self._what = what

    def __bool__(self) -> bool:
        """Whether bytes are left."""
        return self._position < len(self._data)

    def take(self, count: int) -> bytes:
        """
        Take the next `count` bytes.

        :raises WireError: there are fewer.
        """
        start, self._position = self._position, self._position + count
        if self._position > len(self._data):
            raise WireError(f"{self._what} ends before its fields do")
        return self._data[start : self._position]

    def number(self, size: int) -> int:
        """Take a number of `size` bytes in network byte order."""
        return int.from_bytes(self.take(size), "big")

    def span(self, size: int) -> Span:
        """Take a length field of `size` bytes and as many bytes as it says."""
        return Span(self.take(self.number(size)), self._what)

    def rest(self) -> bytes:
        """Take all remaining bytes."""
        start, self._position = self._position, len(self._data)
        return self._data[start:]

    def finish(self) -> None:
        """
        Check that no bytes are left.

        :raises WireError: bytes are left.
        """
        if self:
            raise WireError(f"{self._what} has bytes behind its end")
