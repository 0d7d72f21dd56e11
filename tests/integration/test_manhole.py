"""The manhole, by OpenSSH's own client: who is let in, what is refused, and the prompt."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from portfwd.admin.operator_port import MAX_CLIENTS
from tests.integration.control_case import COMMAND, ControlCase
from tests.integration.forwarder import Forwarder, is_listening
from tests.integration.programs import needs, run
from tests.integration.silent_crowd import Crowd
from tests.ports import free_port

#: What a client of a test leaves out of its user's settings.
PLAIN = (
    "-F", "/dev/null", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
    "-o", "GlobalKnownHostsFile=/dev/null", "-o", "IdentityAgent=none", "-o", "LogLevel=INFO",
    "-o", "ConnectTimeout=20",
)  # fmt: skip


class ManholeTests(ControlCase):
    """Two manholes, one on the loopback and one in a private directory."""

    def setUp(self) -> None:
        super().setUp()
        self.ssh = needs("ssh")
        for name in ("right", "wrong"):
            run(needs("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", str(self.directory / name))
        (self.directory / "right.pub").rename(self.directory / "keys")
        self.private = self.directory / "private"
        self.private.mkdir(0o700)

    def with_shells(self) -> Forwarder:
        """A forwarder with both."""
        self.port = free_port()
        keys = self.directory / "keys"
        return self.operated(
            "web: 127.0.0.1:0 -> ECHO\n",
            f"manhole ssh:127.0.0.1:{self.port} keys={keys} host-key={self.private}/host",
            f"manhole unix:{self.private}/ssh.sock keys={keys}",
            accidents=True,
        )

    def log_in(
        self, *words: str, key: str = "right", options: Sequence[str] = ()
    ) -> subprocess.CompletedProcess[bytes]:
        """What OpenSSH's client says, without a terminal."""
        return run(
            self.ssh, *PLAIN, "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-i",
            str(self.directory / key), "-p", str(self.port), *options, "127.0.0.1", *words,
            check=False, data=b"1 + 1\r",
        )  # fmt: skip

    def test_right_key(self) -> None:
        """Who has the key gets a prompt, and Python answers."""
        forwarder = self.with_shells()
        done = self.log_in(options=["-tt"])
        self.assertIn(b"\r\n2\r\n", done.stdout)
        forwarder.wait_for_line("logged in with key")

    def test_right_key_in_a_crowd(self) -> None:
        """More silent clients than there are places keep nobody out who has the key, nor fill the log."""
        forwarder = self.with_shells()
        crowd = Crowd(("127.0.0.1", self.port), 2 * MAX_CLIENTS, b"")
        self.addCleanup(crowd.leave)
        self.assertIn(b"\r\n2\r\n", self.log_in(options=["-tt"]).stdout)
        self.assertLess(len(forwarder.lines), MAX_CLIENTS)

    def test_wrong_key(self) -> None:
        """Who has another does not; publickey is all that is offered."""
        self.with_shells()
        done = self.log_in(key="wrong")
        self.assertEqual(done.returncode, 255)
        self.assertIn(b"Permission denied (publickey).", done.stderr)

    def test_no_password(self) -> None:
        """A password is not asked for."""
        self.with_shells()
        done = self.log_in(
            options=["-o", "PreferredAuthentications=password,keyboard-interactive", "-v"], key="wrong"
        )
        self.assertEqual(done.returncode, 255)
        self.assertIn(b"Authentications that can continue: publickey\r\n", done.stderr)

    def test_no_forwarding(self) -> None:
        """Neither a connection nor a port nor an agent is carried, and no command is run."""
        forwarder = self.with_shells()
        done = self.log_in(options=["-W", f"127.0.0.1:{self.echo.port}"])
        self.assertIn(b"open failed", done.stderr)
        self.assertEqual(self.echo.accepted, 0)
        port = free_port()
        done = self.log_in(options=["-N", "-o", "ExitOnForwardFailure=yes", "-R", f"{port}:127.0.0.1:1"])
        self.assertIn(b"remote port forwarding failed", done.stderr)
        self.assertFalse(is_listening(port))
        done = self.log_in("id")
        self.assertNotIn(b"uid=", done.stdout)
        self.assertNotEqual(done.returncode, 0)
        self.exchange(self.client(forwarder), b"traffic goes on")

    def test_loose(self) -> None:
        """A file of keys that others may write refuses the start."""
        (self.directory / "keys").chmod(0o666)
        forwarder = Forwarder(
            self.directory, f"manhole ssh:127.0.0.1:0 keys={self.directory}/keys\n:0 -> 127.0.0.1:9\n"
        )
        self.addCleanup(forwarder.clean_up)
        self.assertEqual(forwarder.wait(), 2)
        self.assertIn("chmod go-w", forwarder.log)

    def test_shell(self) -> None:
        """``portfwd shell`` finds either, knows its key, and shows what is at work."""
        forwarder = self.with_shells()
        client = self.client(forwarder)
        self.exchange(client, b"x")
        shell = (*COMMAND, "shell", "--socket", self.path, "-i", str(self.directory / "right"))
        for address in (f"127.0.0.1:{self.port}", f"unix:{self.private}/ssh.sock"):
            terminal = self.terminal((*shell, "--address", address))
            terminal.wait_for("sessions[7]: the live objects")
            terminal.wait_for(">>> ")
            terminal.type("sessions\r")
            terminal.wait_for("1: <Session 1 web ")
            terminal.type("pause('web')\r")
            terminal.wait_for("['web']")
            terminal.type("resume('web')\r")
            terminal.wait_for("['web']")
            terminal.type("reload(dry_run=True)\r")
            terminal.wait_for("nothing is different")
            terminal.type("exit()\r")
            self.assertEqual(terminal.wait(), 0)
        self.exchange(client, b"still here")
