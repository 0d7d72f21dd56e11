# -*- test-case-name: tests.service.test_garbage -*-
"""
Python's garbage collector, and the thousands of objects that a rules file becomes.

They stay as long as the process. While they are made the collector looks through all of
them again and again and finds nothing: with ten thousand rules that is a third of the start.
Later each of its full rounds would, for a quarter of a second in which no byte is relayed. So
it is off while they are made, and what is there then is taken out of its sight.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def kept() -> Iterator[None]:
    """
    What is made within stays: it is not looked through, neither meanwhile nor later.

    A context manager and a decorator. Memory is still given back when the last reference goes.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_on:
            gc.enable()
