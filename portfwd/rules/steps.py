# -*- test-case-name: tests.rules.test_steps -*-
"""
Work that may be interrupted: a generator that yields wherever others may have their turn.

A file with ten thousand rules takes a second to read. At a start nobody waits;
a reload reads it while traffic goes on, so whoever runs the steps stops
between two of them. It refuses to know what time it is: `portfwd.service.daemon.slices` does.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar

T = TypeVar("T")

#: Yields nothing, many times, and returns the result. A step should take well under a millisecond.
Steps = Generator[None, None, T]


def finish(steps: Steps[T]) -> T:
    """
    Do all of it now.

    :raises Exception: whatever the work raises.
    """
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
