"""Tests of `portfwd.wire.smtp`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from portfwd.wire.smtp import split_reply, with_extension


class ReplyTests(SynchronousTestCase):
    """Replies, complete and not."""

    def test_split(self) -> None:
        """A reply ends with the line that has a blank behind its code, or nothing."""
        for data, expected in (
            (b"220 ready\r\nmore", (b"220 ready\r\n", b"more")),
            (b"250-a\r\n250-b\r\n250 c\r\n", (b"250-a\r\n250-b\r\n250 c\r\n", b"")),
            (b"250\r\n", (b"250\r\n", b"")),
        ):
            self.assertEqual(split_reply(data), expected)

    def test_incomplete(self) -> None:
        """There is none before its last line is complete."""
        whole = b"250-a\r\n250 c\r\n"
        for end in range(len(whole)):
            self.assertIsNone(split_reply(whole[:end]))

    def test_extension(self) -> None:
        """The extension is offered once, or not at all, wherever it stood."""
        for reply in (
            b"250-host\r\n250-STARTTLS\r\n250 SIZE 9\r\n",
            b"250-host\r\n250-SIZE 9\r\n250 STARTTLS\r\n",
            b"250-host\r\n250 SIZE 9\r\n",
        ):
            offered = b"250-host\r\n250-SIZE 9\r\n250 STARTTLS\r\n"
            self.assertEqual(with_extension(reply, offered=True), offered)
            self.assertEqual(with_extension(reply, offered=False), b"250-host\r\n250 SIZE 9\r\n")
        self.assertEqual(with_extension(b"250 host\r\n", offered=True), b"250-host\r\n250 STARTTLS\r\n")
