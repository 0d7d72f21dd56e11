"""Tests of `portfwd.wire.client_hello`, with messages that real programs sent."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from portfwd.wire import Need, TooLong, WireError
from portfwd.wire.client_hello import MAX_HELLO, MAX_RECORD, MAX_RECORDS, ClientHello, read_client_hello
from tests.wire.conversations import ReaderTestCase
from tests.wire.hellos import HELLOS, openssl

#: Into records of so many bytes the largest message of a browser may be cut (see `MAX_RECORDS`).
LEAST_RECORD = 32


def extension(kind: int, content: bytes) -> bytes:
    """Make an extension."""
    return kind.to_bytes(2, "big") + sized(2, content)


def sized(size: int, content: bytes) -> bytes:
    """Put a length of `size` bytes before `content`."""
    return len(content).to_bytes(size, "big") + content


def server_name(name: bytes) -> bytes:
    """Make the extension that has a name."""
    return extension(0, sized(2, b"\0" + sized(2, name)))


def alpn(*names: bytes) -> bytes:
    """Make the extension that has protocols."""
    return extension(16, sized(2, b"".join(sized(1, name) for name in names)))


def message(
    *extensions: bytes,
    version: bytes = b"\x03\x03",
    session: bytes = b"",
    suites: bytes = b"\x13\x01",
    methods: bytes = b"\0",
    tail: bytes = b"",
) -> bytes:
    """Make a ClientHello; without extensions it is one as of old, that has no place for them."""
    body = version + bytes(32) + sized(1, session) + sized(2, suites) + sized(1, methods)
    if extensions:
        body += sized(2, b"".join(extensions))
    return b"\x01" + sized(3, body + tail)


def records(handshake: bytes, *cuts: int) -> bytes:
    """Put a message into records, a new one at each of `cuts`."""
    edges = [0, *cuts, len(handshake)]
    return b"".join(b"\x16\x03\x01" + sized(2, handshake[start:end]) for start, end in pairwise(edges))


def groups(*numbers: int) -> bytes:
    """Make the extension that has the groups of the key exchange."""
    return extension(10, sized(2, b"".join(number.to_bytes(2, "big") for number in numbers)))


def keys(*numbers: int) -> bytes:
    """Make the extension that has a key of each of these groups."""
    return extension(
        51, sized(2, b"".join(number.to_bytes(2, "big") + sized(2, b"key") for number in numbers))
    )


class KeyExchangeTests(ReaderTestCase):
    """Whether a server may choose a finite field."""

    def test_table(self) -> None:
        """The first key of a known group decides, or without one whether the client knows a curve."""
        p256, x25519, ffdhe8192, hybrid, unknown = 23, 29, 0x0104, 0x11EC, 0x9A9A
        for known, sent, wanted in (
            ((x25519, ffdhe8192), (x25519,), False),
            ((x25519, ffdhe8192), (p256, ffdhe8192), False),
            ((x25519, ffdhe8192), (ffdhe8192,), True),
            ((x25519, ffdhe8192), (ffdhe8192, x25519), True),
            ((x25519, ffdhe8192), (unknown, ffdhe8192), True),
            ((x25519, ffdhe8192), (hybrid, ffdhe8192), True),
            ((hybrid, x25519), (hybrid, x25519), False),
            ((hybrid,), (hybrid,), False),
            ((ffdhe8192, x25519), (), False),
            ((unknown, ffdhe8192), (), True),
            ((ffdhe8192,), (unknown,), True),
            ((0x01FF,), (), True),
            ((), (), False),
        ):
            for extensions in ((groups(*known), keys(*sent)), (keys(*sent), groups(*known))):
                hello = self.read(read_client_hello, records(message(*extensions)))
                self.assertEqual(hello.finite_field, wanted, f"{known} {sent}")

    def test_before(self) -> None:
        """Before TLS 1.3 a client sends no keys, and the ciphers decide."""
        self.assertFalse(self.read(read_client_hello, records(message(groups(0x0104)))).finite_field)

    def test_cut(self) -> None:
        """Lists that end before their lengths do are refused."""
        for bad in (
            extension(10, b"\0\3\0\x1d\0"),
            extension(10, b"\0\2\0\x1d\0"),
            extension(51, b"\0\5\0\x1d\0\4k"),
            extension(51, b"\0\0\0"),
        ):
            self.assertRaises(WireError, read_client_hello, records(message(bad)))


class RealTests(ReaderTestCase):
    """What OpenSSL, Chromium and Firefox send."""

    def test_programs(self) -> None:
        """The name and the protocols are found, with a key share of hundreds of bytes and without."""
        http = (b"h2", b"http/1.1")
        for program, least, name, protocols in (
            ("openssl-3.0", 300, "www.example.com", http),
            ("openssl-3.0-tls-1.2", 200, "www.example.com", ()),
            ("openssl-3.0-no-name", 200, "", ()),
            ("openssl-3.5", 1500, "www.example.com", http),
            ("chromium-156", 1900, "www.example.com", http),
            ("firefox-153", 1800, "www.example.com", http),
        ):
            data = HELLOS[program]
            self.assertGreater(len(data), least)
            self.assertEqual(self.read(read_client_hello, data), ClientHello(name, protocols), program)

    def test_other_names(self) -> None:
        """The message of OpenSSL with another name, and without one."""
        self.assertEqual(self.read(read_client_hello, openssl("a.example")), ClientHello("a.example"))
        self.assertEqual(self.read(read_client_hello, openssl(None)), ClientHello())

    def test_large(self) -> None:
        """With many protocols the message needs two records, and is read all the same."""
        names = tuple(f"protocol-number-{number:05}-{'x' * 200}" for number in range(73))
        data = openssl("large.example", names)
        self.assertGreater(len(data), MAX_RECORD)
        hello = self.read(read_client_hello, data)
        self.assertEqual(hello, ClientHello("large.example", tuple(name.encode() for name in names)))

    def test_in_records(self) -> None:
        """Cut into records anywhere, as tools against filters do, it says the same."""
        for program in ("openssl-3.0", "openssl-3.5", "chromium-156", "firefox-153"):
            data = HELLOS[program]
            expected = self.read(read_client_hello, data)
            handshake = data[5:]
            even = tuple(range(LEAST_RECORD, len(handshake), LEAST_RECORD))
            for cuts in ((1,), (3,), (4,), (5,), (100,), (1, 2, 3, 4, 5), even):
                hello = self.read(read_client_hello, records(handshake, *cuts))
                self.assertEqual(hello, expected, (program, cuts))


class ReadTests(ReaderTestCase):
    """Messages made by hand."""

    def test_minimal(self) -> None:
        """A message of old, without extensions, is one without a name; so is an empty list of them."""
        self.assertEqual(self.read(read_client_hello, records(message())), ClientHello())
        self.assertEqual(self.read(read_client_hello, records(message(b""))), ClientHello())

    def test_names(self) -> None:
        """Names come in small letters and without a dot at their end."""
        for sent, name in (
            (b"Example.COM", "example.com"),
            (b"example.com.", "example.com"),
            (b"localhost", "localhost"),
            (b"_srv.a-b.example", "_srv.a-b.example"),
            (b"192.0.2.1", "192.0.2.1"),
            (b"xn--bcher-kva.example", "xn--bcher-kva.example"),
            (b".".join([b"x" * 63] * 3) + b"." + b"y" * 61, ".".join(["x" * 63] * 3) + "." + "y" * 61),
        ):
            hello = self.read(read_client_hello, records(message(server_name(sent))))
            self.assertEqual(hello.server_name, name)

    def test_other_extensions(self) -> None:
        """Extensions that are not known are skipped, empty ones too."""
        data = records(
            message(extension(0x0A0A, b""), server_name(b"a.b"), extension(21, bytes(500)), alpn(b"x"))
        )
        self.assertEqual(self.read(read_client_hello, data), ClientHello("a.b", (b"x",)))

    def test_rest_of_the_record(self) -> None:
        """Whatever else the last record holds belongs to it."""
        data = b"\x16\x03\x01" + sized(2, message(server_name(b"a.b")) + b"more")
        self.assertEqual(self.read(read_client_hello, data), ClientHello("a.b"))

    def test_needs(self) -> None:
        """A record's head is asked for first, then the whole record."""
        data = records(message(), 2)
        needs = [read_client_hello(data[:length]) for length in (0, 4, 5, 6, 7, 11, 12)]
        self.assertEqual(needs, [Need(n) for n in (5, 5, 7, 7, 12, 12, len(data))])


