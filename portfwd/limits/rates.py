# -*- test-case-name: tests.limits.test_rates -*-
"""
A token bucket that is stored as one number.

The bucket of a rate holds the tokens of one second, at least one, and fills over time. It stores the time at
which it will be full, not its tokens; this is the virtual scheduling form of the algorithm (ITU-T I.371,
annex A). A rate can thus change while the bucket stays, and a bucket that is full needs no storage.
"""

from __future__ import annotations

from typing import Final

#: Rounding error of sums of seconds. A timer that fires this much too early still finds its token.
SLACK: Final = 1e-6


def burst(rate: float) -> float:
    """Capacity of a bucket of `rate` tokens a second, in tokens."""
    return max(1.0, rate)


def delay(full_at: float, rate: float, now: float) -> float:
    """
    Seconds until the bucket has a token; 0.0 if it has one.

    :param full_at: time at which the bucket is full.
    :param rate: tokens a second.
    """
    wait = full_at - now - (burst(rate) - 1.0) / rate
    if wait <= SLACK:
        return 0.0
    if wait > 1.0 / rate + SLACK:
        # Taking tokens cannot lead here: the clock was set back, or the rate was changed.
        return 0.0
    return wait


def take(full_at: float, rate: float, now: float) -> float:
    """
    Take a token. The bucket must have one.

    :returns: the new time at which the bucket is full.
    """
    most = now + burst(rate) / rate
    return min(max(full_at, now) + 1.0 / rate, most)
