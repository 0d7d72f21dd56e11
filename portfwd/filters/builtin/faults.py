# -*- test-case-name: tests.filters.builtin.test_faults -*-
"""
``filter faults``: simulates a bad network to test programs.

A clause is one fault. Several clauses combine in their order::

    filter faults latency delay=100ms jitter=20ms
    filter faults bandwidth rate=64KiB/s direction=to-client
    filter faults corrupt fraction=0.0001 probability=10% seed=7

==============  ======================  ==========================================================
kind            its options             effect
==============  ======================  ==========================================================
``latency``     ``delay`` ``jitter``    delays every chunk and the end, in order
``bandwidth``   ``rate``                limits the bytes a second of each direction; 0: holds all
``slow-close``  ``delay``               delays the end after the last byte
``timeout``     ``after``               drops all bytes; closes after that time, 0: never
``reset``       ``after``               drops all bytes; resets the session at that age
``slicer``      ``size`` ``variation``  cuts chunks into pieces, with ``delay`` (0) between them
                ``delay``
``limit-data``  ``size``                closes after that many bytes of a direction
``noop``                                nothing
``limit-time``  ``after``               closes the session at that age
``corrupt``     ``fraction``            flips one bit in that fraction of the bytes
``refuse``                              resets before the dial
``loss``        ``fraction``            drops that fraction of the datagrams
``duplicate``   ``fraction``            sends that fraction of them twice
``reorder``     ``fraction`` ``delay``  lets the next one overtake, or delays by ``delay`` (0.1 s)
==============  ======================  ==========================================================

The kinds down to ``noop`` are the toxics of toxiproxy. ``timeout``, ``limit-data`` and ``limit-time``
close in order, to find programs that accept a truncated stream as complete. With ``abort=on`` they reset,
and ``limit-time`` then lets bytes pass until the reset.

A connection is affected with ``probability``, which is decided when it opens. All random decisions depend
only on ``seed``, the kind and the number of the session, so the tenth connection of a process is treated
equally each time. Two clauses of one kind affect the same connections unless their seeds differ.

A clause with ``active=off`` is switched on later: all connections of the clause share `FaultFactory.fault`,
and changes take effect with the next chunk. If a fault is switched off, bytes that wait because of it are
sent at once. A stream that ``timeout`` or ``reset`` has cut is reset.

The filter affects all connections of the rule, and prevents relaying in the kernel. Do not use it in
production.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from attrs import frozen
from zope.interface import implementer

from portfwd.filters.api import Connection, IFilterFactory, Plugin, RouteClause
from portfwd.filters.builtin.datagram_faults import KINDS as DATAGRAM_KINDS
from portfwd.filters.builtin.fault_clause import Fault, FaultsOptions
from portfwd.filters.builtin.fault_filter import FaultFilter
from portfwd.filters.builtin.fault_kinds import KINDS as STREAM_KINDS
from portfwd.values import Direction

#: Least bytes of each direction that ``latency`` may keep before reading stops: about the largest window of
#: Linux (6 MiB, ``net.ipv4.tcp_rmem``).
LATENCY_HOLD: Final = 4 * 1024 * 1024

#: Bytes a second that ``latency`` passes regardless of the delay: 1 Gbit/s. The kept bytes are this times the
#: delay.
LATENCY_RATE: Final = 125_000_000

#: Most bytes that ``latency`` may keep: 1 Gbit/s for half a second.
LATENCY_MOST: Final = 64 * 1024 * 1024

#: Every kind, by the word in a rules file.
KINDS: Final = {**STREAM_KINDS, **DATAGRAM_KINDS}


@implementer(IFilterFactory)
@frozen(eq=False)
class FaultFactory:
    """
    One clause.

    :ivar fault: its state, which operators can switch.
    """

    fault: Fault
    directions: frozenset[Direction]
    routes: bool = False
    hold_timeout: float | None = None
    on_timeout: str = "close"
    on_error: str = "close"

    @property
    def max_hold(self) -> int:
        """The bytes that the delay may keep, for new connections."""
        options = self.fault.options
        if options.kind != "latency":
            # Paced streams are read again when all delayed bytes were sent, so no time must be estimated.
            return 0
        longest = (options.delay or 0.0) + (options.jitter or 0.0)
        return min(max(LATENCY_HOLD, int(longest * LATENCY_RATE)), LATENCY_MOST)

    def build(self, connection: Connection) -> FaultFilter | None:
        """See `IFilterFactory`."""
        return KINDS[self.fault.kind](self.fault, connection) if self.fault.strikes(connection) else None


def make_factory(options: FaultsOptions, clauses: Sequence[RouteClause]) -> FaultFactory:
    """A factory for one clause."""
    fault = Fault(options)
    return FaultFactory(fault, fault.directions)


PLUGIN = Plugin("faults", "latency, resets and other troubles, to test with", FaultsOptions, make_factory)
