# -*- test-case-name: tests.rules.test_steps -*-
"""
Work in steps: a generator that yields where its work may be interrupted.

A file with ten thousand rules takes a second to read. A reload reads it while sessions run, so
`portfwd.service.daemon.slices` runs the steps with pauses between them. A start runs them at once.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar

T = TypeVar("T")

#: Yields None after each step and returns the result. A step should take less than a millisecond.
Steps = Generator[None, None, T]


def finish(steps: Steps[T]) -> T:
    """
    Run all steps now and return the result.

    :raises Exception: any exception of the work.
    """
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
