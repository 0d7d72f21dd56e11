# -*- test-case-name: tests.relay.test_tapping -*-
"""
Shows the bytes of a running session to operators. Several taps may exist at the same time.

The bytes are shown as they were read: before the filters of the rule, and decrypted. The session does not
wait for taps, and relays in the kernel again when they end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from portfwd.relay.session import Session
from portfwd.relay.states import State
from portfwd.values import TO_CLIENT, TO_UPSTREAM, Direction

Saw = Callable[[Direction, bytes], None]


class Taps:
    """The taps of all sessions."""

    def __init__(self) -> None:
        self._lookers: dict[Session, list[Saw]] = {}

    def __repr__(self) -> str:
        return f"<Taps sessions={len(self._lookers)}>"

    def begin(self, session: Session, saw: Saw) -> Callable[[], None]:
        """
        Call `saw` with a copy of all bytes of both sides of `session` from now on. It must not raise.

        :returns: a function that ends the tap; call it after the session has ended, too.
        :raises ValueError: the session does not have two sides now.
        """
        client, upstream = session.streams
        if session.state is not State.RELAYING or client is None or upstream is None:
            raise ValueError(f"session {session.id} is {session.state.value}: there is nothing to tap")
        # Each tap is separate, even if two have the same function.
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
