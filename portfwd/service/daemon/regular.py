# -*- test-case-name: tests.service.daemon.test_reading -*-
"""
Regular files, read without waiting: for whoever reads a file that a rules file or an option names.

It refuses FIFOs, devices and sockets, which could be waited for without end.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

#: Most bytes of a file that is no rules file: certificates of all authorities together have a megabyte.
MAX_SIZE: Final = 16 * 1024**2


def read_regular(path: str, max_size: int = MAX_SIZE) -> bytes:
    """
    The bytes of a regular file; one more than `max_size` if it has more.

    :raises OSError: it cannot be read, or is something else: a FIFO, a device, a socket, a directory.
    """
    # Without O_NONBLOCK the opening of a FIFO waits for somebody who writes to it.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
    with open(os.open(path, flags | getattr(os, "O_CLOEXEC", 0)), "rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is no regular file", path)
        return file.read(max_size + 1)
