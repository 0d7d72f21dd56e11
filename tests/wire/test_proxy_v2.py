"""Tests of `portfwd.wire.proxy_v2`: the binary header, field by field."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from portfwd.values import InetAddress, UnixAddress
from portfwd.wire import Need, TooLong
from portfwd.wire.crc32c import crc32c
from portfwd.wire.proxy_header import MAX_HEADER, Header
from portfwd.wire.proxy_tlvs import (
    ALPN,
    AUTHORITY,
    CLIENT_SSL,
    CRC32C,
    NOOP,
    SSL_CIPHER,
    SSL_VERSION,
    UNIQUE_ID,
    ClientTLS,
    read_client_tls,
)
from portfwd.wire.proxy_v2 import SIGNATURE, build_v2, read_v2
from tests.wire import proxy_values
from tests.wire.conversations import ReaderTestCase

#: 192.0.2.1:4660 to 198.51.100.2:80.
BLOCK4 = bytes([192, 0, 2, 1, 198, 51, 100, 2]) + b"\x12\x34\x00\x50"
INET = Header(InetAddress("192.0.2.1", 0x1234), InetAddress("198.51.100.2", 80))
BLOCK6 = bytes.fromhex("20010db8000000000000000000000001 20010db8000000000000000000000002 1234 0050")
INET6 = Header(InetAddress("2001:db8::1", 0x1234), InetAddress("2001:db8::2", 80))
BLOCK_UNIX = b"/run/client".ljust(108, b"\0") + b"\0abstract".ljust(108, b"\0")
UNIX = Header(UnixAddress("/run/client"), UnixAddress("@abstract"))


def raw(command: int, family: int, block: bytes, *, version: int = 2, length: int | None = None) -> bytes:
    """Make a header of any numbers."""
    length = len(block) if length is None else length
    return SIGNATURE + bytes([version << 4 | command, family]) + length.to_bytes(2, "big") + block


class HAProxyTests(ReaderTestCase):
    """What HAProxy 2.6 sent."""

    def test_tls(self) -> None:
        """To a server with ``send-proxy-v2 proxy-v2-options crc32c,unique-id,authority,ssl,ssl-cipher``."""
        data = (
            b"\r\n\r\n\x00\r\nQUIT\n!\x11\x00v\x7f\x00\x00\x01\x7f\x00\x00\x01\xd9\xa6n)"
            b"\x03\x00\x044\x96\x0c\xd3\x01\x00\x02h2\x02\x00\ta.example"
            b"\x05\x00$cb8302c2-0ebb-4518-b3b6-792c3665f901"
            b" \x00(\x01\x00\x00\x00\x00!\x00\x07TLSv1.3#\x00\x16TLS_AES_256_GCM_SHA384"
        )
        header = self.read(read_v2, data)
        self.assertEqual(header.source, InetAddress("127.0.0.1", 55718))
        self.assertEqual(header.destination, InetAddress("127.0.0.1", 28201))
        self.assertEqual(header.tlvs[:2], ((ALPN, b"h2"), (AUTHORITY, b"a.example")))
        self.assertEqual(header.tlvs[2], (UNIQUE_ID, b"cb8302c2-0ebb-4518-b3b6-792c3665f901"))
        tls = read_client_tls(header.tlvs[3][1])
        inner = ((SSL_VERSION, b"TLSv1.3"), (SSL_CIPHER, b"TLS_AES_256_GCM_SHA384"))
        self.assertEqual(tls, ClientTLS(CLIENT_SSL, 0, inner))
        self.assertFalse(tls.verified)

    def test_ipv6(self) -> None:
        """For a client on ``::1``."""
        data = b"\r\n\r\n\x00\r\nQUIT\n!!\x00$" + bytes(15) + b"\x01" + bytes(15) + b"\x01" + b"\xdc2n+"
        self.assertEqual(
            self.read(read_v2, data), Header(InetAddress("::1", 56370), InetAddress("::1", 28203))
        )

    def test_check(self) -> None:
        """For its own health check, and for clients of a unix socket."""
        self.assertEqual(self.read(read_v2, b"\r\n\r\n\x00\r\nQUIT\n \x00\x00\x00"), Header(local=True))


class ReadTests(ReaderTestCase):
    """Headers that are taken."""

    def test_families(self) -> None:
        """Addresses and ports of each family stand where the specification puts them."""
        for family, block, header in ((0x11, BLOCK4, INET), (0x21, BLOCK6, INET6), (0x31, BLOCK_UNIX, UNIX)):
            self.assertEqual(self.read(read_v2, raw(1, family, block)), header)

    def test_datagrams(self) -> None:
        """The same blocks for datagrams are said to be of datagrams."""
        for family, block in ((0x12, BLOCK4), (0x22, BLOCK6), (0x32, BLOCK_UNIX)):
            header = self.read(read_v2, raw(1, family, block))
            self.assertTrue(header.datagram)
            self.assertIsNotNone(header.source)

    def test_local(self) -> None:
        """LOCAL skips what follows, whatever family it names, and keeps the socket's addresses."""
        for family in (0x00, 0x11, 0x31, 0xFF):
            for block in (b"", b"x", BLOCK4, b"\xff" * 300):
                self.assertEqual(self.read(read_v2, raw(0, family, block)), Header(local=True))

    def test_unspecified(self) -> None:
        """No family or no protocol keeps the socket's addresses; the length is skipped all the same."""
        for family, block in (
            (0x00, b""), (0x00, b"\xff" * 9), (0x01, b""), (0x02, BLOCK4),
            (0x10, BLOCK4), (0x20, BLOCK6), (0x30, BLOCK_UNIX),
        ):  # fmt: skip
            self.assertEqual(self.read(read_v2, raw(1, family, block)), Header())

    def test_mapped(self) -> None:
        """An IPv4 address in an IPv6 header is the IPv4 address."""
        block = bytes(10) + b"\xff\xff" + BLOCK4[:4] + bytes(10) + b"\xff\xff" + BLOCK4[4:]
        self.assertEqual(self.read(read_v2, raw(1, 0x21, block)), INET)

    def test_unix_names(self) -> None:
        """Names end at their first NUL or fill their field; no name is an empty one; bytes survive."""
        for field, path in (
            (b"/a\0/garbage", "/a"),
            (b"/" + b"x" * 107, "/" + "x" * 107),
            (b"", ""),
            (b"\0a\0b", "@a\0b"),
            (b"/\xff", "/\udcff"),
        ):
            header = self.read(read_v2, raw(1, 0x31, field.ljust(108, b"\0") + bytes(108)))
            self.assertEqual(header.source, UnixAddress(path))

    def test_tlvs(self) -> None:
        """TLVs are kept in their order, without padding."""
        tlvs = b"\x01\x00\x02h2" + b"\x04\x00\x03xxx" + b"\x05\x00\x01u" + b"\xea\x00\x00"
        header = self.read(read_v2, raw(1, 0x11, BLOCK4 + tlvs))
        self.assertEqual(header.tlvs, ((ALPN, b"h2"), (UNIQUE_ID, b"u"), (0xEA, b"")))
        unspecified = self.read(read_v2, raw(1, 0x10, BLOCK4 + tlvs))
        self.assertEqual(unspecified, Header(tlvs=header.tlvs))

    def test_checksum(self) -> None:
        """A right checksum is taken, wherever it stands, and is not among the TLVs."""
        for before, behind in ((b"", b""), (b"\x04\x00\x01x", b"\x01\x00\x02h2")):
            zeroed = raw(1, 0x11, BLOCK4 + before + b"\x03\x00\x04\0\0\0\0" + behind)
            place = zeroed.index(b"\x03\x00\x04\0\0\0\0") + 3
            whole = zeroed[:place] + crc32c(zeroed).to_bytes(4, "big") + zeroed[place + 4 :]
            self.assertEqual(self.read(read_v2, whole).tlvs, ((ALPN, b"h2"),) if behind else ())

    def test_needs(self) -> None:
        """The fixed part is asked for first, then exactly what it announces."""
        whole = raw(1, 0x11, BLOCK4)
        self.assertEqual(
            [read_v2(whole[:length]) for length in (0, 15, 16, 27)], [Need(16), Need(16), Need(28), Need(28)]
        )

    def test_longest(self) -> None:
        """A header of the longest length is taken, one that is a byte longer refused at its fixed part."""
        size = MAX_HEADER - 16
        self.read(read_v2, raw(0, 0, bytes(size)))
        self.refuse(read_v2, raw(0, 0, b"", length=size + 1), str(MAX_HEADER), TooLong)


