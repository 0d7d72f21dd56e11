# -*- test-case-name: tests.admin.test_picking -*-
"""
Selects and sorts sessions for requests, and computes their rates.

While all sessions are processed, only the requested number of them is kept.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from typing import Any, Final

from attrs import frozen

from portfwd.admin.operator import LiveSession, OperatorError
from portfwd.rules.access import AccessList, check_pattern
from portfwd.rules.model import AclEntry
from portfwd.values import TO_CLIENT, TO_UPSTREAM, InetAddress, SessionSummary, UnixAddress

#: The keys of ``sort=``. The largest values come first, except for ``id``.
SORTS: Final[Mapping[str, Callable[[SessionSummary], float]]] = {
    "id": lambda one: -one.id,
    "age": lambda one: one.duration,
    "bytes": lambda one: one.to_upstream.bytes + one.to_client.bytes,
    TO_UPSTREAM.value: lambda one: one.to_upstream.bytes,
    TO_CLIENT.value: lambda one: one.to_client.bytes,
    "paused": lambda one: one.to_upstream.paused + one.to_client.paused,
}

#: Bits of a byte count: more than any session needs.
_BITS: Final = 64
_MASK: Final = (1 << _BITS) - 1


class Wanted:
    """A filter of sessions by client and state. The caller selects them by rule, which is faster."""

    def __init__(self, client: str | None = None, state: str | None = None) -> None:
        """
        :param client: a pattern of ``allow``, or ``unix`` for clients of unix sockets.
        :raises OperatorError: the pattern is not valid.
        """
        self._state = state
        self._unix = client == "unix"
        self._access: AccessList | None = None
        if client is not None and not self._unix:
            wrong = check_pattern(client)
            if wrong is not None:
                raise OperatorError("bad-request", wrong)
            self._access = AccessList((AclEntry(True, client),))

    def __repr__(self) -> str:
        return f"<Wanted {'unix' if self._unix else self._access or 'every client'} {self._state or ''}>"

    def __contains__(self, session: LiveSession) -> bool:
        return self.summary_of(session) is not None

    def summary_of(self, session: LiveSession) -> SessionSummary | None:
        """The summary of the session; None if it does not match or is closed."""
        state = session.state.value
        if state == "closed" or (self._state is not None and state != self._state):
            return None
        summary = session.summary()
        client = summary.client
        if self._unix:
            return summary if isinstance(client, UnixAddress) else None
        if self._access is not None:
            known = isinstance(client, InetAddress) and self._access.decide(client.host).allowed
            return summary if known else None
        return summary


class Largest:
    """
    A page of all offered objects, sorted by their keys, the largest first.

    Each object takes a few microseconds. There is no step that sorts all objects at once.
    """

    def __init__(self, limit: int, start: int = 0) -> None:
        """
        :param limit: number of objects on the page.
        :param start: number of objects before the page.
        """
        self._start = start
        self._most = start + limit
        self._heap: list[tuple[float, int, Any]] = []
        self.offered = 0

    def __repr__(self) -> str:
        return f"<Largest {len(self._heap)} of {self.offered}>"

    def offer(self, key: float, number: int, thing: Any) -> None:
        """:param number: a unique number. Of equal keys the smallest number comes first."""
        self.offered += 1
        item = (key, -number, thing)
        if len(self._heap) < self._most:
            heapq.heappush(self._heap, item)
        else:
            heapq.heappushpop(self._heap, item)

    def taken(self) -> list[Any]:
        """
        The page, the largest first. Call it once, because it empties the heap.

        The page has the smallest objects of the heap.
        """
        page = [heapq.heappop(self._heap)[2] for _ in range(len(self._heap) - self._start)]
        page.reverse()
        return page


@frozen
class SessionRate:
    """
    The rates of a session.

    :ivar to_upstream: bytes per second from the client.
    :ivar to_client: bytes per second from the upstream.
    :ivar call: bytes per system call; None without calls.
    """

    to_upstream: float
    to_client: float
    call: float | None


class Meter:
    """Computes the rates of sessions between two samples."""

    def __init__(self) -> None:
        # Three counts in one integer. With a tuple for each of 10 000 sessions in each sample, the garbage
        # collector would scan all objects of the process every few seconds.
        self._before: dict[int, int] = {}
        self._now: dict[int, int] = {}
        self._looked_at: float | None = None
        self._seconds: float | None = None

    def __repr__(self) -> str:
        return f"<Meter {len(self._now)}>"

    def look(self, now: float) -> None:
        """Start a new sample of all sessions."""
        self._seconds = None if self._looked_at is None else max(now - self._looked_at, 1e-6)
        self._looked_at = now
        self._before, self._now = self._now, {}

    def pace(self, summary: SessionSummary) -> SessionRate:
        """The rates of a session since the previous sample, or since its opening if there was none."""
        up, down = summary.to_upstream, summary.to_client
        calls = up.reads + up.writes + down.reads + down.writes
        now = (calls << 2 * _BITS) | (down.bytes << _BITS) | up.bytes
        self._now[summary.id] = now
        before = self._before.get(summary.id, 0)
        seconds = max(summary.duration, 1e-6) if self._seconds is None else self._seconds
        sent = up.bytes - (before & _MASK)
        received = down.bytes - (before >> _BITS & _MASK)
        calls -= before >> 2 * _BITS
        per_call = (sent + received) / calls if calls > 0 else None
        return SessionRate(sent / seconds, received / seconds, per_call)
