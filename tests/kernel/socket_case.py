"""A test case with real sockets."""

from __future__ import annotations

import socket
from typing import Any

from twisted.trial import unittest

from tests.streams.far_ends import tcp_sockets


class SocketCase(unittest.SynchronousTestCase):
    """Sockets that are closed afterwards."""

    def socket(self, family: int = socket.AF_INET) -> socket.socket:
        """A stream socket."""
        sock = socket.socket(family)
        self.addCleanup(sock.close)
        return sock

    def pair(self, **options: Any) -> tuple[socket.socket, socket.socket]:
        """Two connected TCP sockets."""
        pair = tcp_sockets(**options)
        for sock in pair:
            self.addCleanup(sock.close)
        return pair
