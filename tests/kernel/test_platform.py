"""Tests for finding out what machine and reactor can do."""

from __future__ import annotations

import os
import select
import sys

from twisted.internet import reactor
from twisted.internet.task import Clock
from twisted.trial import unittest

from portfwd.kernel.platform import Platform, find_platform


class PlatformTests(unittest.SynchronousTestCase):
    """`find_platform` and what it finds."""

    def test_here(self) -> None:
        """A POSIX reactor watches our descriptors; the rest is what Python's modules have."""
        found = find_platform(reactor)
        self.assertTrue(found.own_sockets)
        self.assertEqual(found.epoll, hasattr(select, "epoll"))
        self.assertEqual(found.splice, hasattr(os, "splice") and found.epoll)

    def test_a_reactor_without_descriptors(self) -> None:
        """A reactor that watches none leaves nothing of our own; the log says so."""
        found = find_platform(Clock())
        self.assertEqual(found, Platform(own_sockets=False, epoll=False))
        self.assertEqual(len(found.missing()), 2)
        self.assertIn("Twisted's own", found.missing()[0])
        self.assertIn("idle limits", found.missing()[1])

    def test_windows(self) -> None:
        """There a failed connect is told in ways only Twisted knows."""
        self.patch(sys, "platform", "win32")
        self.assertFalse(find_platform(reactor).own_sockets)

    def test_what_is_missing(self) -> None:
        """Nothing is missing where everything is there; without splice bytes are copied."""
        self.assertEqual(Platform(own_sockets=True, epoll=True, splice=True).missing(), ())
        lines = Platform(own_sockets=True, epoll=True, splice=False).missing()
        self.assertEqual(len(lines), 1)
        self.assertIn("copied", lines[0])
