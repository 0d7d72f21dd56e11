"""Tests of `portfwd.rules.grammars.rinetd`: rinetd's, rinetd-uv's and oxidinetd's lines."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from portfwd.errors import RulesError
from portfwd.rules import parse
from portfwd.rules.model import Keepalive, Kind, ListenOptions, Options, PortRange
from tests.rules.golden import GoldenFiles
from tests.rules.grammars.test_native import codes, rule


class AddressTests(SynchronousTestCase):
    """``ADDR PORT ADDR PORT``."""

    def test_plain(self) -> None:
        """Four words are a rule, indented or not; both sides are TCP unless they say otherwise."""
        found = rule("  0.0.0.0   80\t10.0.0.5 8080  # comment")
        self.assertEqual(
            (found.listen.kind, found.listen.host, found.listen.ports),
            (Kind.TCP, "0.0.0.0", PortRange(80, 80)),
        )
        (target,) = found.targets
        self.assertEqual(
            (target.kind, target.host, target.ports), (Kind.TCP, "10.0.0.5", PortRange(8080, 8080))
        )
        self.assertEqual(found.name, "0.0.0.0:80")
        self.assertEqual(found.written, ("0.0.0.0", "80", "10.0.0.5", "8080"))

    def test_protocols(self) -> None:
        """Each side has its own protocol."""
        for left, right, kinds in (
            ("80/tcp", "80", (Kind.TCP, Kind.TCP)),
            ("80/udp", "80/udp", (Kind.UDP, Kind.UDP)),
            ("80/udp", "80", (Kind.UDP, Kind.TCP)),
            ("80", "80/udp", (Kind.TCP, Kind.UDP)),
        ):
            found = rule(f"0 {left} a {right}")
            self.assertEqual((found.listen.kind, found.targets[0].kind), kinds)
            self.assertEqual(found.written, ("0", "80", "a", "80"))

    def test_hosts(self) -> None:
        """Any address, IPv6 with and without brackets, names."""
        self.assertEqual(rule("0 80 ::1 81").listen.host, "")
        self.assertEqual(rule("0 80 ::1 81").targets[0].host, "::1")
        self.assertEqual(rule("[::1] 80 [fe80::1] 80").listen.host, "::1")
        self.assertEqual(rule("localhost 80 0 81").targets[0].host, "0.0.0.0")

    def test_services(self) -> None:
        """A port may be the name of a service; the log has it as written."""
        (found,) = parse("0 http a domain/udp", "f", GoldenFiles()).rules
        self.assertEqual((found.listen.ports, found.targets[0].ports), (PortRange(80, 80), PortRange(53, 53)))
        self.assertEqual(found.written, ("0", "http", "a", "domain"))

    def test_unix(self) -> None:
        """rinetd-uv's unix sockets take the place of address and port."""
        for text, listen, target in (
            ("unix:/a 10.0.0.5 80", "/a", ""),
            ("unix:@a unix:/b", "@a", "/b"),
            ("0 80 unix:/b [keepalive=off]", "", "/b"),
        ):
            found = rule(text)
            self.assertEqual((found.listen.path, found.targets[0].path), (listen, target), text)

    def test_wrong(self) -> None:
        """Missing and superfluous words, and words that are none of these."""
        for text, wrong in (
            ("0 80", ["bad-rule"]),
            ("0 80 a", ["bad-rule"]),
            ("0", ["bad-rule"]),
            ("0 80 a 80 80", ["unexpected-word"]),
            ("0 80 a [src=0]", ["bad-rule"]),
            ("0 99999 a 0", ["bad-port", "port-zero"]),
            ("0.0.0.300 80 a 80", ["bad-host"]),
            ("0.0.0.300 80 a.b..c 80/x", ["bad-host", "bad-host", "bad-protocol"]),
            ("0 80 unix: x", ["bad-path"]),
            ("::g 80 a 80", ["bad-host"]),
            ("unix:/a unix:", ["bad-path"]),
            ("web: :80 a:80", ["bad-rule"]),
            ("0 80/ a 80", ["bad-protocol"]),
            ('0 80 a "80"', []),
        ):
            self.assertEqual(codes(text), wrong, text)

    def test_beneath_wrong(self) -> None:
        """What belongs to a wrong rule is given to no other."""
        error = self.assertRaises(
            RulesError, parse, "0 1 a 1\n0 99999 a 1\nallow 10.*\nfrob\nallow 11.*", "f"
        )
        self.assertEqual([p.code for p in error.problems], ["bad-port", "unknown-directive"])


