"""Tests of `portfwd.listen.datagram_port`: what holds for sockets of ours holds for Twisted's ports."""

from __future__ import annotations

from typing import Any
from unittest import mock

from portfwd.kernel.platform import Platform
from portfwd.listen.datagram_port import DatagramPort
from portfwd.values import CloseReason
from tests.listen import test_datagram_listener
from tests.listen.post import PostCase

#: A reactor that watches no descriptors of ours.
PORTABLE = Platform(own_sockets=False, epoll=False)


class PortAssociationTests(test_datagram_listener.AssociationTests):
    """The same associations."""

    platform = PORTABLE
    keeps = False


class PortTests(PostCase):
    """Its states and troubles."""

    platform = PORTABLE

    def test_stopped(self) -> None:
        """It is closed when the silent associations are over."""
        self.forward("r: 127.0.0.1:0/udp -> 127.0.0.1:UP/udp")
        client = self.datagrams()
        there, listener = self.ask(client), self.listener
        stopped = self.forwarder.stopService()
        listener.take_waiting()
        self.upstream.sendto(b"answer", there)
        self.assertEqual(self.receive(client)[0], b"answer")
        for _ in range(12):
            self.advance(0.5)
        self.successResultOf(stopped)
        self.assertEqual((listener.state, listener.address), ("stopped", None))
        self.assertEqual([line.reason for line in self.closed_lines], [CloseReason.DRAIN])

    def test_one_client_fails(self) -> None:
        """An exception of one association ends it alone."""
        self.forward("r: 127.0.0.1:0/udp -> 127.0.0.1:UP/udp")
        client = self.datagrams()
        self.ask(client)
        (one,) = self.listener.table
        one.received = mock.Mock(side_effect=ZeroDivisionError)
        client.sendto(b"x", self.where())
        self.assert_quiet(self.upstream)
        self.assertEqual([line.reason for line in self.closed_lines], [CloseReason.INTERNAL])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_refused(self) -> None:
        """The access list holds."""
        self.forward("r: 127.0.0.1:0/udp -> 127.0.0.1:UP/udp\n  deny 127.0.0.1")
        self.datagrams().sendto(b"x", self.where())
        self.assert_quiet(self.upstream)
        self.assertEqual([line.reason for line in self.closed_lines], [CloseReason.ACCESS])

    def test_too_large(self) -> None:
        """Answers that the system does not take are dropped and counted; so are questions."""
        self.forward("r: 127.0.0.1:0/udp -> 127.0.0.1:UP/udp")
        self.ask(self.datagrams())
        (one,) = self.listener.table
        self.assertFalse(one.send(bytes(65_508)))
        self.assertEqual(self.listener.unsent, 1)
        one.received(bytes(65_508))
        self.assert_quiet(self.upstream)

    def test_bridge(self) -> None:
        """A stream client reaches an upstream of datagrams through a port of Twisted's."""
        self.forward("r: 127.0.0.1:0 -> 127.0.0.1:UP/udp framing=length16")
        import socket

        host, port = self.where()
        with socket.create_connection((host, port)) as client:
            client.sendall(b"\0\5hello")
            got, there = self.receive(self.upstream)
            self.assertEqual(got, b"hello")
            self.upstream.sendto(b"hi", there)
            self.turn()
            client.settimeout(5)
            self.assertEqual(client.recv(100), b"\0\2hi")

    def test_everywhere(self) -> None:
        """Answers of a port on every address leave from where the system likes."""
        self.forward("r: :0/udp -> 127.0.0.1:UP/udp")
        self.assertIsInstance(self.listener, DatagramPort)
        self.assertEqual(self.listener.drops, 0)
        client = self.datagrams()
        there = self.ask(client)
        self.upstream.sendto(b"answer", there)
        self.assertEqual(self.receive(client), (b"answer", self.where()))

    def test_held(self) -> None:
        """What new clients send during a pause waits for its end."""
        self.forward("r: 127.0.0.1:0/udp -> 127.0.0.1:UP/udp")
        self.forwarder.pause("r")
        self.datagrams().sendto(b"waits", self.where())
        self.assert_quiet(self.upstream)
        self.forwarder.resume("r")
        self.assertEqual(self.receive(self.upstream)[0], b"waits")

    def test_sock(self) -> None:
        """It has a socket, for who asks."""
        self.forward("r: 127.0.0.1:0/udp -> 127.0.0.1:UP/udp")
        sock: Any = self.listener.sock
        self.assertEqual(sock.getsockname(), self.where())
