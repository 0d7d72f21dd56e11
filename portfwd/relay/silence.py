# -*- test-case-name: tests.relay.test_silence -*-
"""
When a session is silent: how long nothing may move, and what counts as movement.

Bytes move when a stream reads or writes them, and also when the peer's kernel acknowledges bytes that wait
in a send queue. The kernel tells nobody of the latter, so the session looks at both queues some times
within a limit; a queue that has shrunk between two looks is movement. These are pure functions: the session
has the timer.

A receiver does not acknowledge continuously. Linux opens a window that was closed only when a sixteenth of
the buffer or one segment is free (``__tcp_select_window``), so a reader of 5 KB/s with default buffers on the
loopback is seen to acknowledge 65 to 95 KB every 13 to 26 seconds, one of 40 KB/s every 2.4. A limit that is
shorter than these steps would take such a reader for silent. So while bytes are undelivered nothing is silent
before `LONGEST_STEP`; nor is it after the last step of such a reader, which has a buffer to read then that
nobody else can see.

``half-close`` is for a side that has been told the other's end and stays silent. While bytes are undelivered
somebody has still to read, and may pause for as long as before the end: a printer without paper, a pager.
Only ``idle`` holds then. A peer whose machine is gone does not answer the kernel's probes of its window, and
the kernel gives it up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from portfwd.relay.ends import Ends, reset_reason
from portfwd.rules.model import Options
from portfwd.values import CloseReason, Side

#: Looks within one limit. The last acknowledgement is known to an eighth of the limit.
LOOKS: Final = 8

#: Seconds that a reader with undelivered bytes may take between two acknowledgements, whatever shorter
#: limit the rule has.
LONGEST_STEP: Final = 60.0

#: Seconds after a write of ours from which an acknowledgement shows a slow reader. Networks and delayed
#: acknowledgements (RFC 1122 section 4.2.3.2: 0.5 s) need less.
SLOW_AFTER: Final = 1.0

#: Seconds by which a timer may come early, or a sum of seconds be wrong.
EARLY: Final = 0.001

_IDLE: Final = {Side.CLIENT: CloseReason.CLIENT_IDLE, Side.UPSTREAM: CloseReason.UPSTREAM_IDLE}
_HALF_CLOSE_IDLE: Final = {
    Side.CLIENT: CloseReason.CLIENT_HALF_CLOSE_IDLE,
    Side.UPSTREAM: CloseReason.UPSTREAM_HALF_CLOSE_IDLE,
}


def silence_limit(options: Options, ends: Ends, *, undelivered: bool = False) -> float | None:
    """
    How many seconds nothing may move now; None: any number.

    :param undelivered: a peer has bytes to acknowledge.
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
    The close reason of a session that was silent for its limit, and the limit in words.

    :param spoke: when each side spoke last, for those that did; seconds.
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
        # The turn is that of the side which did not speak last; the client's, if nobody did.
        silent = max(spoke, key=spoke.__getitem__).other if spoke else Side.CLIENT
    return _IDLE[silent], f"idle={idle or 0:g}s"


def next_look(limit: float, ends: Ends, quiet: float, *, slow: bool) -> float:
    """
    Seconds until the next look at a session; 0: it is silent.

    :param limit: of `silence_limit`.
    :param quiet: seconds since anything moved.
    :param slow: a peer has bytes to acknowledge, or to do so late was the last thing that moved.
    """
    if slow:
        # linger is for peers that acknowledge nothing, so it is not extended.
        allowed = limit if ends.broken else max(limit, LONGEST_STEP)
        pause = min(allowed / LOOKS, max(limit, SLOW_AFTER))
    else:
        allowed = limit
        # The first look is for what may wait in a send queue; if nothing does, one at the end will do.
        pause = limit / LOOKS - quiet if quiet < limit / LOOKS - EARLY else limit
    left = allowed - quiet
    return 0.0 if left < EARLY else min(pause, left)


def shrank(before: tuple[int, int] | None, now: tuple[int, int]) -> bool:
    """Whether either of two send queues has become shorter since the look before, if there was one."""
    return before is not None and (now[0] < before[0] or now[1] < before[1])
