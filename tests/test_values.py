"""Tests of `portfwd.values`: sides, addresses, reasons and units."""

from __future__ import annotations

from attrs.exceptions import FrozenInstanceError
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from portfwd.values import (
    REFUSALS,
    TO_CLIENT,
    TO_UPSTREAM,
    CloseReason,
    Direction,
    FlowSummary,
    InetAddress,
    SessionSummary,
    Side,
    UnixAddress,
    as_inet,
    as_unix,
    ascii_host,
    is_literal,
    named_host,
    printable,
    unmapped,
)


class SideTests(SynchronousTestCase):
    """Sides and directions."""

    def test_other(self) -> None:
        """Each side is the other's other."""
        self.assertIs(Side.CLIENT.other, Side.UPSTREAM)
        self.assertIs(Side.UPSTREAM.other, Side.CLIENT)

    def test_directions(self) -> None:
        """A direction knows whose bytes it carries, and to whom."""
        self.assertEqual((TO_UPSTREAM.source, TO_UPSTREAM.destination), (Side.CLIENT, Side.UPSTREAM))
        self.assertEqual((TO_CLIENT.source, TO_CLIENT.destination), (Side.UPSTREAM, Side.CLIENT))
        self.assertEqual(set(Direction), {TO_CLIENT, TO_UPSTREAM})


class CloseReasonTests(SynchronousTestCase):
    """The table of close reasons."""

    def test_codes(self) -> None:
        """Every code is two characters, no two are equal, and each has a meaning of one line."""
        codes = [reason.code for reason in CloseReason]
        self.assertEqual(len(set(codes)), len(CloseReason.__members__))
        for reason in CloseReason:
            self.assertRegex(reason.code, r"^(--|[A-Za-z][CDHNT])$")
            self.assertEqual(reason.meaning.splitlines(), [reason.meaning])
            self.assertEqual(str(reason), reason.code)

    def test_promised(self) -> None:
        """The codes that the design promises are all there."""
        promised = {
            "--",
            "CD",
            "SD",
            "cD",
            "sD",
            "cH",
            "sH",
            "SC",
            "sC",
            "DC",
            "LC",
            "AC",
            "FD",
            "KD",
            "TD",
            "ID",
        }
        self.assertLessEqual(promised, {reason.code for reason in CloseReason})

    def test_refusals(self) -> None:
        """Only access list and limit close with FIN although they refuse."""
        self.assertEqual({reason.code for reason in REFUSALS}, {"AC", "LC"})


class AddressTests(SynchronousTestCase):
    """Addresses and their text."""

    def test_text(self) -> None:
        """IPv6 stands in brackets; a unix socket has its prefix."""
        self.assertEqual(str(InetAddress("10.0.0.1", 80)), "10.0.0.1:80")
        self.assertEqual(str(InetAddress("2001:db8::1", 80)), "[2001:db8::1]:80")
        self.assertEqual(str(InetAddress("", 80)), ":80")
        self.assertEqual(str(UnixAddress("/run/x")), "unix:/run/x")

    def test_sockaddr(self) -> None:
        """The sign of an abstract name becomes NUL; a path stays."""
        self.assertEqual(UnixAddress("@x@").sockaddr, "\0x@")
        self.assertEqual(UnixAddress("/run/@x").sockaddr, "/run/@x")
        self.assertEqual(UnixAddress("").sockaddr, "")

    def test_frozen(self) -> None:
        """Values cannot be changed, and equal ones are one key."""
        address = InetAddress("10.0.0.1", 80)
        with self.assertRaises(FrozenInstanceError):
            address.port = 81  # type: ignore[misc]
        self.assertEqual({address, InetAddress("10.0.0.1", 80)}, {address})

    def test_literals(self) -> None:
        """Literals of both families, with a zone too; names and nearly-literals are none."""
        for host in ("10.0.0.1", "::", "2001:db8::1", "fe80::1%eth0", "::ffff:10.0.0.1"):
            self.assertTrue(is_literal(host), host)
        for host in ("", "localhost", "10.0.0", "10.0.0.256", "[::1]", "10.0.0.1:80", "*"):
            self.assertFalse(is_literal(host), host)

    def test_unmapped(self) -> None:
        """An IPv4-mapped literal becomes IPv4 however it is written; everything else stays."""
        for host in ("::ffff:10.0.0.1", "::FFFF:10.0.0.1", "::ffff:a00:1"):
            self.assertEqual(unmapped(host), "10.0.0.1")
        for host in ("10.0.0.1", "::1", "::ffff:1:2:3", "::ffff:name", "::10.0.0.1", "", "localhost"):
            self.assertEqual(unmapped(host), host)