class OptionTests(SynchronousTestCase):
    """``[ … ]``."""

    def test_blanks(self) -> None:
        """Blanks may surround brackets, commas and equals signs, or be absent."""
        for text in (
            "0 1/udp a 1 [src=10.0.0.1,timeout=30]",
            "0 1/udp a 1 [ src = 10.0.0.1 , timeout = 30 ]",
            "0 1/udp a 1[src=10.0.0.1,timeout=30]",
            "0 1/udp a 1 [\tsrc=10.0.0.1\t,timeout= 30 ] # [x]",
        ):
            self.assertEqual(rule(text).options, Options(src="10.0.0.1", idle=30.0), text)

    def test_timeout(self) -> None:
        """UDP's idle time on either side; 0 is the default; for TCP it means nothing and says so."""
        self.assertEqual(rule("0 1 a 1/udp [timeout=30]").options.idle, 30.0)
        self.assertEqual(rule("default idle=1m\n0 1/udp a 1 [timeout=0]").options.idle, 72.0)
        self.assertEqual(codes("0 1 a 1 [timeout=30]"), ["option-without-meaning"])
        self.assertEqual(rule("0 1 a 1 [timeout=30]").options, Options())

    def test_uv(self) -> None:
        """rinetd-uv's options; those of a listener go to the listener."""
        found = rule("unix:/a a 1 [keepalive=off, dns-refresh=60, connect-timeout=3, mode=0660]")
        self.assertEqual(
            found.options, Options(keepalive=Keepalive(False), dns_refresh=60.0, connect_timeout=3.0)
        )
        self.assertEqual(found.listen.options, ListenOptions(mode=0o660))
        self.assertEqual(codes("0 1 a 1 [dns-refresh=0]"), ["option-without-meaning"])
        self.assertEqual(codes("0 1 a 1 [mode=0660]"), ["option-does-not-fit"])

    def test_values(self) -> None:
        """Values in quotes and IPv6 in brackets."""
        self.assertEqual(rule('0 1 ::1 2 [src="::2"]').options.src, "::2")
        self.assertEqual(rule("0 1 ::1 2 [src=[::2]]").options.src, "::2")

    def test_wrong(self) -> None:
        """Every problem of the brackets is told."""
        for text, wrong in (
            ("[]", ["bad-rule"]),
            ("[timeout]", ["bad-rule"]),
            ("[src=0", ["missing-bracket"]),
            ("[src=0 keepalive=on]", ["missing-bracket"]),
            ("[src=0] x", ["unexpected-word"]),
            ("[src=0,]", ["bad-rule"]),
            ("[src=0,src=0]", []),
            ("[src=::1,src=::1]", ["duplicate-option"]),
            ("[idle=5m, frob=1, Src=0]", ["unknown-option"] * 3),
            ("[src=x, keepalive=60]", ["bad-value", "bad-value"]),
            ("src=0", ["unexpected-word"]),
        ):
            expected = ["duplicate-option"] if text == "[src=0,src=0]" else wrong
            self.assertEqual(codes("0 1 a 1 " + text), expected, text)

    def test_places(self) -> None:
        """Key and value are marked where they stand, blanks or not."""
        error = self.assertRaises(RulesError, parse, "0 1 a 1 [ frob = 1 , src = x ]", "f")
        self.assertEqual([(p.location.column, p.location.length) for p in error.problems], [(11, 4), (28, 1)])
