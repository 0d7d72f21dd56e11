"""Tests of the manholes of a ruleset."""

from __future__ import annotations

import os
import stat

from portfwd.admin.shell_keys import new_host_key, public_line
from portfwd.errors import StartError
from portfwd.rules.admin_lines import manhole_specs
from portfwd.service.operators.shells import Shells, make_shells
from tests.admin.ssh_client import SSHClient
from tests.service.contexts import rules
from tests.service.operated import RULES, OperatedTestCase

KEY = new_host_key()


class ShellTests(OperatedTestCase):
    """Keys, directories, ports."""

    def setUp(self) -> None:
        super().setUp()
        self.keys = self.directory / "keys"
        self.keys.write_text(public_line(KEY) + "\n")
        self.keys.chmod(0o600)
        self.inner = self.directory / "private"
        self.inner.mkdir(0o700)

    def make(self, *lines: str) -> Shells:
        """The service of these lines, not started."""
        text = "\n".join(line.format(keys=self.keys, inner=self.inner) for line in lines)
        specs = manhole_specs(rules(f"{text}\n{RULES.format(target='127.0.0.1:9')}"))
        shells = make_shells(specs, self.operating, self.forwarder, self.reactor)
        self.addCleanup(self.turn, 10)
        self.addCleanup(shells.stopService)
        return shells

    def refused(self, *lines: str) -> tuple[str, ...]:
        """Why they cannot be had."""
        return tuple(self.assertRaises(StartError, self.make, *lines).failures)

    def log_in(self, shells: Shells) -> SSHClient:
        """Somebody who came in by the first."""
        client = SSHClient(KEY)
        address = shells.ports[0].listener.sock.getsockname()
        if isinstance(address, str):
            self.turned.connectUNIX(address, client)
        else:
            self.turned.connectTCP(*address[:2], client)
        self.addCleanup(lambda: client.transport and client.transport.transport.abortConnection())
        self.turn_until(lambda: client.connection is not None)
        return client

    def test_unix(self) -> None:
        """A manhole in a private directory: the key opens it, and its own key is told to operators."""
        shells = self.make("manhole unix:{inner}/ssh.sock keys={keys} host-key={inner}/host")
        shells.startService()
        client = self.log_in(shells)
        (told,) = self.operating.status()["shells"]
        self.assertEqual(told["address"], f"unix:{self.inner}/ssh.sock")
        assert client.host_key is not None
        self.assertEqual(told["host_key"], public_line(client.host_key))
        self.assertEqual(stat.S_IMODE(os.stat(self.inner / "host").st_mode), 0o600)
        stopped = shells.stopService()
        self.turn_until(lambda: client.lost)
        self.successResultOf(stopped)
        self.assertFalse((self.inner / "ssh.sock").exists())

    def test_loopback(self) -> None:
        """A manhole on a port of the loopback; a host key that is not kept is new each time."""
        shells = self.make("manhole ssh:127.0.0.1:0 keys={keys}")
        shells.startService()
        self.log_in(shells)
        self.make("manhole ssh:127.0.0.1:0 keys={keys}")
        one, two = self.operating.shells
        self.assertNotEqual(one["host_key"], two["host_key"])

    def test_prompt(self) -> None:
        """The prompt knows the forwarder."""
        shells = self.make("manhole ssh:127.0.0.1:0 keys={keys}")
        shells.startService()
        client = self.log_in(shells)
        shell = client.open()
        self.turn_until(lambda: shell.state == "open")
        shell.prompt()
        self.turn_until(lambda: b">>> " in shell.heard)
        shell.type("rules['web']")
        self.turn_until(lambda: b"<LiveRule web" in shell.heard)

    def test_loose_files(self) -> None:
        """Keys that others may write, or that are missing, refuse the start, each with its line."""
        self.keys.chmod(0o666)
        line = "manhole unix:{inner}/ssh.sock keys={keys}"
        (failure,) = self.refused(line)
        self.assertRegex(failure, r"^manhole unix:.*chmod go-w .*keys \(test.conf:1:1\)$")
        self.keys.unlink()
        self.assertEqual(len(self.refused(line, "manhole ssh:127.0.0.1:0 keys={keys}")), 2)
        self.assertIn("No such file", self.refused(line)[0])

    def test_loose_directory(self) -> None:
        """A socket is bound in a directory of ours alone, and nowhere else."""
        self.inner.chmod(0o755)
        shells = self.make("manhole unix:{inner}/ssh.sock keys={keys}", "manhole ssh:127.0.0.1:0 keys={keys}")
        error = self.assertRaises(StartError, shells.startService)
        self.assertEqual(len(error.failures), 1)
        self.assertIn("chmod go-rwx", error.failures[0])
        self.inner.rmdir()
        error = self.assertRaises(StartError, shells.startService)
        self.assertIn("No such file", error.failures[0])

    def test_taken_since(self) -> None:
        """A port that was lost between the two steps of a start is told of."""
        shells = self.make("manhole ssh:127.0.0.1:0 keys={keys}")
        shells.privilegedStartService()

        def taken() -> None:
            raise OSError(98, os.strerror(98))

        self.patch(shells.ports[0].listener, "open", taken)
        error = self.assertRaises(StartError, shells.startService)
        self.assertIn("Address already in use", error.failures[0])
