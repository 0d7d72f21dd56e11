# -*- test-case-name: tests.relay.test_sink_files -*-
"""
Writes copies of bytes to a file without blocking the caller.

`SinkFile.write` appends a piece to a queue. A daemon thread opens the file with the first piece and writes
the queue. A slow, full or missing disk loses copies but takes neither memory nor time of a session: the queue
and the file are bounded, and pieces that do not fit are counted. A piece is written completely or, at the
limit, not at all.

`portfwd.logs.writer` is for lines and differs: it opens before privileges are dropped, has no limit of the
file, and writes a note about missing lines. A copy has no format for such a note.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from time import monotonic
from typing import Final

from portfwd.logs.writer import open_log
from portfwd.values import counted

#: Seconds for which pieces are collected.
FLUSH_INTERVAL: Final = 0.25
#: Bytes that are written without waiting for the interval: a few reads of a busy session.
FLUSH_BYTES: Final = 256 * 1024
#: Most waiting bytes: 40 ms of ten gigabits a second, or minutes of a usual rule.
QUEUE_BYTES: Final = 8 * 1024 * 1024
#: Seconds before a file that could not be opened or written is tried again.
RETRY_INTERVAL: Final = 1.0
#: Seconds between two complaints.
COMPLAINT_INTERVAL: Final = 60.0


class SinkFile:
    """
    One file.

    :ivar path: its path.
    :ivar dropped: number of bytes that were not written.
    :ivar full: whether the file has reached its limit.
    """

    def __init__(
        self,
        path: str,
        limit: int,
        complain: Callable[[str], None],
        *,
        first: Callable[[], bytes] = bytes,
        last: Callable[[], bytes] = bytes,
        clock: Callable[[], float] = monotonic,
        flush_interval: float = FLUSH_INTERVAL,
        retry_interval: float = RETRY_INTERVAL,
        queue_bytes: int = QUEUE_BYTES,
    ) -> None:
        """
        Does not open the file yet.

        :param limit: size limit of the file in bytes, including its previous contents.
        :param complain: called with one line about a problem, at most once in `COMPLAINT_INTERVAL`, in any
            thread.
        :param first: bytes to write after opening the file.
        :param last: bytes to write when it is full. Room is reserved for them.
        :param clock: returns monotonic seconds.
        """
        self.path = path
        self.dropped = 0
        self.full = False
        self._limit = limit
        self._complain = complain
        self._first = first
        self._last = last
        self._clock = clock
        self._flush_interval = flush_interval
        self._retry_interval = retry_interval
        self._queue_bytes = queue_bytes
        self._next_complaint = clock()
        self._thread: threading.Thread | None = None
        self._changed = threading.Condition(threading.Lock())
        # The following attributes are guarded by the condition's lock.
        self._queue: list[bytes] = []
        self._waiting = 0  # bytes in _queue
        self._writing = 0  # bytes that the thread has taken and not written yet
        self._urgent = False  # do not collect, and try again at once
        self._reopening = False
        self._closing = False
        # The following attributes belong to the thread.
        self._descriptor: int | None = None
        self._size = 0

    def __repr__(self) -> str:
        state = "full" if self.full else f"{self._waiting + self._writing} bytes waiting"
        return f"<SinkFile {self.path}: {state}, {self.dropped} bytes dropped>"

    def write(self, data: bytes) -> bool:
        """Queue `data`. False if it was dropped."""
        with self._changed:
            if self._closing or self.full or self._waiting + self._writing + len(data) > self._queue_bytes:
                self.dropped += len(data)
                trouble = "" if self.full or self._closing else "copies come faster than they can be written"
                taken = False
            else:
                self._queue.append(data)
                self._waiting += len(data)
                trouble = ""
                taken = True
                if self._waiting == len(data) or self._waiting >= FLUSH_BYTES:
                    self._wake()
        if trouble:
            self._say(trouble)
        return taken

    def reopen(self) -> None:
        """Open the path again, after the file was renamed. A full file is not full any more then."""
        with self._changed:
            self._reopening = self._urgent = True
            self.full = False
            if self._thread is not None:
                self._wake()

    def flush(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds until the queue is written; return whether it is."""
        with self._changed:
            self._urgent = True
            if self._thread is not None:
                self._wake()
            return self._changed.wait_for(lambda: not self._waiting and not self._writing, timeout)

    def close(self, timeout: float) -> bool:
        """
        Write the queue and close the file. Later pieces are dropped.

        :param timeout: seconds to wait. If the disk blocks, the thread stays; it is a daemon thread.
        :returns: whether the thread has finished.
        """
        with self._changed:
            self._closing = self._urgent = True
            thread = self._thread
            if thread is not None:
                self._wake()
        if thread is None:
            return True
        thread.join(timeout)
        return not thread.is_alive()

    def _wake(self) -> None:
        """Start or notify the thread. The lock must be held."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="portfwd-sink", daemon=True)
            self._thread.start()
        else:
            self._changed.notify_all()

    def _say(self, trouble: str) -> None:
        """Complain if enough time has passed. The lock must not be held."""
        with self._changed:
            now = self._clock()
            if now < self._next_complaint:
                return
            self._next_complaint = now + COMPLAINT_INTERVAL
        self._complain(f"{self.path}: {trouble}; {counted(self.dropped, 'byte')} dropped so far")

    # The following methods run in the thread.

    def _run(self) -> None:
        """Write until closed. `rest` is not written yet."""
        rest = b""
        stuck = False
        while True:
            with self._changed:
                if stuck:
                    self._changed.wait_for(lambda: self._urgent, self._retry_interval)
                else:
                    self._changed.wait_for(lambda: self._waiting or self._urgent)
                    self._changed.wait_for(
                        lambda: self._waiting >= FLUSH_BYTES or self._urgent, self._flush_interval
                    )
                closing, reopening = self._closing, self._reopening
                self._urgent = self._reopening = False
            if reopening:
                rest = self._leave(rest)
            stuck = not self._open()
            if not stuck:
                rest = rest or self._take()
                rest = rest[self._put(rest) :]
                stuck = bool(rest)
            with self._changed:
                self._writing = len(rest)
                if closing and (stuck or not self._queue):
                    self.dropped += self._waiting + len(rest)
                    self._queue, self._waiting, self._writing = [], 0, 0
                    self._changed.notify_all()
                    break
                self._urgent = self._urgent or closing
                self._changed.notify_all()
        self._shut()

    def _open(self) -> bool:
        """Open the file if it is closed; return whether it is open."""
        if self._descriptor is not None:
            return True
        try:
            self._descriptor = open_log(self.path)
            self._size = os.fstat(self._descriptor).st_size
        except OSError as error:
            self._say(f"cannot be opened: {error.strerror}")
            return False
        with self._changed:
            self._queue.insert(0, self._first())
            self._waiting += len(self._queue[0])
        return True

    def _take(self) -> bytes:
        """Take the waiting pieces that fit into the file."""
        pieces = []
        filled = False
        with self._changed:
            last = self._last()
            for piece in self._queue:
                if self.full or self._size + len(piece) + len(last) > self._limit:
                    self.dropped += len(piece)
                    if not self.full:
                        self.full = filled = True
                        if self._size + len(last) <= self._limit:
                            pieces.append(last)
                            self._size += len(last)
                else:
                    pieces.append(piece)
                    self._size += len(piece)
            self._queue, self._waiting = [], 0
            taken = b"".join(pieces)
            self._writing = len(taken)
        if filled:
            self._say(
                f"has reached its limit of {counted(self._limit, 'byte')}: move it away, or raise limit="
            )
        return taken

    def _put(self, data: bytes) -> int:
        """Write; return the number of written bytes."""
        assert self._descriptor is not None
        view = memoryview(data)
        done = 0
        try:
            while done < len(data):
                done += os.write(self._descriptor, view[done:])
        except OSError as error:
            self._say(f"cannot be written: {error.strerror}")
        return done

    def _leave(self, rest: bytes) -> bytes:
        """Close the file after one more try for its unwritten bytes, which must not go to the next file."""
        if rest and self._descriptor is not None:
            lost = len(rest) - self._put(rest)
            with self._changed:
                self.dropped += lost
                self._writing = 0
        self._shut()
        return b""

    def _shut(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
