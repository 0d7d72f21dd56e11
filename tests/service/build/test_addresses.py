"""Tests of `portfwd.service.build.addresses`."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from twisted.trial.unittest import SynchronousTestCase

from portfwd.service.build.addresses import bound_addresses, bound_labels
from portfwd.values import InetAddress
from tests.service.contexts import rules


class LabelTests(SynchronousTestCase):
    """Where a rule listens, in words."""

    def test_protocol(self) -> None:
        """A label says what the listener speaks; all addresses are called as the file calls them."""
        for written, host, label in (
            ("127.0.0.1:53", "127.0.0.1", "127.0.0.1:53"),
            ("127.0.0.1:53/udp", "127.0.0.1", "127.0.0.1:53/udp"),
            ("tls:127.0.0.1:53 cert=/c.pem", "127.0.0.1", "tls:127.0.0.1:53"),
            (":0/udp", "::", ":53/udp"),
            ("tls::53 cert=/c.pem", "::", "tls::53"),
            ("[::]:53", "::", "[::]:53"),
            ("0.0.0.0:53", "0.0.0.0", "0.0.0.0:53"),
        ):
            rule = rules(f"{written} -> 10.0.0.5:53").rules[0]
            listener = SimpleNamespace(address=InetAddress(host, 53))
            bound = cast(
                Any, SimpleNamespace(live=SimpleNamespace(rule=rule), listeners=[listener], ports=[])
            )
            self.assertEqual(list(bound_labels(bound)), [label])
            self.assertEqual(list(bound_addresses(bound)), [str(InetAddress(host, 53))])
