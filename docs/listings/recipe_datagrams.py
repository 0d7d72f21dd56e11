"""Answer some datagrams here, and pass the others on."""

from portfwd.filters import DROP, TO_UPSTREAM, Direction, Filter, Reply, Verdict


class Pong(Filter):
    """Answers ``PING`` itself: a health check need not reach the server."""

    directions = frozenset({TO_UPSTREAM})

    def received(self, direction: Direction, data: bytes) -> Verdict:
        """One whole datagram."""
        return [Reply(b"PONG"), DROP] if data == b"PING" else None
