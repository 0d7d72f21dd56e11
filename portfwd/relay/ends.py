# -*- test-case-name: tests.relay.test_ends -*-
"""
The state machine of ends, refusals, resets and limits of both sides of a session.

A session has two flows, each from one side to the other. `Flow` is the state of one flow. `step` takes the
states of both flows and an event of one side, and returns the new states and the action of the session. When
the session has finished, each side that is still connected has a `Mode`, in which its stream is closed;
`close_step` handles these. Both are pure functions of enums. The tables in the documentation are generated
from them.

The rules:

- An end is passed on after all bytes before it are written. The other direction continues.
- If a side accepts no more bytes, only the flow to it ends. Its own bytes are still delivered, with its end.
- A reset is passed on as a reset, after the bytes received before it are delivered and acknowledged.
- Anything that is not an orderly end resets the open directions, so a broken stream never looks complete.
- If the peer of a side is gone, the side is reset as soon as it has acknowledged all bytes for it, because
  nothing would receive its own bytes.

This module knows no streams, clocks or options. `portfwd.relay.session` and `portfwd.relay.closing` perform
the actions; `portfwd.relay.silence` decides when a time limit is reached.
"""

from __future__ import annotations

import enum
from functools import cache
from typing import Final, NamedTuple

from portfwd.values import CloseReason, Side


class Flow(enum.Enum):
    """
    The state of one direction, from its source to its destination.

    :ivar source_ended: whether its source has sent its end.
    :ivar end_asked: whether its destination's stream was asked to end.
    :ivar broken: whether its destination accepts no more bytes.
    :ivar over: whether nothing more will be written to its destination.
    """

    # Members are singletons: hashing their identity is faster than hashing their name.
    __hash__ = object.__hash__

    OPEN = "open"
    ENDED = "ended"
    END_ASKED = "end asked"
    END_OUT = "end out"
    BROKEN = "broken"
    BROKEN_ENDED = "broken, ended"

    def __init__(self, value: str) -> None:
        # Attributes and not properties: each session asks several times.
        self.source_ended = value not in ("open", "broken")
        self.end_asked = value in ("end asked", "end out")
        self.broken = value in ("broken", "broken, ended")
        self.over = self.broken or value == "end out"


#: The meaning of each state, for the documentation.
MEANINGS: Final[dict[Flow, str]] = {
    Flow.OPEN: "the source may send",
    Flow.ENDED: "the source has ended; a filter still keeps bytes before the end",
    Flow.END_ASKED: "the end waits behind bytes that are not written yet",
    Flow.END_OUT: "all bytes and the end are written",
    Flow.BROKEN: "the destination takes no more bytes; what the source sends is thrown away",
    Flow.BROKEN_ENDED: "the same, and the source had ended before",
}


class Event(enum.Enum):
    """An event of one side of a session."""

    __hash__ = object.__hash__

    ENDED = "its peer sent an end"
    END_DUE = "all that came before its end was handed to the other side"
    END_SENT = "the end that it was asked for is written"
    REFUSED = "it takes no more bytes"
    RESET = "it is reset"
    CLOSED = "it is closed in order, in both directions"
    EXHAUSTED = "the kernel has no memory for it"
    EXPIRED = "a limit of time is reached, or the session is cut"
    KILLED = "an operator ends the session"
    # After the session has finished.
    CLOSING = "its stream is to be closed"
    SPOKE = "it sent bytes that nobody takes"
    LOOKED = "it has acknowledged everything"
    STALLED = "nothing has moved for linger"


#: The events of a relaying session.
RELAYING: Final = (
    Event.ENDED,
    Event.END_DUE,
    Event.END_SENT,
    Event.REFUSED,
    Event.RESET,
    Event.CLOSED,
    Event.EXHAUSTED,
    Event.EXPIRED,
    Event.STALLED,
    Event.KILLED,
)


class Mode(enum.Enum):
    """How the stream of one side is closed after the session has finished."""

    __hash__ = object.__hash__

    CLOSE = "close"
    END_AND_READ = "end and read"
    END_OR_RESET = "end or reset"
    REFUSE = "refuse"
    DELIVER = "deliver and reset"
    RESET = "reset"


