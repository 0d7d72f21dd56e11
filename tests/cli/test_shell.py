"""Tests of ``portfwd shell``: how OpenSSH's client is called, and how it reaches a unix socket."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import threading
from typing import Any

from portfwd.cli import shell
from tests.cli.scripted import ControlTestCase
from tests.cli.test_looking import STATUS

ONE = {"address": "127.0.0.1:2222", "host_key": "ssh-ed25519 AAAA"}
TWO = {"address": "unix:/run/100%/ssh.sock", "host_key": "ssh-ed25519 BBBB"}


class ShellTests(ControlTestCase):
    """The command."""

    def setUp(self) -> None:
        super().setUp()
        self.called: list[list[str]] = []
        self.known_hosts = ""
        self.patch(shell.subprocess, "run", self.ssh)

    def ssh(self, command: list[str], *, check: bool) -> Any:
        """OpenSSH's client."""
        self.called.append(command)
        (option,) = (word for word in command if word.startswith("UserKnownHostsFile="))
        with open(option.partition("=")[2].strip('"'), encoding="ascii") as file:
            self.known_hosts = file.read()
        return subprocess.CompletedProcess(command, 7)

    def shells(self, *shells: dict[str, str]) -> None:
        self.forwarder.says("status", STATUS | {"shells": list(shells)})

    def test_first(self) -> None:
        """The first manhole, by the key that the forwarder says; ssh's exit code is the command's."""
        self.shells(ONE, TWO)
        self.assertEqual(self.run_there("shell"), (7, "", ""))
        (command,) = self.called
        self.assertEqual((command[0], command[-3:]), ("ssh", ["-p", "2222", "127.0.0.1"]))
        self.assertEqual(self.known_hosts, "portfwd ssh-ed25519 AAAA\n")
        self.assertNotIn("-i", command)

    def test_chosen(self) -> None:
        """Another by its address, and a key of one's own."""
        self.shells(ONE, TWO)
        self.run_there("shell", "--address", TWO["address"], "-i", "my key")
        (command,) = self.called
        self.assertEqual(self.known_hosts, "portfwd ssh-ed25519 BBBB\n")
        self.assertEqual(command[command.index("-i") + 1], "my key")
        self.assertIn("IdentitiesOnly=yes", command)
        (proxy,) = (word for word in command if word.startswith("ProxyCommand="))
        words = shlex.split(proxy.partition("=")[2].replace("%%", "%"))
        self.assertEqual(words[-3:], ["shell", "--stdio", "/run/100%/ssh.sock"])

    def test_none(self) -> None:
        """Without a manhole, or with an unknown address, there is a message."""
        self.shells()
        code, _, err = self.run_there("shell")
        self.assertEqual(code, 1)
        self.assertIn("no manhole", err)
        self.shells(ONE)
        _, _, err = self.run_there("shell", "--address", "x")
        self.assertIn("the manholes are 127.0.0.1:2222", err)

    def test_no_ssh(self) -> None:
        """Without OpenSSH's client there is no shell."""

        def missing(command: list[str], *, check: bool) -> None:
            raise FileNotFoundError

        self.patch(shell.subprocess, "run", missing)
        self.shells(ONE)
        code, _, err = self.run_there("shell")
        self.assertEqual(code, 1)
        self.assertIn("there is no 'ssh'", err)

    def test_careful(self) -> None:
        """The server's key must be the one that was told; nothing is forwarded, no password is typed."""
        command = shell.ssh_command("[::1]:2222", "/tmp/x y", None)
        self.assertEqual(command[-1], "::1")
        for option in (
            "StrictHostKeyChecking=yes",
            "PreferredAuthentications=publickey",
            "ForwardAgent=no",
            "ClearAllForwardings=yes",
            'UserKnownHostsFile="/tmp/x y"',
        ):
            self.assertIn(option, command)


class CarryTests(ControlTestCase):
    """What stands between ssh and a unix socket."""

    def test_both_ways(self) -> None:
        """Bytes go both ways; the end of one direction is carried, and the end of the other is the end."""
        path = os.fspath(self.directory / "echo.sock")
        listening = socket.socket(socket.AF_UNIX)
        self.addCleanup(listening.close)
        listening.bind(path)
        listening.listen()

        def echo() -> None:
            client, _ = listening.accept()
            with client:
                while data := client.recv(65536):
                    client.sendall(data)

        server = threading.Thread(target=echo, daemon=True)
        server.start()
        source, typed = os.pipe()
        shown, target = os.pipe()
        data = bytes(range(256)) * 100
        os.write(typed, data)
        os.close(typed)
        self.assertEqual(shell.carry(path, source, target), 0)
        os.close(target)
        with os.fdopen(shown, "rb") as file:
            self.assertEqual(file.read(), data)
        os.close(source)
        server.join(20)

    def test_nobody(self) -> None:
        """If the socket cannot be connected, there is a message."""
        code, _, err = self.run_main("shell", "--stdio", "/nonexistent/x")
        self.assertEqual((code, err), (1, "portfwd shell: /nonexistent/x: No such file or directory\n"))
