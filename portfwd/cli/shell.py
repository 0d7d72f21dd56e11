# -*- test-case-name: tests.cli.test_shell -*-
"""
``portfwd shell``: the manhole of a forwarder, by OpenSSH's client.

Where it listens and which key it shows itself by is asked of the control socket, so nobody else on
the machine can pose as it; which key lets one in is OpenSSH's to choose.
"""

from __future__ import annotations

import argparse
import os
import select
import shlex
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Final

from portfwd.cli.control import REFUSED, Control, ControlError, with_control
from portfwd.cli.looking import add_command
from portfwd.cli.reading import FINE
from portfwd.values import printable

#: What the host is called in the file of known hosts; it stands for no name of a network.
_ALIAS: Final = "portfwd"
_CHUNK: Final = 65536


_CODES: Final = """
exit codes:
  0  the prompt was left
  1  the forwarder cannot be reached, has no manhole, or there is no 'ssh'
  2  the command line is wrong
  255  'ssh' could not connect, or nobody was let in
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = add_command(
        commands,
        "shell",
        "a Python prompt inside a forwarder",
        "Open a Python prompt inside a running forwarder whose rules file has the directive 'manhole',\n"
        "with OpenSSH's client and one of your keys. What blocks there blocks all traffic.\n",
        "portfwd shell -i ~/.ssh/id_ed25519",
        _CODES,
    )
    parser.add_argument("-i", "--identity", metavar="FILE", help="the private key; else OpenSSH chooses")
    parser.add_argument(
        "--address", metavar="ADDRESS", help="which manhole, as 'portfwd status' shows it; else the first"
    )
    parser.add_argument("--stdio", metavar="PATH", help=argparse.SUPPRESS)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Find the manhole, and hand over to ``ssh``."""
    if arguments.stdio is not None:
        return carry(arguments.stdio)

    def work(control: Control) -> int:
        shells = control.ask("status")["shells"]
        control.close()
        for shell in shells:
            if arguments.address in (None, shell["address"]):
                return _connect(shell["address"], shell["host_key"], arguments.identity)
        if not shells:
            raise ControlError("this forwarder has no manhole: its rules file has no such directive")
        raise ControlError(
            f"no manhole listens on {arguments.address}: there is "
            + ", ".join(shell["address"] for shell in shells)
        )

    return with_control(arguments, work)


def _connect(address: str, host_key: str, identity: str | None) -> int:
    with tempfile.TemporaryDirectory(prefix="portfwd-shell-") as directory:
        known_hosts = os.path.join(directory, "known_hosts")
        with open(known_hosts, "w", encoding="ascii") as file:
            file.write(f"{_ALIAS} {host_key}\n")
        command = ssh_command(address, known_hosts, identity)
        try:
            return subprocess.run(command, check=False).returncode  # noqa: S603 - made here, word by word
        except FileNotFoundError:
            print("portfwd shell: OpenSSH's client is not installed: there is no 'ssh'", file=sys.stderr)
            return REFUSED


def ssh_command(address: str, known_hosts: str, identity: str | None) -> list[str]:
    """
    What connects to a manhole.

    :param known_hosts: a file with its key, and no other.
    """
    options = [
        f"HostKeyAlias={_ALIAS}",
        f'UserKnownHostsFile="{known_hosts}"',
        "GlobalKnownHostsFile=/dev/null",
        "StrictHostKeyChecking=yes",
        "PreferredAuthentications=publickey",
        "ForwardAgent=no",
        "ForwardX11=no",
        "ClearAllForwardings=yes",
        "ControlPath=none",
    ]
    where = ["-p", "22", _ALIAS]
    if address.startswith("unix:"):
        through = [sys.executable, "-m", "portfwd.cli.main", "shell", "--stdio", address[5:]]
        # ssh replaces what stands behind a percent sign.
        options.append("ProxyCommand=" + shlex.join(through).replace("%", "%%"))
    else:
        host, _, port = address.rpartition(":")
        where = ["-p", port, host.strip("[]")]
    command = ["ssh", "-t"]
    for option in options:
        command += ["-o", option]
    if identity is not None:
        command += ["-i", identity, "-o", "IdentitiesOnly=yes"]
    return [*command, *where]


def carry(path: str, source: int = 0, target: int = 1) -> int:
    """
    Carry bytes between a unix socket and standard input and output: ssh itself knows no such sockets.

    :returns: the exit code.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        try:
            sock.connect(path)
        except OSError as problem:
            print(f"portfwd shell: {printable(path)}: {problem.strerror}", file=sys.stderr)
            return REFUSED
        sources: list[int] = [source, sock.fileno()]
        while sock.fileno() in sources:
            ready: Sequence[int] = select.select(sources, [], [])[0]
            if source in ready:
                data = os.read(source, _CHUNK)
                if data:
                    sock.sendall(data)
                else:
                    sources.remove(source)
                    sock.shutdown(socket.SHUT_WR)
            if sock.fileno() in ready:
                data = sock.recv(_CHUNK)
                if not data:
                    break
                _write_all(target, data)
    return FINE


def _write_all(target: int, data: bytes) -> None:
    while data:
        data = data[os.write(target, data) :]
