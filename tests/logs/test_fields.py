"""Tests of `portfwd.logs.fields`: the parts of a line."""

from __future__ import annotations

from hypothesis import given
from twisted.trial.unittest import SynchronousTestCase

from portfwd.logs.fields import address, seconds, utc_time, word
from portfwd.values import InetAddress, UnixAddress, printable
from tests.logs.summaries import NOON, nasty


class FieldTests(SynchronousTestCase):
    """Times, addresses and words."""

    def test_utc_time(self) -> None:
        """A time is RFC 3339 in UTC, with milliseconds even when there are none."""
        self.assertEqual(utc_time(NOON), "2026-01-31T12:00:00.500Z")
        self.assertEqual(utc_time(0.0), "1970-01-01T00:00:00.000Z")

    def test_seconds(self) -> None:
        """A length of time has six decimals; none is a dash."""
        self.assertEqual([seconds(1.5), seconds(0.0000004), seconds(None)], ["1.500000", "0.000000", "-"])

    def test_address(self) -> None:
        """Addresses are written with their port, IPv6 in brackets, an IPv4-mapped one as IPv4."""
        self.assertEqual(address(InetAddress("10.0.0.1", 80)), "10.0.0.1:80")
        self.assertEqual(address(InetAddress("2001:db8::1", 80)), "[2001:db8::1]:80")
        self.assertEqual(address(InetAddress("::ffff:10.0.0.1", 80)), "10.0.0.1:80")
        self.assertEqual(address(UnixAddress("@x")), "unix:@x")
        self.assertIsNone(address(None))

    def test_word(self) -> None:
        """A plain word is bare; everything else stands in quotes; nothing is a dash."""
        for value, expected in (
            ("a.b:80", "a.b:80"),
            ("unix:/run/x", "unix:/run/x"),
            (None, "-"),
            ("-", '"-"'),
            ("", '""'),
            ("a b", '"a b"'),
            ("a=b", '"a=b"'),
            ('a"b', r'"a\"b"'),
            ("a\\b", r'"a\\b"'),
            ("a\nb\x1b", r'"a\x0ab\x1b"'),
            ("é", '"é"'),
        ):
            self.assertEqual(word(value), expected)

    @given(nasty)
    def test_word_can_be_read_back(self, value: str) -> None:
        """No text ends its word early: taking the quotes off gives the printable form again."""
        written = word(value)
        if written == value:
            self.assertNotRegex(written, r'[\s"=\\]')
        else:
            self.assertTrue(written.startswith('"') and written.endswith('"') and len(written) >= 2)
            self.assertEqual(written[1:-1].replace('\\"', '"'), printable(value))
            self.assertNotRegex(written[1:-1], r'(?<!\\)(\\\\)*"')
