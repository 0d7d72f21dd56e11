# -*- test-case-name: tests.logs.test_writer -*-
"""
Writes lines to a file in batches without blocking the caller.

`LineWriter.write` appends a line to a queue, which takes about one microsecond. A daemon thread writes the
queue to the file every `FLUSH_INTERVAL` seconds, or when `FLUSH_BYTES` are waiting. The first line after a
pause and a full batch wake the thread; other lines do not.

A full disk, or a pipe that is not read or has no reader, loses lines but does not block or take memory: the
queue is bounded (`QUEUE_BYTES`), and lines that do not fit are counted. A line with their number is written
as soon as there is room. Writes that fail are repeated; no line is lost or torn by that.

The constructor opens the file, so errors occur where its name was read and before privileges are dropped. The
thread starts with the first line, because threads do not survive a fork: write nothing before daemonising.
"""

from __future__ import annotations

import os
import select
import stat
import threading
from collections.abc import Callable
from time import monotonic
from typing import BinaryIO, Final

from portfwd.logs.rotation import rotate
from portfwd.values import counted

#: Seconds for which lines are collected. A reader of the log would notice a longer delay.
FLUSH_INTERVAL: Final = 0.25
#: Bytes that are written without waiting for the interval: the default size of a pipe.
FLUSH_BYTES: Final = 65536
#: Most bytes in the queue, including those being written: the lines of some seconds of a busy relay.
QUEUE_BYTES: Final = 4 * 1024 * 1024
#: Seconds before a failed write is repeated, and between two complaints.
RETRY_INTERVAL: Final = 1.0
#: The log contains addresses of clients, so other users cannot read it.
FILE_MODE: Final = 0o640


def _dropped(count: int) -> str:
    return f"# {counted(count, 'line')} dropped"


def _are_lost(count: int) -> str:
    return f"{counted(count, 'line')} {'was' if count == 1 else 'were'} lost"