class NameTests(SynchronousTestCase):
    """Names of hosts as DNS has them."""

    def test_idna_2008(self) -> None:
        """ß is a letter of its own (RFC 5891), large letters become small; ASCII stays."""
        for written, wanted in (
            ("straße.example", "xn--strae-oqa.example"),
            ("Faß.de.", "xn--fa-hia.de."),
            ("βόλος.com", "xn--nxasmm1c.com"),
            ("a_b.Bücher.example", "a_b.xn--bcher-kva.example"),
            ("WEB_1.example", "WEB_1.example"),
            ("xn--strae-oqa.example", "xn--strae-oqa.example"),
            ("2001:db8::1", "2001:db8::1"),
        ):
            self.assertEqual(ascii_host(written), wanted)

    def test_no_name(self) -> None:
        """A label that IDNA does not permit is named."""
        for written in ("a.☃.net", "ü" * 64 + ".de", "ü*.de"):
            self.assertRaisesRegex(ValueError, "cannot be part of a name in DNS", ascii_host, written)


class SummaryTests(SynchronousTestCase):
    """What the closing line is made from."""

    def test_defaults(self) -> None:
        """A session that has only been accepted has moved nothing, for no reason yet."""
        summary = SessionSummary(1, "web", ("", "80", "h", "81"), None, None, None, 0.0)
        self.assertIsNone(summary.reason)
        self.assertEqual(summary.to_upstream, FlowSummary(bytes=0, reads=0, writes=0, spliced=0, paused=0.0))
        self.assertEqual(summary.to_upstream, summary.to_client)
        self.assertEqual(summary.access_step, 0)


class PrintableTests(SynchronousTestCase):
    """Text that cannot break what it is written into."""

    def test_examples(self) -> None:
        """Plain text stays; what could do harm is escaped, the backslash too."""
        for text, expected in (
            ("plain text: é ü", "plain text: é ü"),
            ("a\tb\n\x00\x7f\x85", r"a\x09b\x0a\x00\x7f\x85"),
            ("\u2028\u202e\ufeff", r"\u2028\u202e\ufeff"),
            ("\udcff", r"\udcff"),
            ("\U000e0001", r"\U000e0001"),
            ("C:\\n", r"C:\\n"),
        ):
            self.assertEqual(printable(text), expected)

    @given(st.text(st.characters()))
    def test_reads_back(self, text: str) -> None:
        """The result can be shown, is one line, can be encoded, and gives the text back."""
        shown = printable(text)
        self.assertTrue(shown.isprintable())
        self.assertEqual(shown.encode().decode(), shown)
        escaped = shown.encode("ascii", "backslashreplace").decode("ascii")
        self.assertEqual(escaped.encode("ascii").decode("unicode_escape"), text)


class KindsOfAddressesTests(SynchronousTestCase):
    """Which kind an address is."""

    def test_kinds(self) -> None:
        """Each is of one kind; None, and what is no address, is of none."""
        literal, name, unix = InetAddress("::1", 1), InetAddress("host.test", 1), UnixAddress("@x")
        for address, expected in (
            (literal, (literal, None, None)),
            (name, (name, None, name)),
            (unix, (None, unix, None)),
            (None, (None, None, None)),
            ("text", (None, None, None)),
        ):
            self.assertEqual((as_inet(address), as_unix(address), named_host(address)), expected)
