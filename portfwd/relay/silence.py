# -*- test-case-name: tests.relay.test_silence -*-
"""
Decides when a session is silent: the limits without progress, and what counts as progress.

Progress is a read or write of a stream, and also an acknowledgement by the peer's kernel of bytes in a send
queue. The kernel has no event for the latter, so the session polls both queues several times within a limit;
a queue that has shrunk between two polls is progress. These are pure functions; the session has the timer.

A receiver does not acknowledge continuously. Linux opens a closed window only when a sixteenth of the buffer
or one segment is free (``__tcp_select_window``). A reader of 5 KB/s with default buffers on the loopback
interface acknowledges 65 to 95 KB every 13 to 26 seconds, one of 40 KB/s every 2.4 seconds. A shorter limit
would consider such readers silent. While bytes are undelivered, a session is therefore not silent before
`LONGEST_STEP`; nor is it after the last acknowledgement of such a reader, which may still have a buffer to
read.

``half-close`` is for a side that has received the other's end and sends nothing. While bytes are undelivered,
the reader may pause as long as before the end (a printer without paper, a pager), so only ``idle`` applies.
If the machine of a peer is gone, it does not answer the kernel's window probes, and the kernel drops the
connection.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from portfwd.relay.ends import Ends, reset_reason
from portfwd.rules.model import Options
from portfwd.values import CloseReason, Side

#: Polls within one limit. The time of the last acknowledgement is known to an eighth of the limit.
LOOKS: Final = 8

#: Seconds that a reader with undelivered bytes may take between two acknowledgements, even if the rule has a
#: shorter limit.
LONGEST_STEP: Final = 60.0

#: Seconds after a write from which an acknowledgement shows a slow reader. Networks and delayed
#: acknowledgements (RFC 1122 section 4.2.3.2: 0.5 s) take less.
SLOW_AFTER: Final = 1.0

#: Seconds by which a timer may be early, or a sum of seconds inexact.
EARLY: Final = 0.001

_IDLE: Final = {Side.CLIENT: CloseReason.CLIENT_IDLE, Side.UPSTREAM: CloseReason.UPSTREAM_IDLE}
_HALF_CLOSE_IDLE: Final = {
    Side.CLIENT: CloseReason.CLIENT_HALF_CLOSE_IDLE,
    Side.UPSTREAM: CloseReason.UPSTREAM_HALF_CLOSE_IDLE,
}


def silence_limit(options: Options, ends: Ends, *, undelivered: bool = False) -> float | None:
    """
    The seconds without progress that are allowed now; None for no limit.

    :param undelivered: whether a peer has bytes to acknowledge.
    """
    if ends.broken:
        return options.linger
    idle = options.idle
    if not undelivered and (ends.to_upstream.over or ends.to_client.over):
        return options.half_close if idle is None else min(idle, options.half_close)
    return idle


def silence_reason(
    options: Options, ends: Ends, spoke: Mapping[Side, float], *, undelivered: bool = False
) -> tuple[CloseReason, str]:
    """
    The close reason of a session that was silent for its limit, and the limit as text.

    :param spoke: time of the last bytes of each side that has sent any, in seconds.
    :param undelivered: see `silence_limit`.
    """
    if ends.broken:
        gone = Side.UPSTREAM if ends.to_upstream.broken else Side.CLIENT
        return reset_reason(gone, ends), f"nothing was acknowledged within linger={options.linger:g}s"
    idle = options.idle
    if ends.to_upstream.over or ends.to_client.over:
        silent = Side.UPSTREAM if ends.to_upstream.over else Side.CLIENT
        if idle is None or (options.half_close <= idle and not undelivered):
            return _HALF_CLOSE_IDLE[silent], f"half-close={options.half_close:g}s"
    else:
        # The silent side is the one that did not send last; the client if neither has sent.
        silent = max(spoke, key=spoke.__getitem__).other if spoke else Side.CLIENT
    return _IDLE[silent], f"idle={idle or 0:g}s"


def next_look(limit: float, ends: Ends, quiet: float, *, slow: bool) -> float:
    """
    Seconds until the next poll of a session; 0 if it is silent.

    :param limit: result of `silence_limit`.
    :param quiet: seconds since the last progress.
    :param slow: whether a peer has bytes to acknowledge, or its late acknowledgement was the last progress.
    """
    if slow:
        # linger is for peers that do not acknowledge, so it is not extended.
        allowed = limit if ends.broken else max(limit, LONGEST_STEP)
        pause = min(allowed / LOOKS, max(limit, SLOW_AFTER))
    else:
        allowed = limit
        # The first poll checks for bytes in a send queue. Without any, one poll at the end is enough.
        pause = limit / LOOKS - quiet if quiet < limit / LOOKS - EARLY else limit
    left = allowed - quiet
    return 0.0 if left < EARLY else min(pause, left)


def shrank(before: tuple[int, int] | None, now: tuple[int, int]) -> bool:
    """Whether one of two send queues has shrunk since the previous poll, if there was one."""
    return before is not None and (now[0] < before[0] or now[1] < before[1])
