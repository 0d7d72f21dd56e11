# -*- test-case-name: tests.cli.test_toxiproxy -*-
"""``portfwd toxiproxy``: a replacement for ``toxiproxy-server``, with its flags."""

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
Serve toxiproxy's HTTP API in the foreground, for clients of toxiproxy in any language. They
create proxies for TCP and UDP, and add toxics to them. The command is 'portfwd run' with the
line 'toxiproxy HOST:PORT', which a rules file may also have in addition to its rules.

There is no password. A client of the API can make portfwd listen on any address and connect to
any address, so -host should be the loopback or an address of a private network.

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
        help="run a toxiproxy server",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--host", "-host", metavar="HOST", default="localhost", help="the address to listen on (localhost)"
    )
    parser.add_argument(
        "--port", "-port", metavar="PORT", type=_port, default=8474, help="the port to listen on (8474)"
    )
    parser.add_argument(
        "--config",
        "-config",
        metavar="FILE",
        help="the initial proxies: a JSON list, as for /populate",
    )
    parser.add_argument(
        "--seed",
        "-seed",
        metavar="N",
        type=_seed,
        default=0,
        help="the seed of the random decisions of toxics (0)",
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
    The equivalent line of a rules file.

    :raises ValueError: the host is not an address.
    """
    host = "127.0.0.1" if arguments.host == "localhost" else arguments.host.strip("[]") or "0.0.0.0"  # noqa: S104
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise ValueError(f"-host must be an address or localhost, not {arguments.host!r}") from None
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
    """Run ``portfwd toxiproxy``."""
    # The import loads the code of twistd, which few commands need.
    from portfwd.service.foreground import run_in_foreground

    try:
        run_in_foreground([f"--rule={line_of(arguments)}"])
    except (UsageError, ValueError) as problem:
        print(f"portfwd toxiproxy: {printable(str(problem))}", file=sys.stderr)
        return WRONG
    return FINE
