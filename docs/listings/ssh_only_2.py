"""Step 2: a filter that looks."""

from portfwd.filters import Connection, Direction, Filter


class SSHOnly(Filter):
    """Says in the log what comes by."""

    def opened(self, connection: Connection) -> None:
        """A client was accepted."""
        self.connection = connection

    def received(self, direction: Direction, data: bytes) -> None:
        """Bytes came."""
        self.connection.log.info(
            "session {id}, {way}: {count} bytes",
            id=self.connection.id,
            way=direction.value,
            count=len(data),
        )
