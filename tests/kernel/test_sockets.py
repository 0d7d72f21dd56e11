"""Tests for what is done to plain sockets, on real ones."""

from __future__ import annotations

import errno
import resource
import socket
import struct
import sys
from typing import Any

from twisted.trial import unittest

from portfwd.kernel import sockets
from portfwd.rules.model import Keepalive, Options
from portfwd.values import InetAddress, UnixAddress
from portfwd.wire.tcp_info import parse_tcp_info
from tests.streams.far_ends import tcp_sockets, unix_sockets

_IP_BIND_ADDRESS_NO_PORT = 24  # linux/in.h


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


class MakingTests(SocketCase):
    """Bare sockets, and accepting them."""

    def test_bare(self) -> None:
        """A bare socket is non-blocking and not inherited by other programs."""
        bare = sockets.bare_socket(socket.AF_INET)
        self.addCleanup(bare.close)
        self.assertEqual((bare.gettimeout(), bare.family), (0.0, socket.AF_INET))
        self.assertNotIsInstance(bare, socket.socket)

    def test_accept(self) -> None:
        """A client comes as a bare, non-blocking socket, with its address."""
        listening = self.socket()
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        listening.setblocking(False)
        self.assertRaises(BlockingIOError, sockets.accept, listening, socket.AF_INET)
        connecting = self.socket()
        connecting.connect(listening.getsockname())
        client, address = sockets.accept(listening, socket.AF_INET)
        self.addCleanup(client.close)
        self.assertEqual((address, client.gettimeout()), (connecting.getsockname(), 0.0))


