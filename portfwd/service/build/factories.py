# -*- test-case-name: tests.service.build.test_factories -*-
"""
The factories of ``filter`` clauses and their life.

A clause gets its factory once. A reload keeps it if the clause, its options (with the contents of files), its
routes and its code are unchanged. A `Selection` has the factories of one set of rules during their
preparation; it is committed or undone. ``check`` makes a selection and drops it, so nothing is started.

``start`` of a factory is called once, before the first client of the rule, and ``stop`` once, after the last
session. Both are optional. If ``start`` raises, the rules are refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Any

from attrs import define
from twisted.logger import Logger

from portfwd.filters.api import RouteClause
from portfwd.filters.registry import told
from portfwd.filters.services import Services
from portfwd.kernel.failures import log_failure
from portfwd.kernel.reactor import Reactor
from portfwd.metrics.filter_metrics import FilterMetrics
from portfwd.relay.filter_log import ClauseLog
from portfwd.service.build.filter_code import CodeChange, FilterCode, modules_named

#: Rule and filter by name, words and options of the clause, and its number among equal ones of the rule.
Key = tuple[str, object, int]


@define(eq=False)
class Kept:
    """
    The factory of one clause, and its inputs.

    :ivar code: the plug-in or class of its module.
    :ivar started: whether ``start`` was called, or does not exist.
    """

    rule: str
    name: str
    factory: Any
    options: object
    routes: tuple[RouteClause, ...]
    code: object
    started: bool = False

    def is_made_of(self, options: object, routes: tuple[RouteClause, ...], code: object) -> bool:
        """Whether a factory of these inputs would be equal."""
        try:
            return self.code is code and self.routes == routes and bool(self.options == options)
        except Exception:  # a comparison of a third-party class
            return False


class Selection:
    """The factories of a set of rules in preparation."""

    def __init__(self, owner: Factories) -> None:
        self._owner = owner
        self._kept: dict[Key, Kept] = {}
        self._begun: list[Kept] = []
        self._code: CodeChange | None = None

    def __repr__(self) -> str:
        return f"<Selection of {len(self._kept)} factories>"

    def import_again(self, modules: Sequence[str]) -> str:
        """Import changed code of these modules before clauses are configured; return why it failed."""
        self._code = self._owner.code.import_again(modules)
        return self._code.problem

    @property
    def imported(self) -> Sequence[str]:
        """The modules that were imported again."""
        return () if self._code is None else tuple(self._code.modules)

    def key(self, rule: str, clause: object) -> Key:
        """The key of the next equal clause of `rule`."""
        number = 0
        while (rule, clause, number) in self._kept:
            number += 1
        return rule, clause, number

    def find(self, key: Key, options: object, routes: tuple[RouteClause, ...], code: object) -> Any:
        """The existing factory of a clause; None if there is none, or if its inputs have changed."""
        kept = self._owner.kept.get(key)
        if kept is None or not kept.is_made_of(options, routes, code):
            return None
        self._kept[key] = kept
        return kept.factory

    def add(
        self,
        key: Key,
        name: str,
        factory: Any,
        options: object,
        routes: tuple[RouteClause, ...],
        code: object,
    ) -> None:
        """Add the new factory of a clause."""
        self._kept[key] = Kept(key[0], name, factory, options, routes, code)

    def keep(self, rules: Collection[str]) -> None:
        """Keep the existing factories of all clauses of unchanged rules, which are given by name."""
        for key, kept in self._owner.kept.items():
            if key[0] in rules:
                self._kept.setdefault(key, kept)

    def clauses(self, rule: str) -> list[tuple[str, Any]]:
        """Name and factory of each clause of a rule, in order."""
        return [(kept.name, kept.factory) for kept in self._kept.values() if kept.rule == rule]

    def start(self) -> list[str]:
        """Start the new factories; return a line for the first one that fails."""
        for kept in self._kept.values():
            if not kept.started:
                problem = self._owner.start_one(kept)
                if problem:
                    return [problem]
                self._begun.append(kept)
        return []

    def undo(self) -> None:
        """The rules are not applied: stop the factories that were started for them."""
        for kept in self._begun:
            self._owner.stop_one(kept)
        self._begun.clear()
        if self._code is not None:
            self._code.undo()

    def take(self) -> None:
        """Make these the current factories. `Factories.stop_unused` stops the others."""
        self._owner.code.note(modules_named(one.name for one in self._kept.values()))
        self._owner.take(self._kept)
        self._begun, self._code = [], None


class Factories:
    """
    The factories of the active rules, and of those that still have sessions.

    :ivar kept: the factories of the active rules.
    :ivar metrics: the metrics of filters.
    :ivar code: the code of ``python:`` filters.
    """

    _log = Logger()

    def __init__(self) -> None:
        self.kept: dict[Key, Kept] = {}
        self.metrics = FilterMetrics()
        self.code = FilterCode()
        self._retired: list[Kept] = []
        #: Number of started factories by rule and filter, which share their metrics.
        self._started: Counter[tuple[str, str]] = Counter()
        self._reactor: Reactor | None = None

    def __repr__(self) -> str:
        return f"<Factories {len(self.kept)}, {len(self._retired)} of rules that are gone>"

    def select(self) -> Selection:
        """Start a selection for other rules, or for the first ones."""
        return Selection(self)

    def take(self, kept: dict[Key, Kept]) -> None:
        """See `Selection.take`."""
        stay = {id(one) for one in kept.values()}
        self._retired += [one for one in self.kept.values() if id(one) not in stay]
        self.kept = kept

    def start_all(self, reactor: Reactor) -> list[str]:
        """
        Start all factories, with the reactor of the forwarder.

        :returns: a line for the first factory that cannot start; none is started then.
        """
        self._reactor = reactor
        for kept in self.kept.values():
            problem = self.start_one(kept)
            if problem:
                self.stop_all()
                return [problem]
        return []

    def start_one(self, kept: Kept) -> str:
        """Start a factory; return the reason of a failure, or an empty text."""
        if kept.started:
            return ""
        start: Callable[[Services], None] | None = getattr(kept.factory, "start", None)
        log = ClauseLog(Logger(namespace="portfwd.filters"), kept.rule, kept.name)
        reactor = self._reactor
        assert reactor is not None
        if start is not None:
            try:
                start(Services(reactor, reactor, log, kept.rule, kept.name, self.metrics))
            except KeyboardInterrupt:
                raise  # the operator's
            except BaseException as error:
                log_failure(self._log, "{rule}: filter {name}: start failed", rule=kept.rule, name=kept.name)
                self._forget_metrics(kept)
                return f"{kept.rule}: filter {kept.name}: its method start failed: {told(error)}"
        kept.started = True
        self._started[kept.rule, kept.name] += 1
        return ""

    @property
    def has_retired(self) -> bool:
        """Whether removed rules have left factories."""
        return bool(self._retired)

    def stop_unused(self, factories: Collection[int]) -> None:
        """
        Stop the factories of removed rules, except those that sessions still use.

        :param factories: the identities of the factories in use.
        """
        over = [one for one in self._retired if id(one.factory) not in factories]
        self._retired = [one for one in self._retired if id(one.factory) in factories]
        for one in over:
            self.stop_one(one)

    def stop_all(self) -> None:
        """Stop all factories, after the last session."""
        retired, self._retired = self._retired, []
        for kept in (*retired, *self.kept.values()):
            self.stop_one(kept)

    def stop_one(self, kept: Kept) -> None:
        """Stop a factory that was started."""
        if not kept.started:
            return
        kept.started = False
        self._started[kept.rule, kept.name] -= 1
        stop: Callable[[], None] | None = getattr(kept.factory, "stop", None)
        if stop is not None:
            try:
                stop()
            except BaseException:
                log_failure(self._log, "{rule}: filter {name}: stop failed", rule=kept.rule, name=kept.name)
        self._forget_metrics(kept)

    def _forget_metrics(self, kept: Kept) -> None:
        owner = (kept.rule, kept.name)
        if not self._started[owner]:
            del self._started[owner]
            self.metrics.forget(*owner)