class RefuseTests(ReaderTestCase):
    """Headers that are not."""

    def test_signature(self) -> None:
        """Every byte of the signature counts, and is looked at as soon as it comes."""
        for position in range(len(SIGNATURE)):
            wrong = SIGNATURE[:position] + bytes([SIGNATURE[position] ^ 1])
            self.refuse(read_v2, wrong, "does not begin")

    def test_version(self) -> None:
        """Only version 2 is taken."""
        for version in (0, 1, 3, 15):
            self.refuse(read_v2, raw(1, 0x11, BLOCK4, version=version), "version 2 only")

    def test_command(self) -> None:
        """Only LOCAL and PROXY are taken."""
        for command in range(2, 16):
            self.refuse(read_v2, raw(command, 0x11, BLOCK4), "LOCAL or PROXY")

    def test_family_and_protocol(self) -> None:
        """Families above 3 and protocols above 2 are refused."""
        for family in (0x40, 0x41, 0xF1, 0x03, 0x13, 0x1F, 0xFF):
            self.refuse(read_v2, raw(1, family, BLOCK_UNIX), "does not exist")

    def test_too_short(self) -> None:
        """A length below that of the family's addresses is refused at once."""
        for family, length in ((0x10, 12), (0x11, 12), (0x12, 12), (0x21, 36), (0x22, 36), (0x31, 216)):
            for wrong in (0, length - 1):
                self.refuse(read_v2, raw(1, family, b"", length=wrong), "too short")

    def test_tlvs(self) -> None:
        """TLVs end exactly where the header does, in unspecified protocols too."""
        for tlvs in (b"\0", b"\x01\x00", b"\x01\x00\x05abcd", b"\x01\x00\x00\xff"):
            for family in (0x11, 0x12, 0x10):
                self.refuse(read_v2, raw(1, family, BLOCK4 + tlvs), "ends before")

    def test_unique_id(self) -> None:
        """A unique id of more than 128 bytes is refused."""
        self.refuse(read_v2, raw(1, 0x11, BLOCK4 + b"\x05\x00\x81" + bytes(129)), "128")

    def test_checksum(self) -> None:
        """A bit that is wrong anywhere is found, and so is a second checksum."""
        whole = build_v2(INET, checksum=True)
        for position in range(18, len(whole)):
            if len(whole) - 7 <= position < len(whole) - 4:
                continue  # the TLV's own type and length: without them there is no checksum
            wrong = whole[:position] + bytes([whole[position] ^ 0x10]) + whole[position + 1 :]
            self.refuse(read_v2, wrong, "wrong")
        twice = raw(1, 0x11, BLOCK4 + b"\x03\x00\x04\0\0\0\0" * 2)
        self.refuse(read_v2, twice, "one checksum")