class AddressTests(SocketCase):
    """Addresses, ours of the socket module's."""

    def test_to_address(self) -> None:
        """IPv4 inside IPv6 comes out as IPv4, abstract names with an at sign, the unknown as None."""
        for family, sockaddr, expected in (
            (socket.AF_INET, ("192.0.2.1", 80), InetAddress("192.0.2.1", 80)),
            (socket.AF_INET6, ("2001:db8::1", 80, 0, 0), InetAddress("2001:db8::1", 80)),
            (socket.AF_INET6, ("::ffff:192.0.2.1", 80, 0, 0), InetAddress("192.0.2.1", 80)),
            (socket.AF_UNIX, "/run/x.sock", UnixAddress("/run/x.sock")),
            (socket.AF_UNIX, b"\0name", UnixAddress("@name")),
            (socket.AF_UNIX, "\0name", UnixAddress("@name")),
            (socket.AF_UNIX, b"\0\xff", UnixAddress("@\udcff")),
            (socket.AF_UNIX, b"", UnixAddress("")),
            (socket.AF_UNIX, "", UnixAddress("")),
            (socket.AF_UNIX, None, None),
            (socket.AF_INET, "?", None),
            (-1, ("192.0.2.1", 80), None),
        ):
            self.assertEqual(sockets.to_address(family, sockaddr), expected)

    def test_family(self) -> None:
        """A literal with a colon is IPv6."""
        self.assertEqual(sockets.inet_family("::1"), socket.AF_INET6)
        self.assertEqual(sockets.inet_family("127.0.0.1"), socket.AF_INET)

    def test_both_ends(self) -> None:
        """A connected socket knows its own address and the other one's; a closed one neither."""
        near, _ = self.pair()
        self.assertEqual(sockets.local_address(near), InetAddress(*near.getsockname()))
        near.close()
        self.assertIsNone(sockets.local_address(near))

    def test_unix_pair(self) -> None:
        """A peer without a name has an empty one."""
        near, far = unix_sockets()
        self.addCleanup(near.close)
        self.addCleanup(far.close)
        self.assertEqual(sockets.local_address(near), UnixAddress(""))


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
            sockets.apply_settings(sock, sockets.upstream_settings(options))
            self.assertEqual(sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE), 1)
            names = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")
            self.assertEqual([self.tcp(sock, name) for name in names], [61, 7, 4, 2500])
            self.assertNotEqual(self.tcp(sock, "TCP_NODELAY"), 0)

    def test_the_systems_own(self) -> None:
        """What a rule does not say is left alone."""
        sock, untouched = self.socket(), self.socket()
        sockets.apply_settings(sock, sockets.stream_settings(Options()))
        self.assertEqual(self.tcp(sock, "TCP_KEEPIDLE"), self.tcp(untouched, "TCP_KEEPIDLE"))
        self.assertEqual(self.tcp(sock, "TCP_USER_TIMEOUT"), 0)

    def test_off(self) -> None:
        """`keepalive=off` and `nodelay=off` set nothing."""
        off = Options(nodelay=False, keepalive=Keepalive(enabled=False))
        self.assertEqual(sockets.stream_settings(off), (sockets.KEEP_URGENT,))

    def test_what_the_platform_lacks(self) -> None:
        """An option that the platform has no name for is left to it."""
        self.patch(socket, "TCP_KEEPIDLE", None)
        settings = sockets.stream_settings(Options(nodelay=False, keepalive=Keepalive(True, 61, None, None)))
        keepalive = (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self.assertEqual(settings, (sockets.KEEP_URGENT, keepalive))

    def test_buffers(self) -> None:
        """Buffers are set for both directions; the kernel doubles what it is asked for (socket(7))."""
        sock = self.socket()
        sockets.apply_settings(sock, sockets.buffer_settings(Options(sndbuf=40960, rcvbuf=20480)))
        self.assertEqual(sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF), 81920)
        self.assertEqual(sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF), 40960)
        self.assertEqual(sockets.buffer_settings(Options()), ())

    def test_clients_inherit(self) -> None:
        """An accepted socket has the listening one's options, which is why clients are given none."""
        options = Options(keepalive=Keepalive(True, 61, 7, 4), user_timeout=2.5)
        self.assertEqual(sockets.client_settings(options), ())
        listening = self.socket()
        sockets.apply_settings(listening, sockets.listening_settings(options))
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
        self.patch(sockets, "CLIENTS_INHERIT", False)
        self.assertEqual(sockets.client_settings(Options()), sockets.stream_settings(Options()))
        self.assertEqual(sockets.listening_settings(Options()), ())

    def test_unix(self) -> None:
        """Unix sockets have none of these options."""
        sockets.apply_settings(self.socket(socket.AF_UNIX), sockets.upstream_settings(Options(sndbuf=4096)))

    def test_change(self) -> None:
        """Options of a socket that had others; what is not named any more is the system's again."""
        sock, fresh = self.socket(), self.socket()
        before = sockets.listening_settings(Options(keepalive=Keepalive(True, 60, 10, 3)))
        after = sockets.listening_settings(Options(nodelay=False))
        sockets.apply_settings(sock, before)
        self.assertTrue(sockets.change_settings(sock, before, after))
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
        sizes = [sockets.listening_settings(Options(rcvbuf=size)) for size in (40960, 20480, None)]
        sockets.apply_settings(sock, sizes[0])
        self.assertTrue(sockets.change_settings(sock, sizes[0], sizes[1]))
        size = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        self.assertEqual(size, 2 * 20480)
        self.assertFalse(sockets.change_settings(sock, sizes[1], sizes[2]))
        self.assertEqual(sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF), size)

    def test_change_of_nothing(self) -> None:
        """Equal settings, and sockets without such options, are left alone."""
        settings = sockets.listening_settings(Options(rcvbuf=40960))
        other = sockets.listening_settings(Options())
        self.assertTrue(sockets.change_settings(self.socket(socket.AF_UNIX), settings, other))
        closed = self.socket()
        closed.close()
        self.assertTrue(sockets.change_settings(closed, settings, settings))


class SourceTests(SocketCase):
    """``src=``."""

    def test_port_is_chosen_by_connect(self) -> None:
        """The address is bound without a port, so that it is not limited to one port a connection."""
        for family, source in ((socket.AF_INET, "127.0.0.2"), (socket.AF_INET6, "::1")):
            sock = self.socket(family)
            sockets.bind_source(sock, source)
            self.assertEqual(sock.getsockname()[:2], (source, 0))
            self.assertEqual(sock.getsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT), 1)

    def test_elsewhere(self) -> None:
        """On other systems the number means something else and is not used: the port is taken at once."""
        self.patch(sockets.sys, "platform", "freebsd14")
        sock = self.socket()
        sockets.bind_source(sock, "127.0.0.1")
        self.assertNotEqual(sock.getsockname()[1], 0)

    def test_not_ours(self) -> None:
        """An address that this machine does not have is an error."""
        problem = self.assertRaises(OSError, sockets.bind_source, self.socket(), "192.0.2.1")
        self.assertEqual(problem.errno, errno.EADDRNOTAVAIL)


