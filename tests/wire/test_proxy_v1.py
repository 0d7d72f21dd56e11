r"""Tests of `portfwd.wire.proxy_v1`: ``PROXY TCP4 …\r\n`` and nothing else."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from portfwd.values import InetAddress, UnixAddress
from portfwd.wire import Need, TooLong
from portfwd.wire.proxy_header import Header
from portfwd.wire.proxy_v1 import MAX_LINE, build_v1, read_v1
from tests.wire import proxy_values
from tests.wire.conversations import ReaderTestCase

FULL = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
#: The longest line of the specification's examples.
LONGEST = f"PROXY UNKNOWN {FULL} {FULL} 65535 65535\r\n".encode()


class ReadTests(ReaderTestCase):
    """Lines that are taken."""

    def test_specification(self) -> None:
        """The example of the specification, section 2.1."""
        header = self.read(read_v1, b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n")
        self.assertEqual(header, Header(InetAddress("192.168.0.1", 56324), InetAddress("192.168.0.11", 443)))

    def test_ipv6(self) -> None:
        """IPv6 addresses may be written in every form, and are read as the shortest."""
        for text, host in (
            ("2001:db8::1", "2001:db8::1"),
            ("2001:0DB8:0:0:0:0:0:0001", "2001:db8::1"),
            (FULL, FULL),
            ("::", "::"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("::ffff:c000:201", "192.0.2.1"),
        ):
            header = self.read(read_v1, f"PROXY TCP6 {text} ::1 1 65535\r\n".encode())
            self.assertEqual(header, Header(InetAddress(host, 1), InetAddress("::1", 65535)))

    def test_unknown(self) -> None:
        """``UNKNOWN`` keeps the socket's addresses, whatever stands behind it; even the longest line does."""
        self.assertEqual(len(LONGEST), MAX_LINE)
        for line in (b"PROXY UNKNOWN\r\n", b"PROXY UNKNOWN \xff\0 anything  at all\r\n", LONGEST):
            self.assertEqual(self.read(read_v1, line), Header())

    def test_port_zero(self) -> None:
        """Port 0 is a number like others."""
        self.assertEqual(self.read(read_v1, b"PROXY TCP4 1.2.3.4 1.2.3.4 0 0\r\n").source.port, 0)

    def test_nothing_yet(self) -> None:
        """Without a byte, one is asked for."""
        self.assertEqual(read_v1(b""), Need(1))