def open_log(path: str) -> int:
    """
    Open a file for appending. A new file has the mode `FILE_MODE`, regardless of the umask.

    A named pipe without a reader is an error (``ENXIO``).

    :returns: a blocking descriptor.
    :raises OSError: the file cannot be opened for writing.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    try:
        descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, FILE_MODE)
    except FileExistsError:
        # Another process may have removed the file meanwhile.
        descriptor = os.open(path, flags | os.O_CREAT, FILE_MODE)
    else:
        # A daemon's umask would keep those who ship logs from reading what was made after a rotation.
        os.fchmod(descriptor, FILE_MODE)
    os.set_blocking(descriptor, True)
    return descriptor


class LineWriter:
    """
    Writes lines to one file.

    :ivar name: the path, or another name for messages.
    :ivar dropped: number of lines lost so far because the queue was full or the writer closed.
    """

    def __init__(
        self,
        target: str | BinaryIO,
        complain: Callable[[str], None],
        *,
        dropped_line: Callable[[int], str] = _dropped,
        clock: Callable[[], float] = monotonic,
        flush_interval: float = FLUSH_INTERVAL,
        retry_interval: float = RETRY_INTERVAL,
        queue_bytes: int = QUEUE_BYTES,
        rotate_bytes: int = 0,
        held: bool = False,
        drops_are_news: bool = True,
    ) -> None:
        """
        Open the file. The thread starts later.

        :param target: a path, or an open binary file with a descriptor (standard output). An open file is
            flushed, its descriptor is written to, and it stays open after `close`.
        :param complain: called with one line about a problem, at most once in `retry_interval` seconds, in
            the thread of the writer or of a caller of `write`.
        :param dropped_line: formats the line with the number of dropped lines.
        :param clock: monotonic seconds.
        :param rotate_bytes: size at which the file is rotated (`portfwd.logs.rotation`); `reopen` rotates it
            too. 0: never rotate.
        :param held: write nothing before `begin` is called.
        :param drops_are_news: whether to call `complain` when lines are dropped, or lost by `close`.
        :raises OSError: the path cannot be opened.
        """
        if isinstance(target, str):
            self.name = self._path = target
            self._descriptor = open_log(target)
        else:
            target.flush()
            self.name = str(getattr(target, "name", target))
            self._path = ""
            self._descriptor = target.fileno()
        self._target = target  # kept, or an open file's descriptor would be closed with it
        self._complain = complain
        self._dropped_line = dropped_line
        self._clock = clock
        self._flush_interval = flush_interval
        self._retry_interval = retry_interval
        self._queue_bytes = queue_bytes
        self._rotate_bytes = rotate_bytes
        self._held = held
        self._drops_are_news = drops_are_news
        self._thread: threading.Thread | None = None
        self._changed = threading.Condition(threading.Lock())
        # All below is guarded by the condition's lock.
        self._lines: list[bytes] = []
        self._waiting = 0  # bytes in _lines
        self._writing = 0  # bytes that the thread has taken and not written yet
        self._writing_lines = 0  # the lines in them, without the line with the number of dropped ones
        self._idle = True  # the thread sleeps until it is notified
        self._full = False  # enough has been collected
        self._urgent = False  # somebody waits: do not collect, and try again at once
        self._reopens_wanted = 0
        self._reopens_done = 0
        self._closing = False
        self._unreported = 0  # dropped lines that the file does not tell of yet
        self._next_complaint = clock()
        self._lost_at_close = 0
        self.dropped = 0

    def write(self, line: str) -> None:
        """Queue `line`, given without a line end. If the queue is full, the line is dropped and counted."""
        data = line.encode("utf-8", "backslashreplace") + b"\n"
        with self._changed:
            waiting = self._waiting + len(data)
            if self._closing or waiting + self._writing > self._queue_bytes:
                self.dropped += 1
                self._unreported += 1
                trouble = self._drops_are_news and self._may_complain()
            else:
                self._lines.append(data)
                self._waiting = waiting
                trouble = False
                if self._idle:
                    self._idle = False
                    self._wake()
                elif waiting >= FLUSH_BYTES and not self._full:
                    self._full = True
                    self._changed.notify_all()
        if trouble:
            self._complain(f"{self.name}: lines come faster than they can be written, {self.dropped} dropped")

    def begin(self) -> None:
        """Write the held lines and all later ones."""
        with self._changed:
            self._held = False
            if self._lines or self._reopens_wanted != self._reopens_done:
                self._order()

    def reopen(self) -> None:
        """
        Open the path again, after the file was renamed. Waiting lines may go to either file.

        The thread does this. If the path cannot be opened, the old file stays in use, with a complaint. This
        has no effect if the target was given as an open file.
        """
        with self._changed:
            if self._path and not self._closing:
                self._reopens_wanted += 1
                self._order()

    def flush(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds until all lines so far are written; return whether they are."""
        with self._changed:
            if not self._settled():
                self._order()
            return self._changed.wait_for(self._settled, timeout)

    def close(self, timeout: float) -> bool:
        """
        Write the waiting lines, and close the file if the constructor opened it. Later lines are dropped.
        `complain` is told how many lines are lost, because the file cannot tell it.

        :param timeout: seconds to wait. If the file blocks, its thread stays; it is a daemon thread and ends
            with the process.
        :returns: whether all lines were written.
        """
        with self._changed:
            first, self._closing = not self._closing, True
            self._held = False
            if self._thread is not None or self._lines:
                self._order()
            thread = self._thread
        if thread is None:
            if first:
                self._close_descriptor()
            return True
        thread.join(timeout)
        if not thread.is_alive():
            return not self._lost_at_close
        with self._changed:
            left = self._writing_lines + len(self._lines)
        if left and timeout and self._drops_are_news:
            self._complain(f"{self.name}: {_are_lost(left)}, because nothing reads them")
        return False

    def __repr__(self) -> str:
        waiting = self._waiting + self._writing
        return f"<LineWriter {self.name}: {waiting} bytes waiting, {self.dropped} lines dropped>"

    def _settled(self) -> bool:
        """Whether the thread has nothing to do. The lock must be held."""
        return not self._waiting and not self._writing and self._reopens_done == self._reopens_wanted

    def _order(self) -> None:
        """Make the thread write at once. The lock must be held."""
        self._idle = False
        self._urgent = True
        self._wake()

    def _wake(self) -> None:
        """Start or notify the thread. The lock must be held."""
        if self._held:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="portfwd-log", daemon=True)
            self._thread.start()
        else:
            self._changed.notify_all()

    def _may_complain(self) -> bool:
        """Whether enough time has passed since the last complaint. The lock must be held."""
        now = self._clock()
        if now < self._next_complaint:
            return False
        self._next_complaint = now + self._retry_interval
        return True

    # What follows runs in the thread.

    def _run(self) -> None:
        """Write batches until closed. `batch` from `done` on is not written yet."""
        batch, done = b"", 0
        while True:
            with self._changed:
                if done < len(batch):
                    self._changed.wait_for(lambda: self._urgent, self._retry_interval)
                else:
                    self._changed.wait_for(lambda: not self._idle)
                    self._changed.wait_for(lambda: self._full or self._urgent, self._flush_interval)
                    batch, done = self._take(), 0
                self._urgent = False
                reopens = self._reopens_wanted
            done += self._put(batch, done)
            if reopens != self._reopens_done and self._open_again() and done < len(batch):
                # The new file begins with a whole line.
                done = batch.rfind(b"\n", 0, done) + 1
                done += self._put(batch, done)
            elif self._rotate_bytes and done == len(batch) and self._is_large():
                self._open_again()
            with self._changed:
                self._reopens_done = reopens
                self._writing = len(batch) - done
                self._writing_lines = min(self._writing_lines, batch.count(b"\n", done))
                if self._closing and (self._writing or not self._lines):
                    self._give_up(batch[done:])
                    break
                self._idle = not (self._writing or self._lines or self._unreported or self._urgent)
                self._changed.notify_all()
        if self._lost_at_close and self._drops_are_news:
            self._complain(f"{self.name}: {_are_lost(self._lost_at_close)}, because it could not be written")
        self._close_descriptor()

    def _take(self) -> bytes:
        """Take all waiting lines, and a line with the number of dropped ones. The lock must be held."""
        lines, self._lines = self._lines, []
        self._writing_lines = len(lines)
        if self._unreported:
            lines.append(self._dropped_line(self._unreported).encode("utf-8", "backslashreplace") + b"\n")
            self._unreported = 0
        batch = b"".join(lines)
        self._waiting, self._writing, self._full = 0, len(batch), False
        return batch

    def _put(self, batch: bytes, start: int) -> int:
        """Write `batch` from `start` on; return the position up to which it is written."""
        view = memoryview(batch)
        done = start
        try:
            while done < len(batch):
                try:
                    done += os.write(self._descriptor, view[done:])
                except BlockingIOError:
                    # Standard output may be a pipe that another process made non-blocking.
                    if not self._wait_for_room():
                        break
        except OSError as error:
            with self._changed:
                trouble = self._may_complain()
            if trouble:
                lost = counted(self.dropped, "line")
                self._complain(f"cannot write {self.name}: {error.strerror}, {lost} dropped so far")
        return done - start

    def _wait_for_room(self) -> bool:
        """Wait at most the retry interval until a non-blocking descriptor is writable."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        return bool(poll.poll(self._retry_interval * 1000))

    def _is_large(self) -> bool:
        """Whether the file must be rotated."""
        return os.fstat(self._descriptor).st_size >= self._rotate_bytes

    def _is_there(self) -> bool:
        """Whether the path is still the open file, and no device. False if another process has renamed it."""
        try:
            found = os.stat(self._path)
        except FileNotFoundError:
            return False
        return stat.S_ISREG(found.st_mode) and os.path.samestat(found, os.fstat(self._descriptor))

    def _open_again(self) -> bool:
        """Change to a newly opened file; return whether it could be opened."""
        try:
            if self._rotate_bytes and self._is_there():
                rotate(self._path)
            descriptor = open_log(self._path)
        except OSError as error:
            self._complain(f"cannot reopen {self.name}: {error.strerror}; the old file stays in use")
            return False
        self._close_descriptor()
        self._descriptor = descriptor
        return True

    def _give_up(self, rest: bytes) -> None:
        """Count the lines that are lost by closing the writer. The lock must be held."""
        self._lost_at_close = (self._writing_lines if rest else 0) + len(self._lines)
        self.dropped += self._lost_at_close
        self._lines = []
        self._waiting = self._writing = self._writing_lines = 0
        self._changed.notify_all()

    def _close_descriptor(self) -> None:
        """Close the descriptor if the constructor opened it."""
        if self._path:
            os.close(self._descriptor)
