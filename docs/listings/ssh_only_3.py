"""Step 3: a filter that knows when it is done."""

from portfwd.filters import DONE, TO_UPSTREAM, Connection, Direction, Filter, Verdict


class SSHOnly(Filter):
    """Says in the log whether a client speaks SSH."""

    def opened(self, connection: Connection) -> None:
        """A client was accepted."""
        self.connection = connection

    def received(self, direction: Direction, data: bytes) -> Verdict:
        """Bytes came."""
        if direction is TO_UPSTREAM:
            speaks = data.startswith(b"SSH-")
            self.connection.log.info("session {id}: ssh={ssh}", id=self.connection.id, ssh=speaks)
        return DONE
