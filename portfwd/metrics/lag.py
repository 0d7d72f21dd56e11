# -*- test-case-name: tests.metrics.test_lag -*-
"""
How late the reactor is: a timer that should ring every `INTERVAL`, and by how much it misses.

Whatever keeps the reactor busy keeps every session waiting as long. Only runs
where somebody asks for metrics.
"""

from __future__ import annotations

from typing import Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from portfwd.metrics.tally import Histogram

#: Seconds between two looks: often enough to meet most stalls of a tenth of a second within a few
#: scrapes, and nothing that an idle machine would notice.
INTERVAL: Final = 0.25

#: Upper bounds in seconds: a turn of a busy reactor is milliseconds.
LAGS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)


class LagMeter:
    """
    Looks at the clock.

    :ivar lags: how late each look was.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._look: IDelayedCall | None = None
        self.lags = Histogram(LAGS)

    def __repr__(self) -> str:
        return f"<LagMeter {'running' if self._look is not None else 'stopped'} {self.lags!r}>"

    def start(self) -> None:
        """Begin to look."""
        self._wait()

    def stop(self) -> None:
        """Look no more."""
        if self._look is not None:
            self._look.cancel()
            self._look = None

    def _wait(self) -> None:
        self._look = self._clock.callLater(INTERVAL, self._due, self._clock.seconds() + INTERVAL)

    def _due(self, when: float) -> None:
        # A clock that was set back makes no lag less than none.
        self.lags.add(max(0.0, self._clock.seconds() - when))
        self._wait()
