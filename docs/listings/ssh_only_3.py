"""Step 3: a filter that knows when it is done."""

from portfwd.filters import DONE, TO_UPSTREAM, Filter


class SSHOnly(Filter):
    """Says in the log whether a client speaks SSH."""

    def opened(self, connection):
        """A client was accepted."""
        self.connection = connection

    def received(self, direction, data):
        """Bytes came."""
        if direction is TO_UPSTREAM:
            speaks = data.startswith(b"SSH-")
            self.connection.log.info("session {id}: ssh={ssh}", id=self.connection.id, ssh=speaks)
        return DONE
