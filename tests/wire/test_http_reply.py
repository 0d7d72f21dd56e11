"""Tests of `portfwd.wire.http_reply`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from portfwd.wire.http_reply import CONNECTED, PHRASES, build_refusal


class ReplyTests(SynchronousTestCase):
    """Responses without a body."""

    def test_refusal(self) -> None:
        """A status line, the given fields, no body, and the end of the connection."""
        self.assertEqual(
            build_refusal(405, "Allow: CONNECT"),
            b"HTTP/1.1 405 Method Not Allowed\r\nAllow: CONNECT\r\n"
            b"Content-Length: 0\r\nConnection: close\r\n\r\n",
        )

    def test_all(self) -> None:
        """Every status is an error, and its response ends with an empty line."""
        for status in PHRASES:
            self.assertTrue(400 <= status < 600)
            self.assertTrue(build_refusal(status).endswith(b"\r\n\r\n"))

    def test_connected(self) -> None:
        """The answer to CONNECT is a line alone: whatever follows is the tunnel's."""
        self.assertEqual(CONNECTED.count(b"\r\n"), 2)
