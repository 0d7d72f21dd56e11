# -*- test-case-name: tests.filters.chain.test_long_verdicts -*-
"""
A verdict with more steps than others should wait for, and how far it has got.

A filter may answer a read of 64 KiB with a list of as many items, and each costs some microseconds. So a
chain does `MOST_STEPS` of them and asks to be called again (`portfwd.filters.chain.effects.GoOn`). Nothing is
shown to a filter meanwhile, so nothing overtakes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from attrs import define, field

from portfwd.filters.chain.link import Link
from portfwd.filters.verdicts import Step

#: Steps of verdicts, and bytes that enter a filter, in one turn: with their effects some 3 ms.
MOST_STEPS: Final = 256


@define(eq=False)
class UnderWay:
    """
    The verdict of one call.

    :ivar link: the filter, and the direction of the bytes that were judged.
    :ivar steps: those that are left.
    :ivar data: the bytes; None: there were none.
    :ivar both: an `Await` stops both directions.
    :ivar replies: how many replies led to the bytes.
    :ivar again: some of them were held for the filter before.
    :ivar long: it is done in parts.
    :ivar released: delays were cut short.
    :ivar ends: directions that the filter ends.
    """

    link: Link
    steps: Iterator[Step]
    data: bytes | None
    both: bool = False
    replies: int = 0
    again: bool = False
    long: bool = False
    released: bool = False
    ends: list[Link] = field(factory=list)
