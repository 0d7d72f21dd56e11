"""Step 4: a filter that waits until it has seen enough."""

from portfwd.filters import DONE, NEED_MORE, TO_UPSTREAM, Connection, Direction, Filter, Verdict


class SSHOnly(Filter):
    """Says in the log whether a client speaks SSH, however it cuts its bytes."""

    def opened(self, connection: Connection) -> None:
        """A client was accepted."""
        self.connection = connection

    def received(self, direction: Direction, data: bytes) -> Verdict:
        """Bytes came, with those that were kept before them."""
        if direction is TO_UPSTREAM:
            if len(data) < 4 and b"SSH-".startswith(data):
                return NEED_MORE
            speaks = data.startswith(b"SSH-")
            self.connection.log.info("session {id}: ssh={ssh}", id=self.connection.id, ssh=speaks)
        return DONE
