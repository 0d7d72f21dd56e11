"""OpenSSH, through portfwd."""

from __future__ import annotations

import getpass
import hashlib
import os
from pathlib import Path

from portfwd.testing.data import Pattern
from tests.integration.case import ForwarderCase
from tests.integration.programs import Program, free_port, needs, run

CONFIGURATION = """
Port {port}
ListenAddress 127.0.0.1
HostKey {directory}/host
AuthorizedKeysFile {directory}/user.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
Subsystem sftp internal-sftp
"""
SIZE = 20_000_000


class OpenSSHTests(ForwarderCase):
    """An interactive protocol with bulk in it."""

    def setUp(self) -> None:
        """A server with a key of its own, and a rule that leads to it."""
        super().setUp()
        # It re-executes itself, so it wants the absolute path.
        server = needs("sshd")
        keygen = needs("ssh-keygen")
        for name in ("host", "user"):
            run(keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(self.directory / name))
        if os.geteuid() == 0:
            # Debian's service makes it when it starts; as root the server does not run without.
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        port = free_port()
        configuration = self.directory / "sshd_config"
        configuration.write_text(CONFIGURATION.format(port=port, directory=self.directory))
        program = Program([server, "-D", "-e", "-f", str(configuration)], self.directory / "sshd.log")
        self.addCleanup(program.clean_up)
        program.wait_for_port(port)
        self.through = self.forwarder(f"ssh: 127.0.0.1:0 -> 127.0.0.1:{port}\n")
        self.options = [
            "-F", "none", "-i", str(self.directory / "user"), "-o", "BatchMode=yes",
            "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
        ]  # fmt: skip

    def test_command(self) -> None:
        """A command's output, exit code and standard input pass."""
        done = run(
            needs("ssh"), *self.options, "-p", str(self.through.port("ssh")), "127.0.0.1", "cat; exit 7",
            data=b"from here\n", check=False,
        )  # fmt: skip
        self.assertEqual((done.stdout, done.returncode), (b"from here\n", 7), done.stderr)
        (line,) = self.through.access_lines(1)
        self.assertEqual(line.reason, "--")

    def test_copy(self) -> None:
        """A file that goes there and back has the same hash."""
        data = Pattern(5).slice(0, SIZE)
        (self.directory / "file").write_bytes(data)
        scp = [needs("scp"), *self.options, "-q", "-P", str(self.through.port("ssh"))]
        there = f"{getpass.getuser()}@127.0.0.1:{self.directory}/there"
        run(*scp, str(self.directory / "file"), there)
        run(*scp, there, str(self.directory / "back"))
        expected = hashlib.sha256(data).hexdigest()
        for name in ("there", "back"):
            self.assertEqual(hashlib.sha256((self.directory / name).read_bytes()).hexdigest(), expected)
        for line in self.through.access_lines(2):
            self.assertEqual(line.reason, "--")
