"""Tests of `portfwd.kernel.socket_options`, on real sockets."""

from __future__ import annotations

import errno
import socket

from portfwd.kernel import socket_options, sockets
from portfwd.rules.model import Keepalive, Options
from tests.kernel.socket_case import SocketCase

_IP_BIND_ADDRESS_NO_PORT = 24  # linux/in.h


class SettingsTests(SocketCase):
    """Options of a rule on real sockets, read back."""

    def tcp(self, sock: socket.socket, name: str) -> int:
        """The value of a TCP option."""
        return sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))

    def test_stream(self) -> None:
        """Every option of a TCP connection arrives in the kernel."""
        options = Options(keepalive=Keepalive(True, 61, 7, 4), user_timeout=2.5)
        for family in (socket.AF_INET, socket.AF_INET6):
            sock = self.socket(family)
            socket_options.apply_settings(sock, socket_options.upstream_settings(options))
            self.assertEqual(sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE), 1)
            names = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")
            self.assertEqual([self.tcp(sock, name) for name in names], [61, 7, 4, 2500])
            self.assertNotEqual(self.tcp(sock, "TCP_NODELAY"), 0)

    def test_the_systems_own(self) -> None:
        """What a rule does not say is left alone."""
        sock, untouched = self.socket(), self.socket()
        socket_options.apply_settings(sock, socket_options.stream_settings(Options()))
        self.assertEqual(self.tcp(sock, "TCP_KEEPIDLE"), self.tcp(untouched, "TCP_KEEPIDLE"))
        self.assertEqual(self.tcp(sock, "TCP_USER_TIMEOUT"), 0)

    def test_off(self) -> None:
        """`keepalive=off` and `nodelay=off` set nothing."""
        off = Options(nodelay=False, keepalive=Keepalive(enabled=False))
        self.assertEqual(socket_options.stream_settings(off), (socket_options.KEEP_URGENT,))

    def test_what_the_platform_lacks(self) -> None:
        """An option that the platform has no name for is left to it."""
        self.patch(socket, "TCP_KEEPIDLE", None)
        settings = socket_options.stream_settings(
            Options(nodelay=False, keepalive=Keepalive(True, 61, None, None))
        )
        keepalive = (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self.assertEqual(settings, (socket_options.KEEP_URGENT, keepalive))

    def test_buffers(self) -> None:
        """Buffers are set for both directions; the kernel doubles what it is asked for (socket(7))."""
        sock = self.socket()
        socket_options.apply_settings(
            sock, socket_options.buffer_settings(Options(sndbuf=40960, rcvbuf=20480))
        )
        self.assertEqual(sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF), 81920)
        self.assertEqual(sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF), 40960)
        self.assertEqual(socket_options.buffer_settings(Options()), ())

    def test_clients_inherit(self) -> None:
        """An accepted socket has the listening one's options, which is why clients are given none."""
        options = Options(keepalive=Keepalive(True, 61, 7, 4), user_timeout=2.5)
        self.assertEqual(socket_options.client_settings(options), ())
        listening = self.socket()
        socket_options.apply_settings(listening, socket_options.listening_settings(options))
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        connecting = self.socket()
        connecting.connect(listening.getsockname())
        client, _ = sockets.accept(listening, socket.AF_INET)
        self.addCleanup(client.close)
        self.assertEqual((self.tcp(client, "TCP_KEEPIDLE"), self.tcp(client, "TCP_USER_TIMEOUT")), (61, 2500))
        self.assertEqual(client.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE), 1)

    def test_clients_that_inherit_nothing(self) -> None:
        """On other systems it is the clients that are given them."""
        self.patch(socket_options, "CLIENTS_INHERIT", False)
        self.assertEqual(socket_options.client_settings(Options()), socket_options.stream_settings(Options()))
        self.assertEqual(socket_options.listening_settings(Options()), ())

    def test_unix(self) -> None:
        """Unix sockets have none of these options."""
        socket_options.apply_settings(
            self.socket(socket.AF_UNIX), socket_options.upstream_settings(Options(sndbuf=4096))
        )

    def test_change(self) -> None:
        """Options of a socket that had others; what is not named any more is the system's again."""
        sock, fresh = self.socket(), self.socket()
        before = socket_options.listening_settings(Options(keepalive=Keepalive(True, 60, 10, 3)))
        after = socket_options.listening_settings(Options(nodelay=False))
        socket_options.apply_settings(sock, before)
        self.assertTrue(socket_options.change_settings(sock, before, after))
        for level, name in {(level, name) for level, name, _ in before} | {
            (level, name) for level, name, _ in after
        }:
            wanted = next((value for *which, value in after if which == [level, name]), None)
            if wanted is None:
                wanted = fresh.getsockopt(level, name)
            self.assertEqual(sock.getsockopt(level, name), wanted, (level, name))

    def test_change_of_a_buffer(self) -> None:
        """A size can be changed, but not be taken back, which is said."""
        sock = self.socket()
        sizes = [socket_options.listening_settings(Options(rcvbuf=size)) for size in (40960, 20480, None)]
        socket_options.apply_settings(sock, sizes[0])
        self.assertTrue(socket_options.change_settings(sock, sizes[0], sizes[1]))
        size = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        self.assertEqual(size, 2 * 20480)
        self.assertFalse(socket_options.change_settings(sock, sizes[1], sizes[2]))
        self.assertEqual(sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF), size)

    def test_change_of_nothing(self) -> None:
        """Equal settings, and sockets without such options, are left alone."""
        settings = socket_options.listening_settings(Options(rcvbuf=40960))
        other = socket_options.listening_settings(Options())
        self.assertTrue(socket_options.change_settings(self.socket(socket.AF_UNIX), settings, other))
        closed = self.socket()
        closed.close()
        self.assertTrue(socket_options.change_settings(closed, settings, settings))


class SourceTests(SocketCase):
    """``src=``."""

    def test_port_is_chosen_by_connect(self) -> None:
        """The address is bound without a port, so that it is not limited to one port a connection."""
        for family, source in ((socket.AF_INET, "127.0.0.2"), (socket.AF_INET6, "::1")):
            sock = self.socket(family)
            socket_options.bind_source(sock, source)
            self.assertEqual(sock.getsockname()[:2], (source, 0))
            self.assertEqual(sock.getsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT), 1)

    def test_elsewhere(self) -> None:
        """On other systems the number means something else and is not used: the port is taken at once."""
        self.patch(socket_options.sys, "platform", "freebsd14")
        sock = self.socket()
        socket_options.bind_source(sock, "127.0.0.1")
        self.assertNotEqual(sock.getsockname()[1], 0)

    def test_not_ours(self) -> None:
        """An address that this machine does not have is an error."""
        problem = self.assertRaises(OSError, socket_options.bind_source, self.socket(), "192.0.2.1")
        self.assertEqual(problem.errno, errno.EADDRNOTAVAIL)
