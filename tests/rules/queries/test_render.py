"""Tests of `portfwd.rules.queries.render`: values back to text."""

from __future__ import annotations

from hypothesis import given, settings
from twisted.trial.unittest import SynchronousTestCase

from portfwd.rules import parse, render
from portfwd.rules.model import Ruleset
from tests.rules.strategies import rulesets


class RenderTests(SynchronousTestCase):
    """The text of a ruleset."""

    @given(rulesets())
    @settings(max_examples=100, deadline=None)
    def test_round_trip(self, ruleset: Ruleset) -> None:
        """Whatever a file can say reads back as the same values; and the text is then stable."""
        text = render(ruleset)
        again = parse(text, "f")
        self.assertEqual(again, ruleset)
        self.assertEqual(render(again), text)

    def test_shape(self) -> None:
        """Head, a blank line, and a block for each rule; only what differs from the defaults is written."""
        text = (
            "logfile /a\npidfile '\ndefault idle=1m buffer=64KiB\nallow 10.*  1.*\n"
            "0.0.0.0 80 10.0.0.5 80\ndeny 1.2.3.4\n"
            "web: *:81 -> a:1,b:2 idle=off\n  target c:3 connect-timeout=1\n"
        )
        self.assertEqual(
            render(parse(text, "f")),
            "log access=rinetd file=/a\npidfile '\nallow 10.*\nallow 1.*\n\n"
            "0.0.0.0:80 -> 10.0.0.5:80 idle=1m\n    deny 1.2.3.4\n\n"
            "web: :81 -> a:1, b:2\n    target c:3 connect-timeout=1s\n",
        )

    def test_empty(self) -> None:
        """Nothing is nothing."""
        self.assertEqual(render(Ruleset()), "")
