"""OpenSSH, through portfwd."""

from __future__ import annotations

import hashlib

from portfwd.testing.data import Pattern
from tests.integration.case import ForwarderCase
from tests.integration.programs import needs, run
from tests.integration.servers import start_sshd

SIZE = 20_000_000


class OpenSSHTests(ForwarderCase):
    """An interactive protocol with bulk in it."""

    def setUp(self) -> None:
        """A server with a key of its own, and a rule that leads to it."""
        super().setUp()
        port, self.options = start_sshd(self)
        self.through = self.forwarder(f"ssh: 127.0.0.1:0 -> 127.0.0.1:{port}\n")

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
        there = f"127.0.0.1:{self.directory}/there"
        run(*scp, str(self.directory / "file"), there)
        run(*scp, there, str(self.directory / "back"))
        expected = hashlib.sha256(data).hexdigest()
        for name in ("there", "back"):
            self.assertEqual(hashlib.sha256((self.directory / name).read_bytes()).hexdigest(), expected)
        for line in self.through.access_lines(2):
            self.assertEqual(line.reason, "--")
