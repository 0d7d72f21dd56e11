# -*- test-case-name: tests.upstreams.test_names -*-
"""
The addresses of target names: looked up without blocking the reactor, and cached.

At most one look-up runs for a name, for any number of waiting sessions. An answer is valid for the
``dns-refresh`` of the rule that asks. If a later look-up fails, the last good answer is used and the next
look-up is made after `RETRY`. If all addresses of an answer have failed, the name is looked up again, at most
once in `ASK_AGAIN`.

Names in the rules file and names chosen by clients use two separate caches, so clients can neither evict the
operator's names nor delay their look-ups. IP addresses are not looked up.

RFC 8305 section 4: the address families alternate in an answer, IPv6 first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain, zip_longest
from typing import Final, Protocol

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from portfwd.kernel.failures import log_failure
from portfwd.limits.look_ups import NOBODY, Asker, LookUpLimits

#: Seconds between look-ups of a name that fail while its last good answer is in use, so that a resolver that
#: is down is not flooded.
RETRY: Final = 5.0

#: Minimum seconds between two look-ups of a name whose addresses have all failed. A target that is down then
#: causes one look-up a second, not one for each client.
ASK_AGAIN: Final = 1.0

#: Maximum seconds that sessions wait for a look-up. The system's resolver cannot be interrupted; glibc's
#: default is 2 tries of 5 s.
LOOK_UP_LIMIT: Final = 12.0

#: Maximum number of cached names; the least recently used one is removed.
MAX_NAMES: Final = 10_000

Answer = Callable[[Sequence[str]], None]


class Resolver(Protocol):
    """Looks names up without blocking."""

    def look_up(self, host: str, done: Answer) -> Callable[[], None]:
        """
        Call `done` once with the IP addresses of `host`; the sequence is empty if there are none.

        :returns: a function that cancels the look-up, so that `done` is not called afterwards. It may be
            called at any time.
        """


def interleave(addresses: Sequence[str]) -> tuple[str, ...]:
    """Order addresses for Happy Eyeballs: IPv6 and IPv4 alternate, in their given order, without repeats."""
    unique = list(dict.fromkeys(addresses))
    six = [host for host in unique if ":" in host]
    four = [host for host in unique if ":" not in host]
    return tuple(host for host in chain.from_iterable(zip_longest(six, four)) if host is not None)


@define(eq=False)
class _LookUp:
    """One pending look-up. :ivar give_up: cancels it; None until `Resolver.look_up` has returned."""

    asker: Asker
    limit: IDelayedCall | None = None
    give_up: Callable[[], None] | None = None


@define(eq=False)
class _Name:
    """
    The cache entry of one name; times are the clock's.

    :ivar answered_at: time of the last good answer.
    :ivar failed_at: time of the last look-up that failed while there were addresses.
    :ivar begun_at: time at which the last look-up began.
    """

    addresses: tuple[str, ...] = ()
    answered_at: float | None = None
    failed_at: float | None = None
    begun_at: float | None = None
    waiting: dict[object, Answer] = field(factory=dict)
    look_up: _LookUp | None = None

    def is_fresh(self, refresh: float, now: float) -> bool:
        """Whether no look-up is due, if answers are valid for `refresh` seconds."""
        return _within(self.answered_at, refresh, now) or _within(self.failed_at, RETRY, now)


def _within(then: float | None, seconds: float, now: float) -> bool:
    return then is not None and now < then + seconds


class Names:
    """
    The addresses of names.

    :ivar look_ups: number of look-ups.
    :ivar failures: number of look-ups without an address.
    """

    def __init__(
        self,
        resolver: Resolver,
        clock: IReactorTime,
        limit: int = MAX_NAMES,
        bounds: LookUpLimits | None = None,
    ) -> None:
        """
        :param limit: maximum number of cached names.
        :param bounds: limits of pending look-ups; None for names in the rules file. With bounds, a look-up
            for which no session waits is cancelled.
        """
        self._limit = limit
        self.resolver = resolver
        self._clock = clock
        self.bounds = bounds
        self._names: dict[str, _Name] = {}
        self._log = Logger()
        self.look_ups = 0
        self.failures = 0

    def __repr__(self) -> str:
        return f"<Names {len(self._names)} known, {self.look_ups} look-ups, {self.failures} failed>"

    def ask(
        self,
        host: str,
        refresh: float,
        who: object,
        answer: Answer,
        *,
        failed: Sequence[str] = (),
        asker: Asker = NOBODY,
    ) -> str:
        """
        Call `answer` with the IP addresses of `host`, before this returns if they are cached.

        The sequence is empty if there is no answer and never was a good one.

        :param refresh: seconds for which an answer is valid.
        :param who: identifies this question for `forget`.
        :param failed: an earlier answer, none of whose addresses could be reached. A newer answer is
            requested; if there is none, the answer has the same addresses.
        :param asker: the limits against which this look-up counts.
        :returns: why the name is not looked up, in which case `answer` is not called; else an empty string.
        """
        name = self._names.pop(host, None)
        if name is None:
            if len(self._names) >= self._limit and not self._drop_oldest():
                return f"{self._limit} names are being looked up"
            name = _Name()
        self._names[host] = name  # last in the dictionary: asked for most recently
        now = self._clock.seconds()
        if failed:
            known = bool(set(name.addresses).difference(failed))
            if known or (name.look_up is None and _within(name.begun_at, ASK_AGAIN, now)):
                answer(name.addresses)
                return ""
        elif name.addresses:
            # An expired answer is used too; the look-up is for later questions.
            if name.look_up is None and not name.is_fresh(refresh, now):
                self._look_up(host, name, asker)
            answer(name.addresses)
            return ""
        name.waiting[who] = answer
        refused = "" if name.look_up is not None else self._look_up(host, name, asker)
        if refused:
            del name.waiting[who]
            self._drop_empty(host, name)
        return refused

    def known(self, host: str) -> Sequence[str]:
        """Return the last good answer for `host`, or an empty one. Nothing is looked up."""
        name = self._names.get(host)
        return () if name is None else name.addresses

    def doubt(self, host: str) -> None:
        """No address of `host` could be reached: look it up again, but not within `ASK_AGAIN`."""
        name = self._names.get(host)
        if name is None or name.look_up is not None:
            return
        if not _within(name.begun_at, ASK_AGAIN, self._clock.seconds()):
            self._look_up(host, name, NOBODY)

    def forget(self, host: str, who: object) -> None:
        """Withdraw the question of `who`."""
        name = self._names.get(host)
        if name is None or name.waiting.pop(who, None) is None:
            return
        if self.bounds is not None and not name.waiting and name.look_up is not None:
            self._end(name, name.look_up)
            self._drop_empty(host, name)

    def stop(self) -> None:
        """Cancel all look-ups and questions."""
        for name in self._names.values():
            name.waiting.clear()
            if name.look_up is not None:
                self._end(name, name.look_up)

    def _drop_oldest(self) -> bool:
        for host, name in self._names.items():
            if name.look_up is None:
                del self._names[host]
                return True
        return False

    def _drop_empty(self, host: str, name: _Name) -> None:
        # Names of the rules file are kept: an answer may still arrive after the limit.
        empty = not name.addresses and name.look_up is None and not name.waiting
        if empty and self.bounds is not None and self._names.get(host) is name:
            del self._names[host]

    def _look_up(self, host: str, name: _Name, asker: Asker) -> str:
        """Begin a look-up; return why it was refused, or an empty string."""
        if self.bounds is not None:
            reached = self.bounds.take(asker)
            if reached:
                return reached
        name.look_up = this = _LookUp(asker)
        name.begun_at = self._clock.seconds()
        self.look_ups += 1

        def answered(found: Sequence[str]) -> None:
            self._answered(host, name, this, found)

        this.limit = self._clock.callLater(LOOK_UP_LIMIT, self._out_of_time, host, name, this)
        give_up = self.resolver.look_up(host, answered)
        this.give_up = give_up
        return ""

    def _out_of_time(self, host: str, name: _Name, this: _LookUp) -> None:
        # For names of the rules file a late answer is used, which is better than none.
        self._answered(host, name, this, ())
        if self.bounds is not None and this.give_up is not None:
            this.give_up()

    def _answered(self, host: str, name: _Name, this: _LookUp, found: Sequence[str]) -> None:
        now = self._clock.seconds()
        if found:
            name.addresses = interleave(found)
            name.answered_at = now
        if name.look_up is not this:
            return
        self._over(name, this)
        if not found:
            self.failures += 1
            if name.addresses:
                name.failed_at = now
                self._log.warn("no answer for {host}: its last good addresses stay in use", host=host)
        self._tell(name)
        self._drop_empty(host, name)

    def _over(self, name: _Name, this: _LookUp) -> None:
        name.look_up = None
        if this.limit is not None and this.limit.active():
            this.limit.cancel()
        if self.bounds is not None:
            self.bounds.give_back(this.asker)

    def _end(self, name: _Name, this: _LookUp) -> None:
        self._over(name, this)
        if this.give_up is not None:
            this.give_up()

    def _tell(self, name: _Name) -> None:
        for who in tuple(name.waiting):
            # The callback may withdraw other questions, or ask again.
            answer = name.waiting.pop(who, None)
            if answer is not None:
                try:
                    answer(name.addresses)
                except BaseException:
                    log_failure(self._log, "an answer to {who!r} failed", who=who)
