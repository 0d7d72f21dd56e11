# -*- test-case-name: tests.upstreams.test_names -*-
"""
Names of targets: looked up off the reactor's thread, and remembered.

One look-up at a time runs for a name, however many sessions wait for it. An answer holds for the
``dns-refresh`` of whoever asks; when a later look-up fails, the last good answer stays and the next look-up
comes after `RETRY`. When every address of an answer has failed, the name is looked up again at once, at most
once in `ASK_AGAIN`.

Names that the rules file writes and names that clients choose use two objects of this class, so that clients
can neither evict the operator's names nor occupy their look-ups. Literals never get here.

RFC 8305 section 4: addresses come out with the families interleaved, IPv6 first.
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

#: Seconds after which a name whose look-up failed is asked for again, while
#: its last good answer is in use: a resolver that is down is not hammered.
RETRY: Final = 5.0

#: Seconds between two look-ups of a name whose every address has failed. An answer that is younger is as good
#: as a new one; an upstream that is down makes one look-up a second, not one for each client.
ASK_AGAIN: Final = 1.0

#: Seconds after which one look-up is given up. The system's resolver cannot be
#: interrupted (glibc's own default is 5 s a try, 2 tries), but the sessions can go on.
LOOK_UP_LIMIT: Final = 12.0

#: Names that are remembered; beyond it the one asked for longest ago goes.
MAX_NAMES: Final = 10_000

Answer = Callable[[Sequence[str]], None]


class Resolver(Protocol):
    """Looks names up, without blocking."""

    def look_up(self, host: str, done: Answer) -> Callable[[], None]:
        """
        Call `done` once, with the literals of `host`; an empty sequence means that there are none.

        :returns: gives the look-up up: `done` is not called after it. It may be called at any time.
        """


def interleave(addresses: Sequence[str]) -> tuple[str, ...]:
    """Order literals for Happy Eyeballs: IPv6 and IPv4 in turn, each in its given order, no repeats."""
    unique = list(dict.fromkeys(addresses))
    six = [host for host in unique if ":" in host]
    four = [host for host in unique if ":" not in host]
    return tuple(host for host in chain.from_iterable(zip_longest(six, four)) if host is not None)


@define(eq=False)
class _LookUp:
    """One look-up under way. :ivar give_up: None until the resolver has returned."""

    asker: Asker
    limit: IDelayedCall | None = None
    give_up: Callable[[], None] | None = None


@define(eq=False)
class _Name:
    """
    What is known of one name; times are the clock's.

    :ivar answered_at: when its addresses came.
    :ivar failed_at: when a look-up failed while there were addresses.
    :ivar begun_at: when the last look-up began.
    """

    addresses: tuple[str, ...] = ()
    answered_at: float | None = None
    failed_at: float | None = None
    begun_at: float | None = None
    waiting: dict[object, Answer] = field(factory=dict)
    look_up: _LookUp | None = None

    def is_fresh(self, refresh: float, now: float) -> bool:
        """Whether no look-up is due for somebody who takes answers of `refresh` seconds."""
        return _within(self.answered_at, refresh, now) or _within(self.failed_at, RETRY, now)


def _within(then: float | None, seconds: float, now: float) -> bool:
    return then is not None and now < then + seconds


class Names:
    """
    The addresses of names.

    :ivar look_ups: how many times the resolver was asked.
    :ivar failures: how many of them gave nothing.
    """

    def __init__(
        self,
        resolver: Resolver,
        clock: IReactorTime,
        limit: int = MAX_NAMES,
        bounds: LookUpLimits | None = None,
    ) -> None:
        """
        :param limit: how many names are remembered.
        :param bounds: how many look-ups may be under way; None for names that the operator wrote. With
            bounds, a look-up that nobody waits for any more is given up.
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
        Call `answer` with the literals of `host`, at once where they are known.

        An empty sequence says that there is no answer and never was a good one.

        :param refresh: seconds for which an answer is good enough.
        :param who: identifies this question for `forget`.
        :param failed: an earlier answer, none of whose addresses could be reached: a newer one is asked for.
            If there is none, the answer is the same addresses again.
        :param asker: whose limits this look-up counts against.
        :returns: why the name is not looked up, and then `answer` is not called; else an empty string.
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
            # A stale answer is used too; the look-up is for those who come later.
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
        """The last good literals of `host`; none if there are none. Nothing is looked up."""
        name = self._names.get(host)
        return () if name is None else name.addresses

    def doubt(self, host: str) -> None:
        """The known addresses of `host` could not be reached: look it up again, unless that was just done."""
        name = self._names.get(host)
        if name is None or name.look_up is not None:
            return
        if not _within(name.begun_at, ASK_AGAIN, self._clock.seconds()):
            self._look_up(host, name, NOBODY)

    def forget(self, host: str, who: object) -> None:
        """`who` does not want the answer any more."""
        name = self._names.get(host)
        if name is None or name.waiting.pop(who, None) is None:
            return
        if self.bounds is not None and not name.waiting and name.look_up is not None:
            self._end(name, name.look_up)
            self._drop_empty(host, name)

    def stop(self) -> None:
        """Give up every look-up; nobody is answered any more."""
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
        # The operator's names stay: an answer may still come late.
        empty = not name.addresses and name.look_up is None and not name.waiting
        if empty and self.bounds is not None and self._names.get(host) is name:
            del self._names[host]

    def _look_up(self, host: str, name: _Name, asker: Asker) -> str:
        """Begin a look-up; the result says why there is none."""
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
        # The operator's names take an answer that comes late: that is better than none.
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
            # One of them may forget another, or ask again.
            answer = name.waiting.pop(who, None)
            if answer is not None:
                try:
                    answer(name.addresses)
                except BaseException:
                    log_failure(self._log, "an answer to {who!r} failed", who=who)