class RefuseTests(ReaderTestCase):
    """What is no ClientHello, or a wrong one."""

    def test_not_tls(self) -> None:
        """Other protocols are refused at the first byte that shows it."""
        for data in (b"G", b"SSH-2.0-", b"\x80\x2e\x01\0\x02", b"\x15\x03\x01\0\x02\x02\x28", b"\x17", b"\0"):
            self.refuse(read_client_hello, data, "no handshake record")
        for data in (b"\x16\x02", b"\x16\x04\x00", b"\x16G"):
            self.refuse(read_client_hello, data, "no version of it")

    def test_record_lengths(self) -> None:
        """A record has at least one byte and at most 16384."""
        for length in (0, MAX_RECORD + 1, 0xFFFF):
            self.refuse(read_client_hello, b"\x16\x03\x01" + length.to_bytes(2, "big"), "1 to 16384")

    def test_other_message(self) -> None:
        """Handshakes that begin with another message are refused, before that is complete."""
        self.refuse(read_client_hello, b"\x16\x03\x01\x40\x00\x02", "begin with a ClientHello")

    def test_interrupted(self) -> None:
        """An alert between the records of a message ends it."""
        data = records(message(server_name(b"a.b")), 10)
        second = data.index(b"\x16\x03\x01", 5)
        self.refuse(read_client_hello, data[:second] + b"\x15" + data[second + 1 :], "cut short")

    def test_too_long(self) -> None:
        """More than 64 KiB are refused as soon as that is announced, by the message or by its records."""
        handshake = b"\x01" + (MAX_HELLO - 3).to_bytes(3, "big")
        self.refuse(read_client_hello, records(handshake), "65536", TooLong)
        handshake = b"\x01" + (MAX_HELLO - 4).to_bytes(3, "big") + bytes(MAX_HELLO - 4)
        whole = records(handshake, *range(MAX_RECORD, len(handshake), MAX_RECORD))
        self.assertIsInstance(read_client_hello(whole[: 3 * (MAX_RECORD + 5)]), Need)
        self.refuse(read_client_hello, whole, "65536", TooLong)

    def test_too_many_records(self) -> None:
        """A message in more than 64 records is refused; in 64 it is read."""
        handshake = message(server_name(b"a.b"), extension(21, bytes(100)))
        self.read(read_client_hello, records(handshake, *range(1, MAX_RECORDS)))
        self.refuse(read_client_hello, records(handshake, *range(1, MAX_RECORDS + 1)), "64 records", TooLong)

    def test_fields(self) -> None:
        """Version, session id, suites, methods and the end are what they have to be."""
        for handshake, part in (
            (message(version=b"\x02\x00"), "version"),
            (message(session=bytes(33)), "session id"),
            (message(suites=b""), "cipher suites"),
            (message(suites=b"\x13"), "cipher suites"),
            (message(methods=b""), "compression"),
            (message(b"", tail=b"x"), "behind its end"),
            (message(tail=b"x"), "ends before"),
            (b"\x01\0\0\0", "ends before"),
            (message(server_name(b"a.b")[:-1]), "ends before"),
        ):
            self.refuse(read_client_hello, records(handshake), part)

    def test_twice(self) -> None:
        """No extension comes twice, an unknown one neither."""
        for one in (server_name(b"a.b"), alpn(b"x"), extension(99, b"")):
            self.refuse(read_client_hello, records(message(one, one)), "twice")

    def test_names(self) -> None:
        """What cannot be a name of DNS is none, and nor is a list of several."""
        for name in (
            b"", b".", b"a..b", b".a", b"a b", b"a\0b", b"a/b", b"*.example.com", b"a\n", "bücher".encode(),
            b"x" * 64, b".".join([b"x" * 63] * 3) + b"." + b"y" * 62, b"[::1]", b"a..",
        ):  # fmt: skip
            self.refuse(read_client_hello, records(message(server_name(name))), "no host name")
        two = b"\0" + sized(2, b"a.b") + b"\0" + sized(2, b"c.d")
        for content, part in (
            (sized(2, two), "behind its end"),
            (sized(2, b"\1" + sized(2, b"a.b")), "no host name"),
            (sized(2, b""), "ends before"),
            (b"", "ends before"),
            (sized(2, b"\0" + sized(2, b"a.b")) + b"x", "behind its end"),
        ):
            self.refuse(read_client_hello, records(message(extension(0, content))), part)

    def test_protocols(self) -> None:
        """A list of protocols has some, and none is empty."""
        for one, part in (
            (alpn(), "empty list"),
            (alpn(b"h2", b""), "empty protocol"),
            (extension(16, b"\0\x05\x02h2"), "ends before"),
            (extension(16, sized(2, b"\x02h2") + b"x"), "behind its end"),
        ):
            self.refuse(read_client_hello, records(message(one)), part)


