"""End TLS that POP3 begins with ``STLS`` (RFC 2595 section 4), for a server without TLS."""

from portfwd.filters import (
    DONE,
    NEED_MORE,
    TO_UPSTREAM,
    Again,
    Close,
    Direction,
    Filter,
    Reply,
    Side,
    StartTLS,
    Verdict,
)


class STLS(Filter):
    """Answers commands itself until there is TLS; no password is read before that."""

    max_hold = 512

    def __init__(self, cert: str) -> None:
        """:param cert: the certificate and its key, PEM; from the root on."""
        self.starts_tls = {Side.CLIENT: {"cert": cert}}
        self.has_greeted = self.is_secure = False

    def received(self, direction: Direction, data: bytes) -> Verdict:
        """Commands line by line; of the server's bytes only that there are some."""
        if direction is not TO_UPSTREAM:
            self.has_greeted = True
            return DONE
        if self.is_secure:
            return DONE
        if not self.has_greeted:
            return Close("a command before the greeting", abort=True)
        line, end, rest = data.partition(b"\n")
        if not end:
            return NEED_MORE
        command = line.strip().upper()
        if command == b"STLS":
            self.is_secure = True
            # What the client has sent behind it belongs to TLS, and is no command.
            return [Reply(b"+OK begin TLS\r\n"), StartTLS(Side.CLIENT, rest=rest)]
        if command == b"CAPA":
            return [Reply(b"+OK\r\nSTLS\r\n.\r\n"), Again(rest)]
        if command == b"QUIT":
            return Close("the client has quit", reply=b"+OK bye\r\n")
        return [Reply(b"-ERR STLS first\r\n"), Again(rest)]
