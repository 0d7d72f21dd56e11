# -*- test-case-name: tests.kernel.test_usage -*-
"""How much memory and how many descriptors this process uses, and the return of freed memory."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from typing import Any, Final

#: The second number of this file is the resident memory of this process in pages (Linux, proc(5)).
STATM: Final = Path("/proc/self/statm")


def resident_bytes(statm: Path = STATM) -> int:
    """Resident memory of this process in bytes; 0 if this system does not tell it."""
    try:
        return int(statm.read_bytes().split()[1]) * os.sysconf("SC_PAGESIZE")
    except OSError:
        return 0


def lowest_free_descriptor() -> int:
    """
    The lowest free descriptor, which is at most the number of open ones.

    Descriptors that nobody closes fill all gaps, so the number grows with them, and reading it takes the same
    time for any number. If there is no free one, it is `sys.maxsize`.
    """
    try:
        free = os.dup(0)
    except OSError:
        return sys.maxsize
    os.close(free)
    return free


def return_free_memory(library: Any = None) -> None:
    """
    Return freed memory to the system by ``malloc_trim`` of glibc; do nothing where there is none.

    The allocator of glibc keeps freed memory, so `resident_bytes` would not show what a collection has freed.
    The call takes 0.1 ms for each MiB that it returns, and 8 ms in a process that had 700 MiB.

    :param library: the C library; that of this process unless given.
    """
    if library is None and sys.platform == "linux":
        library = ctypes.CDLL(None)
    trim = getattr(library, "malloc_trim", None)
    if trim is not None:
        trim(0)
