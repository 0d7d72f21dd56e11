# -*- test-case-name: tests.listen.test_held_datagrams -*-
"""
The queue of datagrams that new clients send while their rule is paused.

A datagram socket has no backlog. Its one queue holds the datagrams of associations, which go on, and those of
new clients, which wait. So the listener reads all of them and keeps the latter here. The queue is bounded as
the receive buffer of the socket is. A datagram that does not fit is dropped, as the kernel drops it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

from attrs import frozen

from portfwd.kernel.datagrams import Ancillary
from portfwd.listen.datagram_client import SocketAddress

#: Bytes that each datagram counts besides its own: about what its objects take.
OVERHEAD: Final = 512

Owner = TypeVar("Owner")


@frozen
class HeldDatagram(Generic[Owner]):
    """
    A datagram of a new client.

    :ivar owner: the listener that has read it, and that sends the answers.
    :ivar key: the client in the table of that listener.
    :ivar sockaddr: where answers go.
    :ivar ancillary: makes answers leave from the address that the client sent to.
    """

    owner: Owner
    key: Hashable
    sockaddr: SocketAddress
    ancillary: Ancillary
    data: bytes


class HeldDatagrams(Generic[Owner]):
    """
    They, oldest first.

    :ivar dropped: datagrams for which there was no room.
    """

    def __init__(self) -> None:
        self._queue: deque[HeldDatagram[Owner]] = deque()
        self._size = 0
        self.dropped = 0

    def __repr__(self) -> str:
        return f"<HeldDatagrams {len(self._queue)} of {self._size} bytes, {self.dropped} dropped>"

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, datagram: HeldDatagram[Owner], most: int) -> bool:
        """
        Keep it, unless the queue is full.

        :param most: bytes of the queue, each datagram with `OVERHEAD`.
        """
        size = len(datagram.data) + OVERHEAD
        if self._size + size > most:
            self.dropped += 1
            return False
        self._size += size
        self._queue.append(datagram)
        return True

    def take(self) -> HeldDatagram[Owner] | None:
        """The oldest; None if there is none."""
        if not self._queue:
            return None
        datagram = self._queue.popleft()
        self._size -= len(datagram.data) + OVERHEAD
        return datagram

    def clear(self) -> None:
        """Drop all of them."""
        self.dropped += len(self._queue)
        self._queue.clear()
        self._size = 0
