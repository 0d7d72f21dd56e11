"""Tests of the Python prompt by SSH: who is let in, what is refused, and what a prompt is."""

from __future__ import annotations

import os
import socket

from cryptography.hazmat.primitives.asymmetric import rsa
from twisted.conch.error import ConchError
from twisted.conch.ssh.keys import Key
from twisted.internet.defer import Deferred, fail
from twisted.logger import capturedLogs

from portfwd.admin.manhole import LOGIN_TIME, ManholeFactory
from portfwd.admin.operator_port import OperatorPort
from portfwd.admin.shell_keys import new_host_key
from tests.admin.ssh_client import ClientTransport, Shell, SSHClient
from tests.service.turning import TurningTestCase

KEY = new_host_key()
OTHER = new_host_key()
HOST = new_host_key()


class ManholeTestCase(TurningTestCase):
    """A manhole on a unix socket."""

    def setUp(self) -> None:
        super().setUp()
        self.path = self.directory / "ssh.sock"
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(os.fspath(self.path))
        sock.setblocking(False)
        self.made = 0
        self.waits: Deferred[str] = Deferred()
        self.factory = ManholeFactory([KEY.public()], HOST, self.reactor, self.names, "names: here\nfailed")
        self.factory.doStart()
        self.port = OperatorPort("manhole", sock, self.reactor, self.factory.serve)
        self.port.open()
        self.addCleanup(self.end)

    def end(self) -> None:
        self.port.close()
        self.turn(10)

    def names(self) -> dict[str, object]:
        """The names of a log-in."""
        self.made += 1
        return {"here": self.made, "failed": lambda: fail(ValueError("no such rule")), "waits": self.waits}

    def client(self, key: Key | None = KEY, **options: bool) -> SSHClient:
        """A client that has tried to log in."""
        client = SSHClient(key, **options)
        self.turned.connectUNIX(os.fspath(self.path), client)
        self.addCleanup(lambda: client.transport and client.transport.transport.abortConnection())
        if client.logs_in:
            self.turn_until(lambda: client.connection is not None or client.lost or client.methods)
            self.turn_until(lambda: client.connection is not None or client.lost)
        return client

    def prompt(self, client: SSHClient | None = None, *, terminal: bool = True) -> Shell:
        """A prompt that is there."""
        client = self.client() if client is None else client
        shell = client.open()
        self.turn_until(lambda: shell.state == "open")
        shell.prompt(terminal=terminal)
        self.turn_until(lambda: b">>> " in shell.heard)
        return shell

    def type(self, shell: Shell, line: str) -> str:
        """What comes back for a line."""
        shell.heard = b""
        shell.type(line)
        self.turn_until(lambda: shell.heard.endswith((b">>> ", b"... ")) or shell.state == "closed")
        return shell.heard.decode()


class LoginTests(ManholeTestCase):
    """Who is let in."""

    def test_right_key(self) -> None:
        """A client with one of the keys can log in with any name; the log has the name and the key."""
        with capturedLogs() as events:
            client = self.client()
        self.assertIsNotNone(client.connection)
        self.assertEqual(client.host_key, HOST.public())
        texts = [event["log_format"].format(**event) for event in events if "key" in event]
        self.assertEqual(texts, [f"operator me (shell): logged in with key {KEY.public().fingerprint()}"])

    def test_rsa(self) -> None:
        """A host key may be of another kind."""
        host = Key(rsa.generate_private_key(65537, 2048))
        self.factory.publicKeys = {b"ssh-rsa": host.public()}
        self.factory.privateKeys = {b"ssh-rsa": host}
        self.assertEqual(self.client().host_key, host.public())

    def test_ciphers(self) -> None:
        """Only what is strong is spoken; a client that knows nothing else than old ciphers is not served."""
        client = self.client()
        assert client.transport is not None
        self.assertTrue(client.transport.currentEncryptions.outCipType.endswith(b"-ctr"))
        old = SSHClient(KEY)
        self.patch(ClientTransport, "supportedCiphers", [b"3des-cbc"])
        self.turned.connectUNIX(os.fspath(self.path), old)
        self.turn_until(lambda: old.lost)
        self.assertIsNone(old.connection)

    def test_wrong_key(self) -> None:
        """A client with another key cannot log in, and there is no other method."""
        client = self.client(OTHER)
        self.assertIsNone(client.connection)
        self.assertTrue(client.lost)
        self.assertEqual(self.made, 0)

    def test_no_password(self) -> None:
        """Passwords are not asked for: the only method that can go on is a public key."""
        client = self.client(None)
        self.assertIsNone(client.connection)
        self.assertNotIn("password", client.methods)
        self.assertNotIn("keyboard-interactive", client.methods)
        self.assertIn("publickey", client.methods)

    def test_slow(self) -> None:
        """Who does not log in is shown out after a while, also if nothing is said at all."""
        silent, half = self.connect(self.path), self.client(logs_in=False)
        self.turn_until(lambda: half.host_key is not None)
        self.received(silent)
        self.turn(LOGIN_TIME + 1)
        self.turn_until(lambda: half.lost)
        self.assertEqual(self.received(silent), b"")

    def test_logged_in_stays(self) -> None:
        """Who is logged in may stay."""
        client = self.client()
        self.turn(LOGIN_TIME * 10)
        self.assertFalse(client.lost)

    def test_repr(self) -> None:
        """Keys do not show."""
        self.assertEqual(repr(self.factory), "<ManholeFactory>")


