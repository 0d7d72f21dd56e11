"""Tests for binding what a rule's LISTEN names, on real sockets."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Sequence
from typing import Any

from twisted.trial import unittest

from portfwd.listen import binding
from portfwd.listen.binding import bind
from portfwd.listen.unix_files import socket_file
from portfwd.rules.model import Keepalive, Kind, ListenOptions, ListenSpec, Options
from tests.ports import free_port
from tests.streams.far_ends import open_descriptors


class BindingCase(unittest.SynchronousTestCase):
    """Bound sockets are closed afterwards, and none is left by a failure."""

    def bind(self, spec: ListenSpec, port: int = 0, **options: Any) -> list[socket.socket]:
        """Bind `spec`."""
        bound = bind(spec, port, Options(), **options)
        for sock in bound:
            self.addCleanup(sock.close)
        return bound

    def refuses(self, spec: ListenSpec, code: int | None, port: int = 0, **options: Any) -> None:
        """Binding `spec` fails with `code` and leaves nothing."""
        before = open_descriptors()
        problem = self.assertRaises(OSError, bind, spec, port, Options(), **options)
        self.assertEqual((problem.errno, open_descriptors()), (code, before))

    def free_port(self) -> int:
        """A port that is free on every loopback address, as far as one can know."""
        return free_port()


class InetTests(BindingCase):
    """TCP."""

    def tcp(self, host: str = "", v6only: bool | None = None) -> ListenSpec:
        """A TCP listener."""
        return ListenSpec(Kind.TCP, host=host, options=ListenOptions(v6only=v6only))

    def test_dual_stack(self) -> None:
        """No host is one socket for both families, non-blocking, bound and not yet listening."""
        [sock] = self.bind(self.tcp())
        port = sock.getsockname()[1]
        self.assertEqual((sock.family, sock.gettimeout()), (socket.AF_INET6, 0.0))
        self.assertEqual(sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY), 0)
        with socket.socket() as client:
            self.assertEqual(client.connect_ex(("127.0.0.1", port)), errno.ECONNREFUSED)
        sock.listen()
        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, port)).close()

    def test_v6only(self) -> None:
        """A written IPv6 address is IPv6 alone, no host is not; ``v6only=`` overrides either."""
        for host, asked, expected in (
            ("", None, 0),
            ("", True, 1),
            ("", False, 0),
            ("::", None, 1),
            ("::", True, 1),
            ("::", False, 0),
        ):
            [sock] = self.bind(self.tcp(host, asked))
            self.assertEqual(sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY), expected)

    def test_literals(self) -> None:
        """A literal is bound as it stands."""
        for host in ("127.0.0.1", "127.0.0.9", "0.0.0.0", "::1"):
            [sock] = self.bind(self.tcp(host))
            self.assertEqual(sock.getsockname()[0], host)

    def test_options(self) -> None:
        """Buffers and what clients inherit are set before it listens."""
        [sock] = bind(self.tcp("127.0.0.1"), 0, Options(rcvbuf=20480, keepalive=Keepalive(idle=61)))
        self.addCleanup(sock.close)
        self.assertEqual(sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF), 40960)
        self.assertEqual(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE), 61)
        self.assertEqual(sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR), 1)

    def test_taken(self) -> None:
        """A port that is taken is an error."""
        with socket.create_server(("127.0.0.1", 0)) as other:
            self.refuses(self.tcp("127.0.0.1"), errno.EADDRINUSE, other.getsockname()[1])

    def test_not_ours(self) -> None:
        """So is an address that this machine does not have."""
        self.refuses(self.tcp("192.0.2.1"), errno.EADDRNOTAVAIL)

    def test_a_machine_without_ipv6(self) -> None:
        """There no host means IPv4, unless IPv6 alone was asked for."""
        real = binding.inet_family
        self.patch(binding, "inet_family", lambda host: 9999 if ":" in host else real(host))
        [sock] = self.bind(self.tcp())
        self.assertEqual((sock.family, sock.getsockname()[0]), (socket.AF_INET, "0.0.0.0"))
        self.refuses(self.tcp(v6only=True), errno.EAFNOSUPPORT)

    def test_no_host_and_taken(self) -> None:
        """A port that is taken is no reason to listen on IPv4 alone."""
        with socket.create_server(("::", 0), family=socket.AF_INET6) as other:
            self.refuses(self.tcp(), errno.EADDRINUSE, other.getsockname()[1])


class NameTests(BindingCase):
    """Names, resolved at the start."""

    spec = ListenSpec(Kind.TCP, host="name.test")

    def to(self, *hosts: str) -> dict[str, Any]:
        """A resolver that gives `hosts`."""

        def resolve(name: str) -> Sequence[str]:
            self.assertEqual(name, "name.test")
            return hosts

        return {"resolve": resolve}

    def test_every_address(self) -> None:
        """A name is bound on each of its addresses."""
        bound = self.bind(self.spec, self.free_port(), **self.to("::1", "127.0.0.1", "127.0.0.2"))
        self.assertEqual([s.getsockname()[0] for s in bound], ["::1", "127.0.0.1", "127.0.0.2"])

    def test_localhost_without_ipv6(self) -> None:
        """An IPv6 address that the machine lacks is left out, if there is another (``::1 localhost``)."""
        port = self.free_port()
        for hosts in (("2001:db8::1", "127.0.0.1"), ("127.0.0.1", "2001:db8::1")):
            [sock] = self.bind(self.spec, port, **self.to(*hosts))
            self.assertEqual(sock.getsockname()[0], "127.0.0.1")
            sock.close()

    def test_no_address_of_ours(self) -> None:
        """If none is left, or an IPv4 address is not ours, it is an error; what was bound is closed."""
        self.refuses(self.spec, errno.EADDRNOTAVAIL, **self.to("2001:db8::1"))
        self.refuses(self.spec, errno.EADDRNOTAVAIL, **self.to("127.0.0.1", "192.0.2.1"))

    def test_taken_on_one(self) -> None:
        """One address that is taken is an error for all, of whichever family it is."""
        for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            with socket.create_server((host, 0), family=family) as other:
                self.refuses(
                    self.spec, errno.EADDRINUSE, other.getsockname()[1], **self.to("127.0.0.3", host)
                )

    def test_the_systems_resolver(self) -> None:
        """Without a resolver the system's is asked."""
        bound = self.bind(ListenSpec(Kind.TCP, host="localhost"), self.free_port())
        self.assertIn("127.0.0.1", [sock.getsockname()[0] for sock in bound])

    def test_no_such_name(self) -> None:
        """A name that does not resolve is an error."""

        def resolve(name: str) -> Sequence[str]:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        self.refuses(self.spec, socket.EAI_NONAME, resolve=resolve)


