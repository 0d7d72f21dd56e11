"""Tests of `portfwd.service.rule_streams`: which streams a rule's sessions are made of."""

from __future__ import annotations

from typing import Any, cast
from unittest import mock

from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from portfwd.relay.dial import Surroundings
from portfwd.service.rule_streams import choose_streams
from tests.service.worlds import a_world, rules


class ChoiceTests(TestCase):
    """The choice."""

    def test_kind_of_streams(self) -> None:
        """Sockets of ours where both ends are plain, where they can be had, and nobody asked otherwise."""
        with_sockets = Surroundings(
            cast(Any, Clock()), a_world().platform, cast(Any, None), cast(Any, "pair"),
            sockets=cast(Any, mock.Mock(buffers={})),
        )  # fmt: skip
        for text, ours in (
            (":1 -> 10.0.0.1:1", True),
            (":1 -> 10.0.0.1:1 relay=pair", False),
            (":1 -> tls:10.0.0.1:1", False),
        ):
            (rule,) = rules(text).rules
            self.assertEqual(choose_streams(rule, with_sockets) != "pair", ours, text)
            self.assertIs(choose_streams(rule, a_world()), None)
