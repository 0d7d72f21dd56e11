# -*- test-case-name: tests.cli.test_shell -*-
"""
``portfwd shell``: opens the manhole of a forwarder with OpenSSH's client.

The address and the host key of the manhole come from the control socket, so other users of the machine cannot
impersonate it. OpenSSH chooses the key of the client.
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

#: The name of the host in the file of known hosts. It is not resolved.
_ALIAS: Final = "portfwd"
_CHUNK: Final = 65536

_CODES: Final = """
exit codes:
  0  the prompt was closed
  1  the forwarder cannot be reached, has no manhole, or there is no 'ssh'
  2  the command line is wrong
  255  'ssh' could not connect or log in
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = add_command(
        commands,
        "shell",
        "open a Python prompt inside a forwarder",
        "Open a Python prompt inside a running forwarder whose rules file has the directive 'manhole',\n"
        "with OpenSSH's client and one of your keys. A blocking call there blocks all traffic.\n",
        "portfwd shell -i ~/.ssh/id_ed25519",
        _CODES,
    )
    parser.add_argument("-i", "--identity", metavar="FILE", help="the private key (chosen by OpenSSH)")
    parser.add_argument(
        "--address", metavar="ADDRESS", help="the manhole, as in 'portfwd status' (the first one)"
    )
    parser.add_argument("--stdio", metavar="PATH", help=argparse.SUPPRESS)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run ``portfwd shell``: find the manhole, and run ``ssh``."""
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
            f"no manhole listens on {arguments.address}; the manholes are "
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
    The command that connects to a manhole.

    :param known_hosts: path of a file with only the host key of the manhole.
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
        # ssh expands percent signs in this option.
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
    Relay bytes between a unix socket and standard input and output, because ssh does not support such
    sockets.

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
