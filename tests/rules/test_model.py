"""Tests of `portfwd.rules.model`: values that compare by what they mean."""

from __future__ import annotations

from attrs import evolve
from attrs.exceptions import FrozenInstanceError
from twisted.trial.unittest import SynchronousTestCase

from portfwd.rules import parse
from portfwd.rules.model import PortRange


class ModelTests(SynchronousTestCase):
    """Rulesets as values."""

    def test_equal_by_meaning(self) -> None:
        """Where a rule stands, how it is spelt and what was warned about do not count; what it does, does."""
        one = parse("0.0.0.0 80 a 81 [timeout=5]\nallow 10.*\n", "one")
        two = parse("# moved\n\n0.0.0.0:80 -> a:81\n    allow 10.*", "two")
        self.assertEqual(one, two)
        self.assertEqual(hash(one), hash(two))
        self.assertNotEqual(one.rules[0].where, two.rules[0].where)
        self.assertNotEqual(one, parse("0.0.0.0:80 -> a:82\n    allow 10.*", "two"))

    def test_frozen(self) -> None:
        """Nothing of a ruleset changes after it was read."""
        ruleset = parse(":80 -> a:81", "f")
        with self.assertRaises(FrozenInstanceError):
            ruleset.rules = ()  # type: ignore[misc]

    def test_port_range(self) -> None:
        """A range counts both ends and prints as it is written."""
        self.assertEqual((len(PortRange(80, 80)), str(PortRange(80, 80))), (1, "80"))
        self.assertEqual((len(PortRange(80, 89)), str(PortRange(80, 89))), (10, "80-89"))

    def test_bandwidth(self) -> None:
        """One figure for both directions, or one for either; the narrower word counts."""
        for options, up, down, paced in (
            ("", None, None, False),
            ("bandwidth=2KiB", 2048, 2048, True),
            ("bandwidth=2KiB bandwidth-up=1KiB", 1024, 2048, True),
            ("bandwidth-down=1KiB", None, 1024, True),
            ("bandwidth-per-source=1KiB", None, None, True),
            ("bandwidth-per-connection=1KiB", None, None, True),
        ):
            (rule,) = parse(f":80 -> a:80 {options}", "f").rules
            self.assertEqual(
                (rule.options.upward, rule.options.downward, rule.options.is_paced), (up, down, paced)
            )

    def test_plain(self) -> None:
        """A rule is plain when both ends are sockets of our own, whichever target is taken."""
        for text, plain in (
            (":80 -> a:80, unix:/a", True),
            ("systemd:x -> a:80", True),
            (":80 -> a:80, tls:b:80", False),
            ('endpoint:"x" -> a:80', False),
            ("tls::80 -> a:80", False),
        ):
            (rule,) = parse(text, "f").rules
            self.assertEqual(rule.is_plain, plain, text)
            self.assertEqual(evolve(rule), rule)
