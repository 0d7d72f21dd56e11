# -*- test-case-name: tests.upstreams.test_pool -*-
"""
The targets of one rule, or of one name of its routes, and the order in which a session tries them.

A `Pool` combines the health of each address (`portfwd.upstreams.health`), the orders of operators and the
options of each target. It has one picker for the fit targets and one for the fit backups. A session asks an
`Order`, which returns each target at most once. Time is an argument; the module opens no sockets.

`Pool.replace` replaces the set of targets and keeps the state of those that remain. It is the interface for
the discovery of targets.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Final, Protocol

from attrs import define, field, frozen

from portfwd.rules.model import AllDown, Balance, Options
from portfwd.upstreams.health import Ejection, Health, TargetState, slow_share
from portfwd.upstreams.picker import make_picker

#: Maximum number of clients whose target is remembered for ``stick=``: about 20 MB.
MOST_STICKY: Final = 100_000
#: Number of steps in which a share grows during slow start.
SLOW_STEPS: Final = 50
#: Seconds for which a session that tries an ejected target excludes others, unless its outcome is known
#: before. It is the default of ``connect-timeout``.
TRIAL: Final = 5.0

_NEVER: Final = float("inf")
_FIT: Final = (TargetState.UP, TargetState.STARTING)


class Load(Protocol):
    """
    The number of sessions of a target.

    :ivar taken: sessions and pending dials.
    :ivar watchers: called with 1 or -1 after `taken` has changed.
    """

    taken: int
    watchers: list[Callable[[int], None]]


@define(eq=False)
class Member:
    """
    One target of a pool.

    :ivar key: its address and protocol: the identity by which sets of targets are compared.
    :ivar label: its name in messages and commands.
    :ivar target: the value that is dialled; pools do not use it.
    :ivar ordered: the state ordered by an operator; None: health decides.
    :ivar share: its current weight; see `portfwd.upstreams.picker.Candidate`.
    """

    key: str
    label: str
    target: object
    options: Options
    health: Health
    load: Load
    ordered: TargetState | None = None
    share: float = field(init=False)

    def __attrs_post_init__(self) -> None:
        """Begin with the weight of the file."""
        self.share = float(self.options.weight)

    @property
    def taken(self) -> int:
        """See `portfwd.upstreams.picker.Candidate`."""
        return self.load.taken

    @property
    def ejection(self) -> Ejection:
        """When failed dials eject it."""
        return Ejection(self.options.max_fails, self.options.fail_timeout)


@frozen
class MemberView:
    """
    A target of a pool, for display.

    :ivar part: its fraction of new sessions according to ``balance=`` and the weights, 0 to 1.
    """

    member: Member
    state: TargetState
    cause: str
    since: float | None
    part: float


class Pool:
    """
    The targets and their states.

    :ivar members: in the order of the file.
    """

    def __init__(self, members: Sequence[Member], options: Options, draw: Callable[[], float]) -> None:
        """
        :param members: at least one.
        :param options: the rule's.
        :param draw: a random number from 0 up to 1.
        """
        self.members: tuple[Member, ...] = ()
        self._options = options
        self._total = 0
        self._pickers = tuple(make_picker(options.balance, draw, self._count) for _ in range(2))
        self._fit: tuple[frozenset[Member], ...] = (frozenset(), frozenset())
        self.sticky: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self._slow_until = 0.0
        self._slow_step = 0.0
        self._trial_due = _NEVER
        self.is_stale = False
        # A refused reload makes pools that are never used, so loads are watched from the first session on.
        self._watches: bool | None = None
        self.replace(members, 0.0)

    def __repr__(self) -> str:
        fit = sum(map(len, self._fit))
        return f"<Pool {self._options.balance.value}, {fit} of {len(self.members)} fit>"

    def _count(self) -> int:
        return self._total

    # The set of targets

    def replace(self, members: Sequence[Member], now: float) -> None:
        """
        Replace all targets in one step.

        A member with the key of an old one keeps the order of the operator. Health and sessions are in
        objects that both members share.
        """
        before = {one.key: one for one in self.members}
        for one in members:
            known = before.get(one.key)
            if known is not None and one.ordered is None:
                one.ordered = known.ordered
        watched = self._watches
        if watched:
            self._unwatch()
        self.members = tuple(members)
        if watched:
            self._watch()
        self.refresh(now)

    def _watch(self) -> None:
        self._watches = True
        self._total = sum(one.taken for one in self.members)
        for one in self.members:
            one.load.watchers.append(_Changed(self, one))

    def _unwatch(self) -> None:
        self._watches = False
        for one in self.members:
            one.load.watchers[:] = [each for each in one.load.watchers if not _is_of(each, self)]

    def inherit(self, old: Pool) -> None:
        """Replace `old`, and keep its remembered clients."""
        if self._options.stick is not None:
            self.sticky = old.sticky
        if old._watches:
            old._unwatch()

    def load_changed(self, member: Member, by: int) -> None:
        """The number of sessions of `member` has changed by `by`."""
        self._total += by
        if by < 0:
            self._pickers[member.options.backup].freed(member)

    def order(self, label: str, ordered: TargetState | None, now: float) -> bool:
        """
        Apply an order of an operator.

        :param ordered: the state of the target `label`; None: health decides.
        :returns: whether there is such a target.
        """
        found = [one for one in self.members if one.label == label]
        for one in found:
            one.ordered = ordered
        self.refresh(now)
        return bool(found)

    # States

    def state_of(self, member: Member, now: float) -> TargetState:
        """Return the state of `member`: the operator's order, or its health, or slow start."""
        if member.ordered is not None:
            return member.ordered
        health = member.health
        state = health.state
        if state is TargetState.DOWN and len(self.members) == 1 and not health.is_checked_down:
            state = TargetState.UP  # a single target is never ejected
        if state is TargetState.UP and slow_share(health.recovered_at, member.options.slowstart, now) < 1:
            return TargetState.STARTING
        return state

    def stale(self) -> None:
        """States or shares have changed: call `refresh` before the next choice."""
        self.is_stale = True

    def refresh(self, now: float) -> None:
        """Recompute the states and shares, and update the pickers."""
        self.is_stale = False
        fit: tuple[list[Member], list[Member]] = ([], [])
        self._slow_until, self._trial_due = 0.0, _NEVER
        for one in self.members:
            options, health = one.options, one.health
            slow = slow_share(health.recovered_at, options.slowstart, now)
            if slow < 1:
                assert health.recovered_at is not None
                assert options.slowstart is not None
                self._slow_until = max(self._slow_until, health.recovered_at + options.slowstart)
            one.share = options.weight * slow * health.share
            state = self.state_of(one, now)
            if state in _FIT and one.share > 0:
                fit[options.backup].append(one)
            elif state is TargetState.DOWN and one.ordered is None and health.trial_at is not None:
                self._trial_due = min(self._trial_due, health.trial_at)
        self._slow_step = now + max(0.1, (self._slow_until - now) / SLOW_STEPS)
        self._fit = tuple(frozenset(one) for one in fit)
        if self.all_down and not self.closes:
            # ``all-down=try``: the targets are chosen as if they were up.
            for one in self.members:
                if one.ordered is None and one.options.weight:
                    one.share = one.share or float(one.options.weight)
                    fit[one.options.backup].append(one)
        for picker, members in zip(self._pickers, fit, strict=True):
            picker.update(members)

    def views(self, now: float) -> Iterator[MemberView]:
        """Return all targets for display."""
        self.refresh(now)
        parts = self._parts()
        for one in self.members:
            health, ordered = one.health, one.ordered is not None
            state = self.state_of(one, now)
            cause = "ordered by an operator" if ordered else health.cause
            yield MemberView(one, state, cause, health.since, parts.get(one, 0.0))

    def _parts(self) -> dict[Member, float]:
        """Return the fractions of new sessions of all targets that get any while they are up."""
        fit = self._fit[0] or self._fit[1]
        tier = [one for one in self.members if one in fit]
        if self._options.balance is Balance.FIRST:
            return dict.fromkeys(tier[:1], 1.0)
        total = sum(one.share for one in tier)
        return {one: one.share / total for one in tier}

    @property
    def knows_clients(self) -> bool:
        """Whether the choice depends on the client."""
        return self._options.balance is Balance.SOURCE or self._options.stick is not None

    @property
    def closes(self) -> bool:
        """Whether a session is closed when all targets are down."""
        return self._options.all_down is AllDown.CLOSE

    # Choosing

    def choose(self, client: str, order: Order, now: float) -> Member | None:
        """Return the next target of `order`; None if there is none."""
        if self._watches is None:
            self._watch()
            self.refresh(now)
        if self.is_stale or (self._slow_until and now >= self._slow_step):
            self.refresh(now)
        tried = order.tried
        if now >= self._trial_due:
            member = self._take_trial(tried, now)
            if member is not None:
                return member
        if not tried and self.sticky:
            member = self._sticky_member(client, now)
            if member is not None:
                return member
        for picker in self._pickers:
            found = picker.pick(client, tried)
            if found is not None:
                assert isinstance(found, Member)
                return found
        return self._last_resort(order)

    def _take_trial(self, tried: Collection[Member], now: float) -> Member | None:
        """Return an ejected target whose ejection has expired; one session at a time tries it."""
        due = _NEVER
        found: Member | None = None
        for one in self.members:
            health = one.health
            at = health.trial_at if health.state is TargetState.DOWN and one.ordered is None else None
            if at is None or (one.options.backup and self._fit[0]) or not one.options.weight:
                continue
            if found is None and at <= now and one not in tried:
                found = one
                health.try_it(now, TRIAL)
                at = now + TRIAL
            due = min(due, max(at, now + 0.01))
        self._trial_due = due
        return found

    def _sticky_member(self, client: str, now: float) -> Member | None:
        key, until = self.sticky.get(client, ("", 0.0))
        if not client or until <= now:
            return None
        for one in self.members:
            # A target that drains or has weight 0 keeps its remembered clients.
            if one.key == key and self.state_of(one, now) is not TargetState.DOWN:
                return one
        return None

    def _last_resort(self, order: Order) -> Member | None:
        """Return an ejected target after the fit ones, unless the rule has ``all-down=close``."""
        if self.closes:
            return None
        left = (
            one
            for one in self.members
            if one not in order.tried
            and one.ordered is None
            and one.options.weight
            # A target that is down because of a check is not tried while others are fit.
            and one.health.is_ejected
            and not one.health.is_checked_down
        )
        if self._options.balance is Balance.FIRST:
            return next(left, None)
        return min(left, key=_resort, default=None)

    @property
    def all_down(self) -> bool:
        """Whether no target is fit."""
        return not any(self._fit)

    def reached(self, client: str, member: Member, now: float) -> None:
        """A session of `client` has reached `member`."""
        stick = self._options.stick
        if stick is None or not client:
            return
        sticky = self.sticky
        sticky[client] = (member.key, now + stick)
        sticky.move_to_end(client)
        while sticky and (len(sticky) > MOST_STICKY or next(iter(sticky.values()))[1] <= now):
            sticky.popitem(last=False)


