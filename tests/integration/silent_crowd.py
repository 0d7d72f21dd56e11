"""Many clients that say something, perhaps nothing, and then neither read nor leave."""

from __future__ import annotations

import socket

from tests.integration.forwarder import TIMEOUT


class Crowd:
    """Connections that stay and do nothing more."""

    def __init__(self, address: tuple[str, int] | str, count: int, says: bytes) -> None:
        """:param says: what each of them says before it falls silent."""
        self.members: list[socket.socket] = []
        for _ in range(count):
            member = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
            # Little room, so that an answer does not fit into it.
            member.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            # A unix socket whose queue is full refuses those that do not wait.
            member.connect(address)
            member.settimeout(TIMEOUT)
            try:
                member.sendall(says)
            except OSError:  # it was closed for another one
                pass
            self.members.append(member)

    def leave(self) -> None:
        """All of them go."""
        for member in self.members:
            member.close()
