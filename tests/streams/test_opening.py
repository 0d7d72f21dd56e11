"""Tests for putting socket, transport and stream together."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

from twisted.trial import unittest

from portfwd.kernel import socket_options
from portfwd.rules.model import Keepalive, Options
from portfwd.streams.opening import StreamMaker, read_size
from portfwd.streams.transports.tls import TLSLayer
from portfwd.values import InetAddress
from tests.streams.conformance import Owner
from tests.streams.far_ends import tcp_sockets
from tests.streams.transports.test_plain import FakePoller, FakeReactor
from tests.streams.transports.test_transport import Certified

CLIENT = InetAddress("192.0.2.1", 4711)


class FullPoller(FakePoller):
    """The kernel refuses to watch one more."""

    def watch(self, descriptor: int, events: int, watcher: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Gone(socket.socket):
    """A client's socket that can be set up no more."""

    def setsockopt(self, *_: Any) -> None:  # type: ignore[override]
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))


class OpeningTests(unittest.SynchronousTestCase):
    """`StreamMaker`."""

    def setUp(self) -> None:
        self.reactor = FakeReactor()
        self.poller = FakePoller()
        self.near, self.far = tcp_sockets()
        self.addCleanup(self.near.close)
        self.addCleanup(self.far.close)

    def maker(self, poller: Any = None) -> StreamMaker:
        """On the fake reactor."""
        reactor: Any = self.reactor
        return StreamMaker(reactor, self.poller if poller is None else poller)  # type: ignore[arg-type]

    def test_accepted(self) -> None:
        """A client's stream knows both addresses and reads nothing yet."""
        stream = self.maker().accepted(self.near, CLIENT, Options(buffer=8192))
        self.assertEqual(stream.address, CLIENT)
        self.assertEqual(stream.local, InetAddress(*self.near.getsockname()))
        self.assertEqual((self.reactor.readers, set(self.poller.watched)), (set(), {self.near.fileno()}))

    def test_clients_that_inherit_nothing(self) -> None:
        """Where a client's socket does not come with the listening one's options, it is given them."""
        self.patch(socket_options, "CLIENTS_INHERIT", False)
        options = Options(keepalive=Keepalive(idle=77), user_timeout=30)
        self.maker().accepted(self.near, CLIENT, options)
        self.assertEqual(self.near.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE), 77)
        self.assertEqual(self.near.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT), 30_000)

    def test_a_client_that_is_gone(self) -> None:
        """A socket that cannot be set up is closed."""
        self.patch(socket_options, "CLIENTS_INHERIT", False)
        gone = Gone(fileno=self.near.detach())
        self.assertRaises(OSError, self.maker().accepted, gone, CLIENT, Options())
        self.assertEqual(gone.fileno(), -1)

    def test_no_room_in_the_poller(self) -> None:
        """A socket that the kernel does not watch is closed, plain or TLS."""
        maker = self.maker(FullPoller())
        self.assertRaises(OSError, maker.plain, self.near, CLIENT, 4096)
        self.assertEqual(self.near.fileno(), -1)
        near, far = tcp_sockets()
        self.addCleanup(far.close)
        creator = Certified().client()
        self.assertRaises(OSError, maker.tls_client, near, CLIENT, 4096, creator, Owner())
        self.assertEqual(near.fileno(), -1)

    def test_watched_already(self) -> None:
        """A socket that the poller was told of by its dial is told of anew, for the new watcher."""
        self.poller.watched[self.near.fileno()] = 0
        self.maker().plain(self.near, CLIENT, 4096, seen=0)
        self.assertNotEqual(self.poller.watched[self.near.fileno()], 0)

    def test_without_a_poller(self) -> None:
        """Where there is no poller there is nothing to be told."""
        reactor: Any = self.reactor
        stream = StreamMaker(reactor, None).plain(self.near, CLIENT, 4096, seen=0)
        self.assertEqual(stream.address, CLIENT)

    def test_read_size(self) -> None:
        """A read of TLS is as many whole records as hold the buffer."""
        self.assertEqual(read_size(65536), 4 * (16384 + 22))
        self.assertEqual(read_size(4096), 4096 + 22)

    def test_tls(self) -> None:
        """A TLS stream reads at once, for its handshake, and says hello."""
        stream = self.maker().tls_client(self.near, CLIENT, 4096, Certified().client(), Owner())
        self.assertIsInstance(stream.transport, TLSLayer)
        self.assertEqual(len(self.reactor.readers), 1)
        self.far.setblocking(True)
        self.assertEqual(self.far.recv(1), b"\x16", "a handshake record, RFC 8446 section 5.1")
        self.assertEqual(stream.local, InetAddress(*self.near.getsockname()))
