# -*- test-case-name: tests.service.daemon.test_garbage -*-
"""
Python's garbage collector, and the thousands of objects that a rules file becomes.

Rules stay for as long as they are at work. While they are made, the collector looks through all of them
again and again and finds nothing: with ten thousand rules that takes a third of the start. Later each of its
full rounds would stop traffic for a quarter of a second. So the collector is off while rules are made, and
if there are many rules then, all objects are frozen: its rounds leave them out.

Frozen objects are freed with their last reference, but a cycle of them is never found. Sessions of ours end
without cycles. Those of libraries and plug-ins need not: so a reload of few rules freezes nothing.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Final

#: Is entered while rules are made, with a function that counts the rules at work: `kept` or `as_usual`.
Making = Callable[[Callable[[], float]], AbstractContextManager[None]]

#: Rules whose objects the collector may look through in a full round, while traffic waits: a rule is some 40
#: objects, and 50 000 of them take 20 to 40 ms.
MOST_SEEN: Final = 1000


def any_number() -> float:
    """More rules than `MOST_SEEN`: a start freezes everything, since its modules alone are 60 000 objects."""
    return math.inf


@contextmanager
def kept(rules: Callable[[], float] = any_number) -> Iterator[None]:
    """
    Turn the collector off, and freeze everything at the end if there are more than `MOST_SEEN` rules.

    A context manager and a decorator, for whoever makes rules.

    :param rules: how many rules are at work; asked at the end. The rules are counted because a count of the
        objects takes 50 ms with 10 000 rules.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if rules() > MOST_SEEN:
            gc.freeze()
        if was_on:
            gc.enable()


def as_usual(rules: Callable[[], float]) -> AbstractContextManager[None]:
    """Leave the collector alone: for a forwarder inside another program."""
    return nullcontext()