def _resort(member: Member) -> tuple[bool, float]:
    return member.options.backup, member.taken / member.options.weight


class _Changed:
    """Reports changes of the load of one member to a pool."""

    __slots__ = ("_member", "pool")

    def __init__(self, pool: Pool, member: Member) -> None:
        self.pool = pool
        self._member = member

    def __call__(self, by: int) -> None:
        self.pool.load_changed(self._member, by)


def _is_of(watcher: object, pool: Pool) -> bool:
    return isinstance(watcher, _Changed) and watcher.pool is pool


class Order:
    """
    The targets for one session, each at most once.

    :ivar tried: the targets that were returned.
    """

    __slots__ = ("_client", "_pool", "tried")

    def __init__(self, pool: Pool, client: str = "") -> None:
        """:param client: the client as counted by limits; for ``balance=source`` and ``stick=``."""
        self._pool = pool
        self._client = client
        self.tried: dict[Member, None] = {}

    def __repr__(self) -> str:
        return f"<Order of {self._pool!r}, {len(self.tried)} tried>"

    def next(self, now: float) -> Member | None:
        """Return the next target; None if there is none."""
        member = self._pool.choose(self._client, self, now)
        if member is not None:
            self.tried[member] = None
        return member

    def renew(self) -> None:
        """Begin again: every target may be returned once more."""
        self.tried = {}

    def reached(self, member: Member, now: float) -> None:
        """The session has reached `member`."""
        self._pool.reached(self._client, member, now)
