# -*- test-case-name: tests.service.tls.test_certificate_watch -*-
"""
Checks the files of all sides of TLS every few seconds, and the dates of their certificates once a day.

A connection starts a check of the files, but does not wait for it. Without the regular rounds, the first
client after a quiet time would be judged by old files: a revoked client would be admitted once. The rounds
work in slices, and check about `MOST_CHECKED` sides each, because each check is a task of a thread.

The files may not change for months, so the dates are checked apart from them. The daily check reports failed
automatic renewal in time. It reads no file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, Protocol, runtime_checkable

from twisted.application.service import Service
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from portfwd.relay.live import LiveRule
from portfwd.rules.steps import Steps
from portfwd.service.daemon.slices import Slices
from portfwd.service.tls.certificates import Pair
from portfwd.service.tls.file_watch import LOOK_EVERY
from portfwd.streams.transports.tls_opening import TLSStreams

#: Seconds between two checks. Warnings name days, so shorter intervals are not useful.
DAY: Final = 86400.0
#: Seconds between two rounds over the files. A side checks its files at most once per `LOOK_EVERY`, so a
#: change is read after at most `LOOK_EVERY` plus `ROUND` seconds.
ROUND: Final = LOOK_EVERY / 2
#: Sides of TLS after which a round ends. The next round continues with the next rule.
MOST_CHECKED: Final = 100


@runtime_checkable
class HasCertificates(Protocol):
    """
    A side of TLS that has certificates.

    :ivar pairs: its certificates.
    """

    @property
    def pairs(self) -> Iterable[Pair]:
        """See the class."""

    def check_files(self) -> None:
        """Start to read the files again if the next check is due and they have changed."""

    def warn_of_expiry(self) -> None:
        """Log warnings about certificates that have expired or expire soon."""


def every_side(live: LiveRule) -> list[object]:
    """All sides of TLS of a rule, in its order: of its clients, of its targets, of its filters."""
    sides: list[object] = [live.streams.side] if isinstance(live.streams, TLSStreams) else []
    sides += [one.tls for one in live.every_destination]
    sides += [start.side for start in live.tls_starts.values()]
    return sides


def sides_of(rules: Iterable[LiveRule]) -> Iterator[HasCertificates]:
    """All sides of TLS of these rules, each once."""
    seen: set[int] = set()
    for live in rules:
        for side in every_side(live):
            if isinstance(side, HasCertificates) and id(side) not in seen:
                seen.add(id(side))
                yield side


class CertificateWatch(Service):
    """Starts the checks of files and dates."""

    name = "portfwd certificates"
    _log = Logger()

    def __init__(self, clock: IReactorTime, rules: Callable[[], Iterable[LiveRule]]) -> None:
        """:param rules: returns the rules that accept clients."""
        self._clock = clock
        self._rules = rules
        self._daily: IDelayedCall | None = None
        self._next: IDelayedCall | None = None
        self._round: Slices[None] | None = None
        self._position = 0

    def startService(self) -> None:
        """Start the intervals. The first checks follow later, because reading the files checks them too."""
        super().startService()
        self._daily = self._clock.callLater(DAY, self._check_dates)
        self._next = self._clock.callLater(ROUND, self._check_files)

    def stopService(self) -> None:
        """Stop the checks."""
        super().stopService()
        running, self._round = self._round, None
        if running is not None:
            running.give_up()
        for one in (self._daily, self._next):
            if one is not None:
                one.cancel()
        self._daily = self._next = None

    def _check_dates(self) -> None:
        self._daily = self._clock.callLater(DAY, self._check_dates)
        for side in sides_of(self._rules()):
            side.warn_of_expiry()

    def _check_files(self) -> None:
        self._next = None
        self._round = Slices(self._clock, self._steps())
        self._round.start().addBoth(self._wait)

    def _wait(self, result: object) -> None:
        """Plan the next round; a round that failed is logged."""
        self._round = None
        if isinstance(result, Failure) and result.check(CancelledError) is None:
            self._log.failure("the files of certificates could not be checked", result)
        if self.running:
            self._next = self._clock.callLater(ROUND, self._check_files)

    def _steps(self) -> Steps[None]:
        """Check the files of the rules that follow those of the last round, one rule a step."""
        rules = list(self._rules())
        checked = 0
        for _ in rules:
            live = rules[self._position % len(rules)]
            self._position = (self._position + 1) % len(rules)
            for side in sides_of((live,)):
                side.check_files()
                checked += 1
            yield
            if checked >= MOST_CHECKED:
                break
