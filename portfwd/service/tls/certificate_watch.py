# -*- test-case-name: tests.service.tls.test_certificate_watch -*-
"""
Checks the dates of all certificates in use once a day.

Reading the files checks the dates too, but the files may not change for months. The daily check reports
failed automatic renewal in time. It reads no file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, Protocol, runtime_checkable

from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from portfwd.relay.live import LiveRule
from portfwd.service.tls.certificates import Pair
from portfwd.streams.transports.tls_opening import TLSStreams

#: Seconds between two checks. Warnings name days, so shorter intervals are not useful.
DAY: Final = 86400.0


@runtime_checkable
class HasCertificates(Protocol):
    """
    A side of TLS that has certificates.

    :ivar pairs: its certificates.
    """

    @property
    def pairs(self) -> Iterable[Pair]:
        """See the class."""

    def warn_of_expiry(self) -> None:
        """Log warnings about certificates that have expired or expire soon."""


def sides_of(rules: Iterable[LiveRule]) -> Iterator[HasCertificates]:
    """All sides of TLS of these rules, each once."""
    seen: set[int] = set()
    for live in rules:
        streams = live.streams
        found: list[object] = [streams.side] if isinstance(streams, TLSStreams) else []
        found += [one.tls for one in live.every_destination]
        found += [start.side for start in live.tls_starts.values()]
        for side in found:
            if isinstance(side, HasCertificates) and id(side) not in seen:
                seen.add(id(side))
                yield side


class CertificateWatch(Service):
    """Logs warnings about certificates once a day."""

    name = "portfwd certificates"

    def __init__(self, clock: IReactorTime, rules: Callable[[], Iterable[LiveRule]]) -> None:
        """:param rules: returns the rules that accept clients."""
        self._clock = clock
        self._rules = rules
        self._next: IDelayedCall | None = None

    def startService(self) -> None:
        """Start the interval. The first check follows in a day, because reading the files checks them too."""
        super().startService()
        self._next = self._clock.callLater(DAY, self._check)

    def stopService(self) -> None:
        """Stop the checks."""
        super().stopService()
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _check(self) -> None:
        self._next = self._clock.callLater(DAY, self._check)
        for side in sides_of(self._rules()):
            side.warn_of_expiry()
