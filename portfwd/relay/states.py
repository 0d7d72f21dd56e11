# -*- test-case-name: tests.relay.test_states -*-
"""
The states of a session, as a table: everything about them is in this file.

The diagram in the documentation is drawn from it.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final


class State(enum.Enum):
    """Where a session stands."""

    # Members are single objects: their identity hashes faster than their name.
    __hash__ = object.__hash__

    ACCEPTED = "accepted"
    HANDSHAKING = "handshaking"
    PEEKING = "peeking"
    DIALING = "dialing"
    RELAYING = "relaying"
    CLOSING = "closing"
    CLOSED = "closed"


#: From each state the states that may follow. ``HANDSHAKING`` means: the client speaks TLS to us, and has
#: not said yet who it is. ``PEEKING`` means: filters look at what the client
#: says before anything is dialled. ``CLOSING`` means: the close
#: reason is fixed, what was received is still being delivered.
TRANSITIONS: Final[Mapping[State, frozenset[State]]] = MappingProxyType(
    {
        State.ACCEPTED: frozenset({State.HANDSHAKING, State.PEEKING, State.DIALING, State.CLOSING}),
        State.HANDSHAKING: frozenset({State.PEEKING, State.DIALING, State.CLOSING}),
        State.PEEKING: frozenset({State.DIALING, State.CLOSING}),
        State.DIALING: frozenset({State.RELAYING, State.CLOSING}),
        State.RELAYING: frozenset({State.CLOSING}),
        State.CLOSING: frozenset({State.CLOSED}),
        State.CLOSED: frozenset(),
    }
)


def follow(before: State, after: State) -> State:
    """
    `after`, if the table has it behind `before`.

    :raises ValueError: it has not; that is a mistake in portfwd.
    """
    if after not in TRANSITIONS[before]:
        raise ValueError(f"a session that is {before.value} cannot become {after.value}")
    return after


def diagram() -> str:
    """The table as Mermaid text (``stateDiagram-v2``), an arrow for each transition."""
    states = list(State)
    lines = ["stateDiagram-v2", f"    [*] --> {states[0].value}"]
    for before in states:
        lines += [f"    {before.value} --> {after.value}" for after in states if after in TRANSITIONS[before]]
        if not TRANSITIONS[before]:
            lines.append(f"    {before.value} --> [*]")
    return "\n".join(lines) + "\n"
