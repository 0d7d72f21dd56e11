# -*- test-case-name: tests.service.tls.test_certificate_watch -*-
"""
The certificates that a process shows, and a look at their dates once a day.

Their dates are looked at when files are read, but a process may run for months without a change of them: who
renews by machine wants to know in time that the machine does not. It reads no file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, Protocol, runtime_checkable

from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from portfwd.relay.live import LiveRule
from portfwd.service.tls.certificates import Pair
from portfwd.streams.transports.tls_opening import TLSStreams

#: Seconds between looks: dates of certificates are days.
DAY: Final = 86400.0


@runtime_checkable
class Showing(Protocol):
    """
    A side of TLS that shows certificates.

    :ivar pairs: those.
    """

    @property
    def pairs(self) -> Iterable[Pair]:
        """See the class."""

    def warn_of_expiry(self) -> None:
        """Warn of those that have expired or soon will."""


def sides_of(rules: Iterable[LiveRule]) -> Iterator[Showing]:
    """Every side of TLS of these rules, each once."""
    seen: set[int] = set()
    for live in rules:
        streams = live.streams
        found: list[object] = [streams.side] if isinstance(streams, TLSStreams) else []
        found += [one.tls for one in live.every_destination]
        found += [start.side for start in live.tls_starts.values()]
        for side in found:
            if isinstance(side, Showing) and id(side) not in seen:
                seen.add(id(side))
                yield side


class CertificateWatch(Service):
    """Warns once a day."""

    name = "portfwd certificates"

    def __init__(self, clock: IReactorTime, rules: Callable[[], Iterable[LiveRule]]) -> None:
        """:param rules: those that accept clients."""
        self._clock = clock
        self._rules = rules
        self._next: IDelayedCall | None = None

    def startService(self) -> None:
        """Look in a day: what is read at a start was looked at then."""
        super().startService()
        self._next = self._clock.callLater(DAY, self._look)

    def stopService(self) -> None:
        """Look no more."""
        super().stopService()
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _look(self) -> None:
        self._next = self._clock.callLater(DAY, self._look)
        for side in sides_of(self._rules()):
            side.warn_of_expiry()
