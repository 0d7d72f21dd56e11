"""Tests of `portfwd.wire.socks5`."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from portfwd.values import InetAddress, UnixAddress
from portfwd.wire import Need
from portfwd.wire.socks5 import (
    CONNECT,
    NO_ACCEPTABLE_METHOD,
    NO_AUTHENTICATION,
    PASSWORD,
    Credentials,
    ReplyCode,
    SocksRequest,
    UnknownAddressType,
    build_choice,
    build_password_status,
    build_reply,
    read_credentials,
    read_greeting,
    read_request,
)
from tests.wire.conversations import ReaderTestCase


def named(name: bytes, port: int = 80) -> bytes:
    """Make a request for a name."""
    return b"\x05\x01\x00\x03" + bytes([len(name)]) + name + port.to_bytes(2, "big")


class GreetingTests(ReaderTestCase):
    """The first message."""

    def test_curl(self) -> None:
        """What curl 7.88 sends with and without a password; 1 is GSSAPI."""
        self.assertEqual(self.read(read_greeting, b"\x05\x03\x00\x01\x02"), {NO_AUTHENTICATION, 1, PASSWORD})
        self.assertEqual(self.read(read_greeting, b"\x05\x02\x00\x01"), {NO_AUTHENTICATION, 1})

    def test_most(self) -> None:
        """255 methods are the most there can be."""
        self.assertEqual(len(self.read(read_greeting, b"\x05\xff" + bytes(range(255)))), 255)

    def test_wrong(self) -> None:
        """Other versions and an empty offer are refused."""
        self.refuse(read_greeting, b"\x04", "not SOCKS 5")
        self.refuse(read_greeting, b"GET ", "not SOCKS 5")
        self.refuse(read_greeting, b"\x05\x00", "no method")

    def test_choice(self) -> None:
        """The answer has a version and a method."""
        self.assertEqual(build_choice(PASSWORD), b"\x05\x02")
        self.assertEqual(build_choice(NO_ACCEPTABLE_METHOD), b"\x05\xff")


class PasswordTests(ReaderTestCase):
    """RFC 1929."""

    def test_read(self) -> None:
        """Name and password are any bytes, empty ones too."""
        for name, password in ((b"alice", b"secret"), (b"", b""), (b"\xff" * 255, b"\0" * 255), (b"a", b"")):
            data = b"\x01" + bytes([len(name)]) + name + bytes([len(password)]) + password
            self.assertEqual(self.read(read_credentials, data), Credentials(name, password))

    def test_wrong(self) -> None:
        """Another version is refused: it is 1 here and not 5."""
        self.refuse(read_credentials, b"\x05", "password message")

    def test_secret(self) -> None:
        """Printing shows neither name nor password."""
        self.assertEqual(repr(Credentials(b"alice", b"secret")), "<Credentials>")

    def test_status(self) -> None:
        """Zero is yes."""
        self.assertEqual(build_password_status(accepted=True), b"\x01\x00")
        self.assertEqual(build_password_status(accepted=False), b"\x01\x01")


class RequestTests(ReaderTestCase):
    """What the client wants."""

    def test_types(self) -> None:
        """IPv4, IPv6 and names."""
        for data, host in (
            (b"\x05\x01\x00\x01\xc0\x00\x02\x01\x00\x50", "192.0.2.1"),
            (b"\x05\x01\x00\x04" + bytes(15) + b"\x01\x00\x50", "::1"),
            (b"\x05\x01\x00\x04" + bytes(10) + b"\xff\xff\xc0\x00\x02\x01\x00\x50", "192.0.2.1"),
            (named(b"Example.COM."), "example.com"),
            (named(b"a_b"), "a_b"),
            (named(b"192.0.2.1"), "192.0.2.1"),
            (named(b"2001:DB8::0:1"), "2001:db8::1"),
            (named(b"::ffff:192.0.2.1"), "192.0.2.1"),
        ):
            self.assertEqual(self.read(read_request, data), SocksRequest(CONNECT, InetAddress(host, 80)))

    def test_commands(self) -> None:
        """Other commands are read too: they get an answer."""
        for command in (2, 3, 0xF0):
            data = bytes([5, command]) + named(b"a")[2:]
            self.assertEqual(self.read(read_request, data).command, command)

    def test_needs(self) -> None:
        """Five bytes tell how many there will be."""
        data = named(b"example.com")
        self.assertEqual([read_request(data[:length]) for length in (0, 4, 5)], [Need(5), Need(5), Need(18)])

    def test_wrong(self) -> None:
        """Other versions, and what is no name, are refused; unknown types by an error of their own."""
        self.refuse(read_request, b"\x01\x01", "not SOCKS 5")
        for kind in (0, 2, 5, 255):
            self.refuse(read_request, bytes([5, 1, 0, kind, 0]), "unknown type", UnknownAddressType)
        for name in (
            b"",
            b".",
            b"a b",
            b"a\0",
            b"[::1]",
            b"a..b",
            b"\xff",
            b"x" * 64,
            b"fe80::1%",
            b"fe80::1%eth0",
            b"2001:db8::1%a\r\nb",
        ):
            self.refuse(read_request, named(name), "no host name")

    @given(
        st.one_of(
            st.ip_addresses(v=4).map(str),
            st.from_regex(r"[a-z][a-z0-9-]{0,20}(\.[a-z][a-z0-9-]{0,20}){0,3}", fullmatch=True),
        ),
        st.integers(0, 0xFFFF),
    )
    @settings(max_examples=50, deadline=None)
    def test_back(self, host: str, port: int) -> None:
        """A name is read as what it was made from."""
        self.assertEqual(
            self.read(read_request, named(host.encode(), port)).destination, InetAddress(host, port)
        )


class ReplyTests(ReaderTestCase):
    """The answer to a request."""

    def test_bytes(self) -> None:
        """An address that is known is told, any other is all zeros."""
        for bound, tail in (
            (None, b"\x01" + bytes(6)),
            (InetAddress("192.0.2.1", 80), b"\x01\xc0\x00\x02\x01\x00\x50"),
            (InetAddress("fe80::1%eth0", 80), b"\x04\xfe\x80" + bytes(13) + b"\x01\x00\x50"),
            (InetAddress("name", 80), b"\x01" + bytes(6)),
            (UnixAddress("/x"), b"\x01" + bytes(6)),
        ):
            self.assertEqual(build_reply(ReplyCode.SUCCEEDED, bound), b"\x05\x00\x00" + tail)
        self.assertEqual(build_reply(ReplyCode.CONNECTION_REFUSED)[:2], b"\x05\x05")


class FuzzTests(ReaderTestCase):
    """Bytes of nobody in particular."""

    @given(st.binary(max_size=40))
    @settings(max_examples=200, deadline=None)
    def test_survives(self, data: bytes) -> None:
        """Any bytes are read, refused or waited for."""
        for reader in (read_greeting, read_credentials, read_request):
            self.survive(reader, data)
            self.survive(reader, b"\x05" + data)
        self.survive(read_credentials, b"\x01" + data)
        self.survive(read_request, b"\x05\x01\x00\x03" + data)
