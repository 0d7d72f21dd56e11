# -*- test-case-name: tests.listen.test_held_datagrams -*-
"""
The queue of datagrams of new clients while their rule is paused.

A datagram socket has no backlog. Its receive buffer holds both the datagrams of existing associations, which
continue, and those of new clients, which must wait. The listener therefore reads all of them and queues the
latter here. The queue has the size of the receive buffer. Datagrams that do not fit are dropped, as in the
kernel.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

from attrs import frozen

from portfwd.kernel.datagrams import Ancillary
from portfwd.listen.datagram_client import SocketAddress

#: Bytes added to the size of each datagram: the approximate memory of its objects.
OVERHEAD: Final = 512

Owner = TypeVar("Owner")


@frozen
class HeldDatagram(Generic[Owner]):
    """
    A datagram of a new client.

    :ivar owner: the listener that has read it and sends the answers.
    :ivar key: key of the client in the table of that listener.
    :ivar sockaddr: destination of answers.
    :ivar ancillary: control message that sets the source of answers to the address that the client has used.
    """

    owner: Owner
    key: Hashable
    sockaddr: SocketAddress
    ancillary: Ancillary
    data: bytes


class HeldDatagrams(Generic[Owner]):
    """
    The queue, oldest datagram first.

    :ivar dropped: number of datagrams that did not fit.
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
        Append a datagram, unless the queue is full.

        :param most: capacity in bytes; each datagram counts with `OVERHEAD`.
        """
        size = len(datagram.data) + OVERHEAD
        if self._size + size > most:
            self.dropped += 1
            return False
        self._size += size
        self._queue.append(datagram)
        return True

    def take(self) -> HeldDatagram[Owner] | None:
        """Take the oldest datagram; None if the queue is empty."""
        if not self._queue:
            return None
        datagram = self._queue.popleft()
        self._size -= len(datagram.data) + OVERHEAD
        return datagram

    def clear(self) -> None:
        """Drop all datagrams."""
        self.dropped += len(self._queue)
        self._queue.clear()
        self._size = 0
