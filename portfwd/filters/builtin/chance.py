# -*- test-case-name: tests.filters.builtin.test_chance -*-
"""
A small reproducible generator of pseudo-random numbers.

It is splitmix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014, figure
17): one addition and three multiply-and-shift steps over 64 bits. The same seed gives the same numbers on
every platform and with every version of Python, so a fault that a test has found can be repeated.

Do not use it for secrets: one number reveals all later ones.
"""

from __future__ import annotations

from math import log1p
from typing import Final

_MASK: Final = 2**64 - 1
#: The increment: 2**64 divided by the golden ratio, made odd.
_GAMMA: Final = 0x9E3779B97F4A7C15
#: 2**-53: a double has 53 bits of mantissa, so 53 random bits fill [0, 1) evenly.
_UNIT: Final = 2.0**-53


def _mixed(number: int) -> int:
    """Mix the 64 bits of `number`, so each of them affects all."""
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & _MASK
    return number ^ (number >> 31)


def make_seed(*parts: int | str) -> int:
    """Combine several parts to one seed. Similar parts give very different seeds."""
    seed = 0
    for part in parts:
        # Kind and length precede each part, so different sequences of parts never give the same bytes.
        text = str(part).encode("utf-8", "replace")
        data = f"{type(part).__name__} {len(text)} ".encode() + text
        for start in range(0, len(data), 8):
            seed = _mixed(((seed ^ int.from_bytes(data[start : start + 8])) + _GAMMA) & _MASK)
    return seed


class Chance:
    """
    A sequence of pseudo-random numbers.

    :ivar seed: its seed.
    """

    __slots__ = ("_state", "seed")

    def __init__(self, seed: int) -> None:
        """:param seed: any number; only its low 64 bits are used."""
        self.seed = seed & _MASK
        self._state = self.seed

    def __repr__(self) -> str:
        return f"<Chance seed={self.seed}>"

    def bits(self) -> int:
        """The next number: 64 bits."""
        self._state = (self._state + _GAMMA) & _MASK
        return _mixed(self._state)

    def unit(self) -> float:
        """A number from 0, included, to 1, excluded."""
        return (self.bits() >> 11) * _UNIT

    def happens(self, probability: float) -> bool:
        """True with this probability: never for 0, always for 1."""
        return self.unit() < probability

    def between(self, low: float, high: float) -> float:
        """A number from `low` to `high`."""
        return low + (high - low) * self.unit()

    def whole(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`, both included."""
        return low + int((high - low + 1) * self.unit())

    def misses(self, probability: float) -> int:
        """
        The number of failures before the first success of an event with this probability.

        It uses one random number, by inversion of the geometric distribution.

        :param probability: above 0, up to 1.
        """
        if probability >= 1:
            return 0
        # It need not be exact if it exceeds the bytes of any connection.
        return int(min(log1p(-self.unit()) / log1p(-probability), 2.0**63))
