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
    """The state of a session."""

    # Members are singletons: hashing their identity is faster than hashing their name.
    __hash__ = object.__hash__

    ACCEPTED = "accepted"
    HANDSHAKING = "handshaking"
    PEEKING = "peeking"
    DIALING = "dialing"
    RELAYING = "relaying"
    CLOSING = "closing"
    CLOSED = "closed"


#: The possible next states of each state. ``HANDSHAKING``: the TLS handshake with the client is not complete.
#: ``PEEKING``: filters examine bytes of the client before the dial. ``CLOSING``: the close reason is fixed,
#: and received bytes are still being delivered.
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
    Return `after`, if it may follow `before`.

    :raises ValueError: it may not; this is a bug of portfwd.
    """
    if after not in TRANSITIONS[before]:
        raise ValueError(f"a session that is {before.value} cannot become {after.value}")
    return after


def diagram() -> str:
    """Format the table as a Mermaid diagram (``stateDiagram-v2``)."""
    states = list(State)
    lines = ["stateDiagram-v2", f"    [*] --> {states[0].value}"]
    for before in states:
        lines += [f"    {before.value} --> {after.value}" for after in states if after in TRANSITIONS[before]]
        if not TRANSITIONS[before]:
            lines.append(f"    {before.value} --> [*]")
    return "\n".join(lines) + "\n"
