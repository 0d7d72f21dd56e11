# -*- test-case-name: tests.relay.test_session -*-
"""
What a session knows of its two sides, and what follows from that.

Records, and pure answers to two questions: how long may nothing move now, and how does each
side end when one of them is gone. The session reads, writes and acts.
"""

from __future__ import annotations

from portfwd.relay.farewell import Farewell, Way
from portfwd.relay.reasons import HALF_CLOSE_IDLE, IDLE, RESET
from portfwd.rules.model import Options
from portfwd.streams.stream import Stream
from portfwd.values import CloseReason, Side


class Half:
    """
    What a session knows of one side: its stream, and the flow that it is the source of.

    :ivar ended: the peer ended.
    :ivar flow_done: everything it sent, and its end, was given to the other side; or that side takes no more.
    :ivar flow_broken: the other side takes no more.
    :ivar end_asked: the stream was asked to end its direction.
    :ivar owned: the stream tells us what happens to it.
    """

    __slots__ = (
        "end_asked",
        "ended",
        "farewell",
        "flow_broken",
        "flow_done",
        "lost",
        "owned",
        "side",
        "stream",
    )

    def __init__(self, side: Side) -> None:
        self.side = side
        self.stream: Stream | None = None
        self.ended = False
        self.flow_done = False
        self.flow_broken = False
        self.end_asked = False
        self.lost = False
        self.owned = False
        self.farewell: Farewell | None = None


def silence_limit(options: Options, client: Half, upstream: Half) -> tuple[float | None, CloseReason | None]:
    """How long nothing may move now, in seconds, None for ever; and what it means when that is over."""
    if client.flow_broken or upstream.flow_broken:
        gone = upstream if client.flow_broken else client
        return options.linger, RESET[gone.side]
    idle = options.idle
    if idle is None and not client.flow_done and not upstream.flow_done:
        return None, None
    if client.flow_done or upstream.flow_done:
        silent = upstream if client.flow_done else client
        if idle is None or options.half_close <= idle:
            return options.half_close, HALF_CLOSE_IDLE[silent.side]
        return idle, IDLE[silent.side]
    # The turn is that of the side which did not speak last; the client's, if nobody did.
    spoke = {
        half.side: half.stream.moved_at
        for half in (client, upstream)
        if half.stream is not None and half.stream.first_at is not None
    }
    speaker = max(spoke, key=spoke.__getitem__).other if spoke else Side.CLIENT
    return idle, IDLE[speaker]


def after_reset(gone: Half, upstream: Half) -> tuple[Way, Way]:
    """How the client's and the upstream's stream end when the side `gone` has reset."""
    if gone is not upstream:
        # Who gave up is the client: nobody waits for what the upstream still says.
        return Way.ABORT, Way.DELIVER_AND_ABORT
    if upstream.flow_done and not upstream.flow_broken:
        # The client has a whole answer; a reset now could take it away again.
        return Way.END_AND_DISCARD, Way.ABORT
    return Way.DELIVER_AND_ABORT, Way.ABORT
