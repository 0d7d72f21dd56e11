"""Ports that a test may name before somebody listens on them."""

from __future__ import annotations

import random
import socket
from typing import Final

#: Linux gives the ports from 32768 to outgoing connections (``ip_local_port_range``). A port below is not
#: taken by a connection of another process between its choice and its use.
LOWEST: Final = 20_000
HIGHEST: Final = 32_000

_choose: Final = random.SystemRandom()


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody has now at `host`, neither for connections nor for datagrams."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    while True:
        port = _choose.randrange(LOWEST, HIGHEST)
        try:
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                with socket.socket(family, kind) as probe:
                    probe.bind((host, port))
        except OSError:
            continue
        return port