class QueueTests(SocketCase):
    """The send queue, and dropping it."""

    def test_unsent(self) -> None:
        """What the peer's kernel has not confirmed is counted in bytes."""
        near, far = self.pair(size=65536)
        self.assertEqual(sockets.unsent_bytes(near), 0)
        sent = 0
        try:
            while True:
                sent += near.send(bytes(65536))
        except BlockingIOError:
            self.assertIn(sockets.unsent_bytes(near), range(1, sent + 1))
        far.close()

    def test_of_a_unix_socket(self) -> None:
        """Of a unix socket it is the memory of what was not read."""
        near, far = unix_sockets()
        self.addCleanup(near.close)
        self.addCleanup(far.close)
        near.send(b"x")
        self.assertGreater(sockets.unsent_bytes(near), 0)
        far.recv(1)
        self.assertEqual(sockets.unsent_bytes(near), 0)

    def test_of_a_closed_socket(self) -> None:
        """A socket that cannot be asked has nothing unsent."""
        with open("/dev/null", "rb") as nothing:
            self.assertIsNone(sockets.unsent_bytes(nothing))  # type: ignore[arg-type]

    def test_tcp_info(self) -> None:
        """Of a TCP connection there is a structure that can be read; of anything else there is nothing."""
        if sys.platform != "linux":
            raise unittest.SkipTest("this platform has another structure")
        with socket.create_server(("127.0.0.1", 0)) as server:
            near = socket.create_connection(server.getsockname())
            far, _ = server.accept()
        self.addCleanup(near.close)
        far.close()
        info = parse_tcp_info(sockets.tcp_info(near))
        assert info is not None
        self.assertEqual(info.retransmits, 0)
        self.assertGreater(info.mss or 0, 500)
        one, other = socket.socketpair()
        with one, other, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
            self.assertEqual((sockets.tcp_info(one), sockets.tcp_info(datagrams)), (b"", b""))
        near.close()
        self.assertEqual(sockets.tcp_info(near), b"")

    def test_waiting(self) -> None:
        """What was received and not read yet is counted; an end is none of it."""
        near, far = self.pair()
        self.assertEqual(sockets.waiting_bytes(near), 0)
        far.send(b"three")
        far.shutdown(socket.SHUT_WR)
        self.assertEqual(sockets.waiting_bytes(near), 5)
        near.recv(5)
        self.assertEqual(sockets.waiting_bytes(near), 0)

    def test_push(self) -> None:
        """What was held back goes out; sockets that hold nothing back are left alone."""
        near, far = self.pair()
        far.setblocking(False)
        near.send(b"held", socket.MSG_MORE)
        self.assertRaises(BlockingIOError, far.recv, 4)
        sockets.push(near)
        self.assertEqual(far.recv(4), b"held")
        for unix in unix_sockets():
            self.addCleanup(unix.close)
            sockets.push(unix)
        near.close()
        self.assertRaises(OSError, sockets.push, near)

    def test_one_packet_less(self) -> None:
        """Who is connected and speaks at once acknowledges with what he says."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            for settings, packets in ((sockets.WILL_SEND, 2), ((), 3)):
                bare = sockets.bare_socket(socket.AF_INET)
                self.addCleanup(bare.close)
                sockets.apply_settings(bare, settings)
                bare.connect_ex(server.getsockname())
                bare.send(b"hello")
                # Of tcp_info: segments sent. SYN, and then ACK and bytes together or one after the other.
                info = bare.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 140)
                self.assertEqual(struct.unpack_from("I", info, 136)[0], packets)

    def test_has_hung_up(self) -> None:
        """A reset is a hang-up, and so are two ends; one end is none."""
        near, far = self.pair()
        self.assertFalse(sockets.has_hung_up(near))
        far.shutdown(socket.SHUT_WR)
        self.assertFalse(sockets.has_hung_up(near))
        near.shutdown(socket.SHUT_WR)
        self.assertTrue(sockets.has_hung_up(near))
        near, far = self.pair()
        sockets.reset_on_close(far)
        far.close()
        self.assertTrue(sockets.has_hung_up(near))

    def test_reset_on_close(self) -> None:
        """The close that follows is a reset."""
        near, far = self.pair()
        sockets.reset_on_close(near)
        near.close()
        self.assertRaises(ConnectionResetError, far.recv, 1)


class Fixed:
    """Limits that are what a test says."""

    RLIMIT_NOFILE = 7
    RLIM_INFINITY = -1

    def __init__(self, soft: int, hard: int, refuses: Exception | None = None) -> None:
        self.limits = (soft, hard)
        self.refuses = refuses

    def getrlimit(self, which: int, /) -> tuple[int, int]:
        return self.limits

    def setrlimit(self, which: int, limits: tuple[int, int], /) -> None:
        if self.refuses is not None:
            raise self.refuses
        self.limits = limits


class LimitTests(SocketCase):
    """The limit of descriptors."""

    def test_raised(self) -> None:
        """The soft limit becomes the hard one."""
        limits = Fixed(1024, 4096)
        self.assertEqual((sockets.raise_descriptor_limit(limits), limits.limits), (4096, (4096, 4096)))

    def test_high_enough(self) -> None:
        """A soft limit that is there already is not touched."""
        self.assertEqual(sockets.raise_descriptor_limit(Fixed(64, 64, OSError())), 64)

    def test_refused(self) -> None:
        """Where it cannot be raised, what there is holds."""
        for problem in (OSError(), ValueError()):
            self.assertEqual(sockets.raise_descriptor_limit(Fixed(256, -1, problem)), 256)

    def test_no_limit(self) -> None:
        """No limit is 0, which a budget takes for any number."""
        self.assertEqual(sockets.raise_descriptor_limit(Fixed(256, -1)), 0)

    def test_here(self) -> None:
        """The limit of the process itself."""
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, before)
        raised = sockets.raise_descriptor_limit()
        self.assertEqual(resource.getrlimit(resource.RLIMIT_NOFILE)[0], raised)


class ZoneTests(unittest.SynchronousTestCase):
    """IPv6 zones, which Python's socket module drops from addresses of two elements."""

    def test_to_the_kernel(self) -> None:
        """A zone becomes the number of its interface; an address without one stays two elements."""
        self.assertEqual(
            sockets.sockaddr_of("fe80::1%lo", 80), ("fe80::1", 80, 0, socket.if_nametoindex("lo"))
        )
        self.assertEqual(sockets.sockaddr_of("fe80::1%7", 80), ("fe80::1", 80, 0, 7))
        self.assertEqual(sockets.sockaddr_of("fe80::1", 80), ("fe80::1", 80))
        self.assertEqual(sockets.sockaddr_of("192.0.2.1", 80), ("192.0.2.1", 80))

    def test_no_such_interface(self) -> None:
        """An interface that is not there is named."""
        problem = self.assertRaises(OSError, sockets.sockaddr_of, "fe80::1%nosuch0", 80)
        self.assertEqual((problem.errno, problem.strerror), (errno.ENODEV, "there is no interface 'nosuch0'"))

    def test_from_the_kernel(self) -> None:
        """The name of the interface is shown, or its number where it is gone."""
        lo = socket.if_nametoindex("lo")
        shown = sockets.to_address(socket.AF_INET6, ("fe80::1", 80, 0, lo))
        self.assertEqual(shown, InetAddress("fe80::1%lo", 80))
        self.assertEqual(sockets.to_address(socket.AF_INET6, ("::1", 80, 0, 0)), InetAddress("::1", 80))
        self.assertEqual(sockets.literal_of(("fe80::1", 80, 0, 2**31 - 1)), f"fe80::1%{2**31 - 1}")
        self.assertEqual(sockets.literal_of(("fe80::1%lo", 80, 0, lo)), "fe80::1%lo")
        self.assertEqual(sockets.literal_of(("192.0.2.1", 80)), "192.0.2.1")