#: The meaning of each mode, for the documentation.
MODES: Final[dict[Mode, str]] = {
    Mode.CLOSE: "both directions are through: release the connection",
    Mode.END_AND_READ: "write what is kept, end, read and throw away until the peer ends; "
    "answers of filters end so",
    Mode.END_OR_RESET: "the same, but the peer is reset when it goes on sending",
    Mode.REFUSE: "the same, but only what the peer sends after it has acknowledged the end resets it",
    Mode.DELIVER: "reset when the peer has acknowledged everything that is for it",
    Mode.RESET: "reset now",
}


class Action(enum.Enum):
    """An action of the session."""

    __hash__ = object.__hash__

    NOTHING = "-"
    ASK_END = "end the other side"
    ASK_LAST_END = "end the other side; it will be closed then"
    WATCH = "watch the silence of the open direction"
    DISCARD = "throw away what the other side sends; watch the silence of the open direction"
    FINISH = "the session is over"
    # For a side that is being closed.
    END = "end, and throw away what it sends"
    READ = "throw away what it sends"
    DELIVER = "wait until everything is acknowledged"
    CLOSE = "release it"
    RESET = "reset it"


class SessionOutcome(enum.Enum):
    """How a session ended, from the view of the side with the last event."""

    __hash__ = object.__hash__

    NORMAL = "normal"
    THIS_RESET = "this side reset"
    OTHER_RESET = "the other side reset"
    BOTH_RESET = "both sides reset"
    EXHAUSTED = "no memory"
    GIVEN = "the reason of the limit or of the operator"


class Ends(NamedTuple):
    """
    Both flows of a session.

    :ivar to_upstream: the flow from the client.
    :ivar to_client: the flow from the upstream.
    """

    to_upstream: Flow = Flow.OPEN
    to_client: Flow = Flow.OPEN

    @property
    def half_closed(self) -> bool:
        """Whether a side has ended."""
        return self.to_upstream.source_ended or self.to_client.source_ended

    @property
    def broken(self) -> bool:
        """Whether a side accepts no more bytes."""
        return self.to_upstream.broken or self.to_client.broken


class Consequence(NamedTuple):
    """
    The result of an event.

    :ivar mine: new state of the flow from the side of the event.
    :ivar theirs: new state of the flow to it.
    :ivar action: the action to perform.
    :ivar outcome: with `Action.FINISH`: how the session ended.
    :ivar this: with `Action.FINISH`: how this side's stream is closed.
    :ivar other: with `Action.FINISH`: how the other side's stream is closed.
    """

    mine: Flow
    theirs: Flow
    action: Action = Action.NOTHING
    outcome: SessionOutcome | None = None
    this: Mode = Mode.RESET
    other: Mode = Mode.RESET


# The close reason depends on whether a side had ended before a reset, so a later end does not change a broken
# flow.
_ENDED: Final = {Flow.OPEN: Flow.ENDED}
_BROKEN: Final = {Flow.OPEN: Flow.BROKEN, Flow.BROKEN: Flow.BROKEN}

#: The modes of both sides when a session ends with one of these outcomes.
_CLOSING: Final[dict[SessionOutcome, tuple[Mode, Mode]]] = {
    SessionOutcome.NORMAL: (Mode.CLOSE, Mode.CLOSE),
    SessionOutcome.THIS_RESET: (Mode.RESET, Mode.DELIVER),
    SessionOutcome.OTHER_RESET: (Mode.DELIVER, Mode.RESET),
    SessionOutcome.BOTH_RESET: (Mode.RESET, Mode.RESET),
    SessionOutcome.EXHAUSTED: (Mode.RESET, Mode.DELIVER),
}


def _finish(mine: Flow, theirs: Flow, outcome: SessionOutcome) -> Consequence:
    this, other = _CLOSING[outcome]
    return Consequence(mine, theirs, Action.FINISH, outcome, this, other)


