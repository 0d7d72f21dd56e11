# -*- test-case-name: tests.cli.test_playing -*-
"""
Plays one side of a recorded session to a real peer, and compares the bytes of the peer with the record.

The chunks of the played side are sent again. Before each chunk, all bytes of the peer that precede it in the
record must have arrived. With a speed, the chunks also keep their times. Received bytes are compared at once,
and the first difference ends the replay.

It works on a connected stream socket, and neither connects nor prints.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from time import monotonic
from typing import Final

from attrs import frozen

from portfwd.logs.recording import RecordedSession
from portfwd.values import TO_CLIENT, TO_UPSTREAM, Side, counted

#: Default maximum silence of the peer in seconds while bytes of it are expected.
PATIENCE: Final = 10.0
#: Maximum seconds of one wait: poll(2) counts milliseconds in 32 bits, and a slow speed may need more.
_LONGEST: Final = 3600.0
#: Bytes per read, and maximum bytes of a difference that are shown.
_READ: Final = 65536
SHOWN: Final = 64


@frozen
class ReplayDifference:
    """
    The first difference between the bytes of the peer and the record.

    :ivar what: description in one line.
    :ivar offset: offset of the first byte of `then` and `now` in the bytes of the peer.
    :ivar then: recorded bytes, from shortly before the difference.
    :ivar now: received bytes, from the same offset.
    """

    what: str
    offset: int = 0
    then: bytes = b""
    now: bytes = b""


@frozen
class ReplayOutcome:
    """
    The result of a replay.

    :ivar sent: number of bytes sent.
    :ivar received: number of bytes received.
    :ivar difference: the first difference; None if there is none.
    """

    sent: int
    received: int
    difference: ReplayDifference | None


class _Differs(Exception):
    """Ends the replay at a difference."""

    def __init__(self, difference: ReplayDifference) -> None:
        super().__init__(difference.what)
        self.difference = difference


class Play:
    """The replay of one session."""

    def __init__(
        self,
        sock: socket.socket,
        session: RecordedSession,
        side: Side,
        *,
        speed: float | None = 1.0,
        patience: float = PATIENCE,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """
        :param sock: a connected socket, which the caller closes.
        :param side: the side that is played.
        :param speed: factor of the recorded speed; None to send without waiting.
        :param patience: maximum silence in seconds while bytes are expected.
        """
        self._sock = sock
        self._chunks = session.chunks
        self._mine, theirs = (TO_UPSTREAM, TO_CLIENT) if side is Side.CLIENT else (TO_CLIENT, TO_UPSTREAM)
        self._compares = session.knows(theirs)
        self._expected = b"".join(chunk.data for chunk in self._chunks if chunk.direction is theirs)
        self._expects_end = any(chunk.end for chunk in self._chunks if chunk.direction is theirs)
        self._speed = speed
        self._patience = patience
        self._clock = clock
        self._sent = 0
        self._received = 0
        self._ended = False
        self._broken = ""  # the error after which nothing can be sent

    def run(self) -> ReplayOutcome:
        """Play the session to its end or to the first difference."""
        self._sock.setblocking(False)
        try:
            self._play()
        except _Differs as found:
            return ReplayOutcome(self._sent, self._received, found.difference)
        return ReplayOutcome(self._sent, self._received, None)

    def _play(self) -> None:
        began = self._clock()
        needed, needs_end = 0, False
        for chunk in self._chunks:
            if chunk.direction is not self._mine:
                needed += len(chunk.data)
                needs_end = needs_end or chunk.end
                continue
            self._receive(needed, needs_end)
            if self._speed is not None:
                self._pause(began + (chunk.at - self._chunks[0].at) / self._speed)
            if chunk.end:
                self._end()
            else:
                self._send(chunk.data)
        self._receive(len(self._expected), self._expects_end)

    # Sending

    def _send(self, data: bytes) -> None:
        rest = memoryview(data)
        silent_since = self._clock()
        while rest and not self._broken:
            self._wait(self._left(silent_since, "it takes no more bytes"), writing=True)
            try:
                count = self._sock.send(rest)
            except BlockingIOError:
                continue
            except OSError as error:
                self._broken = error.strerror or str(error)
                return
            self._sent += count
            rest = rest[count:]
            silent_since = self._clock()

    def _end(self) -> None:
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            self._broken = error.strerror or str(error)

    def _pause(self, until: float) -> None:
        """Receive until the time `until`."""
        while (left := until - self._clock()) > 0:
            self._wait(left)

    # Receiving

    def _receive(self, count: int, end: bool) -> None:
        """Wait until the peer has sent `count` bytes in total, and its end if `end` is true."""
        if not self._compares:
            return
        received = self._received
        silent_since = self._clock()
        while self._received < count or (end and not self._ended):
            if self._ended:
                self._differ(f"it ended after {counted(self._received, 'byte')}, not {len(self._expected)}")
            if self._received != received:
                received, silent_since = self._received, self._clock()
            missing = "more bytes" if self._received < count else "its end"
            self._wait(self._left(silent_since, f"{missing} did not come"))

    def _left(self, since: float, what: str) -> float:
        left = since + self._patience - self._clock()
        if left <= 0:
            self._differ(f"{what} within {self._patience:g} seconds, after {counted(self._received, 'byte')}")
        return left

    def _wait(self, timeout: float, *, writing: bool = False) -> None:
        """Wait until the socket is ready, and read the available bytes."""
        poll = select.poll()
        events = (0 if self._ended else select.POLLIN) | (select.POLLOUT if writing else 0)
        if events:
            poll.register(self._sock, events)
        # One millisecond more, so that the wait does not end a fraction of a millisecond early.
        ready = poll.poll(min(timeout, _LONGEST) * 1000 + 1)
        if not self._ended and any(happened & ~select.POLLOUT for _, happened in ready):
            self._read()

    def _read(self) -> None:
        try:
            data = self._sock.recv(_READ)
        except BlockingIOError:
            return
        except OSError as error:
            if self._compares and (self._received < len(self._expected) or self._expects_end):
                self._differ(
                    f"it broke the connection after {counted(self._received, 'byte')}: {error.strerror}"
                )
            self._ended = True
            return
        if not data:
            self._ended = True
            return
        start = self._received
        self._received += len(data)
        if self._compares and self._expected[start : start + len(data)] != data:
            then = self._expected[start:]
            same = next(
                (at for at, pair in enumerate(zip(then, data, strict=False)) if pair[0] != pair[1]), len(then)
            )
            where = start + same
            if same == len(then):
                what = f"it sent more than {counted(len(self._expected), 'byte')}"
            else:
                what = f"byte {where} has another value"
            first = max(0, where - where % 16 - 16)
            before = self._expected[first:start]
            self._differ(
                what, first, self._expected[first : first + SHOWN], (before + data)[max(0, first - start) :]
            )

    def _differ(self, what: str, offset: int = 0, then: bytes = b"", now: bytes = b"") -> None:
        raise _Differs(ReplayDifference(what, offset, then, now[:SHOWN]))
