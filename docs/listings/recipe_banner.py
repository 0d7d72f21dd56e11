"""Rewrite the banner of a server: its first line tells too much."""

from portfwd.filters import DONE, NEED_MORE, TO_CLIENT, Direction, Filter, Forward, Verdict


class Banner(Filter):
    """Puts another first line in the place of the server's."""

    directions = frozenset({TO_CLIENT})
    max_hold = 512  # RFC 5321 section 4.5.3.1.5
    on_overflow = "pass"

    def __init__(self, banner: bytes = b"220 mail ESMTP") -> None:
        """:param banner: the line, without its end."""
        self.banner = banner

    def received(self, direction: Direction, data: bytes) -> Verdict:
        """The server's first bytes."""
        _, end, rest = data.partition(b"\n")
        return [Forward(self.banner + b"\r\n" + rest), DONE] if end else NEED_MORE