class RefuseTests(ReaderTestCase):
    """Lines that are not."""

    def test_signature(self) -> None:
        """What is no PROXY line is refused at the first byte that differs."""
        for data in (b"G", b"PX", b"PROXI", b"PROXY\r", b"proxy TCP4", b"PROXY\tTCP4", b" PROXY"):
            self.refuse(read_v1, data, "does not begin")

    def test_line_ends(self) -> None:
        """CR and LF stand together and nowhere else, in UNKNOWN lines neither."""
        self.refuse(read_v1, b"PROXY TCP4 1.2.3.4 1.2.3.4 1 1\n", "LF alone")
        self.refuse(read_v1, b"PROXY UNKNOWN\n\r\n", "LF alone")
        self.refuse(read_v1, b"PROXY TCP4\n1.2.3.4 1.2.3.4 1 1\r\n", "LF alone")
        self.refuse(read_v1, b"PROXY TCP4 1.2.3.4\r 1.2.3.4 1 1\r\n", "CR without LF")
        self.refuse(read_v1, b"PROXY UNKNOWN \r \r\n", "CR without LF")
        self.refuse(read_v1, b"PROXY UNKNOWN\r\r\n", "CR without LF")

    def test_length(self) -> None:
        """Without CRLF in 107 bytes the line is too long, with it at 108 too."""
        line = b"PROXY UNKNOWN " + b"x" * 91 + b"\r\n"
        self.assertEqual((len(line), self.read(read_v1, line)), (107, Header()))
        for data in (line[:-2] + b"xx", line[:-2] + b"x\r", line[:-2] + b"x\r\n", line[:-2] * 9):
            self.refuse(read_v1, data, "107", TooLong)

    def test_fields(self) -> None:
        """Five fields with single blanks, of TCP4 or TCP6."""
        for text in (
            "", " ", "TCP4", "TCP4 1.2.3.4 1.2.3.4 1", "TCP4 1.2.3.4 1.2.3.4 1 1 1",
            "TCP4 1.2.3.4 1.2.3.4 1 1 ",
            "TCP4  1.2.3.4 1.2.3.4 1 1", " TCP4 1.2.3.4 1.2.3.4 1 1", "TCP4\t1.2.3.4 1.2.3.4 1 1",
            "tcp4 1.2.3.4 1.2.3.4 1 1", "TCP5 1.2.3.4 1.2.3.4 1 1", "UDP4 1.2.3.4 1.2.3.4 1 1",
            "UNKNOWNS", "unknown", "UNKNOW",
        ):  # fmt: skip
            self.refuse(read_v1, f"PROXY {text}\r\n".encode(), "TCP4 or TCP6")

    def test_addresses(self) -> None:
        """Addresses are complete, of the named family, and without leading zeros or zones."""
        for kind, text in (
            ("TCP4", "1.2.3"), ("TCP4", "1.2.3.04"), ("TCP4", "1.2.3.256"), ("TCP4", "::1"), ("TCP4", ""),
            ("TCP4", "16909060"), ("TCP4", "0x1.2.3.4"), ("TCP4", "1.2.3.4/8"), ("TCP4", "١.2.3.4"),
            ("TCP4", "localhost"), ("TCP6", "1.2.3.4"), ("TCP6", "fe80::1%1"), ("TCP6", "fe80::1%eth0"),
            ("TCP6", "[::1]"), ("TCP6", "1::2::3"), ("TCP6", "::12345"), ("TCP6", ""),
        ):  # fmt: skip
            other = "1.2.3.4" if kind == "TCP4" else "::2"
            self.refuse(read_v1, f"PROXY {kind} {text} {other} 1 1\r\n".encode(), "none of its family")
            self.refuse(read_v1, f"PROXY {kind} {other} {text} 1 1\r\n".encode(), "none of its family")

    def test_ports(self) -> None:
        """Ports are numbers up to 65535 without leading zeros or signs."""
        for port in ("65536", "99999", "100000", "01", "00", "-1", "+1", "", "1a", "0x1", "1_0", "²"):
            self.refuse(read_v1, f"PROXY TCP4 1.2.3.4 1.2.3.4 {port} 1\r\n".encode(), "65535")
            self.refuse(read_v1, f"PROXY TCP4 1.2.3.4 1.2.3.4 1 {port}\r\n".encode(), "65535")


class BuildTests(ReaderTestCase):
    """Lines that are written."""

    def test_specification(self) -> None:
        """The example of the specification comes out of its addresses."""
        line = build_v1(InetAddress("192.168.0.1", 56324), InetAddress("192.168.0.11", 443))
        self.assertEqual(line, b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n")

    def test_mixed(self) -> None:
        """Addresses of two families are written as IPv6, and read back as what they were."""
        pair = (InetAddress("192.0.2.1", 1), InetAddress("2001:db8::1", 2))
        line = build_v1(*pair)
        self.assertTrue(line.startswith(b"PROXY TCP6 ::ffff:"))
        self.assertEqual(self.read(read_v1, line), Header(*pair))

    def test_unknown(self) -> None:
        """Where there are no IP addresses the line says UNKNOWN."""
        unix = UnixAddress("/run/x")
        for source, destination in ((None, None), (unix, unix), (InetAddress("name", 1),) * 2):
            self.assertEqual(build_v1(source, destination), b"PROXY UNKNOWN\r\n")

    @given(proxy_values.pairs)
    @settings(max_examples=100, deadline=None)
    def test_back(self, pair: tuple[InetAddress, InetAddress]) -> None:
        """What is built is read as what it was built from, split anywhere."""
        self.assertEqual(self.read(read_v1, build_v1(*pair)), Header(*pair))


class FuzzTests(ReaderTestCase):
    """Bytes of nobody in particular."""

    @given(
        st.lists(
            st.one_of(
                st.sampled_from(
                    [
                        b" ",
                        b"\r",
                        b"\n",
                        b"\r\n",
                        b"TCP4",
                        b"TCP6",
                        b"UNKNOWN",
                        b"1.2.3.4",
                        b"::1",
                        b"0",
                        b"65535",
                    ]
                ),
                st.binary(max_size=8),
            ),
            max_size=12,
        ),
        st.booleans(),
    )
    @settings(max_examples=200, deadline=None)
    def test_survives(self, parts: list[bytes], blanks: bool) -> None:
        """Every line is read, refused or waited for."""
        self.survive(read_v1, b"PROXY " + (b" " if blanks else b"").join(parts))
