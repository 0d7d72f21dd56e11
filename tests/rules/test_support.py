"""Tests of `portfwd.rules.support`: what parses but does not work yet."""

from __future__ import annotations

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from portfwd.errors import RulesError
from portfwd.rules import everything_wrong, parse, unsupported
from portfwd.rules.support import GAPS


class SupportTests(SynchronousTestCase):
    """The table against files."""

    def places(self, text: str) -> list[str]:
        """Where something is not supported."""
        return [str(problem.location) for problem in unsupported(parse(text, "f"))]

    def test_supported(self) -> None:
        """What the service does is not in the table."""
        text = (
            ':1 -> a:1, tls:b:2, unix:/c, endpoint:"d" relay=pair balance=first idle=5m src=10.0.0.1 ca=x\n'
            ":2 -> a:1 bandwidth=1MiB/s bandwidth-up=2KiB bandwidth-down=2KiB bandwidth-per-source=2KiB\n"
            "unix:/a mode=0600 -> a:1 relay=splice pipe=1MiB\n"
            'systemd:x -> a:1\nendpoint:"x" -> a:1\n:8000-8010 -> a:8000-8010\n'
            ":99 -> a:1\n  filter x\n  route * -> n\n  target n=b:1\n"
            "tls::443 cert=a alpn=h2 -> tls:a:1 client-cert=a client-key=b alpn=h2\n"
            "log access=json\nallow 10.*\n"
        )
        self.assertEqual(self.places(text), [])

    def test_each(self) -> None:
        """Each of these is an error at its place."""
        for text, places in (
            (":1/udp -> a:1/udp", []),
            (":1/udp -> a:1 framing=length16", []),
            (":1/udp -> a:1\n  filter hexdump", ["f:2:10"]),
            (":1/udp -> a:1 answers=1", ["f:1:15"]),
            (":1 -> tls:a:1 relay=splice", ["f:1:15"]),
            ('endpoint:"x" -> a:1 relay=copy', ["f:1:21"]),
            ('endpoint:"x" -> a:1 on-limit=wait', ["f:1:21"]),
            (":1/udp -> a:1/udp on-limit=wait", ["f:1:19"]),
            ("default relay=copy\n:1 -> tls:a:1\n:2 -> tls:a:1", ["f:1:9"]),
            (":1 -> a:1, b:1 balance=random", []),
        ):
            self.assertEqual(self.places(text), places, text)

    def test_without_text(self) -> None:
        """A rule that was made, not read, is judged by its values, at its own place."""
        ruleset = parse(":1 -> tls:a:1 relay=copy", "f")
        (rule,) = ruleset.rules
        made = evolve(ruleset, rules=(evolve(rule, places=()),))
        self.assertEqual([str(problem.location) for problem in unsupported(made)], ["f:1:1"])

    def test_ways_out(self) -> None:
        """Every row names what is missing and a way out."""
        for gap in GAPS:
            self.assertTrue(gap.what and gap.way_out)


class EverythingTests(SynchronousTestCase):
    """One run says all."""

    def test_beside_other_errors(self) -> None:
        """What cannot be done is said of the good rules of a file that is refused for another."""
        refusal = self.assertRaises(
            RulesError, parse, "a: :1 -> h:1 ilde=5m\nb: :2 -> tls:h:2 relay=copy", "f"
        )
        self.assertEqual([problem.code for problem in refusal.problems], ["unknown-option"])
        self.assertEqual(
            [(problem.location.line, problem.code) for problem in everything_wrong(refusal)],
            [(1, "unknown-option"), (2, "not-yet")],
        )

    def test_nothing_readable(self) -> None:
        """A refusal without rules is what it is."""
        refusal = RulesError(parse("", "f").warnings)
        self.assertEqual(everything_wrong(refusal), refusal.problems)
