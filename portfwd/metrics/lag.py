# -*- test-case-name: tests.metrics.test_lag -*-
"""
The delay of the reactor: how late a timer of `INTERVAL` seconds is called.

Everything that blocks the reactor delays all sessions by the same time. The meter runs only if the rules have
a listener for metrics.
"""

from __future__ import annotations

from typing import Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from portfwd.metrics.tally import Histogram

#: Seconds between two measurements. Most stalls of a tenth of a second are detected within a few scrapes, and
#: the cost on an idle machine is negligible.
INTERVAL: Final = 0.25

#: Upper bounds in seconds; a turn of a busy reactor takes milliseconds.
LAGS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)


class LagMeter:
    """
    Measures the delay of the reactor.

    :ivar lags: the delay of each measurement.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._look: IDelayedCall | None = None
        self.lags = Histogram(LAGS)

    def __repr__(self) -> str:
        return f"<LagMeter {'running' if self._look is not None else 'stopped'} {self.lags!r}>"

    def start(self) -> None:
        """Begin to measure."""
        self._wait()

    def stop(self) -> None:
        """Stop measuring."""
        if self._look is not None:
            self._look.cancel()
            self._look = None

    def _wait(self) -> None:
        self._look = self._clock.callLater(INTERVAL, self._due, self._clock.seconds() + INTERVAL)

    def _due(self, when: float) -> None:
        # If the clock was set back, the delay counts as 0.
        self.lags.add(max(0.0, self._clock.seconds() - when))
        self._wait()
