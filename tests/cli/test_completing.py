"""Tests of ``portfwd complete``: words for shells."""

from __future__ import annotations

from unittest import mock

from portfwd.cli.control import VARIABLE
from tests.cli.scripted import ControlTestCase


class CompleteTests(ControlTestCase):
    """Words of a forwarder."""

    def test_words(self) -> None:
        """The names of rules and the numbers of sessions, one a line."""
        self.forwarder.says("rules", {"rules": [{"name": "web"}, {"name": "a\nb"}]})
        self.forwarder.says("sessions", {"sessions": [{"id": 7}, {"id": 12}]})
        with mock.patch.dict("os.environ", {VARIABLE: self.forwarder.path}):
            self.assertEqual(self.run_main("complete", "rules"), (0, "web\na\\x0ab\n", ""))
            self.assertEqual(self.run_main("complete", "sessions"), (0, "7\n12\n", ""))

    def test_silence(self) -> None:
        """Without a forwarder, and after a refusal, nothing is printed."""
        self.forwarder.refuses("rules", "denied", "no")
        for path in (self.forwarder.path, self.missing()):
            with mock.patch.dict("os.environ", {VARIABLE: path}):
                self.assertEqual(self.run_main("complete", "rules"), (0, "", ""))

    def test_hidden(self) -> None:
        """No help lists it."""
        self.assertNotIn("complete", self.run_main("--help")[1])
