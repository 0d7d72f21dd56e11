# -*- test-case-name: tests.testing.test_started -*-
"""Start a factory for a test, as a rule does."""

from __future__ import annotations

from typing import Any, TypeVar

from twisted.internet.interfaces import IReactorTime
from twisted.internet.testing import MemoryReactorClock

from portfwd.filters.services import Services
from portfwd.testing.outcome import Notes

F = TypeVar("F")


def started(factory: F, clock: IReactorTime | None = None) -> F:
    """
    Call the factory's ``start``, if it has one, and return the factory.

    >>> from portfwd.filters import FilterFactory
    >>> started(FilterFactory()).directions == FilterFactory.directions
    True

    :param clock: reactor and clock of its services, such as `twisted.internet.task.Clock`. None: a reactor in
        memory, whose time stands still.
    """
    start: Any = getattr(factory, "start", None)
    if start is not None:
        reactor: Any = MemoryReactorClock() if clock is None else clock
        start(Services(reactor, reactor, Notes(), "test", type(factory).__name__))
    return factory
