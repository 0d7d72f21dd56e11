# -*- test-case-name: tests.service.daemon.test_garbage -*-
"""
Python's garbage collector, and the thousands of objects that a rules file becomes.

Rules stay for as long as they are at work. While they are made, the collector looks through all of them
again and again and finds nothing: with ten thousand rules that takes a third of the start. Later each of its
full rounds would stop traffic for a quarter of a second. So the collector is off while rules are made, and
if there are many objects then, they are frozen: its rounds leave them out.

Frozen objects are freed with their last reference, but a cycle of them is never found. Sessions of ours end
without cycles. Those of libraries and plug-ins need not: so a reload of few rules freezes nothing.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

#: Objects that the collector may look through in a full round: it takes 20 to 40 ms for so many, and traffic
#: waits for it. The modules of a start are some 60 000; a rule is some 40.
MOST_SEEN: Final = 50_000


@contextmanager
def kept() -> Iterator[None]:
    """
    Turn the collector off, and freeze what there is at the end if that is more than `MOST_SEEN`.

    A context manager and a decorator, for whoever makes rules.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if len(gc.get_objects()) > MOST_SEEN:
            gc.freeze()
        if was_on:
            gc.enable()
