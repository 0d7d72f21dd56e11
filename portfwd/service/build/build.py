# -*- test-case-name: tests.service.build.test_build -*-
"""
Makes destinations, live rules and bound listeners from the values of rules.

This module joins packages that do not know each other. Failures are collected, so one start reports all of
them.
"""

from __future__ import annotations

import itertools
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import cast

from attrs import frozen
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.logger import Logger

from portfwd.errors import Problem, StartError
from portfwd.kernel.socket_addresses import fixed_address
from portfwd.kernel.socket_options import apply_settings, listening_settings
from portfwd.limits.descriptors import DescriptorBudget
from portfwd.listen import systemd
from portfwd.listen.binding import bind
from portfwd.listen.listener import Listener
from portfwd.listen.retired import RetiredListeners
from portfwd.relay.context import Opener, RelayContext
from portfwd.relay.destination import Destination
from portfwd.relay.live import LiveRule
from portfwd.relay.rule import SessionLog
from portfwd.relay.tls_start import TLSStart
from portfwd.rules.access import AccessList
from portfwd.rules.model import (
    DATAGRAM_KINDS,
    SYSTEMD_KINDS,
    TLS_KINDS,
    Kind,
    ListenSpec,
    PortRange,
    Rule,
    Ruleset,
)
from portfwd.service.build.bind_failures import (
    cannot_bind,
)
from portfwd.service.build.bound import Bound, listen_on_endpoints, room_maker, taking
from portfwd.service.build.checks import ReadyCheck, configure_checks
from portfwd.service.build.datagrams import adopt_listeners, rule_listeners
from portfwd.service.build.endpoints import portable_endpoints
from portfwd.service.build.factories import Factories
from portfwd.service.build.filters import Clause, configure
from portfwd.service.build.plugins import AvailablePlugins
from portfwd.service.build.rule_streams import choose_streams, context_of
from portfwd.service.build.target_texts import target_reader
from portfwd.service.build.targets import (
    TLSCreators,
    described,
    destination,
    named_target,
    warn_unverified,
)
from portfwd.service.build.unused_sockets import UnusedSockets
from portfwd.service.tls.files import failures_of
from portfwd.service.tls.listening import ready_streams
from portfwd.service.tls.starting import tls_starts
from portfwd.service.tls.targets import ClientSide
from portfwd.values import Side


def at_port(rule: Rule, offset: int) -> tuple[str, tuple[str, str, str, str]]:
    """The name and the written addresses of one port of a rule's range."""
    ports = rule.listen.ports
    if ports is None or len(ports) == 1:
        return rule.name, rule.written
    port = str(ports.first + offset)
    bind_host, _, connect_host, connect_port = rule.written
    target = rule.targets[0].ports
    if target is not None and len(target) > 1:
        connect_port = str(target.first + offset)
    return f"{rule.name.removesuffix(f':{ports}')}:{port}", (bind_host, port, connect_host, connect_port)


@frozen(eq=False)
class Planned:
    """
    A live rule that will listen.

    :ivar offset: number of the port in its rule's range, from 0.
    :ivar endpoint: endpoint of Twisted, if the rule names one. It is made before the start, because its
        certificates may not be readable later.
    """

    live: LiveRule
    offset: int
    endpoint: IStreamServerEndpoint | None = None


