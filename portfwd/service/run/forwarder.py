# -*- test-case-name: tests.service.run.test_forwarder -*-
"""
The forwarder as a Twisted service: bind, start, reload, pause, drain, stop.

`privilegedStartService` binds all listeners or none. `startService` starts to accept. `reload` changes to
other rules completely or not at all. `stopService` stops accepting and lets sessions finish until the drain
deadline. The same service runs under twistd and inside other programs.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred, DeferredList, DeferredLock
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from portfwd.errors import StartError
from portfwd.kernel.pipes import PipePool, pipe_allowance
from portfwd.kernel.platform import Platform, find_platform
from portfwd.kernel.poller import Poller
from portfwd.kernel.reactor import Reactor
from portfwd.kernel.sockets import raise_descriptor_limit
from portfwd.limits.admission import AdmissionRegistry
from portfwd.limits.descriptors import DescriptorBudget, Share
from portfwd.listen.datagram_clients import DatagramClients
from portfwd.listen.late_clients import LAST_BATCHES
from portfwd.listen.listener import Listener
from portfwd.metrics.filter_metrics import FilterMetrics
from portfwd.metrics.tally import Ledger
from portfwd.relay.live import LiveRule
from portfwd.relay.rule import SessionLog
from portfwd.relay.sinks import Sinks
from portfwd.rules.model import Rule, Ruleset
from portfwd.rules.steps import Steps, finish
from portfwd.rules.support import unsupported_in_steps
from portfwd.rules.whole_process import metrics_listener, overall_limits, shared_limits, wants_figures
from portfwd.service.build.addresses import bound_addresses, tell_where
from portfwd.service.build.bound import Bound
from portfwd.service.build.build import Binder, Planned, RuleMaker, count_descriptors, live_rules
from portfwd.service.build.factories import Factories
from portfwd.service.build.filter_code import modules_of
from portfwd.service.build.listener_names import ListenerNames, names_of
from portfwd.service.build.plugins import AvailablePlugins
from portfwd.service.daemon.context import make_context
from portfwd.service.daemon.garbage import Making, collector_unchanged
from portfwd.service.run.checking import Checks
from portfwd.service.run.measuring import Watchers
from portfwd.service.run.reload import ReloadResult, refusal
from portfwd.service.run.retired_rules import RetiredRules
from portfwd.service.run.session_log import Silent
from portfwd.service.run.slicing import SlicedWork
from portfwd.service.run.starting import start_listeners, too_few_descriptors
from portfwd.service.run.steered import SteeredService
from portfwd.service.run.steering import Steering
from portfwd.service.run.switching import Switching, systemd_names
from portfwd.service.run.transition import Transition
from portfwd.upstreams.system_resolver import resolver_of
from portfwd.values import CloseReason, counted

#: Seconds that sessions get to finish when the service stops.
DRAIN: Final = 10.0


class Forwarder(SteeredService):
    """
    Forwards by a ruleset.

    :ivar ruleset: the current rules, including added ones.
    :ivar budget: the budget of descriptors; `pool` is that of pipes, and `admissions` counts sessions.
    :ivar targets: the health of every target.
    :ivar context: what its rules share.
    :ivar names: looks up the names at which listeners are bound.
    :ivar binder: binds listeners, and keeps those that a service manager handed over.
    :ivar checks: the active checks of targets.
    :ivar drain_limit: seconds that sessions get to finish.
    :ivar retired_rules: rules that a reload has replaced or removed and that still have sessions.
    :ivar reloads: number of applied reloads.
    :ivar reload_failures: number of refused reloads.
    :ivar last_reload_refused: whether the last one was refused, so the file differs from the active rules.
    :ivar reloaded_at: time of the last applied reload, in seconds since the epoch; None before the first.
    """

    name = "portfwd"

    def __init__(
        self,
        reactor: Reactor,
        ruleset: Ruleset,
        log: SessionLog | None = None,
        *,
        drain: float = DRAIN,
        platform: Platform | None = None,
        making: Making = collector_unchanged,
        lost: Callable[[Failure], None] | None = None,
        factories: Factories | None = None,
    ) -> None:
        """
        Prepare the targets. Nothing is bound or connected yet.

        :param log: writes the access lines; None for none.
        :param drain: seconds that sessions get to finish on `stopService`.
        :param platform: the available facilities; None to detect them.
        :param lost: called if no event can be delivered any more; all sessions were cut then. None: the
            service stops, so clients are refused and do not wait for ever.
        :param making: a context manager entered while a reload makes many objects: `garbage.collector_off`
            under twistd.
        :param factories: the factories of filters that were configured when the rules were checked.
        :raises StartError: a target cannot be prepared (a certificate, the description of an endpoint).
        """
        self._reactor = reactor
        self.platform = find_platform(reactor) if platform is None else platform
        self._poller = Poller(reactor, self._poller_lost) if self.platform.epoll else None
        self._lost = lost
        self.budget = DescriptorBudget(0, 0)
        pipes = Share("pipes", self.budget)
        self.pool = PipePool(pipe_allowance(), pipes, reactor) if self.platform.splice else None
        self.admissions = AdmissionRegistry(overall_limits(ruleset), shared=shared_limits(ruleset))
        ledger = Ledger() if wants_figures(ruleset) else None
        self.context = context = make_context(
            reactor, self.platform, self._poller, self.pool, self.admissions, ledger
        )
        self.targets = context.targets
        self._session_log: SessionLog = Silent() if log is None else log
        self._session_numbers = itertools.count(1)
        self.ruleset = self._reloaded = ruleset
        self._added: tuple[Rule, ...] = ()
        self._factories = Factories() if factories is None else factories
        self._plugins = AvailablePlugins()
        self._planned = live_rules(
            ruleset,
            context,
            self._session_log,
            ids=self._session_numbers,
            factories=self._factories,
            plugins=self._plugins,
        )
        self.names = ListenerNames(resolver_of(reactor), reactor)
        self.binder = Binder(context, self.budget, self.names.addresses)
        self._bound: list[Bound] = []
        self.retired_rules = RetiredRules(reactor, drain)
        self.checks = Checks(context, self.budget, lambda: self.every_rule)
        self.retired_rules.gone = self._rule_left
        self._switching = Switching(self.binder, self.retired_rules, self.admissions, context.loops)
        self._steering = Steering(self.binder, self.budget, self.retired_rules)
        self._making = making
        self._turn = DeferredLock()
        self._work = SlicedWork(reactor)
        self.reloads = 0
        self.reload_failures = 0
        self.last_reload_refused = False
        self.reloaded_at: float | None = None
        self.drain_limit = drain
        self._stopping: list[Deferred[None]] = []
        self._ports_open = False
        self._deadline: IDelayedCall | None = None
        self._log = Logger()
        where = metrics_listener(ruleset)
        self._watchers = None if where is None else Watchers(reactor, where, self)

    def __repr__(self) -> str:
        state = "running" if self.running else "stopped"
        return f"<Forwarder {state} rules={len(self._planned)} sessions={self.session_count}>"

    @property
    def rules(self) -> Sequence[LiveRule]:
        """The active rules, one for each listening port."""
        return [planned.live for planned in self._planned]

    @property
    def every_rule(self) -> Sequence[LiveRule]:
        """The active rules, then the retired ones."""
        return [*self.rules, *self.retired_rules]

    @property
    def bound(self) -> Sequence[Bound]:
        """The listeners, one for each active rule; empty before the start."""
        return tuple(self._bound)

    @property
    def listeners(self) -> Iterator[tuple[LiveRule, Listener | DatagramClients]]:
        """The listening sockets of portfwd, each with its rule."""
        for bound in self._bound:
            for listener in bound.listeners:
                yield bound.live, listener

    @property
    def is_ready(self) -> bool:
        """Whether clients are accepted. False before the start and while draining."""
        return bool(self.running) and not self._stopping

    @property
    def metrics_address(self) -> str:
        """The address of the metrics page; empty for none."""
        return "" if self._watchers is None else self._watchers.address

    def renew_metrics(self) -> Iterator[str]:
        """See `portfwd.admin.operator_port.renew_all`."""
        return iter(()) if self._watchers is None else self._watchers.renew()

    @property
    def sinks(self) -> Sinks:
        """The sinks of filters. The owner of the service reopens and closes them."""
        return self.context.sinks

    @property
    def filter_metrics(self) -> FilterMetrics:
        """The metrics that filters have defined."""
        return self._factories.metrics

    def use_log(self, log: SessionLog) -> None:
        """Write the lines of all sessions, open ones too, to `log` from now on."""
        self._session_log = log
        for live in self.every_rule:
            live.log = log

    @property
    def session_count(self) -> int:
        """Number of open sessions."""
        return sum(len(live.sessions) for live in self.every_rule)

    @property
    def session_total(self) -> int:
        """Number of all sessions since the start, including those of removed rules."""
        return self.admissions.total

    @property
    def addresses(self) -> dict[str, list[str]]:
        """A mapping from names of rules to their bound addresses with ports."""
        return {bound.live.name: list(bound_addresses(bound)) for bound in self._bound}

    def privilegedStartService(self) -> None:
        """
        Bind all listeners. Ports below 1024 need the privileges that are dropped after this.

        :raises StartError: with a line for each listener that cannot be bound.
        """
        self.budget.limit = raise_descriptor_limit()
        self.names.learn_now(finish(names_of(self.ruleset)))
        self._bound = self.binder.bind_all(self._planned)
        if self._watchers is not None:
            try:
                self._watchers.bind()
            except StartError:
                self._close_listeners()
                raise

    def startService(self) -> None:
        """
        Start to accept.

        :raises StartError: a listener cannot be bound, or another program took its port since.
        """
        if not self._bound:
            self.privilegedStartService()
        if self._poller is not None:
            self._poller.start()
        for sentence in self.platform.missing():
            self._log.info("{sentence}", sentence=sentence)
        failures = self._factories.start_all(self._reactor)
        failures += start_listeners(self._bound) if not failures else []
        if self._watchers is not None and not failures:
            try:
                self._watchers.start()
            except StartError as problem:
                failures += problem.failures
        self.budget.spent = count_descriptors()
        failures += too_few_descriptors(self.budget) if not failures else []
        if failures:
            self._close_listeners()
            self._factories.stop_all()
            if self._watchers is not None:
                self._watchers.stop()
            if self._poller is not None:
                self._poller.stop()
            raise StartError(failures)
        super().startService()
        self.checks.start()
        self.binder.unused.refuse(systemd_names(self._bound))
        tell_where(self._log, self.context.loops, self._bound)

    def _close_listeners(self) -> Deferred[Any]:
        bound, self._bound = self._bound, []
        closing = [deferred for one in bound for deferred in one.close()]
        return DeferredList(closing, consumeErrors=True)

    def stopService(self) -> Deferred[None]:
        """
        Stop accepting, let sessions finish, and cut the remaining ones at the deadline.

        :returns: fires when all sessions and ports are closed.
        """
        stopped: Deferred[None] = Deferred()
        self._stopping.append(stopped)
        if len(self._stopping) > 1:
            return stopped  # it is running already
        super().stopService()
        self.names.stop()
        self._work.end()
        self._ports_open = True
        for bound in self._bound:
            if not bound.paused:
                for late in bound.take_waiting():
                    self.retired_rules.serve(bound.live, late, LAST_BATCHES)
        self.retired_rules.stop()
        if count := self.session_count:
            limit = f"{self.drain_limit:g}"
            self._log.info("draining: {drain} s for open sessions ({count})", count=count, drain=limit)
            self._deadline = self._reactor.callLater(self.drain_limit, self.cut_at_deadline)
        self.binder.retired.stop()
        self.binder.unused.stop()
        for live in self.every_rule:
            live.when_empty = self._drained
        self._close_listeners().addCallback(self._ports_closed)
        return stopped

    def _ports_closed(self, _results: object) -> None:
        self._ports_open = False
        self._drained()

    def cut_at_deadline(self) -> None:
        """Cut the sessions that have not finished within the drain limit."""
        self._log.info(
            "draining: {count} did not finish within {drain} s and will be ended",
            count=counted(self.session_count, "session"),
            drain=f"{self.drain_limit:g}",
        )
        self.cut(CloseReason.DRAIN)

    def cut(self, reason: CloseReason) -> None:
        """End all sessions with `reason`: killed ones at once, others after delivering received bytes."""
        for live in self.every_rule:
            live.close_all(reason, now=reason is CloseReason.KILLED)

    def _poller_lost(self, failure: Failure) -> None:
        """Cut all sessions, because no event can be delivered any more."""
        try:
            self.cut(CloseReason.INTERNAL)
        finally:
            if self._lost is not None:
                self._lost(failure)
            elif self.running:
                self.stopService()

    def _drained(self) -> None:
        """A rule has no sessions left, or the ports are closed: check whether the stop is complete."""
        if not self._stopping or self._ports_open or self.session_count:
            return
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._factories.stop_all()
        if self._watchers is not None:
            self._watchers.stop()
        self.checks.stop()
        if self.pool is not None:
            self.pool.close()
        for live in self.every_rule:
            live.close_shared()
        for names in (self.context.names, self.context.client_names):
            names.stop()
        if self._poller is not None:
            self._poller.stop()
        stopping, self._stopping = self._stopping, []
        for stopped in stopping:
            stopped.callback(None)

    # Reload

    def reload(
        self,
        ruleset: Ruleset,
        dry_run: bool = False,
        *,
        log: SessionLog | None = None,
        code: bool = False,
    ) -> Deferred[ReloadResult]:
        """
        Change to `ruleset` completely, or not at all.

        Listeners in both rulesets keep their sockets. New sessions use the new rules, and running sessions
        keep the old ones. If the listener of a session was removed, ``on-remove`` of its old rule decides.
        The work is done in slices, so sessions continue.

        :param dry_run: only check whether it could be applied, as far as possible without listening.
        :param log: writes the access lines from then on; None for the current one.
        :param code: whether to import changed modules of ``python:`` filters again, for new sessions.
        :returns: fires with the result. Later reloads wait for their turn.
        """
        return self._turn.run(lambda: Deferred.fromCoroutine(self._reload(ruleset, dry_run, log, code)))

    def add_rules(self, rules: Sequence[Rule]) -> Deferred[ReloadResult]:
        """
        Add `rules` to the ruleset, in place of those added before, completely or not at all.

        They stay over reloads and are otherwise like other rules. This works as a reload but is not counted
        as one, looks for no plug-ins, and reads no files of unchanged rules. For the sessions of a replaced
        rule its ``on-remove`` decides, also if another rule has its listener now.

        :returns: see `reload`.
        """
        return self._turn.run(lambda: Deferred.fromCoroutine(self._add(tuple(rules))))

    async def _add(self, added: tuple[Rule, ...]) -> ReloadResult:
        gone = {id(one) for one in self._added} - {id(one) for one in added}
        result = await self._become(self._reloaded, added, plugins=self._plugins)
        if result.applied:
            for live in self.retired_rules:
                if id(live.rule) in gone:
                    self.retired_rules.leave(live, live.options.on_remove)
        return result

    async def _become(
        self,
        ruleset: Ruleset,
        added: tuple[Rule, ...],
        dry_run: bool = False,
        log: SessionLog | None = None,
        code: bool = False,
        plugins: AvailablePlugins | None = None,
    ) -> ReloadResult:
        """:param plugins: those found before; None to look for plug-ins, and for changed files of rules."""
        begun = time.monotonic()
        self._work.longest = 0.0
        twice = {rule.name for rule in ruleset.rules} & {rule.name for rule in added}
        if twice:
            line = f"rules that were added at run time are called so, too: {', '.join(sorted(twice))}"
            return ReloadResult(dry_run=dry_run, failures=(line,))
        whole = evolve(ruleset, rules=(*ruleset.rules, *added)) if added else ruleset
        with self._making(lambda: len(self.ruleset.rules)):
            try:
                result = await self._change(whole, dry_run, log, code, plugins)
            except CancelledError:
                result = ReloadResult(dry_run=dry_run, failures=("the forwarder is stopping",))
        self.names.settle(applied=result.applied)
        if result.applied:
            self._reloaded, self._added = ruleset, added
        return evolve(result, seconds=time.monotonic() - begun, longest=self._work.longest)

    async def _reload(
        self, ruleset: Ruleset, dry_run: bool, log: SessionLog | None, code: bool
    ) -> ReloadResult:
        result = await self._become(ruleset, self._added, dry_run, log, code)
        if result.applied:
            self.reloads += 1
            self.last_reload_refused = False
            self.reloaded_at = time.time()
        elif result.refused and not dry_run:
            self.refused()
        return result

    def refused(self) -> None:
        """Count a refused reload."""
        self.reload_failures += 1
        self.last_reload_refused = True

    async def _change(
        self,
        ruleset: Ruleset,
        dry_run: bool,
        log: SessionLog | None,
        code: bool,
        before: AvailablePlugins | None,
    ) -> ReloadResult:
        if not self.running:
            return ReloadResult(dry_run=dry_run, failures=("the forwarder is not running",))
        problems = await self._work.in_slices(unsupported_in_steps(ruleset))
        if problems:
            return ReloadResult(dry_run=dry_run, problems=problems, failures=refusal(problems))
        await self.names.learn(await self._work.in_slices(names_of(ruleset)))
        if not self.running:
            raise CancelledError
        session_log = self._session_log if log is None else log
        plugins = AvailablePlugins() if before is None else before
        maker = RuleMaker(
            ruleset,
            self.context,
            session_log,
            ids=self._session_numbers,
            factories=self._factories,
            plugins=plugins,
        )
        problem = maker.selection.import_again(modules_of(ruleset)) if code else ""
        if problem:
            return ReloadResult(dry_run=dry_run, failures=(problem,))
        resolve = self.names.addresses
        change = Transition(self._bound, self.ruleset, ruleset, maker, self.binder, self.budget, resolve)
        change.keeps_unchanged = before is not None
        try:
            await self._work.in_slices(change.prepare(dry_run=dry_run))
        except BaseException:
            finish(self._switching.undo(change))
            raise
        failures = refusal(change.problems, change.failures)
        if failures or dry_run:
            await self._work.to_the_end(self._switching.undo(change))
            return ReloadResult(
                dry_run=dry_run,
                difference=change.difference,
                renewed=change.renewed,
                problems=tuple(change.problems),
                failures=failures,
            )
        imported = [f"the module {one} was imported again" for one in maker.selection.imported]
        await self._work.to_the_end(self._switch(change, ruleset, session_log))
        self._plugins = plugins
        self._stop_factories()
        result = ReloadResult(
            applied=True,
            difference=change.difference,
            renewed=change.renewed,
            notes=(*change.notes, *self.names.notes, *imported),
        )
        if self.running:
            self.checks.follow()
            await self._work.to_the_end(change.let_go())
        return result

    def _switch(self, change: Transition, ruleset: Ruleset, log: SessionLog) -> Steps[None]:
        def took() -> None:
            self._bound = change.bound
            self._planned = [Planned(one.live, one.offset, one.endpoint) for one in self._bound]
            self.ruleset = ruleset
            self._session_log = log

        return self._switching.apply(change, ruleset, log, self._bound, took)

    def _rule_left(self, live: LiveRule) -> None:
        """A replaced rule has no sessions left: stop what only these needed."""
        self.checks.rule_gone(live)
        self._stop_factories()

    def _stop_factories(self) -> None:
        if self._factories.has_retired:
            self._factories.stop_unused({id(one) for live in self.every_rule for _, one in live.filters})
