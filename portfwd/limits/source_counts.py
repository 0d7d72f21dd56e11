# -*- test-case-name: tests.limits.test_source_counts -*-
"""
What is known of the addresses that clients come from: how many sessions each has, and how fast it comes.

One table for the process, so that one bound holds for all rules. An address that
has no session and whose bucket is full again is as good as unknown, and forgotten; beyond
`MAX_SOURCES` those go that were seen least recently and have no session, whether
their bucket is full or not: a flood of addresses costs them their memory of a rate, and
this process no more of its own. Addresses with sessions are never forgotten; descriptors
bound those.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from typing import Final

from portfwd.limits import rates
from portfwd.values import Address, InetAddress, unmapped

#: Addresses without a session that are remembered, of all rules together: with Python's objects some
#: 250 bytes each, so 25 MB at the most.
MAX_SOURCES: Final = 100_000

#: Entries looked at for each new one: more than one, so that a table full of what can be forgotten shrinks.
LOOKS: Final = 4

#: RFC 4291 section 2.5.1: the interface's half of an address is 64 bits, and whoever has a network has
#: all of them; RFC 6177 expects a site to get a /64 at the least.
IPV6_PREFIX: Final = 64


def source_of(address: Address | None) -> str:
    """
    Where a client comes from, as limits count it; empty for one that has no such place (unix sockets).

    An IPv4 client is its address, however the socket shows it. An IPv6 client is its /64,
    but on the link-local network, which all neighbours share, its address.
    """
    if not isinstance(address, InetAddress):
        return ""
    host = unmapped(address.host)
    if ":" not in host:
        return host
    literal, _, zone = host.partition("%")
    try:
        there = ipaddress.IPv6Address(literal)
    except ValueError:  # what a filter announced as a client
        return host
    if there.is_link_local:
        return f"{there}%{zone}"
    return str(ipaddress.IPv6Address(int(there) >> IPV6_PREFIX << IPV6_PREFIX))


class _Source:
    """One address at one door."""

    __slots__ = ("count", "full_at")

    def __init__(self) -> None:
        self.count = 0
        self.full_at = 0.0


class SourceCounts:
    """
    The table.

    A `door` is whoever's limit it is, a rule's name or empty for the limits of all rules.

    :ivar forgotten: addresses that were forgotten before their bucket was full again.
    """

    __slots__ = ("_known", "_most", "forgotten")

    def __init__(self, most: int = MAX_SOURCES) -> None:
        """:param most: addresses without a session that are remembered."""
        # In the order in which they were seen last. A plain dict would look past all those that it has
        # lost at its beginning whenever it is asked for its first.
        self._known: OrderedDict[tuple[str, str], _Source] = OrderedDict()
        self._most = most
        self.forgotten = 0

    def __repr__(self) -> str:
        return f"<SourceCounts {len(self._known)} known, {self.forgotten} forgotten>"

    def __len__(self) -> int:
        """How many are remembered."""
        return len(self._known)

    def count(self, door: str, source: str) -> int:
        """Sessions that `source` has there."""
        known = self._known.get((door, source))
        return 0 if known is None else known.count

    def delay(self, door: str, source: str, rate: float, now: float) -> float:
        """Seconds until `source` may come; 0.0: it may."""
        known = self._known.get((door, source))
        return 0.0 if known is None else rates.delay(known.full_at, rate, now)

    def enter(self, door: str, source: str, rate: float | None, now: float) -> None:
        """`source` has a session more; with a `rate` it costs a token."""
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
        """One of its sessions is over."""
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
                # It cannot go. Behind the others, so that it does not stand before them.
                known.move_to_end(key)
            elif oldest.full_at <= now:
                del known[key]
            elif len(known) >= self._most:
                del known[key]
                self.forgotten += 1
            else:
                return
