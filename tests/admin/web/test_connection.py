"""
Tests of `portfwd.admin.web.connection` that no page has to do with.

`tests.admin.test_metrics_page` tests time-outs, unread answers and bodies of sites that take none.
"""

from __future__ import annotations

from portfwd.admin.web.connection import BoundedRequest, QuietSite
from tests.admin.web.asking import WebCase


class ConnectionTests(WebCase):
    """A connection and its requests."""

    def test_who(self) -> None:
        """A connection knows who is there, and how large a body may be."""
        protocol, _ = self.connect()
        self.assertEqual((protocol.who, protocol.most_body), ("somebody", self.factory.most_body))
        self.assertEqual(repr(protocol), "<BoundedConnection inactive>")

    def test_site(self) -> None:
        """Requests are bounded ones, and nothing is logged of them."""
        site = self.factory.wrappedFactory
        assert isinstance(site, QuietSite)
        self.assertIs(site.requestFactory, BoundedRequest)

    def test_head_too_long(self) -> None:
        """A request whose head has no end is refused."""
        protocol, transport = self.connect()
        protocol.dataReceived(b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 600)
        self.assertTrue(transport.value().startswith(b"HTTP/1.1 400"))
        self.assertTrue(transport.disconnecting)
