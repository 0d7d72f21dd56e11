# -*- test-case-name: tests.service.test_garbage -*-
"""
Python's cyclic garbage collector, kept from stopping traffic for the sake of many rules.

Ten thousand rules are half a million objects. A full collection looks at all
of them, in one go: a tenth of a second or more in which nothing is relayed, and
to make so many objects provokes several. So while rules are made the
collector waits, and what they are made of is then put out of its sight
(``gc.freeze``): reference counts free it when a reload replaces it, as it has no
cycles. This changes the whole process, so it is for a process of our own; it
refuses to decide that a program that embeds a forwarder wants it.
"""

from __future__ import annotations

import gc
from typing import Protocol


class Collector(Protocol):
    """What a forwarder asks of it."""

    def hold(self) -> None:
        """Very many objects are going to be made."""

    def release(self) -> None:
        """They are made, and will stay."""


class AsPythonHasIt:
    """The collector of a program that is not ours."""

    def hold(self) -> None:
        """Leave it alone."""

    def release(self) -> None:
        """Likewise."""


class OutOfSight:
    """The collector of our own process."""

    def hold(self) -> None:
        """Let it wait."""
        gc.disable()

    def release(self) -> None:
        """Take all that is there out of its sight, and let it work on what comes."""
        gc.freeze()
        gc.enable()
