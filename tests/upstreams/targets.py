"""Targets of pools, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from portfwd.limits.occupancy import TargetOccupancy
from portfwd.rules.model import Options
from portfwd.upstreams.health import Health
from portfwd.upstreams.pool import Member, Order, Pool


def member(label: str, checks: Sequence[str] = (), **options: Any) -> Member:
    """A target with a health of its own."""
    return Member(label, label, label, Options(**options), Health(label, checks), TargetOccupancy())


def pool(members: Sequence[Member], draws: Sequence[float] = (0.5,), **options: Any) -> Pool:
    """A pool of `members`; its random numbers are `draws`, again and again."""
    numbers = iter(list(draws) * 10_000)
    return Pool(members, Options(**options), lambda: next(numbers))


def session(pool: Pool, client: str = "", now: float = 0.0) -> str:
    """The target of a new session, which stays; empty for none."""
    chosen = Order(pool, client).next(now)
    if chosen is None:
        return ""
    assert isinstance(chosen.load, TargetOccupancy)
    chosen.load.take()
    return chosen.label


def every(pool: Pool, client: str = "", now: float = 0.0) -> list[str]:
    """The targets that one session tries if none can be reached."""
    order, found = Order(pool, client), []
    while (chosen := order.next(now)) is not None:
        found.append(chosen.label)
    return found
