# -*- test-case-name: tests.admin.test_watching -*-
"""
The requests that send events: ``top`` and ``tap``. The next line of the client ends them.

A slow client misses events, and gets the number of missed ones. It does not delay other clients or traffic.
"""

from __future__ import annotations

import base64
from collections import deque
from typing import Any, Final

from portfwd.admin.caller import Caller
from portfwd.admin.operator import LiveSession
from portfwd.admin.picking import SORTS, Largest, Meter, SessionRate, Wanted
from portfwd.logs.fields import address
from portfwd.logs.json_lines import tcp_fields
from portfwd.values import TO_CLIENT, TO_UPSTREAM, Direction, SessionSummary

#: Seconds between two events of a tap: as fast as people can follow.
TAP_INTERVAL: Final = 0.1
#: Maximum tapped bytes that wait to be sent. Further bytes are missed.
TAP_WAITING: Final = 256 * 1024
#: Maximum bytes per event of a tap, whose line has 22 KiB.
TAP_PIECE: Final = 16 * 1024
#: The sort keys of ``top`` in addition to those of ``sessions``.
RATES: Final = ("rate", f"{TO_UPSTREAM.value}-rate", f"{TO_CLIENT.value}-rate")


def top_sorts() -> tuple[str, ...]:
    """All sort keys of ``top``."""
    return (*RATES, *SORTS)


def _key(sort: str, summary: SessionSummary, pace: SessionRate) -> float:
    if sort not in RATES:
        return SORTS[sort](summary)
    rates = {RATES[1]: pace.to_upstream, RATES[2]: pace.to_client}
    return rates.get(sort, pace.to_upstream + pace.to_client)


def _top_row(session: LiveSession, summary: SessionSummary, pace: SessionRate) -> dict[str, Any]:
    return {
        "id": summary.id,
        "rule": summary.rule,
        "client": address(summary.client),
        "upstream": address(summary.upstream),
        "state": session.state.value,
        "duration": round(summary.duration, 3),
        "to_upstream_rate": round(pace.to_upstream, 1),
        "to_client_rate": round(pace.to_client, 1),
        "bytes": summary.to_upstream.bytes + summary.to_client.bytes,
        "bytes_per_call": None if pace.call is None else round(pace.call, 1),
        **_tcp_figures(tcp_fields(session.tcp_info())),
    }


def _tcp_figures(sides: dict[str, dict[str, int | None] | None]) -> dict[str, dict[str, int | None]]:
    """Round-trip time and retransmissions of both sides."""
    return {
        key: {side: None if info is None else info[key] for side, info in sides.items()}
        for key in ("rtt_us", "retransmits")
    }


async def watch_top(
    caller: Caller,
    interval: float,
    sort: str,
    limit: int,
    rule: str | None,
    wanted: Wanted,
    count: int,
    start: int = 0,
) -> dict[str, Any]:
    """
    Send an event every `interval` seconds with `limit` sessions, after skipping the first `start` ones.

    :param count: number of events; 0 to continue until the next request of the client.
    :returns: the numbers of sent and of missed events.
    """
    meter = Meter()
    sent = missed = 0
    while True:
        meter.look(caller.clock.seconds())
        largest = Largest(limit, start)
        sums = [0.0, 0.0]

        def visit(
            session: LiveSession, largest: Largest = largest, sums: list[float] = sums, meter: Meter = meter
        ) -> None:
            summary = wanted.summary_of(session)
            if summary is None:
                return
            pace = meter.pace(summary)
            sums[0] += pace.to_upstream
            sums[1] += pace.to_client
            largest.offer(_key(sort, summary, pace), summary.id, (session, summary, pace))

        await caller.each(caller.operator.sessions(rule), visit)
        rows: list[dict[str, Any]] = []

        def describe(
            one: tuple[LiveSession, SessionSummary, SessionRate], rows: list[dict[str, Any]] = rows
        ) -> None:
            rows.append(_top_row(*one))

        await caller.each(largest.taken(), describe)
        told = caller.tell(
            {
                "sessions": largest.offered,
                "to_upstream_rate": round(sums[0], 1),
                "to_client_rate": round(sums[1], 1),
                "sort": sort,
                "start": start,
                "rows": rows,
                "status": caller.operator.status(),
            }
        )
        sent += told
        missed += not told
        if sent == count or await caller.pause(interval):
            return {"looks": sent, "missed": missed}


class _Tapped:
    """The tapped bytes of a session that are not sent yet."""

    def __init__(self, limit: int, directions: frozenset[Direction]) -> None:
        self._limit = limit
        self._directions = directions
        self._waiting: deque[tuple[Direction, int, bytes]] = deque()
        self._size = 0
        self.seen = dict.fromkeys(Direction, 0)
        self.missed = 0

    @property
    def full(self) -> bool:
        """Whether the requested number of bytes was seen, in both directions together."""
        return sum(self.seen.values()) >= self._limit

    def saw(self, direction: Direction, data: bytes) -> None:
        """Add the bytes of one read of the session."""
        offset = self.seen[direction]
        if direction not in self._directions or self.full:
            return
        data = data[: self._limit - sum(self.seen.values())]
        self.seen[direction] = offset + len(data)
        room = max(0, TAP_WAITING - self._size)
        self.missed += len(data[room:])
        data = data[:room]
        self._size += len(data)
        for start in range(0, len(data), TAP_PIECE):
            self._waiting.append((direction, offset + start, data[start : start + TAP_PIECE]))

    def send(self, caller: Caller) -> None:
        """Send waiting events until the client is slow."""
        while self._waiting:
            direction, offset, data = self._waiting[0]
            event = {
                "direction": direction.value,
                "offset": offset,
                "data": base64.b64encode(data).decode("ascii"),
            }
            if not caller.tell(event):
                return
            self._waiting.popleft()
            self._size -= len(data)

    @property
    def sent(self) -> bool:
        """Whether all events are sent."""
        return not self._waiting


async def watch_bytes(
    caller: Caller, session: LiveSession, limit: int, directions: frozenset[Direction]
) -> dict[str, Any]:
    """Send the bytes of `session` until `limit` bytes, in both directions together, were seen, or it ends."""
    tapped = _Tapped(limit, directions)
    end = caller.operator.tap(session, tapped.saw)
    why = ""
    try:
        while not why:
            interrupted = await caller.pause(TAP_INTERVAL)
            over = session.state.value != "relaying"
            tapped.send(caller)
            if interrupted:
                why = "interrupted"
            elif (tapped.full or over) and tapped.sent:
                why = "closed" if over else "limit"
    finally:
        end()
    seen = {direction.value.replace("-", "_"): count for direction, count in tapped.seen.items()}
    return {"ended": why, "missed": tapped.missed, **seen}
