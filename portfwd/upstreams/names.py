# -*- test-case-name: tests.upstreams.test_names -*-
"""
Names of targets, resolved off the reactor and remembered.

The system's resolver is asked through the reactor's (a thread), one look-up at
a time for a name however many sessions wait for it. An answer holds for
``dns-refresh``; when a later look-up fails, the last good answer stays and the
next look-up comes after `RETRY`. Literals never get here.

RFC 8305 section 4: addresses come out with the families interleaved, IPv6 first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain, zip_longest
from typing import Final

from attrs import define, field
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import (
    IAddress,
    IHostnameResolver,
    IHostResolution,
    IReactorTime,
    IResolutionReceiver,
)
from twisted.logger import Logger
from zope.interface import implementer

#: Seconds after which a name whose look-up failed is asked for again, while
#: its last good answer is in use: a resolver that is down is not hammered.
RETRY: Final = 5.0

#: Seconds after which one look-up is given up. The thread it blocks cannot be
#: interrupted (glibc's own default is 5 s a try, 2 tries), but the sessions can go on.
LOOK_UP_LIMIT: Final = 12.0

#: Names that are remembered; beyond it the one asked for longest ago goes.
MAX_NAMES: Final = 10_000

#: Seconds for which a fresh answer is not doubted: a dead target does not make the resolver busy.
DOUBT_AFTER: Final = 1.0

Answer = Callable[[Sequence[str]], None]


def interleave(addresses: Sequence[str]) -> tuple[str, ...]:
    """Order literals for Happy Eyeballs: IPv6 and IPv4 in turn, each in its given order, no repeats."""
    unique = list(dict.fromkeys(addresses))
    six = [host for host in unique if ":" in host]
    four = [host for host in unique if ":" not in host]
    return tuple(host for host in chain.from_iterable(zip_longest(six, four)) if host is not None)


@define(eq=False)
class _Name:
    """What is known of one name."""

    addresses: tuple[str, ...] = ()
    good_until: float = 0.0
    answered_at: float = 0.0  # by the resolver, with addresses or without
    waiting: dict[object, Answer] = field(factory=dict)
    asking: object | None = None  # the look-up under way


@implementer(IResolutionReceiver)
class _Collector:
    """Gathers the addresses of one look-up."""

    def __init__(self, done: Callable[[list[str]], None]) -> None:
        self._done = done
        self._hosts: list[str] = []

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        """The look-up began."""

    def addressResolved(self, address: IAddress) -> None:
        """One more address."""
        if isinstance(address, (IPv4Address, IPv6Address)):
            self._hosts.append(address.host)

    def resolutionComplete(self) -> None:
        """That was all; nothing at all means failure."""
        self._done(self._hosts)


class Names:
    """
    The addresses of names.

    :ivar look_ups: how many times the resolver was asked.
    :ivar failures: how many of them gave nothing.
    """

    def __init__(self, resolver: IHostnameResolver, clock: IReactorTime, limit: int = MAX_NAMES) -> None:
        """:param limit: how many names are remembered."""
        self._limit = limit
        self._resolver = resolver
        self._clock = clock
        self._names: dict[str, _Name] = {}
        self._log = Logger()
        self.look_ups = 0
        self.failures = 0

    def __repr__(self) -> str:
        return f"<Names {len(self._names)} known, {self.look_ups} look-ups, {self.failures} failed>"

    def ask(self, host: str, refresh: float, who: object, answer: Answer) -> None:
        """
        Call `answer` with the literals of `host`, at once where they are known.

        An empty sequence says that there is no answer and never was a good one.

        :param refresh: seconds for which a fresh answer holds.
        :param who: identifies the asker for `forget`.
        """
        name = self._names.pop(host, None)
        if name is None:
            if len(self._names) >= self._limit and not self._drop_oldest():
                answer(())  # every place is taken by a look-up under way
                return
            name = _Name()
        self._names[host] = name  # last in the dictionary: asked for most recently
        if name.good_until > self._clock.seconds():
            answer(name.addresses)
            return
        if name.addresses and name.asking is not None:
            answer(name.addresses)  # the refresh under way need not be waited for
            return
        name.waiting[who] = answer
        if name.asking is None:
            self._look_up(host, name, refresh)
            if name.addresses and who in name.waiting:
                # Known but stale: go on with it, the new answer is for those who come later.
                del name.waiting[who]
                answer(name.addresses)

    def known(self, host: str) -> Sequence[str]:
        """The last good literals of `host`; none if there are none. Nothing is looked up."""
        name = self._names.get(host)
        return () if name is None else name.addresses

    def doubt(self, host: str) -> None:
        """
        Nobody answers at the known addresses of `host`: the next `ask` looks it up again.

        The known addresses stay in use until then. An answer that is younger than `DOUBT_AFTER` is not
        doubted.
        """
        name, now = self._names.get(host), self._clock.seconds()
        if name is not None and now - name.answered_at >= DOUBT_AFTER:
            name.good_until = min(name.good_until, now)

    def forget(self, host: str, who: object) -> None:
        """`who` does not want the answer any more."""
        name = self._names.get(host)
        if name is not None:
            name.waiting.pop(who, None)

    def _drop_oldest(self) -> bool:
        for host, name in self._names.items():
            if name.asking is None:
                del self._names[host]
                return True
        return False

    def _look_up(self, host: str, name: _Name, refresh: float) -> None:
        name.asking = this = object()
        self.look_ups += 1

        def done(found: list[str]) -> None:
            if limit.active():
                limit.cancel()
            now = name.answered_at = self._clock.seconds()
            if found:  # also where it was given up before: late is better than none
                name.addresses = interleave(found)
                name.good_until = now + refresh
            if name.asking is not this:
                return
            name.asking = None
            if not found:
                self.failures += 1
                if name.addresses:
                    name.good_until = now + RETRY
                    self._log.warn("no answer for {host}: its last good addresses stay in use", host=host)
            self._answer(name)

        limit = self._clock.callLater(LOOK_UP_LIMIT, done, [])
        self._resolver.resolveHostName(_Collector(done), host)

    def _answer(self, name: _Name) -> None:
        for who in tuple(name.waiting):
            # One of them may forget another, or ask again.
            answer = name.waiting.pop(who, None)
            if answer is not None:
                try:
                    answer(name.addresses)
                except Exception:
                    self._log.failure("an answer to {who!r} failed", who=who)
