# -*- test-case-name: tests.service.run.test_retired_rules -*-
"""
Live rules that get no more clients but still have sessions, and late clients of closed listeners.

Sessions of rules that a reload has replaced or removed keep their rule. Each rule is here until its last
session is closed, with the deadline of ``on-remove=drain`` or of an operator. The caller has closed its
listeners.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from portfwd.listen.late_clients import LateClients
from portfwd.relay.live import LiveRule
from portfwd.rules.model import OnRemove
from portfwd.rules.steps import Steps
from portfwd.values import CloseReason


class RetiredRules:
    """
    Those that are leaving.

    :ivar deadlines: the timers of rules whose sessions have a limited time to finish.
    :ivar gone: called with each rule when its last session is closed, if there is somebody to call.
    """

    def __init__(self, clock: IReactorTime, drain: float) -> None:
        """:param drain: seconds that draining sessions get."""
        self._clock = clock
        self._drain = drain
        self._rules: dict[LiveRule, None] = {}
        self.deadlines: dict[LiveRule, IDelayedCall] = {}
        self._by_operator: set[LiveRule] = set()
        self._late: dict[LiveRule, list[LateClients]] = {}
        self.gone: Callable[[LiveRule], None] | None = None

    def __repr__(self) -> str:
        return f"<RetiredRules rules={len(self._rules)} deadlines={len(self.deadlines)}>"

    def __iter__(self) -> Iterator[LiveRule]:
        return iter(tuple(self._rules))

    def __len__(self) -> int:
        return len(self._rules)

    def __contains__(self, live: object) -> bool:
        return live in self._rules

    def family(self, live: LiveRule) -> Sequence[LiveRule]:
        """`live`, the rules that it has replaced, and those with its name."""
        named = (one for one in self._rules if one.name == live.name)
        return tuple(dict.fromkeys((live, *live.older, *named)))

    def replace(self, live: LiveRule, heir: LiveRule) -> None:
        """`heir` replaces `live`, and the rules that `live` has replaced."""
        for one in live.older:
            heir.succeed(one)
        live.older.clear()
        self.leave(live, OnRemove.STAY)
        if live in self._rules:
            heir.succeed(live)

    def remove(self, live: LiveRule) -> Steps[None]:
        """`live` was removed: its ``on-remove`` decides, also for sessions of earlier reloads."""
        older = tuple(live.older)
        live.older.clear()
        for one in (*older, live):
            one.heir = None
            self.leave(one, live.options.on_remove)
            yield

    def count_sessions(self, rules: Sequence[LiveRule]) -> Steps[None]:
        """Count the sessions for the limits of `rules`, the active ones."""
        for live in rules:
            for one in (live, *live.older):
                yield from one.count_for(live)
        for live in self:
            heir = live.heir
            if heir is None:
                live.limit()
                yield from live.count_for(live)
            else:
                # For its late clients, which count as its sessions do.
                live.limits = heir.limits
            for late in self._late.get(live, ()):
                late.judge_by(live.accept_limit)

    def keep(self, live: LiveRule, late: LateClients) -> None:
        """Keep `live`, whose listener is closed, until `late` are served."""
        if late:
            self._late.setdefault(live, []).append(late)
            late.over = partial(self._served, live, late)

    def serve(self, live: LiveRule, late: LateClients, batches: int = 1) -> None:
        """Serve `late`, whose listener was that of `live`."""
        self.keep(live, late)
        if late:
            late.serve(batches)

    def serve_all(self) -> None:
        """Serve all late clients that limits admit."""
        for clients in tuple(self._late.values()):
            for late in tuple(clients):
                late.serve()

    def _served(self, live: LiveRule, late: LateClients) -> None:
        self._late[live].remove(late)
        if not self._late[live]:
            del self._late[live]
        if live in self._rules and not live.sessions:
            self._left(live)

    def turn_away(self, live: LiveRule) -> None:
        """Reset waiting late clients of `live`."""
        for late in tuple(self._late.get(live, ())):
            late.stop()

    def leave(self, live: LiveRule, how: OnRemove) -> None:
        """`live` gets no more clients: keep its sessions, give them a deadline, or cut them now."""
        if how is OnRemove.CUT:
            self.turn_away(live)
            live.cut_in_turns(CloseReason.KILLED)
        if not live.sessions and live not in self._late:
            self._left(live)
            return
        self._rules[live] = None
        live.when_empty = partial(self._emptied, live)
        if how is OnRemove.DRAIN:
            self.drain(live)

    def drain(self, live: LiveRule, *, operator: bool = False) -> None:
        """
        Set a deadline for the sessions of `live`. An earlier deadline stays.

        :param operator: whether an operator has set it and can undo it.
        """
        if (live.sessions or live in self._late) and live not in self.deadlines:
            self.deadlines[live] = self._clock.callLater(self._drain, self._expired, live)
            if operator:
                self._by_operator.add(live)
            if live not in self._rules:
                live.when_empty = partial(self._spare, live)

    def spare(self, live: LiveRule) -> None:
        """Remove the operator's deadline of `live`. That of ``on-remove`` stays."""
        if live in self._by_operator:
            self._spare(live)

    def _spare(self, live: LiveRule) -> None:
        self._by_operator.discard(live)
        deadline = self.deadlines.pop(live, None)
        if deadline is not None and deadline.active():
            deadline.cancel()

    def _expired(self, live: LiveRule) -> None:
        del self.deadlines[live]
        self._by_operator.discard(live)
        self.turn_away(live)
        live.cut_in_turns(CloseReason.DRAIN)

    def _emptied(self, live: LiveRule) -> None:
        if live not in self._late:
            self._left(live)

    def _left(self, live: LiveRule) -> None:
        live.when_empty = None
        self._rules.pop(live, None)
        self._spare(live)
        if live.heir is not None:
            del live.heir.older[live]
            live.heir = None
        if self.gone is not None:
            self.gone(live)

    def stop(self) -> None:
        """The forwarder is stopping with its own deadline: reset waiting clients."""
        for live in tuple(self._late):
            self.turn_away(live)
        for live in tuple(self.deadlines):
            self._spare(live)