@cache
def step(mine: Flow, theirs: Flow, event: Event) -> Consequence:
    """
    The result of an event of one side of a relaying session.

    :param mine: the flow from that side.
    :param theirs: the flow to that side.
    """
    if event is Event.ENDED:
        return Consequence(_ENDED.get(mine, mine), theirs)
    if event is Event.END_DUE:
        if mine not in (Flow.OPEN, Flow.ENDED):
            return Consequence(_ENDED.get(mine, mine), theirs)
        # The second end may be sent with the close if the first one was sent.
        last = theirs is Flow.END_OUT
        return Consequence(Flow.END_ASKED, theirs, Action.ASK_LAST_END if last else Action.ASK_END)
    if event is Event.END_SENT:
        return _end_sent(mine, theirs)
    if event is Event.REFUSED:
        return _refused(mine, theirs)
    if event is Event.RESET:
        # If the other side accepts no more either, nothing can be delivered.
        return _finish(mine, theirs, SessionOutcome.BOTH_RESET if mine.broken else SessionOutcome.THIS_RESET)
    if event is Event.CLOSED:
        mine = _ENDED.get(mine, mine)
        if mine.broken or theirs.broken:
            return _finish(
                mine, theirs, SessionOutcome.OTHER_RESET if mine.broken else SessionOutcome.THIS_RESET
            )
        return Consequence(mine, theirs, Action.FINISH, SessionOutcome.NORMAL, Mode.RESET, Mode.END_OR_RESET)
    if event is Event.EXHAUSTED:
        return _finish(mine, theirs, SessionOutcome.EXHAUSTED)
    if event is Event.EXPIRED:
        return Consequence(mine, theirs, Action.FINISH, SessionOutcome.GIVEN, Mode.DELIVER, Mode.DELIVER)
    if event is Event.KILLED or event is Event.STALLED:
        return Consequence(mine, theirs, Action.FINISH, SessionOutcome.GIVEN, Mode.RESET, Mode.RESET)
    raise ValueError(f"{event} is of a session that is over")


def _end_sent(mine: Flow, theirs: Flow) -> Consequence:
    """The end to a side was sent: the flow to it has ended."""
    if theirs is not Flow.END_ASKED:
        return Consequence(mine, theirs)
    theirs = Flow.END_OUT
    if mine.broken:
        return _finish(mine, theirs, SessionOutcome.OTHER_RESET)
    if mine is Flow.END_OUT:
        return _finish(mine, theirs, SessionOutcome.NORMAL)
    return Consequence(mine, theirs, Action.WATCH)


def _refused(mine: Flow, theirs: Flow) -> Consequence:
    """A side accepts no more: the flow to it has ended, and the flow from it continues."""
    before, theirs = theirs, _BROKEN.get(theirs, Flow.BROKEN_ENDED)
    if before.broken:
        return Consequence(mine, theirs)
    if mine.broken:
        return _finish(mine, theirs, SessionOutcome.BOTH_RESET)
    if mine is Flow.END_OUT:
        return _finish(mine, theirs, SessionOutcome.THIS_RESET)
    return Consequence(mine, theirs, Action.WATCH if before is Flow.END_OUT else Action.DISCARD)


class CloseStep(NamedTuple):
    """
    The result of an event of a side that is being closed.

    :ivar mode: new mode of its stream.
    :ivar mine: the flow from it.
    :ivar theirs: the flow to it.
    :ivar action: the action to perform.
    """

    mode: Mode
    mine: Flow
    theirs: Flow
    action: Action = Action.NOTHING


