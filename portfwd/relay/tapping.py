# -*- test-case-name: tests.relay.test_tapping -*-
"""
Looks at the bytes of one session while it lasts, for operators; several may look at once.

What each side sent is shown as it was read: before the filters of the rule, behind TLS. The
session does not wait for who looks, and relays in the kernel again when the look is over.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from portfwd.relay.session import Session
from portfwd.relay.states import State
from portfwd.values import TO_CLIENT, TO_UPSTREAM, Direction

Saw = Callable[[Direction, bytes], None]


class Taps:
    """Who looks at which sessions."""

    def __init__(self) -> None:
        self._lookers: dict[Session, list[Saw]] = {}

    def __repr__(self) -> str:
        return f"<Taps sessions={len(self._lookers)}>"

    def begin(self, session: Session, saw: Saw) -> Callable[[], None]:
        """
        Show `saw` a copy of what both sides of `session` send from now on; it must not raise.

        :returns: ends it; to be called when the session is over, too.
        :raises ValueError: the session has no two sides now.
        """
        client, upstream = session.streams
        if session.state is not State.RELAYING or client is None or upstream is None:
            raise ValueError(f"session {session.id} is {session.state.value}: there is nothing to tap")
        # Each look is one of its own, though two of them be shown the same way.
        looker = partial(saw)
        lookers = self._lookers.setdefault(session, [])
        lookers.append(looker)
        if len(lookers) == 1:
            client.tap(partial(_show, lookers, TO_UPSTREAM))
            upstream.tap(partial(_show, lookers, TO_CLIENT))

        def end() -> None:
            if looker in lookers:
                lookers.remove(looker)
                if not lookers:
                    del self._lookers[session]
                    client.tap(None)
                    upstream.tap(None)

        return end


def _show(lookers: Sequence[Saw], direction: Direction, data: bytes) -> None:
    for saw in tuple(lookers):
        saw(direction, data)
