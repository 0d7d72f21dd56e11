# -*- test-case-name: tests.service.test_listener_names -*-
"""
Addresses of the names that listeners are bound to.

A name is looked up on the reactor's thread at the start alone, when there are no sessions yet. A reload looks
up, in threads and side by side, the names of the sockets that it is about to bind; whatever is bound later (a
drained rule that resumes) uses what is known. A name server that is silent delays a reload, and no session.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Sequence

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from portfwd.listen.binding import resolve_listener
from portfwd.rules.model import Rule, Ruleset
from portfwd.service.build import Bound, count_ports
from portfwd.service.reload import listening_key
from portfwd.upstreams.names import LOOK_UP_LIMIT, Resolver
from portfwd.values import is_literal


def has_name(rule: Rule) -> bool:
    """Whether the rule listens on a name."""
    listen = rule.listen
    return listen.ports is not None and bool(listen.host) and not is_literal(listen.host)


def names_to_look_up(ruleset: Ruleset, bound: Iterable[Bound]) -> set[str]:
    """The names on which `ruleset` wants a socket that is not among `bound`."""
    rules = [rule for rule in ruleset.rules if has_name(rule)]
    if not rules:
        return set()
    there = {listening_key(one.live.rule, one.offset) for one in bound if has_name(one.live.rule)}
    return {
        rule.listen.host
        for rule in rules
        if any(listening_key(rule, offset) not in there for offset in range(count_ports(rule)))
    }


class ListenerNames:
    """What is known of such names."""

    def __init__(
        self,
        resolver: Resolver,
        clock: IReactorTime,
        resolve: Callable[[str], Sequence[str]] = resolve_listener,
    ) -> None:
        """
        :param resolver: asked for reloads.
        :param resolve: asked at the start; it blocks.
        """
        self._resolver = resolver
        self._clock = clock
        self._resolve = resolve
        self._known: dict[str, Sequence[str]] = {}
        self._missing: set[str] = set()
        self._waits: dict[Deferred[None], tuple[IDelayedCall, Callable[[], None]]] = {}

    def __repr__(self) -> str:
        return f"<ListenerNames {len(self._known)} known, {len(self._waits)} being looked up>"

    def addresses(self, name: str) -> Sequence[str]:
        """
        The literals of `name`, as they are known; one that was never asked for is looked up now.

        :raises OSError: it has none.
        """
        if name in self._missing:
            raise OSError(errno.ENOENT, f"the name {name} has no address, or no name server answers")
        known = self._known.get(name)
        if known is None:
            known = self._known[name] = self._resolve(name)
        return known

    async def learn(self, names: Iterable[str]) -> None:
        """Look `names` up, side by side. One without an answer keeps the addresses that are known of it."""
        for waiting in [self._look_up(name) for name in sorted(names)]:
            await waiting

    def _look_up(self, name: str) -> Deferred[None]:
        waiting: Deferred[None] = Deferred()

        def done(found: Sequence[str]) -> None:
            timer, _ = self._waits.pop(waiting)
            if timer.active():
                timer.cancel()
            if found:
                self._known[name] = found
            if name in self._known:
                self._missing.discard(name)
            else:
                self._missing.add(name)
            waiting.callback(None)

        def out_of_time() -> None:
            give_up = self._waits[waiting][1]
            give_up()
            done(())

        timer = self._clock.callLater(LOOK_UP_LIMIT, out_of_time)
        self._waits[waiting] = (timer, lambda: None)
        give_up = self._resolver.look_up(name, done)
        if waiting in self._waits:
            self._waits[waiting] = (timer, give_up)
        return waiting

    def stop(self) -> None:
        """End every look-up; whoever waits for one goes on with what is known."""
        for waiting, (timer, give_up) in tuple(self._waits.items()):
            del self._waits[waiting]
            timer.cancel()
            give_up()
            waiting.callback(None)
