"""
A server that says its name to everybody who connects, and then what it hears; run as a program.

``python -m tests.integration.named_server PORT NAME``. It can be killed, stopped and started again by a test.
"""

from __future__ import annotations

import socket
import sys
import threading


def serve(client: socket.socket, name: bytes) -> None:
    """One client, until it ends."""
    with client:
        try:
            client.sendall(name + b"\n")
            while data := client.recv(65536):
                client.sendall(data)
        except OSError:
            return  # a check, or a client that was cut


def main() -> None:
    """Serve for ever."""
    port, name = int(sys.argv[1]), sys.argv[2].encode()
    with socket.create_server(("127.0.0.1", port), backlog=1024) as server:
        while True:
            client, _ = server.accept()
            threading.Thread(target=serve, args=(client, name), daemon=True).start()


if __name__ == "__main__":
    main()
