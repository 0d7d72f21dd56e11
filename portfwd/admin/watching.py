# -*- test-case-name: tests.admin.test_watching -*-
"""
The requests that go on: ``top`` and ``tap``. The next line of the client ends them.

A client that is slow misses something, and is told how much. It never waits for anybody, and nobody for it.
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

#: Seconds between two looks at what was tapped: as often as eyes can follow.
TAP_INTERVAL: Final = 0.1
#: Bytes that wait to be sent to who taps; what comes beyond them is missed.
TAP_WAITING: Final = 256 * 1024
#: Bytes of one event of a tap: a line of 22 KiB.
TAP_PIECE: Final = 16 * 1024
#: What ``top`` can sort by, beside what ``sessions`` can.
RATES: Final = ("rate", f"{TO_UPSTREAM.value}-rate", f"{TO_CLIENT.value}-rate")


def top_sorts() -> tuple[str, ...]:
    """Every word that ``top`` sorts by."""
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
        **_of_kernel(tcp_fields(session.tcp_info())),
    }


def _of_kernel(told: dict[str, dict[str, int | None] | None]) -> dict[str, dict[str, int | None]]:
    """Who is slow, in short: the round trip and what was sent again, of both sides."""
    return {
        key: {side: None if info is None else info[key] for side, info in told.items()}
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
    Tell every `interval` seconds of the first `limit` sessions behind `start` others.

    :param count: how often; 0: until the client wants something else.
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
        told = caller.tell(
            {
                "sessions": largest.offered,
                "to_upstream_rate": round(sums[0], 1),
                "to_client_rate": round(sums[1], 1),
                "sort": sort,
                "start": start,
                "rows": [_top_row(*one) for one in largest.taken()],
                "status": caller.operator.status(),
            }
        )
        sent += told
        missed += not told
        if sent == count or await caller.pause(interval):
            return {"looks": sent, "missed": missed}


class _Tapped:
    """What was seen of a session and not sent yet."""

    def __init__(self, limit: int, directions: frozenset[Direction]) -> None:
        self._limit = limit
        self._directions = directions
        self._waiting: deque[tuple[Direction, int, bytes]] = deque()
        self._size = 0
        self.seen = dict.fromkeys(Direction, 0)
        self.missed = 0

    @property
    def full(self) -> bool:
        """Whether so much as was asked for has been seen, both directions together."""
        return sum(self.seen.values()) >= self._limit

    def saw(self, direction: Direction, data: bytes) -> None:
        """One read of the session."""
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
        """Send what the client takes."""
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
        """Whether nothing waits."""
        return not self._waiting


async def watch_bytes(
    caller: Caller, session: LiveSession, limit: int, directions: frozenset[Direction]
) -> dict[str, Any]:
    """Tell of the bytes of `session` until `limit` bytes, of both directions, were seen, or it is over."""
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
