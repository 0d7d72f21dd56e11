"""Tests of `portfwd.rules.meant`: whatever it proposes is read."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from portfwd.quantities import parse_duration, parse_size
from portfwd.rules import meant
from portfwd.rules.access import check_pattern


class MeantTests(SynchronousTestCase):
    """Other programs' spellings, and how they are written here."""

    def test_durations(self) -> None:
        """Long names of units."""
        for text, hint in (("2min", "write 2m"), ("5 seconds", "write 5s"), ("1Hour", "write 1h")):
            self.assertEqual(meant.duration(text), hint)
            parse_duration(hint.removeprefix("write "))
        for text in ("5x", "-5", "", "five", "1" * 5000 + "min"):
            self.assertEqual(meant.duration(text), "", text[:9])

    def test_sizes(self) -> None:
        """Short and lower-case units are binary ones."""
        for text, hint in (("64kb", "write 64KiB"), ("1M", "write 1MiB"), ("2g", "write 2GiB")):
            self.assertEqual(meant.size(text), hint)
            parse_size(hint.removeprefix("write "))
        self.assertEqual(meant.size("lots"), "")

    def test_bandwidths(self) -> None:
        """Bits are turned into bytes, with the reason."""
        self.assertEqual(meant.bandwidth("10Mbit/s"), "bandwidth is in bytes: write 1250000/s")
        self.assertEqual(meant.bandwidth("8192bps"), "bandwidth is in bytes: write 1KiB/s")
        self.assertEqual(meant.bandwidth("1mb/s"), "write 1MiB")
        self.assertEqual(meant.bandwidth("fast"), "")

    def test_numbers(self) -> None:
        """Thousands are written out."""
        self.assertEqual(meant.number("1k"), "write 1000")
        self.assertEqual(meant.number("many"), "")

    def test_patterns(self) -> None:
        """Words, netmasks, ranges and addresses that are cut short become patterns that are read."""
        for text, hint in (
            ("all", "write * for every address"),
            ("10.0.0", "write 10.0.0.*"),
            ("10.0.", "write 10.0.*"),
            ("10.0.0.0/255.0.0.0", "write 10.0.0.0/8"),
            ("10.0.0.7/255.255.255.0", "write 10.0.0.0/24"),
            ("10.0.0.0-10.0.0.7", "write 10.0.0.0/29"),
            ("10.0.0.1-10.0.0.3", "write 10.0.0.1 10.0.0.2/31"),
        ):
            self.assertEqual(meant.pattern(text), hint)
            for pattern in hint.removeprefix("write ").removesuffix(" for every address").split():
                self.assertIsNone(check_pattern(pattern), pattern)

    def test_other_patterns(self) -> None:
        """A name is told apart; of the rest nothing is proposed."""
        self.assertEqual(meant.pattern("localhost"), "names are not looked up: write the address")
        self.assertIn("networks such as", meant.pattern("10.0.0.1-10.0.0.254"))
        for text in ("10.0.0.9-10.0.0.1", "256.1.1.1", "10.0.0.0/255.0.255.0", "/", "-", "9" * 65):
            self.assertEqual(meant.pattern(text), "", text)
