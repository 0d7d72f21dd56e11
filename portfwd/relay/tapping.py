# -*- test-case-name: tests.relay.test_tapping -*-
"""
Looks at the bytes of one session while it lasts, for an operator.

What each side sent is shown as it was read: before the filters of the rule, behind TLS. The
session does not wait for who looks, and relays in the kernel again when the look is over.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from portfwd.relay.session import Session
from portfwd.relay.states import State
from portfwd.values import TO_CLIENT, TO_UPSTREAM, Direction


def tap(session: Session, saw: Callable[[Direction, bytes], None]) -> Callable[[], None]:
    """
    Show `saw` a copy of what both sides of `session` send from now on; it must not raise.

    :returns: ends it; to be called when the session is over, too.
    :raises ValueError: the session has no two sides now.
    """
    client, upstream = session.streams
    if session.state is not State.RELAYING or client is None or upstream is None:
        raise ValueError(f"session {session.id} is {session.state.value}: there is nothing to tap")
    client.tap(partial(saw, TO_UPSTREAM))
    upstream.tap(partial(saw, TO_CLIENT))

    def end() -> None:
        client.tap(None)
        upstream.tap(None)

    return end
