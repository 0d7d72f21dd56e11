"""Tests of `portfwd.filters.builtin.sniff`."""

from __future__ import annotations

from typing import Any

from portfwd.filters import RouteClause
from portfwd.filters.builtin.sniff import PLUGIN, SniffOptions
from tests.filters.feeding import FilterTestCase, Talk
from tests.wire.test_protocols import FIRST, OTHERS

EACH = [RouteClause((name.upper(),), f"to {name}") for name in FIRST]


def sniff(*clauses: RouteClause, **options: Any) -> Any:
    """Make a factory."""
    return PLUGIN.configure(SniffOptions(**options), clauses or EACH)


class RouteTests(FilterTestCase):
    """The protocol chooses."""

    def test_each(self) -> None:
        """Every protocol goes where its line says, and its bytes pass untouched."""
        for name, messages in FIRST.items():
            for data in messages:
                talk = self.talk(sniff(), data=data)
                self.assertEqual((talk.target, b"".join(talk.upstream)), (f"to {name}", data))

    def test_unknown(self) -> None:
        """Others go to the rule's own target, or where the line for them says."""
        for data in OTHERS:
            talk = self.talk(sniff(), data=data)
            self.assertEqual((talk.target, b"".join(talk.upstream)), (None, data))
            self.assertEqual(self.talk(sniff(RouteClause(("unknown",), "there")), data=data).target, "there")

    def test_globs(self) -> None:
        """A glob is of names, unknown too."""
        both = RouteClause(("socks?",), "socks")
        self.assertEqual(self.talk(sniff(both), data=FIRST["socks4"][0]).target, "socks")
        self.assertEqual(self.talk(sniff(both), data=FIRST["socks5"][0]).target, "socks")
        talk = self.talk(sniff(both, RouteClause(("*",), None)), data=b"\xff")
        self.assertIn("close", talk.reason)


class SilentTests(FilterTestCase):
    """Clients that wait for the server."""

    def test_time(self) -> None:
        """Whoever says nothing, or too little, in time goes to the rule's own target with what there is."""
        for data in ([], [b"SS"]):
            talk = Talk(sniff(RouteClause(("*",), None), timeout=0.5)).say(*data)
            self.assertIsNone(talk.dial)
            self.assertEqual(talk.wait(), 0.5)
            self.assertEqual((talk.target, talk.upstream, talk.finish), (None, data, None))

    def test_end(self) -> None:
        """A client that ends without a word is silent; one that ends within one is unknown."""
        unknown = RouteClause(("unknown",), "there")
        self.assertEqual(Talk(sniff(unknown)).end().target, None)
        talk = Talk(sniff(unknown)).say(b"SS").end()
        self.assertEqual((talk.target, talk.upstream), ("there", [b"SS"]))

    def test_pattern(self) -> None:
        """A pattern that is no protocol is refused with all there are."""
        error = self.assertRaises(ValueError, sniff, RouteClause(("https",), "there"))
        self.assertIn("postgresql", str(error))
