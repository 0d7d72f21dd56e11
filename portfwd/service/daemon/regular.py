# -*- test-case-name: tests.service.daemon.test_reading -*-
"""
Regular files, read without waiting: for whoever reads a file that a rules file or an option names.

It refuses FIFOs, devices and sockets, which could be waited for without end. Only commands may read these,
since a shell makes pipes of ``<(...)``; they wait for `READ_TIMEOUT` seconds.
"""

from __future__ import annotations

import errno
import io
import os
import select
import stat
from typing import Any, BinaryIO, Final

#: Most bytes of a file that is no rules file: certificates of all authorities together have a megabyte.
MAX_SIZE: Final = 16 * 1024**2


#: Seconds for which a command waits for whoever writes to a pipe: programs that make rules need less.
READ_TIMEOUT: Final = 10.0


def _open(path: str) -> int:
    # Without O_NONBLOCK the opening of a FIFO waits for somebody who writes to it.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
    return os.open(path, flags | getattr(os, "O_CLOEXEC", 0))


def read_regular(path: str, max_size: int = MAX_SIZE) -> bytes:
    """
    The bytes of a regular file; one more than `max_size` if it has more.

    :raises OSError: it cannot be read, or is something else: a FIFO, a device, a socket, a directory.
    """
    with open(_open(path), "rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is not a regular file", path)
        return file.read(max_size + 1)


def open_any(path: str, timeout: float = READ_TIMEOUT) -> BinaryIO:
    """
    A file of any kind to be read: reading it raises `TimeoutError` after `timeout` seconds without a byte.

    :raises OSError: it cannot be opened, or is a directory.
    """
    descriptor = _open(path)
    if stat.S_ISDIR(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    return io.BufferedReader(_TimedReader(path, descriptor, timeout))


class _TimedReader(io.RawIOBase):
    """A descriptor that is waited for, but not without end."""

    def __init__(self, path: str, descriptor: int, timeout: float) -> None:
        self._path = path
        self._descriptor = descriptor
        self._timeout = timeout

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """See `io.RawIOBase`."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        if not poll.poll(self._timeout * 1000):
            silence = f"nobody has written to it for {self._timeout:g} seconds"
            raise TimeoutError(errno.ETIMEDOUT, silence, self._path)
        return os.readv(self._descriptor, [buffer])

    def close(self) -> None:
        """See `io.RawIOBase`."""
        if not self.closed:
            os.close(self._descriptor)
        super().close()