class RuleMaker:
    """
    Makes the live rules of a ruleset, one after the other.

    :ivar problems: errors of filters and checks.
    :ivar failures: one line for each target or endpoint that cannot be prepared.
    :ivar selection: the factories of its filters, to be committed or undone.
    """

    def __init__(
        self,
        ruleset: Ruleset,
        context: RelayContext,
        log: SessionLog,
        *,
        wall_clock: Callable[[], float] = time.time,
        ids: Iterator[int] | None = None,
        factories: Factories | None = None,
        plugins: AvailablePlugins | None = None,
    ) -> None:
        """
        :param ids: source of session numbers; None to start at 1.
        :param factories: the existing factories of filters.
        :param plugins: the plug-ins that the rules may name; None for the installed ones.
        """
        self._context = context
        self._log = log
        self._wall_clock = wall_clock
        self._ids = itertools.count(1) if ids is None else ids
        self._everywhere = AccessList(ruleset.access)
        self._creators: TLSCreators = {}
        self._plugins = AvailablePlugins() if plugins is None else plugins
        self.selection = (Factories() if factories is None else factories).select()
        self.problems: list[Problem] = []
        self.failures: list[str] = []

    def prepare(self, rule: Rule, before: Opener | None = None) -> Callable[[int], Planned]:
        """
        Make the common parts of all ports of a rule.

        :param before: the previous maker of streams of its first port.
        :returns: a function that makes the live rule of one port, by its number in the range from 0.
        """
        access = self._everywhere.with_own(rule.access) if rule.access else self._everywhere
        # The rate limiters of the sessions start again with the rule.
        context, limiters = context_of(rule, self._context)
        filters: tuple[Clause, ...] = ()
        if rule.filters:
            configured = configure(rule, self._plugins.filters, selection=self.selection)
            filters = configured.clauses
            self.problems += configured.problems
        checks: tuple[ReadyCheck, ...] = ()
        if rule.checks:
            ready_checks = configure_checks(rule, self._plugins.checks)
            checks = ready_checks.checks
            self.problems += ready_checks.problems
        streams = choose_streams(rule, context, limiters, filters)
        starts = self._tls_starts(rule, filters)
        if rule.listen.kind in TLS_KINDS:
            streams = ready_streams(rule, context, filters, self.failures, before, limiters) or streams
        endpoint = None
        if rule.listen.kind is Kind.ENDPOINT:
            path, given = rule.listen.path, rule.listen.given
            try:
                endpoint = (
                    cast(IStreamServerEndpoint, given)
                    if given is not None
                    else described(path, partial(serverFromString, self._context.reactor, path))
                )
            except ValueError as problem:
                self.failures.append(f"{rule.name}: {problem} ({rule.where})")

        def make(offset: int) -> Planned:
            name, written = at_port(rule, offset)
            ready: dict[object, Destination] = {}
            for spec in rule.every_target():
                try:
                    ready[spec] = destination(spec, offset, self._context, self._creators, rule.name)
                except (OSError, ValueError) as problem:
                    self.failures += failures_of(rule, spec, problem)
            live = LiveRule(
                rule,
                name,
                [ready[spec] for spec in rule.targets if spec in ready],
                access,
                context,
                self._log,
                self._wall_clock,
                self._ids,
                written,
                streams,
                filters,
                ready,
                checks,
            )
            live.tls_starts = starts
            for made in ready.values():
                if isinstance(made.tls, ClientSide):
                    who = named_target(rule.name, made.label)
                    made.tls.users[who] = live
                    if offset == 0:
                        warn_unverified(who, made.options)
            live.read_target = target_reader(rule, self._context, self._creators)
            return Planned(live, offset, endpoint)

        return make

    def _tls_starts(self, rule: Rule, filters: Sequence[Clause]) -> Mapping[tuple[int, Side], TLSStart]:
        try:
            return tls_starts(rule.name, [one.factory for one in filters], self._context.reactor)
        except (OSError, ValueError) as problem:
            self.failures.append(f"{rule.name}: {problem} ({rule.where})")
            return {}


def count_ports(rule: Rule) -> int:
    """Number of listeners of a rule: one for each port of its range."""
    return len(rule.listen.ports or PortRange(0, 0))


def live_rules(
    ruleset: Ruleset,
    context: RelayContext,
    log: SessionLog,
    *,
    wall_clock: Callable[[], float] = time.time,
    ids: Iterator[int] | None = None,
    factories: Factories | None = None,
    plugins: AvailablePlugins | None = None,
) -> list[Planned]:
    """
    Make all live rules, one for each port of a range.

    :param factories: the existing factories of filters; those of these rules are added.
    :param plugins: see `RuleMaker`.
    :raises StartError: a filter, target or endpoint cannot be prepared; with one line for each.
    """
    maker = RuleMaker(
        ruleset, context, log, wall_clock=wall_clock, ids=ids, factories=factories, plugins=plugins
    )
    made: list[Planned] = []
    for rule in ruleset.rules:
        make = maker.prepare(rule)
        made += [make(offset) for offset in range(count_ports(rule))]
    failures = [*map(str, maker.problems), *maker.failures]
    if failures:
        raise StartError(list(dict.fromkeys(failures)))
    maker.selection.take()
    return made


