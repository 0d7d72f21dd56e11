# -*- test-case-name: tests.limits.test_source_counts -*-
"""
Sessions and rates of client addresses.

The process has one table, so one bound on its size holds for all rules. An address without a session whose
bucket is full again is removed. If more than `MAX_SOURCES` addresses without a session are left, the least
recently seen ones are removed, even if their buckets are not full. A flood of addresses thus loses the memory
of some rates, but does not take more memory. Addresses with sessions are never removed; the number of
descriptors bounds them.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from typing import Final

from portfwd.limits import rates
from portfwd.values import Address, InetAddress, unmapped

#: Addresses without a session that the table keeps, of all rules together. Each takes about 250 bytes, so 25
#: MB at most.
MAX_SOURCES: Final = 100_000

#: Old entries examined for each new one. More than one, so that a table full of removable entries shrinks.
LOOKS: Final = 4

#: RFC 4291 section 2.5.1: an interface identifier has 64 bits, and the owner of a network can use all of
#: them. RFC 6177 expects a site to get at least a /64.
IPV6_PREFIX: Final = 64


def source_of(address: Address | None) -> str:
    """
    The source of a client as limits count it; empty for clients without an IP address (unix sockets).

    For IPv4 it is the address, also if the socket shows it in IPv6's form. For IPv6 it is the /64, except on
    the link-local network, which all neighbours share; there it is the address.
    """
    if not isinstance(address, InetAddress):
        return ""
    host = unmapped(address.host)
    if ":" not in host:
        return host
    literal, _, zone = host.partition("%")
    try:
        there = ipaddress.IPv6Address(literal)
    except ValueError:  # a client address that a filter announced
        return host
    if there.is_link_local:
        return f"{there}%{zone}"
    return str(ipaddress.IPv6Address(int(there) >> IPV6_PREFIX << IPV6_PREFIX))


class _Source:
    """The counts of one address at one door."""

    __slots__ = ("count", "full_at")

    def __init__(self) -> None:
        self.count = 0
        self.full_at = 0.0


class SourceCounts:
    """
    The table.

    A `door` names the limit: the name of a rule, or empty for the limits of all rules.

    :ivar forgotten: number of addresses removed before their bucket was full again.
    """

    __slots__ = ("_known", "_most", "forgotten")

    def __init__(self, most: int = MAX_SOURCES) -> None:
        """:param most: number of addresses without a session to keep."""
        # In the order of last use. A plain dict would scan all removed entries at its start on each access to
        # its first one.
        self._known: OrderedDict[tuple[str, str], _Source] = OrderedDict()
        self._most = most
        self.forgotten = 0

    def __repr__(self) -> str:
        return f"<SourceCounts {len(self._known)} known, {self.forgotten} forgotten>"

    def __len__(self) -> int:
        """Number of addresses in the table."""
        return len(self._known)

    def count(self, door: str, source: str) -> int:
        """Number of sessions of `source` at `door`."""
        known = self._known.get((door, source))
        return 0 if known is None else known.count

    def delay(self, door: str, source: str, rate: float, now: float) -> float:
        """Seconds until the rate admits `source`; 0.0 if it does now."""
        known = self._known.get((door, source))
        return 0.0 if known is None else rates.delay(known.full_at, rate, now)

    def enter(self, door: str, source: str, rate: float | None, now: float) -> None:
        """Count one more session of `source`. With a `rate` it takes a token."""
        key = (door, source)
        known = self._known.get(key)
        if known is None:
            self._forget(now)
            known = self._known[key] = _Source()
        else:
            self._known.move_to_end(key)
        known.count += 1
        if rate is not None:
            known.full_at = rates.take(known.full_at, rate, now)

    def leave(self, door: str, source: str, now: float) -> None:
        """Count one session of `source` less."""
        key = (door, source)
        known = self._known[key]
        known.count -= 1
        if not known.count and known.full_at <= now:
            del self._known[key]

    def _forget(self, now: float) -> None:
        known = self._known
        for _ in range(LOOKS):
            if not known:
                return
            key = next(iter(known))
            oldest = known[key]
            if oldest.count:
                # It must stay. Move it to the end, so that it does not block the others.
                known.move_to_end(key)
            elif oldest.full_at <= now:
                del known[key]
            elif len(known) >= self._most:
                del known[key]
                self.forgotten += 1
            else:
                return
