"""``portfwd run``, as a process of its own."""

from __future__ import annotations

import signal
import socket
import subprocess

from tests.integration.case import ForwarderCase
from tests.integration.control_case import COMMAND, environment
from tests.integration.echo import EchoServer

RUN = (*COMMAND, "run")


class RunTests(ForwarderCase):
    """The command that forwards."""

    def test_forwards(self) -> None:
        """It forwards, reads its file again after HUP, and ends with 0 after TERM (see `_end`)."""
        upstream = EchoServer()
        self.addCleanup(upstream.close)
        forwarder = self.forwarder(f"a: 127.0.0.1:0 -> 127.0.0.1:{upstream.port}\n", program=RUN)
        with socket.create_connection(("127.0.0.1", forwarder.port("a")), 20) as client:
            client.sendall(b"hello")
            self.assertEqual(client.recv(5, socket.MSG_WAITALL), b"hello")
        forwarder.signal(signal.SIGHUP)
        forwarder.wait_for_line("reload: done")

    def test_refuses(self) -> None:
        """Rules that are wrong end it with 2, and what is wrong is said on standard error."""
        done = subprocess.run(
            [*RUN, "--rule", "a: 127.0.0.1:0 -> x:99999"],
            capture_output=True,
            text=True,
            env=environment(),
            timeout=60,
            check=False,
        )
        self.assertEqual((done.returncode, done.stdout), (2, ""))
        self.assertIn("1 error, nothing was started", done.stderr)
