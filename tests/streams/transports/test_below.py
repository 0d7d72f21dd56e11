"""What a stream over a transport asks of the socket below it."""

from __future__ import annotations

import socket
import sys
from typing import Any

from twisted.internet.tcp import Connection
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from portfwd.streams.transports.below import AskedBelow
from portfwd.wire.tcp_info import parse_tcp_info


class Asking(AskedBelow):
    """A stream, as far as it asks."""

    def __init__(self, transport: Any) -> None:
        self.transport = self._bottom = transport
        self._plain = None
        self.lost = False

    def close(self) -> None:
        """As a stream does it."""
        self._will_close()
        self._bottom = None


class TwistedsTests(SynchronousTestCase):
    """Over a transport of Twisted's."""

    def setUp(self) -> None:
        if sys.platform != "linux":
            raise SkipTest("this platform has no such structure")
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.near = socket.create_connection(server.getsockname())
            self.far, _ = server.accept()
        self.addCleanup(self.near.close)
        self.addCleanup(self.far.close)
        transport = Connection.__new__(Connection)
        transport.socket = self.near
        transport.connected = True
        self.stream = Asking(transport)

    def test_now(self) -> None:
        """While it is open the kernel is asked each time."""
        before = parse_tcp_info(self.stream.tcp_info())
        self.near.sendall(b"more")
        after = parse_tcp_info(self.stream.tcp_info())
        assert before is not None
        assert after is not None
        self.assertNotEqual(before, after)

    def test_at_last(self) -> None:
        """A stream that is to keep it asks when it is closed from our side, and tells that afterwards."""
        self.stream.keep_tcp_info()
        self.near.sendall(b"more")
        at_last = self.stream.tcp_info()
        self.stream.close()
        self.assertEqual(self.stream.tcp_info()[:8], at_last[:8])
        self.assertTrue(parse_tcp_info(self.stream.tcp_info()))

    def test_not_kept(self) -> None:
        """Unless it is told to keep it, nobody asks."""
        self.stream.close()
        self.assertEqual(self.stream.tcp_info(), b"")

    def test_no_socket(self) -> None:
        """A transport without a socket tells nothing."""
        self.assertEqual(Asking(object()).tcp_info(), b"")
