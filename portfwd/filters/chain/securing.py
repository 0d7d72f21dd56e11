# -*- test-case-name: tests.filters.chain.test_securing -*-
"""
Begins TLS in the middle of a connection.

A filter decides when (`portfwd.filters.api.StartTLS`). Bytes that its side has sent after the request may be
in the links already and belong to TLS; this module collects them. Nothing is read from either side until the
relay calls `secured`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from portfwd.filters.api import Connection, StartTLS
from portfwd.filters.chain.effects import Effect, Secure
from portfwd.filters.chain.link import Link, Stage
from portfwd.filters.chain.passage import Passage
from portfwd.values import TO_CLIENT, TO_UPSTREAM, Direction, Side, TLSInfo


class Securing(Passage):
    """The links of a chain in which TLS can begin."""

    def __init__(self, stages: Iterable[Stage], connection: Connection, *, datagrams: bool) -> None:
        super().__init__(stages, datagrams=datagrams)
        self._connection = connection
        self._secured: set[Side] = set()

    def _done(self) -> list[Effect]:
        """Process the queue and return the effects."""
        raise NotImplementedError

    def secured(self, side: Side, tls: TLSInfo | None = None) -> list[Effect]:
        """The handshake of `Secure` has succeeded with the result `tls`."""
        if self.finished:
            return []
        if side is Side.CLIENT:
            self._know(tls=tls)
        for direction in (TO_UPSTREAM, TO_CLIENT):
            self._go(direction)
        return self._done()

    def _know(self, **values: object) -> None:
        """Set attributes of the connection, and of the connection of each filter."""
        for connection in (self._connection, *(stage.connection for stage in self._stages)):
            for name, value in values.items():
                setattr(connection, name, value)

    def _check_start_tls(self, stage: Stage, item: StartTLS) -> None:
        side = item.side
        if side not in getattr(stage.factory, "starts_tls", {}):
            raise ValueError(f"StartTLS for the {side.value} needs options of TLS: say them in starts_tls")
        if side in self._secured or (side is Side.CLIENT and self._connection.tls is not None):
            raise ValueError(f"StartTLS came though the {side.value} speaks TLS already")
        if side is Side.UPSTREAM and not self._connected:
            raise ValueError("StartTLS came before the upstream was connected")
        if any(link.keeps for link in self._nearer(stage, side)[:-1]):
            raise ValueError("StartTLS came while a filter that is nearer that side keeps bytes of it")

    def _nearer(self, stage: Stage, side: Side) -> list[Link]:
        """The links that bytes of `side` pass, up to and including that of `stage`."""
        links, mine = self._links[side.sends], stage.up if side is Side.CLIENT else stage.down
        return links[: links.index(mine) + 1]

    def _start_tls(self, stage: Stage, item: StartTLS) -> None:
        """Begin TLS. Bytes of that side that the filter has not seen belong to it."""
        links = self._nearer(stage, item.side)
        mine = links[-1]
        pieces = [mine.take() if mine.held else b"", item.rest]
        pieces += [data for link, data, _ in self._jobs if link in links and data is not None]
        pieces += [data for data in mine.waiting if data is not None]
        others = [job for job in self._jobs if job[0] not in links or job[1] is None]
        self._jobs.clear()
        self._jobs.extend(others)
        mine.waiting = deque(data for data in mine.waiting if data is None)
        self._secured.add(item.side)
        for direction in Direction:
            self._stop(direction)
        rest = b"".join(pieces)
        self._effects.append(Secure(item.side, stage.factory, rest, item.server_name, stage.name))
