# -*- test-case-name: tests.service.test_embed -*-
"""
A forwarder inside another Twisted program.

It is the forwarder of ``twistd portfwd`` with the services of the rules' directives: the access log of a
``log`` line, control sockets, manholes, the metrics page, and a pid file. It installs no signal handlers,
does not change the user, and does not end the program.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from attrs import evolve
from twisted.application.service import IServiceCollection, MultiService
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorCore

from portfwd.admin.operator import LiveSession, OperatorError, TargetView
from portfwd.errors import RulesError, StartError, SteerError
from portfwd.kernel.steady import steady
from portfwd.relay.rule import SessionLog
from portfwd.rules import unsupported
from portfwd.rules.model import AccessLogFormat, LogSpec, Rule, Ruleset
from portfwd.service.build.checks import plugin_problems
from portfwd.service.build.factories import Factories
from portfwd.service.build.from_objects import FilterArgument, Listening, Target, ruleset_from, ruleset_of
from portfwd.service.daemon.pid_file import PidFile
from portfwd.service.operators.forwarder_operator import ForwarderOperator
from portfwd.service.operators.operators import add_operators
from portfwd.service.run.forwarder import DRAIN, Forwarder
from portfwd.service.run.reload import ReloadResult
from portfwd.service.run.reporting import add_reports
from portfwd.service.run.session_log import LogInUse, describe
from portfwd.service.run.subscribers import Subscribers, Told
from portfwd.service.tls.certificate_watch import CertificateWatch
from portfwd.values import SessionSummary

#: Maximum seconds for writing the last lines of the access log.
LAST_LINES: Final = 2.0


class EmbeddedForwarder(MultiService):
    """
    A forwarder inside another program: a service, made by `portfwd.forward`.

    :ivar forwarder: the service that listens.
    :ivar clock: the program's reactor, whose delayed calls use the monotonic clock.
    """

    def __init__(self, reactor: IReactorCore, ruleset: Ruleset, log: SessionLog | None, drain: float) -> None:
        """
        Prepare the forwarder without binding or connecting.

        :raises RulesError: a rule needs an unsupported feature, or a filter cannot be configured.
        :raises StartError: a target, the access log or a manhole cannot be prepared.
        """
        super().__init__()
        factories = Factories()
        problems = (*unsupported(ruleset), *plugin_problems(ruleset, factories.select()))
        if problems:
            raise RulesError(problems)
        self.clock = clock = steady(reactor)
        self._state = ""
        self._is_bound = False
        self._subscribers = Subscribers()
        if log is not None:
            self._subscribers.add(_checked_log(log))
        self._written = LogInUse(_log_spec(ruleset), foreground=True, clock=clock)
        if self._written.warning:
            raise StartError([self._written.warning])
        self._unsubscribe_log: Callable[[], None] = lambda: None
        self._subscribe_log()
        self.forwarder = Forwarder(clock, ruleset, self._subscribers, drain=drain, factories=factories)
        self._operator = ForwarderOperator(self.forwarder, clock)
        self.forwarder.setServiceParent(self)
        add_operators(self, ruleset, self.forwarder, clock, reload=self._reload_for_operators)
        CertificateWatch(clock, lambda: self.forwarder.rules).setServiceParent(self)
        add_reports(self, ruleset, self.forwarder, clock)
        if ruleset.pid_file is not None:
            PidFile(ruleset.pid_file).setServiceParent(self)
        self.name = f"portfwd {ruleset.rules[0].name}" if ruleset.rules else "portfwd"

    def __repr__(self) -> str:
        return f"<EmbeddedForwarder {self._state or 'new'} {self.forwarder!r}>"

    # Reading

    @property
    def addresses(self) -> dict[str, list[str]]:
        """The bound addresses of each rule by name, with the bound ports; empty before the start."""
        return self.forwarder.addresses

    @property
    def sessions(self) -> Sequence[SessionSummary]:
        """The summaries of all open sessions."""
        return [session.summary() for session in self._operator.sessions()]

    @property
    def targets(self) -> Sequence[TargetView]:
        """All targets with their states and sessions."""
        return list(self._operator.targets(None))

    def subscribe(self, *, opened: Told | None = None, closed: Told | None = None) -> Callable[[], None]:
        """
        Call a function with the `SessionSummary` of each session.

        :param opened: called when a session has reached its upstream.
        :param closed: called when a session has ended; the summary has its close reason.
        :returns: a function that ends the subscription.
        """
        for name, told in (("opened", opened), ("closed", closed)):
            if told is not None and not callable(told):
                raise TypeError(f"{name}= must be a function of one SessionSummary, not {told!r}")
        return self._subscribers.subscribe(opened, closed)

    # Starting and stopping

    def setServiceParent(self, parent: Any) -> None:
        """See `IService`. A name that the parent already has gets a number."""
        siblings = {child.name for child in IServiceCollection(parent)}
        name, number = self.name, 1
        while self.name in siblings:
            number += 1
            self.name = f"{name} ({number})"
        super().setServiceParent(parent)

    def privilegedStartService(self) -> None:
        """
        Bind all listeners. The program may drop its privileges after this.

        :raises StartError: listeners cannot be bound; with one line for each. No listener stays bound.
        """
        self._refuse_second_start()
        self._is_bound = True
        self._try(super().privilegedStartService)

    def startService(self) -> None:
        """
        Accept clients, after binding listeners that are not bound yet.

        :raises StartError: a listener cannot be bound, or the service was started before.
        """
        self._refuse_second_start()
        if not self._is_bound:
            self.privilegedStartService()
        self._try(super().startService)
        self._state = "running"

    def _refuse_second_start(self) -> None:
        if self._state:
            raise StartError([f"this forwarder is {self._state}; it can be started only once"])

    def _try(self, start: Callable[[], object]) -> None:
        try:
            start()
        except BaseException:
            self._is_bound = False
            self.running = 0
            for child in self:
                child.stopService()
            raise

    def stopService(self) -> Deferred[Any]:
        """
        Stop accepting clients, let sessions finish until the drain limit, and reset those that are left.

        :returns: a Deferred that fires when all sessions and ports are closed and the access log is written.
        """
        self._state = "stopped"
        stopped: Deferred[Any] = super().stopService()
        return stopped.addBoth(self._close_logs)

    def _close_logs(self, result: Any) -> Any:
        self.forwarder.sinks.close(LAST_LINES)
        self._written.close(LAST_LINES)
        return result

    # Control

    def drain(self, rule: str | None = None) -> Sequence[str]:
        """
        Close listeners, and give their sessions the time limit of a stop. `resume` listens again.

        :param rule: the name of one rule; None for all rules.
        :returns: the names of the rules that were drained.
        :raises SteerError: there is no such rule, or a reload is under way.
        """
        return self._steer(self._operator.drain, rule)

    def pause(self, rule: str | None = None) -> Sequence[str]:
        """Stop accepting; new clients wait in the backlog. See `drain` for parameter, result and errors."""
        return self._steer(self._operator.pause, rule)

    def resume(self, rule: str | None = None) -> Sequence[str]:
        """Accept clients again after `pause` or `drain`. See `drain` for parameter, result and errors."""
        return self._steer(self._operator.resume, rule)

    def _steer(self, steer: Callable[[str], list[str]], rule: str | None) -> Sequence[str]:
        names = dict.fromkeys(one.rule.name for one in self.forwarder.rules) if rule is None else [rule]
        try:
            return [steered for name in names for steered in steer(name)]
        except OperatorError as problem:
            raise SteerError(str(problem)) from None

    def kill(self, session: int) -> None:
        """
        Reset both sides of a session.

        :param session: its number, `SessionSummary.id`.
        :raises SteerError: the session is not open.
        """
        try:
            found: LiveSession = self._operator.session(session)
        except OperatorError as problem:
            raise SteerError(str(problem)) from None
        self._operator.kill(found)

    # Reload

    def reload(
        self,
        rule: str | Rule | Ruleset | None = None,
        *,
        listen: Listening | None = None,
        to: Target | Iterable[Target] | None = None,
        filters: Iterable[FilterArgument] = (),
        clauses: Iterable[str] = (),
        name: str | None = None,
        dry_run: bool = False,
        code: bool = False,
        **options: Any,
    ) -> Deferred[ReloadResult]:
        """
        Replace the rules, or change nothing if that fails. The arguments are those of `portfwd.forward`.

        New sessions use the new rules, and open sessions keep the old ones. A listener in both rulesets stays
        open, also an endpoint object. Without arguments the same rules are made again, which reads
        certificates and other files again.

        :param dry_run: only report whether the reload would succeed.
        :param code: import changed code of ``python:`` filters for new sessions.
        :returns: a Deferred that fires with the result. Invalid filters and listeners that cannot be bound
            are in its ``failures``.
        :raises RulesError: the rules are not valid; nothing was changed.
        """
        if rule is None and listen is None and to is None:
            _refuse_arguments(filters, clauses, name, options)
            ruleset = self.forwarder.ruleset
        else:
            ruleset = _read(rule, listen, to, filters, clauses, name, options)
        return Deferred.fromCoroutine(self._reload(ruleset, dry_run, code))

    async def _reload(self, ruleset: Ruleset, dry_run: bool, code: bool) -> ReloadResult:
        spec = _log_spec(ruleset)
        if spec == self._written.spec or dry_run:
            return await self.forwarder.reload(ruleset, dry_run, code=code)
        try:
            opened = self._written.open_other(spec)
        except OSError as problem:
            return ReloadResult(failures=(f"{describe(spec, problem)}; the old log stays in use",))
        applied = False
        try:
            result = await self.forwarder.reload(ruleset, code=code)
            applied = result.applied
        finally:
            if applied:
                self._written.exchange(spec, opened)
                self._subscribe_log()
            elif opened[1] is not None:
                opened[1].close(0)
        return result

    def _reload_for_operators(self, dry_run: bool, code: bool) -> Deferred[ReloadResult]:
        return self.reload(dry_run=dry_run, code=code)

    def _subscribe_log(self) -> None:
        """Subscribe the present access log instead of the previous one."""
        self._unsubscribe_log()
        log = self._written.log
        self._unsubscribe_log = (lambda: None) if log is None else self._subscribers.add(log)


def forward(
    reactor: IReactorCore,
    rule: str | Rule | Ruleset | None = None,
    *,
    listen: Listening | None = None,
    to: Target | Iterable[Target] | None = None,
    filters: Iterable[FilterArgument] = (),
    clauses: Iterable[str] = (),
    name: str | None = None,
    log: SessionLog | None = None,
    drain: float = DRAIN,
    **options: Any,
) -> EmbeddedForwarder:
    """See `portfwd.forward`."""
    ruleset = _read(rule, listen, to, filters, clauses, name, options)
    return EmbeddedForwarder(reactor, ruleset, log, _checked_drain(drain))


def _read(
    rule: str | Rule | Ruleset | None,
    listen: Listening | None,
    to: Target | Iterable[Target] | None,
    filters: Iterable[FilterArgument],
    clauses: Iterable[str],
    name: str | None,
    options: dict[str, Any],
) -> Ruleset:
    if rule is not None:
        if listen is not None or to is not None:
            raise TypeError("give a rule, or listen= and to=, not both")
        _refuse_arguments(filters, clauses, name, options)
        return ruleset_of(rule)
    if listen is None or to is None:
        raise TypeError("give a rule, or both listen= and to=")
    return ruleset_from(listen, to, filters, clauses, name, options)


def _refuse_arguments(
    filters: Iterable[FilterArgument], clauses: Iterable[str], name: str | None, options: dict[str, Any]
) -> None:
    if filters or clauses or name is not None or options:
        raise TypeError("filters, clauses, name and options need listen= and to=; a rule has its own")


def _log_spec(ruleset: Ruleset) -> LogSpec:
    """The ``log`` line of the rules. Without one, no access log is written to the output of the program."""
    return evolve(ruleset.log, access=AccessLogFormat.OFF) if ruleset.log == LogSpec() else ruleset.log


def _checked_drain(drain: Any) -> float:
    if isinstance(drain, bool) or not isinstance(drain, (int, float)):
        raise TypeError(f"drain= takes a number of seconds, not {drain!r}")
    if not 0 <= drain < math.inf:
        raise ValueError(f"drain= takes 0 seconds or more, and not for ever, not {drain!r}")
    return drain


def _checked_log(log: Any) -> SessionLog:
    missing = [name for name in ("wants_opened", "wants_closed") if not hasattr(log, name)]
    missing += [f"{name}()" for name in ("opened", "closed") if not callable(getattr(log, name, None))]
    if isinstance(log, type) or missing:
        what = f"it has no {', '.join(missing)}" if missing else "it is a class"
        raise TypeError(
            f"log= must be a session log, and {log!r} is not: {what};"
            " for a function, use subscribe(closed=…) of the service"
        )
    checked_log: SessionLog = log
    return checked_log
