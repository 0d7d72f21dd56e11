# -*- test-case-name: tests.wire.test_reading -*-
"""
What a reader of bytes answers: a value, how much is still missing, or that this will never do.

Every reader of this room is a function of all bytes that came so far. It refuses
to remember: whoever calls it holds the bytes, so there is one limit for them and one place that has them.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from attrs import frozen

Value = TypeVar("Value")


class WireError(ValueError):
    """
    The bytes are not what they should be, and more of them will not help.

    The text is for the log: it says what was expected, and never repeats bytes of the peer.
    """


class TooLong(WireError):
    """What comes may be well-formed, but is longer than this reader takes."""


@frozen
class Need:
    """
    More bytes must come before anything can be said.

    :ivar total: the least number of bytes, in all, with which it is worth asking again.
    """

    total: int


@frozen
class Read(Generic[Value]):
    """
    A value, read completely.

    :ivar used: bytes it took, from the first on; what is behind them belongs to somebody else.
    """

    value: Value
    used: int


def complete(answer: Need | Read[Value]) -> Read[Value] | None:
    """What was read; None while more bytes must come."""
    return None if isinstance(answer, Need) else answer


class Span:
    """
    Bytes whose number is known, taken from the front.

    For structures within a length that was read before: running out of bytes
    is an error there and not a reason to wait.
    """

    __slots__ = ("_data", "_position", "_what")

    def __init__(self, data: bytes, what: str) -> None:
        self._data = data
        self._position = 0
        self._what = what

    def __bool__(self) -> bool:
        """Whether there is anything left."""
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
        """Take a number of `size` bytes, the highest first."""
        return int.from_bytes(self.take(size), "big")

    def span(self, size: int) -> Span:
        """Take a length of `size` bytes and as many bytes as it says."""
        return Span(self.take(self.number(size)), self._what)

    def rest(self) -> bytes:
        """Take all that is left."""
        start, self._position = self._position, len(self._data)
        return self._data[start:]

    def finish(self) -> None:
        """
        Say that nothing should be left.

        :raises WireError: something is.
        """
        if self:
            raise WireError(f"{self._what} has bytes behind its end")