class RefusalTests(ManholeTestCase):
    """Unsupported features of SSH."""

    def test_forwarding(self) -> None:
        """Port forwarding in both directions is refused."""
        client = self.client()
        channel = client.forward()
        self.turn_until(lambda: channel.state == "refused")
        self.assertEqual(len(self.flushLoggedErrors(ConchError)), 1)
        answer = client.listen()
        self.turn()
        self.failureResultOf(answer)

    def test_no_other_service(self) -> None:
        """No command is run, no subsystem is there, and no agent is taken along."""
        client = self.client()
        for request, data in (
            (b"exec", b"\0\0\0\2id"),
            (b"subsystem", b"\0\0\0\4sftp"),
            (b"auth-agent-req@openssh.com", b""),
        ):
            channel = client.open()
            self.turn_until(lambda channel=channel: channel.state == "open")
            answer = channel.ask(request, data)
            self.turn()
            self.failureResultOf(answer)
        self.flushLoggedErrors()


class PromptTests(ManholeTestCase):
    """What a prompt is."""

    def test_python(self) -> None:
        """It says what there is, and Python is spoken there."""
        shell = self.prompt()
        self.assertIn("names: here\r\nfailed\r\n", shell.heard.decode())
        self.assertNotIn("\x1b[2J", shell.heard.decode())
        self.assertNotIn("\x1bc", shell.heard.decode())
        self.assertIn("\r\n2\r\n", self.type(shell, "1 + 1"))
        self.assertIn("NameError", self.type(shell, "nothing"))
        self.assertIn("... ", self.type(shell, "def f():"))

    def test_fresh(self) -> None:
        """Each log-in has names of its own; what one assigns, the other does not see."""
        one, two = self.prompt(), self.prompt(terminal=False)
        self.assertIn("\r\n1\r\n", self.type(one, "here"))
        self.assertIn("\r\n2\r\n", self.type(two, "here"))
        self.type(one, "mine = 5")
        self.assertIn("NameError", self.type(two, "mine"))

    def test_exit(self) -> None:
        """Every way to leave ends this log-in, and nothing else."""
        for line in ("exit()", "quit()", "raise SystemExit", "import sys; sys.exit(3)", "\x04"):
            shell = self.prompt()
            self.type(shell, line)
            self.assertEqual((shell.state, shell.exit_code), ("closed", 0), line)
        self.assertIn("ends this log-in", self.type(self.prompt(), "exit"))

    def test_eof(self) -> None:
        """Nothing more to type is one of them."""
        shell = self.prompt()
        shell.conn.sendEOF(shell)
        self.turn_until(lambda: shell.state == "closed")
        silent = self.client().open()
        self.turn_until(lambda: silent.state == "open")
        silent.conn.sendEOF(silent)
        self.turn()

    def test_help(self) -> None:
        """Help tells what is there, and of one thing what Python says of it, without a pager."""
        shell = self.prompt()
        self.assertIn("names: here", self.type(shell, "help"))
        self.assertIn("names: here", self.type(shell, "help()"))
        self.assertIn("Return the number of items", self.type(shell, "help(len)"))

    def test_nothing_that_blocks(self) -> None:
        """What would read from the forwarder's own terminal is not there."""
        shell = self.prompt()
        for name in ("input", "breakpoint"):
            self.assertIn("NameError", self.type(shell, f"{name}()"))

    def test_deferred(self) -> None:
        """A result that comes later is shown when it comes; failures that were shown are not logged."""
        shell = self.prompt()
        self.assertIn("<Deferred #0>", self.type(shell, "waits"))
        shell.heard = b""
        self.waits.errback(ValueError("it never came"))
        self.turn()
        self.assertIn("it never came", shell.heard.decode())
        self.assertIn("no such rule", self.type(shell, "failed()"))
        self.turn()
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_size(self) -> None:
        """The terminal's size is known, and changes."""
        shell = self.prompt()
        early = self.client().open()
        self.turn_until(lambda: early.state == "open")
        for channel in (shell, early):
            channel.ask(b"window-change", bytes.fromhex("00000028 00000014 00000000 00000000"))
            self.turn()
        self.assertIn("\r\n2\r\n", self.type(shell, "1 + 1"))
