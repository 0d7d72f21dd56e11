# -*- test-case-name: tests.filters.builtin.test_faults -*-
"""
One ``filter faults`` clause: its options, and the state shared by its connections.

The filters of `portfwd.filters.builtin.fault_kinds` and `portfwd.filters.builtin.datagram_faults` change the
bytes; they use the `Fault` of their clause.
"""

from __future__ import annotations

from typing import Final, Protocol

from attrs import define, field, frozen

from portfwd.filters import options as kinds
from portfwd.filters.api import Connection
from portfwd.filters.builtin.chance import Chance, make_seed
from portfwd.filters.builtin.direction_option import HELP, direction, directions_of
from portfwd.filters.options import OptionError, option
from portfwd.values import Direction

#: The required and the optional options of each kind.
NEEDS: Final[dict[str, tuple[frozenset[str], frozenset[str]]]] = {
    kind: (frozenset(needed.split()), frozenset(optional.split()))
    for kind, needed, optional in (
        ("latency", "delay", "jitter direction"),
        ("bandwidth", "rate", "direction"),
        ("slow-close", "delay", "direction"),
        ("timeout", "after", "direction abort"),
        ("reset", "after", "direction"),
        ("slicer", "size", "variation delay direction"),
        ("limit-data", "size", "direction abort"),
        ("noop", "", "direction"),
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
    """The options of the clause. None: not given."""

    kind: str = option(kinds.choice(*NEEDS), positional=True, help="What goes wrong.")
    delay: float | None = option(kinds.duration, default=None, help="How much later.", example="100ms")
    jitter: float | None = option(
        kinds.duration, default=None, help="With latency: how much more or less than delay= it may be."
    )
    rate: int | None = option(
        kinds.rate, default=None, help="With bandwidth: bytes a second; 0: none, until that changes."
    )
    after: float | None = option(kinds.duration, default=None, help="At what age of the session.")
    size: int | None = option(
        kinds.size,
        default=None,
        help="With slicer: bytes of a piece, 0: not cut; with limit-data: bytes that come through.",
    )
    variation: int | None = option(
        kinds.size, default=None, help="With slicer: how many more or fewer than size= they may be."
    )
    fraction: float | None = option(
        kinds.fraction, default=None, help="How many: of the bytes with corrupt, else of the datagrams."
    )
    direction: str | None = option(direction(), default=None, help=f"{HELP[:-1]}; both unless said.")
    abort: bool = option(kinds.switch, default=False, help="Where a fault closes in order: reset instead.")
    probability: float = option(kinds.fraction, default=1.0, help="How many of the connections are affected.")
    seed: int = option(kinds.integer, default=0, help="Another number is another row of chances.")
    active: bool = option(kinds.switch, default=True, help="Whether it is on from the beginning.")


def check_options(options: FaultsOptions) -> None:
    """
    Check whether the options fit the kind.

    :raises OptionError: they do not. The text says which ones would.
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
    if options.variation and options.variation >= (options.size or 1):
        raise OptionError("variation", "variation= must be less than size=")


class SwitchedFilter(Protocol):
    """A filter that is called when its fault is switched off, or has other options."""

    def switched_off(self) -> None:
        """The fault was switched off during the connection."""

    def options_changed(self) -> None:
        """The fault has other options."""


@define(eq=False)
class Fault:
    """
    A fault that can be switched and changed during connections.

    The counts are of connections that began while the fault was on, and of those that were open and chosen
    when it was switched on.

    :ivar connections: number of connections for which chance has decided.
    :ivar affected: number of connections that were chosen.
    """

    _options: FaultsOptions
    _active: bool = field(init=False)
    connections: int = field(default=0, init=False)
    affected: int = field(default=0, init=False)
    _filters: dict[SwitchedFilter, bool] = field(factory=dict, init=False, repr=False)

    @_active.default
    def _as_written(self) -> bool:
        return self._options.active

    @property
    def active(self) -> bool:
        """Whether it is switched on."""
        return self._active

    @active.setter
    def active(self, active: bool) -> None:
        """Switch it. If it is switched off, bytes of open connections that wait because of it are sent."""
        before, self._active = self._active, active
        if before and not active:
            for one in tuple(self._filters):
                one.switched_off()
        elif active and not before:
            new = [one for one, is_counted in self._filters.items() if not is_counted]
            self.connections += len(new)
            self.affected += len(new)
            self._filters.update(dict.fromkeys(new, True))

    def join(self, one: SwitchedFilter) -> None:
        """Call `one`, of a connection that was chosen just now, when this is switched off."""
        self._filters[one] = self.active

    def leave(self, one: SwitchedFilter) -> None:
        """The connection of `one` has ended."""
        self._filters.pop(one, None)

    def __attrs_post_init__(self) -> None:
        """Refuse options that do not fit the kind."""
        check_options(self._options)

    @property
    def options(self) -> FaultsOptions:
        """Its current options."""
        return self._options

    @options.setter
    def options(self, options: FaultsOptions) -> None:
        """
        Change its options.

        :raises ValueError: they do not fit the kind, or change the kind or the direction, for which existing
            filters are made.
        """
        check_options(options)
        if (options.kind, options.direction) != (self._options.kind, self._options.direction):
            raise ValueError(f"{self.kind} cannot become another fault, nor change its direction")
        self._options = options
        for one in tuple(self._filters):
            one.options_changed()

    @property
    def kind(self) -> str:
        """The kind of the fault."""
        return self._options.kind

    @property
    def directions(self) -> frozenset[Direction]:
        """The directions that it affects."""
        return directions_of(self._options.direction or "both")

    def __repr__(self) -> str:
        state = "on" if self.active else "off"
        return f"<Fault {self.kind} {state}, {self.affected} of {self.connections} connections>"

    def strikes(self, connection: Connection) -> bool:
        """Let chance decide whether `connection` is affected."""
        chance = Chance(make_seed(self._options.seed, self.kind, connection.id))
        chosen = chance.happens(self._options.probability)
        if self.active:
            self.connections += 1
            self.affected += chosen
        return chosen
