"""Tests for `portfwd.kernel.usage`, with this process's own numbers."""

from __future__ import annotations

import mmap
import os
import resource
import sys
from pathlib import Path
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from portfwd.kernel.usage import lowest_free_descriptor, resident_bytes, return_free_memory

MIB = 1 << 20


class MemoryTests(SynchronousTestCase):
    """Resident memory."""

    def test_grows(self) -> None:
        """It grows by the pages that are written."""
        before = resident_bytes()
        with mmap.mmap(-1, 64 * MIB) as kept:  # new pages, which no allocator has kept
            kept.write(b"x" * (64 * MIB))
            self.assertGreater(resident_bytes(), before + 32 * MIB)

    def test_not_told(self) -> None:
        """Zero where the system does not tell it."""
        self.assertEqual(resident_bytes(Path(self.mktemp())), 0)

    def test_returned(self) -> None:
        """Freed memory between memory in use is returned, which the allocator does not do by itself."""
        pairs = [(bytearray(b"x") * 32768, bytearray(600)) for _ in range(4000)]
        kept = [small for _, small in pairs]
        pairs.clear()
        return_free_memory()
        before = resident_bytes()
        pairs = [(bytearray(b"x") * 32768, small) for small in kept]
        pairs.clear()
        return_free_memory()
        self.assertLess(resident_bytes(), before + 32 * MIB)

    def test_no_malloc_trim(self) -> None:
        """Another C library has no such function."""
        return_free_memory(object())
        library = mock.Mock()
        return_free_memory(library)
        library.malloc_trim.assert_called_once_with(0)


class DescriptorTests(SynchronousTestCase):
    """The lowest free descriptor."""

    def test_grows(self) -> None:
        """It grows by the descriptors that stay open."""
        before = lowest_free_descriptor()
        opened = [os.dup(2) for _ in range(50)]
        self.assertGreaterEqual(lowest_free_descriptor(), before + 50)
        for one in opened:
            os.close(one)
        self.assertEqual(lowest_free_descriptor(), before)

    def test_none_left(self) -> None:
        """Then it is more than any."""
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free_descriptor(), limits[1]))
        self.assertEqual(lowest_free_descriptor(), sys.maxsize)
