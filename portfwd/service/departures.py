# -*- test-case-name: tests.service.test_departures -*-
"""
Live rules that get no more clients and still have sessions.

A reload replaces or removes rules; their sessions keep the rule they began
with. Each is here until its last session is closed, with the deadline that
``on-remove=drain`` or an operator gave it. It refuses to close listeners: who
brings a rule here has done that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from portfwd.relay.live import LiveRule
from portfwd.rules.model import OnRemove
from portfwd.values import CloseReason


class Departures:
    """
    Those that are leaving.

    :ivar gone: called with each rule when its last session is closed, if there is somebody to call.
    """

    def __init__(self, clock: IReactorTime, drain: float) -> None:
        """:param drain: seconds that sessions get where they are to drain."""
        self._clock = clock
        self._drain = drain
        self._rules: dict[LiveRule, None] = {}
        self._deadlines: dict[LiveRule, IDelayedCall] = {}
        self.gone: Callable[[LiveRule], None] | None = None

    def __repr__(self) -> str:
        return f"<Departures rules={len(self._rules)} deadlines={len(self._deadlines)}>"

    def __iter__(self) -> Iterator[LiveRule]:
        return iter(tuple(self._rules))

    def __len__(self) -> int:
        return len(self._rules)

    def called(self, name: str) -> Sequence[LiveRule]:
        """Those that were called so."""
        return [live for live in self._rules if live.name == name]

    def leave(self, live: LiveRule, how: OnRemove) -> None:
        """`live` gets no more clients: its sessions stay, get a deadline, or are cut now."""
        if how is OnRemove.CUT:
            live.close_all(CloseReason.KILLED)
        if not live.sessions:
            self._left(live)
            return
        self._rules[live] = None
        live.when_empty = partial(self._left, live)
        if how is OnRemove.DRAIN:
            self.drain(live)

    def drain(self, live: LiveRule) -> None:
        """Give the sessions of `live`, wherever it is, until the deadline; an earlier one stays."""
        if live.sessions and live not in self._deadlines:
            self._deadlines[live] = self._clock.callLater(self._drain, self._expired, live)
            if live not in self._rules:
                live.when_empty = partial(self.spare, live)

    def spare(self, live: LiveRule) -> None:
        """`live` has no deadline any more."""
        deadline = self._deadlines.pop(live, None)
        if deadline is not None and deadline.active():
            deadline.cancel()

    def _expired(self, live: LiveRule) -> None:
        del self._deadlines[live]
        live.close_all(CloseReason.DRAIN)

    def _left(self, live: LiveRule) -> None:
        live.when_empty = None
        self._rules.pop(live, None)
        self.spare(live)
        if self.gone is not None:
            self.gone(live)

    def stop(self) -> None:
        """The whole forwarder is stopping, with a deadline of its own."""
        for live in tuple(self._deadlines):
            self.spare(live)
