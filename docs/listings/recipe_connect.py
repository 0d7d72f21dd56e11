"""Reach a server through an HTTP proxy: the target of the rule is the proxy."""

from portfwd.filters import (
    DONE,
    NEED_MORE,
    TO_CLIENT,
    TO_UPSTREAM,
    Address,
    Close,
    Delay,
    Direction,
    Filter,
    Forward,
    Release,
    Verdict,
)


class Connect(Filter):
    """Speaks CONNECT (RFC 9110 section 9.3.6) with the proxy before the client's first byte."""

    hold_timeout = 10.0

    def __init__(self, host: str, port: int) -> None:
        """
        :param host: the server behind the proxy.
        :param port: of that server.
        """
        self.authority = f"{host}:{port}"
        self.is_through = False

    def connected(self, upstream: Address | None) -> Verdict:
        """The proxy is there."""
        head = f"CONNECT {self.authority} HTTP/1.1\r\nHost: {self.authority}\r\n\r\n"
        return Forward(head.encode())

    def received(self, direction: Direction, data: bytes) -> Verdict:
        """What the client says waits until the proxy has answered."""
        if direction is TO_UPSTREAM:
            return DONE if self.is_through else Delay(self.hold_timeout or 0.0, data)
        head, end, rest = data.partition(b"\r\n\r\n")
        if not end:
            return NEED_MORE
        status = head.split(b" ")[1:2]
        if status != [b"200"]:
            return Close("the proxy refused: " + head.split(b"\r\n")[0].decode("ascii", "replace"))
        self.is_through = True
        return [Forward(rest), Release(TO_UPSTREAM), DONE]

    def ended(self, direction: Direction, held: bytes) -> Verdict:
        """A proxy that closes without an answer."""
        return Close("the proxy closed") if direction is TO_CLIENT and not self.is_through else None