@cache
def close_step(mode: Mode, mine: Flow, theirs: Flow, event: Event) -> CloseStep:
    """
    The result of an event of one side after the session has finished.

    :param mode: mode in which that side's stream is closed.
    :param mine: the flow from that side.
    :param theirs: the flow to that side.
    """
    ends = mode in (Mode.END_AND_READ, Mode.END_OR_RESET, Mode.REFUSE)
    if event is Event.CLOSING:
        return _begin_closing(mode, mine, theirs)
    if event is Event.ENDED or event is Event.END_DUE:
        mine = _ENDED.get(mine, mine)
    elif event is Event.END_SENT:
        theirs = Flow.END_OUT if theirs is Flow.END_ASKED else theirs
    elif event is Event.REFUSED:
        return CloseStep(mode, mine, _BROKEN.get(theirs, Flow.BROKEN_ENDED))
    elif event is Event.SPOKE:
        return CloseStep(Mode.DELIVER if mode is Mode.END_OR_RESET else mode, mine, theirs)
    elif event is Event.LOOKED:
        if mode is Mode.REFUSE and theirs is Flow.END_OUT:
            return CloseStep(Mode.END_OR_RESET, mine, theirs)
        return CloseStep(mode, mine, theirs, Action.RESET if mode is Mode.DELIVER else Action.NOTHING)
    elif event is Event.STALLED:
        return CloseStep(mode, mine, theirs, Action.RESET)
    if ends and mine.source_ended and theirs is Flow.END_OUT:
        return CloseStep(Mode.CLOSE, mine, theirs, Action.CLOSE)
    return CloseStep(mode, mine, theirs)


def _begin_closing(mode: Mode, mine: Flow, theirs: Flow) -> CloseStep:
    if mode is Mode.CLOSE:
        return CloseStep(mode, mine, theirs, Action.CLOSE)
    if mode is Mode.RESET:
        return CloseStep(mode, mine, theirs, Action.RESET)
    if mode is Mode.DELIVER:
        return CloseStep(mode, mine, theirs, Action.DELIVER)
    if theirs.broken:
        return CloseStep(Mode.RESET, mine, theirs, Action.RESET)
    if theirs is Flow.END_OUT:
        if mine.source_ended:
            return CloseStep(Mode.CLOSE, mine, theirs, Action.CLOSE)
        return CloseStep(mode, mine, theirs, Action.READ)
    # Wait for an end that was requested already.
    asked = theirs is Flow.END_ASKED
    return CloseStep(mode, mine, Flow.END_ASKED, Action.READ if asked else Action.END)


#: The close reasons of a reset by a side: while both directions were open, and after one had ended.
_RESETS: Final[dict[Side, tuple[CloseReason, CloseReason]]] = {
    Side.CLIENT: (CloseReason.CLIENT_RESET, CloseReason.CLIENT_RESET_HALF_CLOSED),
    Side.UPSTREAM: (CloseReason.UPSTREAM_RESET, CloseReason.UPSTREAM_RESET_HALF_CLOSED),
}
_OTHERS: Final[dict[SessionOutcome, CloseReason]] = {
    SessionOutcome.NORMAL: CloseReason.NORMAL,
    SessionOutcome.BOTH_RESET: CloseReason.BOTH_RESET,
    SessionOutcome.EXHAUSTED: CloseReason.RESOURCES,
}


def reset_reason(side: Side, ends: Ends) -> CloseReason:
    """
    The close reason if `side` resets or accepts no more.

    :param ends: both flows at the end of the session.
    """
    return _RESETS[side][ends.half_closed]


def outcome_reason(outcome: SessionOutcome, side: Side, ends: Ends) -> CloseReason:
    """
    The close reason of `outcome`.

    :param side: the side of the event.
    :param ends: both flows after it.
    :raises KeyError: it is `SessionOutcome.GIVEN`, whose reason the caller has.
    """
    if outcome is SessionOutcome.THIS_RESET:
        return reset_reason(side, ends)
    if outcome is SessionOutcome.OTHER_RESET:
        return reset_reason(side.other, ends)
    return _OTHERS[outcome]


def reachable() -> list[Ends]:
    """All states of a relaying session, from one side, in the order of `Flow`."""
    found: set[Ends] = set()
    ahead = {Ends()}
    while ahead:
        ends = ahead.pop()
        found.add(ends)
        for event in RELAYING:
            after = step(*ends, event)
            if after.action is not Action.FINISH:
                ahead |= {Ends(after.mine, after.theirs), Ends(after.theirs, after.mine)} - found
    order = list(Flow)
    return sorted(found, key=lambda ends: (order.index(ends.to_upstream), order.index(ends.to_client)))


def resetting_side(reason: CloseReason) -> Side | None:
    """The side whose reset is the close reason; None for another reason."""
    for side, reasons in _RESETS.items():
        if reason in reasons:
            return side
    return None
