# -*- test-case-name: tests.cli.test_playing -*-
"""
Plays one side of a recorded session to a real peer, and sees whether the peer says the same.

What the played side sent is sent again, in the same pieces. Before each piece everything has
to have come that had come before it in the record: an answer is never sent before its question. With a
speed the pieces also keep their times. What comes is compared as it comes; it stops at the first
byte that is another one.

It is for streams: a connected socket is handed in. It neither connects nor prints.
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

#: Seconds for which the peer may be silent while something of it is awaited, unless said otherwise.
PATIENCE: Final = 10.0
#: Seconds that are waited at once: poll(2) counts milliseconds in 32 bits, a slow speed may need more.
_LONGEST: Final = 3600.0
#: Bytes read at once, and bytes of a difference that are shown.
_READ: Final = 65536
SHOWN: Final = 64


@frozen
class ReplayDifference:
    """
    Where the peer did not say what it said then.

    :ivar what: one line.
    :ivar offset: of the first byte in `then` and `now`, among those that the peer sent.
    :ivar then: what was recorded from a little before the difference on.
    :ivar now: what came, from the same place on.
    """

    what: str
    offset: int = 0
    then: bytes = b""
    now: bytes = b""


@frozen
class ReplayOutcome:
    """
    What came of playing.

    :ivar sent: bytes that were sent.
    :ivar received: bytes that came, as far as they were looked at.
    :ivar difference: None: the peer said the same.
    """

    sent: int
    received: int
    difference: ReplayDifference | None


class _Differs(Exception):
    """It is over."""

    def __init__(self, difference: ReplayDifference) -> None:
        super().__init__(difference.what)
        self.difference = difference


class Play:
    """One session being played."""

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
        :param sock: connected; closed by whoever made it.
        :param side: the side that is played.
        :param speed: how many times as fast as it was; None: without waiting.
        :param patience: seconds of silence while something is awaited.
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
        self._broken = ""  # why nothing can be sent any more

    def run(self) -> ReplayOutcome:
        """Play it to its end, or to the first difference."""
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
            self._hear(needed, needs_end)
            if self._speed is not None:
                self._pause(began + (chunk.at - self._chunks[0].at) / self._speed)
            if chunk.end:
                self._end()
            else:
                self._send(chunk.data)
        self._hear(len(self._expected), self._expects_end)

    # Sending

    def _send(self, data: bytes) -> None:
        rest = memoryview(data)
        silent_since = self._clock()
        while rest and not self._broken:
            self._turn(self._left(silent_since, "it takes no more bytes"), writing=True)
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
        """Look at what comes until it is time."""
        while (left := until - self._clock()) > 0:
            self._turn(left)

    # Hearing

    def _hear(self, count: int, end: bool) -> None:
        """Wait until the peer has said so much."""
        if not self._compares:
            return
        heard = self._received
        silent_since = self._clock()
        while self._received < count or (end and not self._ended):
            if self._ended:
                self._differ(f"it ended after {counted(self._received, 'byte')}, not {len(self._expected)}")
            if self._received != heard:
                heard, silent_since = self._received, self._clock()
            missing = "more bytes" if self._received < count else "its end"
            self._turn(self._left(silent_since, f"{missing} did not come"))

    def _left(self, since: float, what: str) -> float:
        left = since + self._patience - self._clock()
        if left <= 0:
            self._differ(f"{what} within {self._patience:g} seconds, after {counted(self._received, 'byte')}")
        return left

    def _turn(self, timeout: float, *, writing: bool = False) -> None:
        """Wait until something can be done, and read what is there."""
        poll = select.poll()
        events = (0 if self._ended else select.POLLIN) | (select.POLLOUT if writing else 0)
        if events:
            poll.register(self._sock, events)
        # A millisecond more, so that what is waited for is not missed by a fraction of one.
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
                what = f"byte {where} is another one"
            first = max(0, where - where % 16 - 16)
            before = self._expected[first:start]
            self._differ(
                what, first, self._expected[first : first + SHOWN], (before + data)[max(0, first - start) :]
            )

    def _differ(self, what: str, offset: int = 0, then: bytes = b"", now: bytes = b"") -> None:
        raise _Differs(ReplayDifference(what, offset, then, now[:SHOWN]))
