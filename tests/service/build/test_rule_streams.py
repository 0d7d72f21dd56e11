"""Tests of `portfwd.service.build.rule_streams`: which streams a rule's sessions are made of."""

from __future__ import annotations

from typing import Any, cast
from unittest import mock

from attrs import evolve
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from portfwd.kernel.platform import Platform
from portfwd.relay.context import RelayContext
from portfwd.service.build.rule_streams import bulk_read, choose_streams, context_of
from portfwd.streams.opening import StreamMaker
from portfwd.streams.sockets.bulk_reads import LAYERED, BulkReads, BulkSlots
from tests.service.contexts import a_context, rules


class ChoiceTests(TestCase):
    """The choice."""

    def test_kind_of_streams(self) -> None:
        """Sockets of ours where both ends are plain, where they can be had, and nobody asked otherwise."""
        with_sockets = RelayContext(
            cast(Any, Clock()), Platform(own_sockets=True, epoll=True), cast(Any, None), cast(Any, "pair"),
            sockets=cast(Any, mock.Mock(buffers={})),
        )  # fmt: skip
        for text, ours in (
            (":1 -> 10.0.0.1:1", True),
            (":1 -> 10.0.0.1:1 relay=pair", False),
            (":1 -> tls:10.0.0.1:1", False),
        ):
            (rule,) = rules(text).rules
            self.assertEqual(choose_streams(rule, with_sockets) != "pair", ours, text)
            portable = a_context()
            self.assertIs(choose_streams(rule, portable), portable.streams)


class BulkReadTests(TestCase):
    """How much is read at once in bulk."""

    def test_size(self) -> None:
        """As the rule says, less with TLS around it, and nothing larger where datagrams are."""
        for options, target, size in (
            ("", "10.0.0.1:1", 1 << 20),
            ("bulk-buffer=512KiB", "10.0.0.1:1", 1 << 19),
            ("bulk-buffer=4KiB", "10.0.0.1:1", 0),
            ("buffer=2MiB", "10.0.0.1:1", 0),
            ("", "tls:10.0.0.1:1", LAYERED),
            ("bulk-buffer=128KiB", "tls:10.0.0.1:1", 1 << 17),
            ("buffer=300KiB", "tls:10.0.0.1:1", 0),
            ("", "10.0.0.1:1/udp", 0),
        ):
            (rule,) = rules(f":1 -> {target} {options}").rules
            self.assertEqual(bulk_read(rule), size, (options, target))

    def test_context(self) -> None:
        """A rule that says nothing shares the streams of all; another has its own, with the same places."""
        slots = BulkSlots()
        clock = cast(Any, Clock())
        context = evolve(a_context(clock), streams=StreamMaker(clock, None, bulk=BulkReads(1 << 20, slots)))
        for text, same in ((":1 -> 10.0.0.1:1", True), (":1 -> tls:10.0.0.1:1", False)):
            (rule,) = rules(text).rules
            made, limiters = context_of(rule, context)
            self.assertEqual((made is context, limiters), (same, None))
        (rule,) = rules(":1 -> 10.0.0.1:1 bandwidth=1MiB/s").rules
        made, limiters = context_of(rule, context)
        self.assertIsNot(made.streams, context.streams)
        self.assertIsNot(limiters, None)
