"""A disk without space, for those who write in threads."""

from __future__ import annotations

import errno
import os
import threading
from typing import Any


class FakeOs:
    """The `os` module with a ``write`` that takes some bytes and then has no space until there is room."""

    def __init__(self, taken: int) -> None:
        self.taken = taken
        self.room = threading.Event()
        self.full = threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def write(self, descriptor: int, data: bytes) -> int:
        if self.room.is_set():
            return os.write(descriptor, data)
        if self.taken:
            count, self.taken = self.taken, 0
            return os.write(descriptor, data[:count])
        self.full.set()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
