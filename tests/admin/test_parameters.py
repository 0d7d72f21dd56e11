"""Tests of `portfwd.admin.parameters`: what commands take."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from portfwd.admin.operator import OperatorError
from portfwd.admin.parameters import Parameter, choice, duration, flag, number, size, text, whole


class ParameterTests(SynchronousTestCase):
    """Texts and their values."""

    def check(self, parameter: Parameter[Any], good: dict[str, Any], *bad: str) -> None:
        """Read what is good, and refuse what is bad with the parameter's name."""
        for word, value in good.items():
            self.assertEqual(parameter.value(word), value)
        for word in bad:
            error = self.assertRaises(OperatorError, parameter.value, word)
            self.assertEqual(error.code, "bad-request")
            self.assertIn(f"{parameter.name}=", str(error))

    def test_whole(self) -> None:
        """Numbers have bounds, and are digits alone."""
        self.check(whole("limit", "", 1, 500), {"1": 1, "500": 500}, "0", "501", "", "+1", "1.0", "²", "x")
        self.assertEqual(whole("limit", "", 1, 500).hint, "1..500")
        self.assertEqual(
            whole("after", "", 0, 9, "ID").schema, {"type": "integer", "minimum": 0, "maximum": 9}
        )

    def test_number(self) -> None:
        """The number of a session."""
        self.check(number("id", ""), {"17": 17}, "", "x", "-1", "1" * 30, "²")

    def test_choice(self) -> None:
        """One of several words; a direction may be short, unless that is a word of its own."""
        self.check(choice("sort", "", "id", "to-client"), {"id": "id", "down": "to-client"}, "up", "", "ID")
        self.check(choice("state", "", "up", "down"), {"up": "up", "down": "down"}, "to-client")

    def test_duration(self) -> None:
        """Times have bounds."""
        self.check(duration("interval", "", 0.5, 60, "T"), {"1s": 1.0, "500ms": 0.5}, "400ms", "2m", "soon")

    def test_size(self) -> None:
        """Sizes are at least one byte."""
        self.check(size("limit", "", 2048), {"1": 1, "2KiB": 2048}, "0", "3KiB", "all")

    def test_texts(self) -> None:
        """A text is taken as it is; a flag is there."""
        self.check(text("rule", ""), {"web": "web"})
        self.assertEqual((text("rule", "").hint, text("rule", "", "R").hint), ("RULE", "R"))
        self.check(flag("dry-run", ""), {"dry-run": True})
