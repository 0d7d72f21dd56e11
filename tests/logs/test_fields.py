"""Tests of `portfwd.logs.fields`: the parts of a line."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from portfwd.logs.fields import address, address_word, known_word, seconds, utc_time, word
from portfwd.values import Address, InetAddress, UnixAddress, printable
from tests.logs.summaries import NOON, nasty

#: Hosts of peers, and what a rule may call one.
HOSTS = st.one_of(st.ip_addresses().map(str), st.ip_addresses(v=4).map(lambda host: f"::ffff:{host}"), nasty)


class FieldTests(SynchronousTestCase):
    """Times, addresses and words."""

    def test_utc_time(self) -> None:
        """A time is RFC 3339 in UTC, with milliseconds even when there are none."""
        self.assertEqual(utc_time(NOON), "2026-01-31T12:00:00.500Z")
        self.assertEqual(utc_time(0.0), "1970-01-01T00:00:00.000Z")

    def test_just_before_a_second(self) -> None:
        """A time is cut, not rounded: what is not a whole second yet does not become one."""
        self.assertEqual(utc_time(0.9999999), "1970-01-01T00:00:00.999Z")
        self.assertEqual(utc_time(NOON + 0.4999), "2026-01-31T12:00:00.999Z")

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

    @given(st.one_of(st.none(), st.builds(InetAddress, HOSTS, st.integers(0, 65535)), nasty.map(UnixAddress)))
    def test_address_word(self, value: Address | None) -> None:
        """The word of an address, whatever stands in it."""
        self.assertEqual(address_word(value), word(address(value)))

    @given(st.one_of(st.none(), nasty))
    def test_known_word(self, value: str | None) -> None:
        """What is kept is what would be made."""
        self.assertEqual(known_word(value), word(value))

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