class BuildTests(ReaderTestCase):
    """Headers that are written."""

    def test_bytes(self) -> None:
        """Addresses, ports and TLVs stand where they belong."""
        self.assertEqual(build_v2(INET), raw(1, 0x11, BLOCK4))
        self.assertEqual(build_v2(INET6), raw(1, 0x21, BLOCK6))
        self.assertEqual(build_v2(UNIX), raw(1, 0x31, BLOCK_UNIX))
        self.assertEqual(build_v2(Header(local=True)), raw(0, 0, b""))
        self.assertEqual(build_v2(Header()), raw(1, 0, b""))
        with_tlv = Header(INET.source, INET.destination, ((AUTHORITY, b"x.example"),))
        self.assertEqual(build_v2(with_tlv), raw(1, 0x11, BLOCK4 + b"\x02\x00\x09x.example"))

    def test_checksum(self) -> None:
        """The checksum is the last TLV, over the header with zeros in its place."""
        whole = build_v2(INET, checksum=True)
        self.assertEqual(whole[-7:-4], bytes([CRC32C, 0, 4]))
        self.assertEqual(int.from_bytes(whole[-4:], "big"), crc32c(whole[:-4] + bytes(4)))

    def test_mixed(self) -> None:
        """Addresses of two families go as IPv6; an IP address and a unix socket as of no family."""
        header = Header(INET.source, INET6.destination)
        self.assertEqual(self.read(read_v2, build_v2(header)), header)
        self.assertEqual(build_v2(Header(INET.source, UNIX.destination)), raw(1, 0, b""))

    def test_long_name(self) -> None:
        """A socket's name that does not fit is left out, not cut."""
        header = Header(UnixAddress("/" + "x" * 108), UNIX.destination)
        self.assertEqual(self.read(read_v2, build_v2(header)).source, UnixAddress(""))

    def test_too_long(self) -> None:
        """TLVs that no header has room for are an error."""
        self.assertRaises(ValueError, build_v2, Header(tlvs=((0xE0, bytes(0xFFFF)),)))

    @given(proxy_values.headers, st.booleans())
    @settings(max_examples=150, deadline=None)
    def test_back(self, header: Header, checksum: bool) -> None:
        """What is built is read as what it was built from, split anywhere."""
        self.assertEqual(self.read(read_v2, build_v2(header, checksum=checksum)), header)


class FuzzTests(ReaderTestCase):
    """Bytes of nobody in particular."""

    @given(
        st.integers(0, 255),
        st.one_of(st.integers(0, 255), st.sampled_from([0x11, 0x21, 0x31])),
        st.one_of(st.none(), st.integers(0, 60)),
        st.one_of(
            st.binary(max_size=60),
            st.builds(lambda tail: BLOCK4 + tail, st.binary(max_size=20)),
            st.builds(
                lambda tlvs: BLOCK4 + b"".join(bytes([kind, 0, size]) + bytes(size) for kind, size in tlvs),
                st.lists(st.tuples(st.sampled_from([CRC32C, NOOP, ALPN]), st.integers(0, 5)), max_size=4),
            ),
        ),
    )
    @settings(max_examples=250, deadline=None)
    def test_survives(self, first: int, family: int, length: int | None, block: bytes) -> None:
        """Every header is read, refused or waited for."""
        data = raw(first & 15, family, block, version=first >> 4, length=length)
        self.survive(read_v2, data)
        self.survive(read_v2, raw(1, family, block, length=length))
