"""Tests of the filter, with plain bytes: python -m twisted.trial test_ssh_only."""

from ssh_only import SSHOnly
from twisted.trial.unittest import SynchronousTestCase

from portfwd.filters import DONE, NEED_MORE, TO_UPSTREAM, Close


class SSHOnlyTests(SynchronousTestCase):
    """Who is let through, and who is not."""

    def test_ssh(self):
        """A client that begins as SSH is let through, and not looked at again."""
        self.assertIs(SSHOnly().received(TO_UPSTREAM, b"SSH-2.0-OpenSSH_9.6\r\n"), DONE)

    def test_other(self):
        """Any other is told so, and closed."""
        self.assertEqual(
            SSHOnly(reply=b"no\r\n").received(TO_UPSTREAM, b"GET / HTTP/1.1\r\n"),
            Close("not SSH", reply=b"no\r\n"),
        )

    def test_cut(self):
        """A greeting that comes in pieces is waited for."""
        self.assertIs(SSHOnly().received(TO_UPSTREAM, b"SS"), NEED_MORE)
