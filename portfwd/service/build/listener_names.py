# -*- test-case-name: tests.service.build.test_listener_names -*-
"""
Resolves the names of listeners.

All look-ups run in parallel threads. A start waits for them, at most `LOOK_UP_LIMIT` seconds for all names
together, because it binds before privileges are dropped. A reload waits without blocking the reactor. Later
bindings, such as a resumed rule, use the known addresses. A silent name server delays a start or a reload,
but no session.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterable, Sequence
from threading import Thread

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from portfwd.listen.binding import resolve_listener
from portfwd.rules.model import Rule, Ruleset
from portfwd.rules.steps import Steps
from portfwd.upstreams.names import LOOK_UP_LIMIT, Resolver
from portfwd.upstreams.system_resolver import MAX_THREADS
from portfwd.values import is_literal


def has_name(rule: Rule) -> bool:
    """Whether a rule listens on a name."""
    listen = rule.listen
    return listen.ports is not None and bool(listen.host) and not is_literal(listen.host)


def names_of(ruleset: Ruleset) -> Steps[set[str]]:
    """The names on which `ruleset` listens. Their addresses may have changed since binding."""
    names = set()
    for rule in ruleset.rules:
        if has_name(rule):
            names.add(rule.listen.host)
        yield
    return names


def _nothing(name: str) -> OSError:
    return OSError(errno.ENOENT, f"the name {name} has no address, or no name server answers")


class ListenerNames:
    """
    The known addresses of names.

    :ivar notes: a line for each name without an answer in the last reload, whose listeners keep their
        addresses.
    """

    def __init__(
        self,
        resolver: Resolver,
        clock: IReactorTime,
        resolve: Callable[[str], Sequence[str]] = resolve_listener,
    ) -> None:
        """
        :param resolver: the resolver for reloads.
        :param resolve: the blocking resolver for the start, called in threads.
        """
        self._resolver = resolver
        self._clock = clock
        self._resolve = resolve
        self._known: dict[str, Sequence[str]] = {}
        self._missing: dict[str, OSError] = {}
        self._former: tuple[dict[str, Sequence[str]], dict[str, OSError]] | None = None
        self._waits: dict[Deferred[None], tuple[IDelayedCall, Callable[[], None]]] = {}
        self.notes: list[str] = []

    def __repr__(self) -> str:
        return f"<ListenerNames {len(self._known)} known, {len(self._waits)} being looked up>"

    def addresses(self, name: str) -> Sequence[str]:
        """
        The known literals of `name`. An unknown name is resolved now.

        :raises OSError: it has no address.
        """
        missing = self._missing.get(name)
        if missing is not None:
            raise missing
        known = self._known.get(name)
        if known is None:
            known = self._known[name] = self._resolve(name)
        return known

    def learn_now(self, names: Iterable[str], limit: float = LOOK_UP_LIMIT) -> None:
        """
        Resolve `names` in parallel and wait, for a start.

        :param limit: seconds for all of them. A name without an answer by then has no address.
        """
        waiting = sorted(names)
        found: dict[str, Sequence[str] | OSError] = {}

        def work() -> None:
            while waiting:
                try:
                    name = waiting.pop()
                except IndexError:  # another thread took the last one
                    return
                try:
                    found[name] = self._resolve(name)
                except OSError as problem:
                    found[name] = problem
                except ValueError as problem:  # it is no name
                    found[name] = OSError(errno.EINVAL, str(problem))

        every = tuple(waiting)
        count = min(len(every), MAX_THREADS)
        threads = [Thread(target=work, name="portfwd-names", daemon=True) for _ in range(count)]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + limit
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        for name in every:
            answer = found.get(name)
            if isinstance(answer, OSError):
                self._missing[name] = answer
            elif answer is None:
                self._missing[name] = _nothing(name)
            else:
                self._known[name] = answer
                self._missing.pop(name, None)

    async def learn(self, names: Iterable[str]) -> None:
        """
        Resolve `names` in parallel, until `settle`.

        A name without an answer keeps its known addresses.
        """
        self._former = dict(self._known), dict(self._missing)
        self.notes = []
        for waiting in [self._look_up(name) for name in sorted(names)]:
            await waiting

    def settle(self, *, applied: bool) -> None:
        """The reload has ended. If it was not applied, its new addresses are dropped."""
        former, self._former = self._former, None
        if former is not None and not applied:
            self._known, self._missing = former

    def _look_up(self, name: str) -> Deferred[None]:
        waiting: Deferred[None] = Deferred()

        def done(found: Sequence[str]) -> None:
            timer, _ = self._waits.pop(waiting)
            if timer.active():
                timer.cancel()
            if found:
                self._known[name] = found
            elif name in self._known:
                self.notes.append(f"{_nothing(name).strerror}: its listeners keep their addresses")
            if name in self._known:
                self._missing.pop(name, None)
            else:
                self._missing[name] = _nothing(name)
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
        """End all look-ups. Waiting callers continue with the known addresses."""
        for waiting, (timer, give_up) in tuple(self._waits.items()):
            del self._waits[waiting]
            timer.cancel()
            give_up()
            waiting.callback(None)
