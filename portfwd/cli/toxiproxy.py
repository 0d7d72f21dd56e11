# -*- test-case-name: tests.cli.test_toxiproxy -*-
"""``portfwd toxiproxy``: in the place of ``toxiproxy-server``, with its flags."""

from __future__ import annotations

import argparse
import ipaddress
import os
import sys

from twisted.python.usage import UsageError

from portfwd.cli.parsing import WRONG
from portfwd.cli.reading import FINE
from portfwd.rules.tokens import spell_value
from portfwd.values import printable

DESCRIPTION = """\
Serve toxiproxy's HTTP API in the foreground, for clients of toxiproxy in any language: they make
proxies and give these toxics, TCP as well as UDP. It is 'portfwd run' with one line,
'toxiproxy HOST:PORT'; a rules file may have that line beside its rules.

There is no password. Whoever reaches the API can let portfwd listen anywhere and connect to
anything, so let -host be the loopback, or a network of your own such as a container's.

examples:
  portfwd toxiproxy
  portfwd toxiproxy -host 127.0.0.1 -port 8474 -config proxies.json -seed 7

exit codes:
  0  a signal ended it
  1  the address is taken
  2  the command line is wrong, or the file of -config is not readable or not a list of proxies

A proxy of -config that cannot be made is logged; the server runs without it, as toxiproxy-server.
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "toxiproxy",
        help="be a toxiproxy server",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--host", "-host", metavar="HOST", default="localhost", help="where it listens (localhost)"
    )
    parser.add_argument("--port", "-port", metavar="PORT", type=_port, default=8474, help="its port (8474)")
    parser.add_argument(
        "--config",
        "-config",
        metavar="FILE",
        help="proxies to begin with: a JSON list, as /populate takes it",
    )
    parser.add_argument(
        "--seed", "-seed", metavar="N", type=_seed, default=0, help="the chances of toxics follow from it (0)"
    )
    parser.set_defaults(run=run)


def _port(text: str) -> int:
    return _whole(text, 0xFFFF)


def _seed(text: str) -> int:
    return _whole(text, 2**63 - 1)


def _whole(text: str, most: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= most):
        raise argparse.ArgumentTypeError(f"expected a number from 0 to {most}")
    return int(text)


def line_of(arguments: argparse.Namespace) -> str:
    """
    The line of a rules file that says the same.

    :raises ValueError: the host is no address.
    """
    host = "127.0.0.1" if arguments.host == "localhost" else arguments.host.strip("[]") or "0.0.0.0"  # noqa: S104
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise ValueError(f"-host takes an address or localhost, not {arguments.host!r}") from None
    words = [
        "toxiproxy",
        f"[{host}]:{arguments.port}" if address.version == 6 else f"{host}:{arguments.port}",
    ]
    if arguments.config is not None:
        words.append(f"config={spell_value(os.path.abspath(arguments.config))}")
    if arguments.seed:
        words.append(f"seed={arguments.seed}")
    if not address.is_loopback:
        words.append("remote=on")
    return " ".join(words)


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal ends it."""
    # It imports the code of twistd, which few commands need.
    from portfwd.service.foreground import run_in_foreground

    try:
        run_in_foreground([f"--rule={line_of(arguments)}"])
    except (UsageError, ValueError) as problem:
        print(f"portfwd toxiproxy: {printable(str(problem))}", file=sys.stderr)
        return WRONG
    return FINE
