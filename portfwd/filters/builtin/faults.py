# -*- test-case-name: tests.filters.builtin.test_faults -*-
"""
``filter faults``: makes a good network a bad one, to see what programs do about it.

One clause is one fault; several combine, in the order in which they stand::

    filter faults latency delay=100ms jitter=20ms
    filter faults bandwidth rate=64KiB/s direction=to-client
    filter faults corrupt fraction=0.0001 probability=10% seed=7

==============  ======================  ==========================================================
kind            its options             what happens
==============  ======================  ==========================================================
``latency``     ``delay`` ``jitter``    every chunk comes so much later, in order; the end too
``bandwidth``   ``rate``                no more bytes a second in each direction
``slow-close``  ``delay``               the end comes later than the last byte
``timeout``     ``after``               nothing comes through; closed after that time, 0: never
``reset``       ``after``               the session is reset at that age
``slicer``      ``size`` ``variation``  chunks are cut into pieces, ``delay`` (0) between them
                ``delay``
``limit-data``  ``size``                closed when so many bytes of a direction came through
``limit-time``  ``after``               closed at that age
``corrupt``     ``fraction``            one bit is flipped in so many of the bytes
``refuse``                              reset before an upstream is dialled
``loss``        ``fraction``            so many of the datagrams do not come
``duplicate``   ``fraction``            so many of them come twice
``reorder``     ``fraction`` ``delay``  so many are overtaken by the next, or come after ``delay`` (0.1 s)
==============  ======================  ==========================================================

Those down to ``limit-data`` are after the toxics of toxiproxy. ``timeout``, ``limit-data`` and ``limit-time``
close in order, so that programs that take a truncated stream for a whole one are found; with
``abort=on`` they reset.

Each connection is struck with ``probability``, decided when it opens. Which ones, and every other
chance, follows from ``seed``, the kind and the session's number alone: the tenth connection of a
process suffers the same each time. Two clauses of one kind strike the same connections unless
their seeds differ.

A clause with ``active=off`` waits to be switched on: `FaultFactory.fault` is shared by all
connections of the clause, and what is set there holds for them from the next chunk on. When it is
switched off, what waits because of it goes on at once; a stream that ``timeout`` has cut is reset.

It changes bytes and times for everybody behind the rule, and keeps them from being relayed in the
kernel; it is nothing for a rule that others depend on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from attrs import frozen
from zope.interface import implementer

from portfwd.filters.api import Connection, IFilterFactory, Plugin, RouteClause
from portfwd.filters.builtin.datagram_faults import KINDS as DATAGRAM_KINDS
from portfwd.filters.builtin.fault_clause import Fault, FaultsOptions
from portfwd.filters.builtin.fault_kinds import KINDS as STREAM_KINDS
from portfwd.filters.builtin.fault_kinds import FaultFilter
from portfwd.values import Direction

#: Bytes of each direction of a connection that ``latency`` keeps before reading stops, at the least: about
#: what Linux lets a window grow to (6 MiB, ``net.ipv4.tcp_rmem``).
LATENCY_HOLD: Final = 4 * 1024 * 1024

#: Bytes a second that ``latency`` lets through whatever the delay is: 1 Gbit/s, as a real line of that length
#: does between tuned ends. What is on the way is this times the delay.
LATENCY_RATE: Final = 125_000_000

#: And at the most, however long the delay is: 1 Gbit/s for half a second.
LATENCY_MOST: Final = 64 * 1024 * 1024

#: Every kind, by the word in a rules file.
KINDS: Final = {**STREAM_KINDS, **DATAGRAM_KINDS}


@implementer(IFilterFactory)
@frozen(eq=False)
class FaultFactory:
    """
    One clause.

    :ivar fault: for whoever switches it.
    """

    fault: Fault
    directions: frozenset[Direction]
    routes: bool = False
    hold_timeout: float | None = None
    on_timeout: str = "close"
    on_error: str = "close"

    @property
    def max_hold(self) -> int:
        """As much as a delay keeps on the way, for connections that begin now."""
        options = self.fault.options
        if options.kind != "latency":
            # Paced streams are read on when all has gone that was delayed: then no time has to be guessed.
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
