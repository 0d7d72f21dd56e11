# -*- test-case-name: tests.limits.test_rates -*-
"""
A token bucket that is one number.

The bucket of a rate holds a second's worth of tokens, one at least, and fills
as time goes by. Instead of the tokens and when they were counted, it keeps when
it would be full: the virtual scheduling form of the same algorithm (ITU-T
I.371, annex A). So a rate can change while the bucket stays, and a bucket
whose moment has passed is as good as none.
"""

from __future__ import annotations

from typing import Final

#: Seconds by which sums of seconds may be wrong; a timer must not find a token missing by less.
SLACK: Final = 1e-6


def burst(rate: float) -> float:
    """Tokens that a bucket of `rate` tokens a second holds: how many may be had at once."""
    return max(1.0, rate)


def delay(full_at: float, rate: float, now: float) -> float:
    """
    Seconds until there is a token; 0.0 where there is one.

    :param full_at: when the bucket is full.
    :param rate: tokens a second.
    """
    wait = full_at - now - (burst(rate) - 1.0) / rate
    if wait <= SLACK:
        return 0.0
    if wait > 1.0 / rate + SLACK:
        # No taking leads there: the clock was set back, or the rate was another one.
        return 0.0
    return wait


def take(full_at: float, rate: float, now: float) -> float:
    """
    Take a token, which must be there.

    :returns: when the bucket is full from here on.
    """
    most = now + burst(rate) / rate
    return min(max(full_at, now) + 1.0 / rate, most)