class FuzzTests(ReaderTestCase):
    """Bytes of nobody in particular."""

    @given(st.integers(0, 600), st.binary(min_size=1, max_size=4), st.booleans())
    @settings(max_examples=150, deadline=None)
    def test_damaged(self, place: int, patch: bytes, cut: bool) -> None:
        """A real message with bytes changed or cut out is read, refused or waited for."""
        data = openssl("www.example.com", ("h2", "http/1.1"))
        place = 5 + place % (len(data) - 5)
        self.survive(read_client_hello, data[:place] + patch + data[place + len(patch) * (1 + cut) :])

    @given(st.lists(st.integers(1, 500), max_size=12), st.sampled_from([(), ("h2",)]))
    @settings(max_examples=50, deadline=None)
    def test_any_records(self, cuts: Sequence[int], protocols: tuple[str, ...]) -> None:
        """However a message is put into records, it says the same."""
        data = openssl("www.example.com", protocols)
        inside = sorted({cut for cut in cuts if cut < len(data) - 5})
        hello = self.read(read_client_hello, records(data[5:], *inside))
        self.assertEqual(hello.server_name, "www.example.com")

    @given(st.binary(max_size=80))
    @settings(max_examples=100, deadline=None)
    def test_survives(self, body: bytes) -> None:
        """Any handshake is read, refused or waited for."""
        self.survive(read_client_hello, body)
        self.survive(read_client_hello, records(b"\x01" + sized(3, b"\x03\x03" + bytes(32) + body)))
