"""Step 5: a filter that refuses."""

from portfwd.filters import DONE, NEED_MORE, TO_UPSTREAM, Close, Direction, Filter, Verdict


class SSHOnly(Filter):
    """Refuses clients that do not speak SSH."""

    def received(self, direction: Direction, data: bytes) -> Verdict:
        """Bytes came, with those that were kept before them."""
        if direction is not TO_UPSTREAM:
            return DONE
        if len(data) < 4 and b"SSH-".startswith(data):
            return NEED_MORE
        if not data.startswith(b"SSH-"):
            return Close("not SSH", reply=b"SSH only\r\n")
        return DONE