class UnixTests(BindingCase):
    """Unix sockets."""

    def setUp(self) -> None:
        # Trial's own directories are too deep for a unix socket's name.
        self.directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.directory)
        self.path = f"{self.directory}/socket"

    def unix(self, path: str | None = None, mode: int | None = None) -> ListenSpec:
        """A listener by path."""
        return ListenSpec(Kind.UNIX, path=path or self.path, options=ListenOptions(mode=mode))

    def permissions(self) -> int:
        """Those of the socket's file."""
        return stat.S_IMODE(os.lstat(self.path).st_mode)

    def test_private(self) -> None:
        """The file is the owner's alone unless the rule says otherwise, from the first moment."""
        umask = os.umask(0)
        self.addCleanup(os.umask, umask)
        [sock] = self.bind(self.unix())
        self.assertEqual((self.permissions(), sock.gettimeout()), (0o600, 0.0))
        self.assertEqual(os.umask(0), 0)

    def test_mode(self) -> None:
        """``mode=`` holds whatever the umask is."""
        umask = os.umask(0o777)
        self.addCleanup(os.umask, umask)
        self.bind(self.unix(mode=0o666))
        self.assertEqual(self.permissions(), 0o666)
        self.assertEqual(os.umask(0o777), 0o777)

    def test_stale(self) -> None:
        """The file of a process that is gone is removed."""
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(self.path)
        [sock] = self.bind(self.unix())
        sock.listen()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(self.path)

    def test_alive(self) -> None:
        """That of one that listens is not, also where its queue is full."""
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(self.path)
            other.listen(0)
            for _ in range(3):  # the first probe fills the queue
                self.refuses(self.unix(), errno.EADDRINUSE)

    def test_another_kind_of_socket(self) -> None:
        """A datagram socket is somebody's, even though nobody can connect to it as a stream."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            other.bind(self.path)
            self.refuses(self.unix(), errno.EADDRINUSE)

    def test_another_file(self) -> None:
        """A file that is no socket stays what it is."""
        with open(self.path, "w", encoding="ascii") as file:
            file.write("precious")
        self.refuses(self.unix(), errno.EEXIST)
        with open(self.path, encoding="ascii") as file:
            self.assertEqual(file.read(), "precious")

    def test_no_such_directory(self) -> None:
        """A directory that is not there is an error."""
        self.refuses(self.unix(f"{self.directory}/no/socket"), errno.ENOENT)

    def test_abstract(self) -> None:
        """An abstract name has no file."""
        name = f"portfwd-{os.getpid()}"
        [sock] = self.bind(self.unix(f"@{name}"))
        self.assertEqual(sock.getsockname(), b"\0" + name.encode())
        self.assertIsNone(socket_file(sock))
        self.assertEqual(os.listdir(self.directory), [])

    def test_removed(self) -> None:
        """The file goes with its listener; one that is gone already, or TCP, is nothing to remove."""
        [sock] = self.bind(self.unix())
        file = socket_file(sock)
        assert file is not None
        file.remove()
        self.assertFalse(os.path.exists(self.path))
        file.remove()
        self.assertIsNone(socket_file(sock))
        with socket.socket() as tcp:
            self.assertIsNone(socket_file(tcp))
        with socket.socket(socket.AF_UNIX) as unbound:
            self.assertIsNone(socket_file(unbound))

    def test_of_another(self) -> None:
        """A file that somebody else made in its place stays."""
        [sock] = self.bind(self.unix())
        file = socket_file(sock)
        assert file is not None
        os.unlink(self.path)
        [other] = self.bind(self.unix())
        file.remove()
        self.assertEqual(other.getsockname(), self.path)
        self.assertTrue(os.path.exists(self.path))
