"""Tests of `portfwd.rules.grammars.rinetd_directives`: what rinetd's and rinetd-uv's directives mean here."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from portfwd.rules import parse
from portfwd.rules.grammars.rinetd_directives import RINETD
from portfwd.rules.queries.render import render
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


class StatusTests(SynchronousTestCase):
    """The status file and the line of statistics."""

    def directives(self, text: str) -> list[str]:
        """The native lines for `text`."""
        ruleset = parse(text + RULE, "f")
        self.assertEqual(ruleset.warnings, ())
        self.assertEqual(parse(render(ruleset), "g").directives, ruleset.directives)
        return [line for line in render(ruleset).splitlines() if line.startswith("stat")]

    def test_file(self) -> None:
        """Its lines come in any order, and make one native line."""
        self.assertEqual(self.directives("statusfile /run/s"), ["status-file /run/s"])
        self.assertEqual(
            self.directives("statusformat text\nstatusfile /run/s\nstatusinterval 5"),
            ["status-file /run/s interval=5s format=text"],
        )

    def test_log(self) -> None:
        """Statistics are logged when a line asks for them; rinetd-uv does it also without one."""
        self.assertEqual(self.directives("statsloginterval 60"), ["stats-log interval=60s"])
        self.assertEqual(self.directives(""), [])

    def test_off(self) -> None:
        """0 turns both off, and without a file there is none to write."""
        self.assertEqual(self.directives("statusfile /run/s\nstatusinterval 0\nstatsloginterval 0"), [])
        self.assertEqual(self.directives("statusinterval 5\nstatusformat json"), [])

    def test_bad(self) -> None:
        """Values are checked."""
        lines = ("statusformat xml", "statusinterval -1", "statsloginterval x", f"statusinterval {10**12}")
        for line in lines:
            self.assertEqual(codes(line + RULE), ["bad-value"], line)

    def test_repeated(self) -> None:
        """The last one counts, with a warning, whichever grammar it is of."""
        text = "statusfile a\nstatusfile b\nstatsloginterval 1\nstats-log interval=5s"
        self.assertEqual(codes(text + RULE), ["repeated-directive"] * 2)


class MeaninglessTests(SynchronousTestCase):
    """Directives without one."""

    GOOD = (
        "pool-min-free 1", "pool-max-free 1", "pool-trim-delay 1", "dns-multi-ip-expand off",
        "dns-multi-ip-proto any", "dns-refresh 0",
    )  # fmt: skip

    def test_warned(self) -> None:
        """Each is read and warned about, never silently."""
        for line in self.GOOD:
            self.assertEqual(codes(line + RULE), ["directive-without-meaning"], line)

    def test_checked(self) -> None:
        """Their values are checked nevertheless."""
        for line in ("pool-min-free x", "dns-multi-ip-expand yes"):
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