class Binder:
    """Binds live rules. If one of them fails, the bound ones are closed."""

    def __init__(
        self,
        context: RelayContext,
        budget: DescriptorBudget,
        resolve: Callable[[str], Sequence[str]] | None = None,
    ) -> None:
        """:param resolve: resolves names of listeners; None for the system's resolver, which may block."""
        self._context = context
        self.reactor = context.reactor
        self._budget = budget
        self._resolve = resolve
        self._inherited: Mapping[str, list[int]] | None = None
        self.unused = UnusedSockets(context.reactor, budget, self._inherited_sockets)
        self.retired = RetiredListeners()
        self._log = Logger()

    def bind_all(self, rules: Sequence[Planned]) -> list[Bound]:
        """
        Bind all listeners. No client is accepted before the reactor runs.

        Sockets of portfwd do not listen yet; Twisted's endpoints do not have this state.

        :raises StartError: a listener cannot be bound; with one line for each. None stays bound.
        """
        bound: list[Bound] = []
        failures: list[str] = []
        told: Callable[[str], None] = failures.append

        def failed(line: str) -> None:
            told(line)

        for one in rules:
            try:
                made = self.bind(one)
            except (OSError, ValueError) as problem:
                failed(cannot_bind(one.live.rule, one.live.name, one.offset, problem))
                continue
            bound.append(made)
            listen_on_endpoints(made, self._budget, failed)
        if failures:
            for made in bound:
                made.close()
            raise StartError(failures)
        # Some endpoints fail only later.
        told = self.late_failure
        return bound

    def late_failure(self, line: str) -> None:
        """Log a listener that failed after the start."""
        self._log.critical("{line}", line=line)

    def bind(
        self,
        planned: Planned,
        resolve: Callable[[str], Sequence[str]] | None = None,
        *,
        share: bool = False,
    ) -> Bound:
        """
        Bind the listeners of one live rule. The parameters are those of `portfwd.listen.binding.bind`.

        :raises OSError, ValueError: they cannot be bound; none is bound then.
        """
        resolve = self._resolve if resolve is None else resolve
        live, offset = planned.live, planned.offset
        spec, budget = live.rule.listen, self._budget.share(live.rule.name)
        bound = Bound(live, offset, planned.endpoint)
        if planned.endpoint is not None:
            bound.endpoints.append(planned.endpoint)
        elif spec.kind in SYSTEMD_KINDS:
            descriptors = self._inherited_sockets().get(spec.path)
            if not descriptors:
                raise ValueError("systemd passed no socket of that name")
            if spec.kind in DATAGRAM_KINDS:
                bound.listeners += adopt_listeners(live, descriptors, self._context, budget)
                return bound
            try:
                for descriptor in descriptors:
                    sock = systemd.adopt(descriptor)
                    apply_settings(sock, listening_settings(live.options))
                    bound.listeners.append(self._listener(live, spec, sock, inherited=True))
            except OSError:
                bound.close()
                raise
        elif spec.kind in DATAGRAM_KINDS:
            bound.listeners += rule_listeners(
                self.retired, live, offset, self._context, budget, resolve, share
            )
        else:
            port = spec.ports.first + offset if spec.ports is not None else 0
            if self._context.platform.own_sockets:
                bound.listeners += [
                    self._listener(live, spec, sock)
                    for sock in bind(spec, port, live.options, resolve, share=share)
                ]
            else:
                bound.endpoints += portable_endpoints(self._context.reactor, spec, port)
        return bound

    def _inherited_sockets(self) -> Mapping[str, list[int]]:
        if self._inherited is None:
            self._inherited = systemd.inherited(systemd.initial_environment(), os.getpid())
        return self._inherited

    def _listener(
        self, live: LiveRule, spec: ListenSpec, sock: socket.socket, *, inherited: bool = False
    ) -> Listener:
        share = self._budget.share(live.rule.name)
        return Listener(
            live.name,
            sock,
            self._context.reactor,
            share,
            taking(live, fixed_address(sock), share),
            spec.options.backlog,
            inherited=inherited,
            accept_limit=live.accept_limit,
            make_room=room_maker(live),
            poller=None
            if self._context.sockets is None
            else self._context.sockets.poller.group(live.rule.name),
        )


def count_descriptors() -> int:
    """Number of open descriptors of this process; an estimate if the kernel does not tell."""
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return 16
