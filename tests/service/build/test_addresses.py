"""Tests of `portfwd.service.build.addresses`."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from twisted.trial.unittest import SynchronousTestCase

from portfwd.service.build.addresses import bound_addresses, bound_labels
from portfwd.values import InetAddress
from tests.service.worlds import rules


class LabelTests(SynchronousTestCase):
    """Where a rule listens, in words."""

    def test_protocol(self) -> None:
        """A label says what the listener speaks: TCP and UDP may have one address."""
        for written, label in (
            ("127.0.0.1:53", "127.0.0.1:53"),
            ("127.0.0.1:53/udp", "127.0.0.1:53/udp"),
            ("tls:127.0.0.1:53 cert=/c.pem", "tls:127.0.0.1:53"),
        ):
            rule = rules(f"{written} -> 10.0.0.5:53").rules[0]
            listener = SimpleNamespace(address=InetAddress("127.0.0.1", 53))
            bound = cast(
                Any, SimpleNamespace(live=SimpleNamespace(rule=rule), listeners=[listener], ports=[])
            )
            self.assertEqual(list(bound_labels(bound)), [label])
            self.assertEqual(list(bound_addresses(bound)), ["127.0.0.1:53"])
