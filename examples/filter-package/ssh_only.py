"""
A filter for portfwd: refuses clients that do not speak SSH.

RFC 4253 section 4.2: a client begins with ``SSH-`` and a version. It sees no more
than those four bytes, so what it lets through is relayed as if it were not there.
"""

from portfwd.filters import DONE, NEED_MORE, TO_UPSTREAM, Close, Direction, Filter, Verdict

#: How every client of SSH begins.
GREETING = b"SSH-"


class SSHOnly(Filter):
    """Refuses clients that do not speak SSH."""

    directions = frozenset({TO_UPSTREAM})

    def __init__(self, reply: bytes = b"SSH only\r\n") -> None:
        """:param reply: what a client is told that is refused."""
        self.reply = reply

    def received(self, direction: Direction, data: bytes) -> Verdict:
        """The client's first bytes."""
        if len(data) < len(GREETING) and GREETING.startswith(data):
            return NEED_MORE
        if not data.startswith(GREETING):
            return Close("not SSH", reply=self.reply)
        return DONE
