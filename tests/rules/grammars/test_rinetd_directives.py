"""Tests of `portfwd.rules.grammars.rinetd_directives`: what rinetd's and rinetd-uv's directives mean here."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from portfwd.rules import parse
from portfwd.rules.grammars.rinetd_directives import RINETD
from tests.rules.grammars.test_native import codes

RULE = "\n0 1 a 1"


class MeaningTests(SynchronousTestCase):
    """Directives with a counterpart."""

    def test_settings(self) -> None:
        """rinetd-uv's global settings hold for all rules, also those above."""
        text = "0 1 a 1\nbuffersize 8192\ndns-refresh 300\nconnect-timeout 10\nlisten-backlog 256\n0 2 a 1"
        for rule in parse(text, "f").rules:
            self.assertEqual(
                (
                    rule.options.buffer,
                    rule.options.dns_refresh,
                    rule.options.connect_timeout,
                    rule.listen.options.backlog,
                ),
                (8192, 300.0, 10.0, 256),
            )

    def test_associations(self) -> None:
        """``max-udp-connections`` bounds the associations of UDP rules, and says nothing of TCP."""
        tcp, udp = parse("max-udp-connections 7\n0 1 a 1\n0 1/udp a 1/udp", "f").rules
        self.assertEqual((tcp.options.max_assocs, udp.options.max_assocs), (5000, 7))

    def test_pid_file(self) -> None:
        """Both spellings, quoted or not; the later one counts."""
        self.assertEqual(parse('pidlogfile "/run/a b"' + RULE, "f").pid_file, "/run/a b")
        self.assertEqual(parse("pidfile a\npidlogfile b" + RULE, "f").pid_file, "b")


class MeaninglessTests(SynchronousTestCase):
    """Directives without one."""

    GOOD = (
        "pool-min-free 1", "pool-max-free 1", "pool-trim-delay 1", "statusfile /a",
        "statusinterval 1", "statusformat text", "statsloginterval 1", "dns-multi-ip-expand off",
        "dns-multi-ip-proto any", "dns-refresh 0",
    )  # fmt: skip

    def test_warned(self) -> None:
        """Each is read and warned about, never silently."""
        for line in self.GOOD:
            self.assertEqual(codes(line + RULE), ["directive-without-meaning"], line)

    def test_checked(self) -> None:
        """Their values are checked nevertheless."""
        for line in ("pool-min-free x", "statusformat xml", "dns-multi-ip-expand yes", "statusinterval -1"):
            self.assertEqual(codes(line + RULE), ["bad-value"], line)


class ShapeTests(SynchronousTestCase):
    """One word behind each."""

    def test_none(self) -> None:
        """Without its word, or with an empty one, a directive is refused."""
        for name in sorted(set(RINETD) - {"logcommon"}):
            self.assertEqual(codes(name + RULE), ["missing-argument"], name)
            self.assertEqual(codes(name + ' ""' + RULE), ["missing-argument"], name)

    def test_two(self) -> None:
        """A second word is one too many; a name with blanks needs quotes."""
        for name in sorted(set(RINETD) - {"logcommon"}):
            self.assertIn("unexpected-word", codes(name + " 1 2" + RULE), name)

    def test_case(self) -> None:
        """Keywords are case-sensitive, as rinetd's."""
        self.assertEqual(codes("LogCommon"), ["unknown-directive"])
