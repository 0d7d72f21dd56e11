"""Tests of the filter, with plain bytes: python -m twisted.trial test_ssh_only."""

from collections.abc import Sequence
from unittest import TestCase

from ssh_only import SSHOnly

from portfwd.filters import TO_CLIENT, TO_UPSTREAM
from portfwd.testing import Pipe, check_filter, every_split

HELLO = b"SSH-2.0-OpenSSH_9.6\r\n"
REQUEST = b"GET / HTTP/1.1\r\n\r\n"


class SSHOnlyTests(TestCase):
    """Who is let through, and who is not."""

    def test_ssh(self) -> None:
        """A client that begins as SSH is let through, and so is its server."""
        pipe = Pipe(SSHOnly)
        pipe.send(TO_UPSTREAM, HELLO)
        pipe.send(TO_CLIENT, HELLO)
        self.assertEqual((pipe.to_upstream, pipe.to_client), (HELLO, HELLO))
        self.assertIsNone(pipe.finished)

    def test_other(self) -> None:
        """Any other is told so, and closed; nothing of it reaches the upstream."""
        pipe = Pipe(SSHOnly(reply=b"no\r\n"))
        pipe.send(TO_UPSTREAM, REQUEST)
        self.assertEqual((pipe.to_upstream, pipe.to_client), (b"", b"no\r\n"))
        assert pipe.finished is not None
        self.assertEqual(pipe.finished.detail, "not SSH")

    def test_cut(self) -> None:
        """It does not matter how the network cuts the bytes."""

        def passed(pieces: Sequence[bytes]) -> bytes:
            pipe = Pipe(SSHOnly)
            pipe.send(TO_UPSTREAM, *pieces)
            return pipe.to_upstream

        self.assertEqual(every_split(passed, HELLO), HELLO)
        self.assertEqual(every_split(passed, REQUEST), b"")

    def test_contract(self) -> None:
        """It keeps the contract, whatever it is sent."""
        check_filter(SSHOnly, [HELLO, REQUEST, [(TO_UPSTREAM, HELLO), (TO_CLIENT, HELLO)]])
