"""
Conversations over link-local addresses, for `tests.integration.test_zones`.

It runs in a network namespace of its own, where ``lo`` has the addresses fe80::1 to fe80::4, and prints as
JSON what clients, servers and the access log saw.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
from pathlib import Path

from tests.integration.forwarder import Forwarder

RULES = """
log access=json file=access.log
auto: [fe80::1%lo]:8001 -> [fe80::2%lo]:9000  src=fe80::4%lo
copy: [fe80::1%lo]:8002 -> [fe80::2%lo]:9000  relay=copy
pair: [fe80::1%lo]:8003 -> [fe80::2%lo]:9000  relay=pair
    allow fe80::3
denied: [fe80::1%lo]:8004 -> [fe80::2%lo]:9000
    deny fe80::/10
udp: [fe80::1%lo]:8005/udp -> [fe80::2%lo]:9000/udp  idle=1s  src=fe80::4%lo
every: :8006/udp -> [fe80::2%lo]:9000/udp  idle=1s
gone: [::1]:8007 -> [fe80::2%nosuch0]:9000
"""


def serve(scope: int) -> None:
    """Answer each TCP connection and each datagram with the address of whoever speaks, for ever."""
    listening = socket.socket(socket.AF_INET6)
    listening.bind(("fe80::2", 9000, 0, scope))
    listening.listen()
    datagrams = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    datagrams.bind(("fe80::2", 9000, 0, scope))

    def accept() -> None:
        while True:
            connection, peer = listening.accept()
            with connection:
                connection.recv(100)
                connection.sendall(peer[0].encode())

    def receive() -> None:
        while True:
            _, peer = datagrams.recvfrom(100)
            datagrams.sendto(peer[0].encode(), peer)

    for work in (accept, receive):
        threading.Thread(target=work, daemon=True).start()


def ask(kind: socket.SocketKind, port: int, scope: int, host: str = "fe80::1") -> str:
    """What the server says; the client speaks from fe80::3."""
    with socket.socket(socket.AF_INET6, kind) as client:
        client.settimeout(20)
        if host.startswith("fe80"):
            client.bind(("fe80::3", 0, 0, scope))
        try:
            client.connect((host, port, 0, scope if host.startswith("fe80") else 0))
            client.send(b"hello")
            return client.recv(100).decode()
        except OSError as problem:
            return type(problem).__name__


def main() -> None:
    """See the module."""
    scope = socket.if_nametoindex("lo")
    serve(scope)
    forwarder = Forwarder(Path(sys.argv[1]), RULES)
    try:
        forwarder.wait_until_ready()
        stream, datagram = socket.SOCK_STREAM, socket.SOCK_DGRAM
        told = {
            "auto": ask(stream, 8001, scope),
            "copy": ask(stream, 8002, scope),
            "pair": ask(stream, 8003, scope),
            "denied": ask(stream, 8004, scope),
            "udp": ask(datagram, 8005, scope),
            "every": ask(datagram, 8006, scope),
            "gone": ask(stream, 8007, scope, "::1"),
        }
        lines = {line.rule: line for line in forwarder.access_lines(7)}
        sys.stdout.write(
            json.dumps(
                {
                    "told": told,
                    "clients": {rule: (line.client or "").rpartition(":")[0] for rule, line in lines.items()},
                    "locals": {rule: line.raw["local"] for rule, line in lines.items()},
                    "upstreams": {rule: line.upstream for rule, line in lines.items()},
                    "reasons": {rule: line.reason for rule, line in lines.items()},
                    "gone": lines["gone"].raw["detail"],
                    "listens": str(forwarder.address("auto")),
                }
            )
        )
    finally:
        forwarder.clean_up()


if __name__ == "__main__":
    main()
