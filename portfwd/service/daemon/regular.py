# -*- test-case-name: tests.service.daemon.test_reading -*-
"""
Reads regular files without blocking, for all files that rules or options name.

`read_regular` refuses FIFOs, devices and sockets, because reading them may block without end. Only commands
read them, by `open_any`, because a shell makes pipes of ``<(...)``. They wait at most `READ_TIMEOUT` seconds.
"""

from __future__ import annotations

import errno
import io
import os
import select
import stat
from typing import Any, BinaryIO, Final

#: Maximum bytes of a file other than a rules file. The certificates of all authorities together need 1 MB.
MAX_SIZE: Final = 16 * 1024**2

#: Seconds for which a command waits for data from a pipe. Programs that generate rules need less.
READ_TIMEOUT: Final = 10.0


def _open(path: str) -> int:
    # Without O_NONBLOCK opening a FIFO waits for a writer.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
    return os.open(path, flags | getattr(os, "O_CLOEXEC", 0))


def read_regular(path: str, max_size: int = MAX_SIZE) -> bytes:
    """
    The bytes of a regular file; if it has more than `max_size`, the first ``max_size + 1`` bytes.

    :raises OSError: it cannot be read, or is a FIFO, a device, a socket or a directory, or has no data now.
    """
    with open(_open(path), "rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is not a regular file", path)
        data = file.read(max_size + 1)
    if data is None:  # as of /proc/kmsg, which is a regular file by its mode
        raise BlockingIOError(errno.EAGAIN, "it has no data now", path)
    return data


def open_any(path: str, timeout: float = READ_TIMEOUT) -> BinaryIO:
    """
    Open a file of any kind. Reading it raises `TimeoutError` after `timeout` seconds without data.

    :raises OSError: it cannot be opened, or is a directory.
    """
    descriptor = _open(path)
    if stat.S_ISDIR(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    return io.BufferedReader(_TimedReader(path, descriptor, timeout))


class _TimedReader(io.RawIOBase):
    """Reads a descriptor with a timeout."""

    def __init__(self, path: str, descriptor: int, timeout: float) -> None:
        self._path = path
        self._descriptor = descriptor
        self._timeout = timeout

    def readable(self) -> bool:
        """See `io.RawIOBase`."""
        return True

    def readinto(self, buffer: Any) -> int:
        """See `io.RawIOBase`."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        if not poll.poll(self._timeout * 1000):
            raise TimeoutError(errno.ETIMEDOUT, f"no data for {self._timeout:g} seconds", self._path)
        return os.readv(self._descriptor, [buffer])

    def close(self) -> None:
        """See `io.RawIOBase`."""
        if not self.closed:
            os.close(self._descriptor)
        super().close()
