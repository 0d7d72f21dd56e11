# -*- test-case-name: tests.filters.builtin.test_toxic_slots -*-
"""
Toxics that come, change and go while connections last.

The chain of a connection is made when it opens, so each connection of a proxy has a bounded number of
filters that do nothing: slots. A toxic takes a slot in all connections, those that are open included, and
behaves there as a filter of ``filter faults``. When it is removed, what waited because of it goes on at once.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Any, Final

from attrs import define, evolve, field, frozen
from zope.interface import implementer

from portfwd.filters.api import DONE, Connection, Filter, IFilterFactory, Verdict, Wake
from portfwd.filters.builtin.fault_clause import Fault
from portfwd.filters.builtin.fault_filter import FaultFilter
from portfwd.filters.builtin.faults import KINDS
from portfwd.filters.builtin.toxics import FOR_DATAGRAMS, BadToxic, Toxic
from portfwd.values import TO_CLIENT, Direction, SessionSummary

#: Slots for latency: what is on the way is kept, up to `LATENCY_HOLD` bytes a direction.
LATENCY_SLOTS: Final = 4
#: Slots for all else.
OTHER_SLOTS: Final = 8
#: Bytes of each direction that a latency keeps on the way: as much as toxiproxy's 1024 chunks of 32 KiB.
LATENCY_HOLD: Final = 32 * 1024 * 1024


class _Change(enum.Enum):
    """Why a filter is woken: another toxic has its slot, or the same one has other options."""

    EXCHANGED = "exchanged"
    CHANGED = "changed"


@frozen
class _Tagged:
    """The token of a `Wake` of the toxic that had the slot then."""

    turn: int
    token: object


class SlotFilter(Filter):
    """One slot of one connection."""

    def __init__(self, slot: ToxicSlot, connection: Connection) -> None:
        self._slot = slot
        self._connection = connection
        self._turn = 0
        self._toxic = slot.filter_for(connection)

    def __repr__(self) -> str:
        return f"<SlotFilter {self._toxic!r}>"

    def opened(self, connection: Connection) -> Verdict:
        """See `IFilter`."""
        self._slot.join(self)
        return None if self._toxic is None else self._taken(self._toxic.opened(connection))

    def received(self, direction: Direction, data: bytes) -> Verdict:
        """See `IFilter`."""
        return None if self._toxic is None else self._taken(self._toxic.received(direction, data))

    def ended(self, direction: Direction, held: bytes) -> Verdict:
        """See `IFilter`."""
        return None if self._toxic is None else self._taken(self._toxic.ended(direction, held))

    def woken(self, token: object) -> Verdict:
        """See `IFilter`."""
        if token is _Change.EXCHANGED:
            return self._exchange()
        if token is _Change.CHANGED:
            self._turn += 1
            return None if self._toxic is None else self._taken(self._toxic.changed())
        if isinstance(token, _Tagged):
            if token.turn != self._turn:
                return None  # of a toxic that is gone
            token = token.token
        return None if self._toxic is None else self._taken(self._toxic.woken(token))

    def closed(self, summary: SessionSummary) -> None:
        """See `IFilter`."""
        self._slot.leave(self)
        if self._toxic is not None:
            self._toxic.closed(summary)

    def slot_exchanged(self) -> None:
        """Another toxic has the slot, or none."""
        self._connection.wake(_Change.EXCHANGED)

    def slot_changed(self) -> None:
        """The toxic has other options."""
        self._connection.wake(_Change.CHANGED)

    def _exchange(self) -> Verdict:
        """What waited because of the old toxic goes on; the new one begins."""
        verdicts: list[Verdict] = []
        old = self._toxic
        if old is not None:
            verdicts.append(self._taken(old.recover()))
            old.leave()
        self._turn += 1
        self._toxic = self._slot.filter_for(self._connection, late=True)
        if self._toxic is not None:
            verdicts.append(self._taken(self._toxic.opened(self._connection)))
        return [one for one in verdicts if one is not None] or None

    def _taken(self, verdict: Any) -> Verdict:
        """`verdict` as one of this filter, which is never done."""
        if verdict is DONE:
            return None
        if isinstance(verdict, Wake):
            return evolve(verdict, token=_Tagged(self._turn, verdict.token))
        if isinstance(verdict, list | tuple):
            return [self._taken(one) for one in verdict]
        return verdict  # type: ignore[no-any-return]


@implementer(IFilterFactory)
@define(eq=False)
class ToxicSlot:
    """
    One slot of all connections of a proxy.

    :ivar max_hold: bytes of each direction that a toxic in it keeps on the way.
    :ivar fault: of the toxic that has it; None while it is free.
    """

    max_hold: int = 0
    fault: Fault | None = None
    directions: frozenset[Direction] = frozenset(Direction)
    routes: bool = False
    hold_timeout: float | None = None
    on_timeout: str = "close"
    on_error: str = "close"
    _filters: dict[SlotFilter, None] = field(factory=dict, init=False, repr=False)

    def build(self, connection: Connection) -> SlotFilter:
        """See `IFilterFactory`."""
        return SlotFilter(self, connection)

    def filter_for(self, connection: Connection, *, late: bool = False) -> FaultFilter | None:
        """
        The filter of the toxic for `connection`; None where there is none, or chance spares it.

        :param late: the connection is open already.
        """
        fault = self.fault
        if fault is None or (late and fault.kind == "refuse") or not fault.strikes(connection):
            return None
        return KINDS[fault.kind](fault, connection)

    def take(self, fault: Fault | None) -> None:
        """Give the slot to a toxic, or to none."""
        self.fault = fault
        for one in tuple(self._filters):
            one.slot_exchanged()

    def change(self, fault: Fault) -> None:
        """Let the toxic be like `fault`; connections keep what they know of it."""
        if self.fault is not None:
            self.fault.options = fault.options
            for one in tuple(self._filters):
                one.slot_changed()

    def join(self, one: SlotFilter) -> None:
        """`one` is to hear of changes."""
        self._filters[one] = None

    def leave(self, one: SlotFilter) -> None:
        """The connection of `one` is over."""
        self._filters.pop(one, None)


class ToxicSet:
    """
    The toxics of one proxy.

    :ivar slots: the factories of its rule's filters, in order.
    """

    def __init__(self, seed: int = 0, *, datagrams: bool = False) -> None:
        """:param seed: chance follows from it, from a toxic's name and from a session's number alone."""
        self._seed = seed
        self._datagrams = datagrams
        self._toxics: dict[str, tuple[Toxic, ToxicSlot]] = {}
        self._latency = [ToxicSlot(LATENCY_HOLD) for _ in range(LATENCY_SLOTS)]
        self._other = [ToxicSlot() for _ in range(OTHER_SLOTS)]
        self.slots = (*self._latency, *self._other)

    def __repr__(self) -> str:
        return f"<ToxicSet {', '.join(self._toxics) or 'empty'}>"

    def __iter__(self) -> Iterator[Toxic]:
        # As toxiproxy lists them: first those toward the upstream.
        return iter(
            sorted((toxic for toxic, _ in self._toxics.values()), key=lambda one: one.direction is TO_CLIENT)
        )

    def get(self, name: str) -> Toxic | None:
        """The toxic called `name`."""
        found = self._toxics.get(name)
        return None if found is None else found[0]

    def add(self, toxic: Toxic) -> None:
        """
        Begin with `toxic`, whose name is new.

        :raises BadToxic: it does not make sense, or there are too many.
        """
        slots = self._latency if toxic.type == "latency" else self._other
        fault = self._fault(toxic)
        slot = next((one for one in slots if one.fault is None), None)
        if slot is None:
            raise BadToxic(f"too many toxics: a proxy has at most {len(slots)} of this kind")
        self._toxics[toxic.name] = toxic, slot
        slot.take(fault)

    def change(self, toxic: Toxic) -> None:
        """
        Let the toxic of this name be like `toxic`.

        :raises BadToxic: it does not make sense; the old one stays.
        """
        before, slot = self._toxics[toxic.name]
        fault = self._fault(toxic)
        self._toxics[toxic.name] = toxic, slot
        if before.toxicity == toxic.toxicity:
            slot.change(fault)
        else:
            slot.take(fault)

    def remove(self, name: str) -> None:
        """End the toxic called `name`."""
        _, slot = self._toxics.pop(name)
        slot.take(None)

    def clear(self) -> None:
        """End all of them."""
        for name in tuple(self._toxics):
            self.remove(name)

    def _fault(self, toxic: Toxic) -> Fault:
        if toxic.type in FOR_DATAGRAMS and not self._datagrams:
            raise BadToxic(f'{toxic.type} is for datagrams: the proxy needs "protocol": "udp"')
        return Fault(toxic.fault(self._seed))
