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

    def test_targets(self) -> None:
        """The targets of the rule before."""
        self.forwarder.says("targets", {"targets": [{"target": "10.0.0.5:80"}]})
        with mock.patch.dict("os.environ", {VARIABLE: self.forwarder.path}):
            self.assertEqual(self.run_main("complete", "targets", "web"), (0, "10.0.0.5:80\n", ""))
        self.assertEqual(self.forwarder.lines(), [("targets", ("web",), {})])

    def test_plugins(self) -> None:
        """The installed filters or checks, by the word before; nothing after another word."""
        for topic, name, other in (("filter", "sniff", "pgsql"), ("check", "pgsql", "sniff")):
            found = self.run_main("complete", "plugins", topic)[1].splitlines()
            self.assertIn(name, found)
            self.assertNotIn(other, found)
        self.assertEqual(self.run_main("complete", "plugins", "reload"), (0, "", ""))

    def test_silence(self) -> None:
        """Without a forwarder, and after a refusal, nothing is printed."""
        self.forwarder.refuses("rules", "denied", "no")
        for path in (self.forwarder.path, self.missing()):
            with mock.patch.dict("os.environ", {VARIABLE: path}):
                self.assertEqual(self.run_main("complete", "rules"), (0, "", ""))

    def test_hidden(self) -> None:
        """No help lists it."""
        self.assertNotIn("complete", self.run_main("--help")[1])
