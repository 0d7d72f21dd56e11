# -*- test-case-name: tests.filters.builtin.test_faults -*-
"""
``filter faults``: makes a good network a bad one, to see what programs do about it.

One clause is one fault; several combine, in the order in which they stand::

    filter faults latency delay=100ms jitter=20ms
    filter faults bandwidth rate=64KiB/s direction=down
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

from attrs import define, field, frozen
from zope.interface import implementer

from portfwd.filters import options as kinds
from portfwd.filters.api import Connection, IFilterFactory, Plugin, RouteClause
from portfwd.filters.builtin.chance import Chance, make_seed
from portfwd.filters.builtin.datagram_faults import KINDS as DATAGRAM_KINDS
from portfwd.filters.builtin.direction_option import WAYS, directions_of
from portfwd.filters.builtin.fault_kinds import KINDS as STREAM_KINDS
from portfwd.filters.builtin.fault_kinds import FaultFilter
from portfwd.filters.options import OptionError, option
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

#: What each kind must be told, and what it may be told besides.
NEEDS: Final[dict[str, tuple[frozenset[str], frozenset[str]]]] = {
    kind: (frozenset(needed.split()), frozenset(optional.split()))
    for kind, needed, optional in (
        ("latency", "delay", "jitter direction"),
        ("bandwidth", "rate", "direction"),
        ("slow-close", "delay", "direction"),
        ("timeout", "after", "direction abort"),
        ("reset", "after", ""),
        ("slicer", "size", "variation delay direction"),
        ("limit-data", "size", "direction abort"),
        ("limit-time", "after", "abort"),
        ("corrupt", "fraction", "direction"),
        ("refuse", "", ""),
        ("loss", "fraction", "direction"),
        ("duplicate", "fraction", "direction"),
        ("reorder", "fraction", "delay direction"),
    )
}


@frozen
class FaultsOptions:
    """The clause's options; None: not said."""

    kind: str = option(kinds.choice(*KINDS), positional=True, help="What goes wrong.")
    delay: float | None = option(kinds.duration, default=None, help="How much later.", example="100ms")
    jitter: float | None = option(
        kinds.duration, default=None, help="With latency: how much more or less than delay= it may be."
    )
    rate: int | None = option(kinds.rate, default=None, help="With bandwidth: bytes a second.")
    after: float | None = option(kinds.duration, default=None, help="At what age of the session.")
    size: int | None = option(
        kinds.size,
        default=None,
        help="With slicer: bytes of a piece; with limit-data: bytes that come through.",
    )
    variation: int | None = option(
        kinds.size, default=None, help="With slicer: how many more or fewer than size= they may be."
    )
    fraction: float | None = option(
        kinds.fraction, default=None, help="How many: of the bytes with corrupt, else of the datagrams."
    )
    direction: str | None = option(
        kinds.choice(*WAYS), default=None, help="Whose bytes: the client's are up; both unless said."
    )
    abort: bool = option(kinds.switch, default=False, help="Where a fault closes in order: reset instead.")
    probability: float = option(kinds.fraction, default=1.0, help="How many of the connections are struck.")
    seed: int = option(kinds.integer, default=0, help="Another number is another row of chances.")
    active: bool = option(kinds.switch, default=True, help="Whether it is on from the beginning.")


def check_options(options: FaultsOptions) -> None:
    """
    See whether the options fit the kind.

    :raises OptionError: they do not; the text says what would.
    """
    kind = options.kind
    if kind not in NEEDS:
        raise OptionError("kind", f"a fault is one of {', '.join(NEEDS)}")
    needed, optional = NEEDS[kind]
    names = ("delay", "jitter", "rate", "after", "size", "variation", "fraction", "direction")
    said = {name for name in names if getattr(options, name) is not None}
    if options.abort:
        said.add("abort")
    for name in sorted(needed - said):
        raise OptionError("kind", f"{kind} needs {name}=")
    for name in sorted(said - needed - optional):
        takes = ", ".join(f"{one}=" for one in sorted(needed | optional)) or "none of its own"
        raise OptionError(name, f"{kind} has no {name}=; its options are {takes}")
    for name in ("rate", "size", "fraction"):
        if getattr(options, name) == 0:
            raise OptionError(name, f"{name}=0 makes no sense; for no bytes at all there is timeout")
    if (options.variation or 0) >= (options.size or 1):
        raise OptionError("variation", "variation= must be less than size=")


@define(eq=False)
class Fault:
    """
    A fault that can be switched on and off, and made stronger, while connections last.

    :ivar asked: connections that it could have struck.
    :ivar struck: those that chance chose.
    """

    _options: FaultsOptions
    _active: bool = field(init=False)
    asked: int = field(default=0, init=False)
    struck: int = field(default=0, init=False)
    _filters: dict[FaultFilter, None] = field(factory=dict, init=False, repr=False)

    @_active.default
    def _as_written(self) -> bool:
        return self._options.active

    @property
    def active(self) -> bool:
        """Whether it strikes now."""
        return self._active

    @active.setter
    def active(self, active: bool) -> None:
        """Switch it; what waits because of it in connections that last goes on when it is switched off."""
        before, self._active = self._active, active
        if before and not active:
            for one in tuple(self._filters):
                one.switched_off()

    def join(self, one: FaultFilter) -> None:
        """`one` is to hear when this is switched off."""
        self._filters[one] = None

    def leave(self, one: FaultFilter) -> None:
        """The connection of `one` is over."""
        self._filters.pop(one, None)

    def __attrs_post_init__(self) -> None:
        """Refuse what does not fit the kind."""
        check_options(self._options)

    @property
    def options(self) -> FaultsOptions:
        """How strong it is."""
        return self._options

    @options.setter
    def options(self, options: FaultsOptions) -> None:
        """
        Make it stronger or weaker.

        :raises ValueError: they do not fit the kind, or are those of another kind or of another direction:
            filters are made for theirs.
        """
        check_options(options)
        if (options.kind, options.direction) != (self._options.kind, self._options.direction):
            raise ValueError(f"{self.kind} cannot become another fault, nor change its direction")
        self._options = options

    @property
    def kind(self) -> str:
        """What goes wrong."""
        return self._options.kind

    @property
    def directions(self) -> frozenset[Direction]:
        """Whose bytes it is about."""
        return directions_of(self._options.direction or "both")

    def __repr__(self) -> str:
        return (
            f"<Fault {self.kind} {'on' if self.active else 'off'}, {self.struck} of {self.asked} connections>"
        )

    def strikes(self, connection: Connection) -> bool:
        """Whether chance chooses `connection`."""
        self.asked += 1
        chance = Chance(make_seed(self._options.seed, self.kind, connection.id))
        chosen = chance.happens(self._options.probability)
        self.struck += chosen
        return chosen


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
