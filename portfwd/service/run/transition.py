# -*- test-case-name: tests.service.run.test_transition -*-
"""
The transition from the active rules to others: what is kept, made, bound and removed.

A `Transition` is prepared completely, without visible changes for clients, and then made or undone.
Everything that can fail happens in the preparation: live rules, sockets, their buffers and their registration
in the poller. Sockets start to listen last. After that, an exception does not stop the other steps; it is
logged and noted in the result. A listener in both rulesets keeps its socket with the clients in its backlog,
and an unchanged rule keeps everything. Both phases are `Steps`, so sessions continue.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import Any, Final

from attrs import Factory, define, field
from twisted.logger import Logger

from portfwd.errors import Problem
from portfwd.kernel.failures import log_failure
from portfwd.limits.descriptors import RESERVE, DescriptorBudget
from portfwd.listen.datagram_clients import DatagramClients
from portfwd.listen.late_clients import LateClients
from portfwd.listen.listener import Listener
from portfwd.listen.unix_files import try_unix
from portfwd.relay.live import LiveRule
from portfwd.rules.model import UNIX_KINDS, Kind, OnRemove, Rule, Ruleset
from portfwd.rules.queries.diff import Difference, compare
from portfwd.rules.steps import Steps
from portfwd.service.build.bind_failures import (
    address_label,
    cannot_bind,
    cannot_listen,
    listen_label,
)
from portfwd.service.build.bound import Bound, listen_on_endpoints
from portfwd.service.build.build import Binder, Planned, RuleMaker
from portfwd.service.build.endpoints import renew_certificate, try_endpoint
from portfwd.service.build.listener_names import has_name
from portfwd.service.run.adapting import adapt
from portfwd.service.run.matching import (
    DRAINED,
    PAUSED,
    ListenerRenewal,
    Port,
    is_reusable,
    match,
    renewal,
)
from portfwd.service.run.renewals import WantedPort, renewed
from portfwd.service.run.rivals import Rivals
from portfwd.values import CloseReason, UnixAddress, counted

#: Directives that take effect only when the process starts.
AT_START: Final = ("admin", "manhole", "metrics", "stats-log", "status-file", "toxiproxy", "web")


@define(eq=False)
class Transition:
    """
    One change from the active rules to others.

    :ivar keeps_unchanged: whether an unchanged rule stays as it is, although its files may have changed.
    :ivar difference: the difference, after the preparation.
    :ivar problems: problems of filters.
    :ivar failures: one line for each failure.
    :ivar notes: see `portfwd.service.run.reload.ReloadResult`.
    :ivar renewed: see `portfwd.service.run.renewals.renewed`.
    :ivar replaced: replaced live rules, each with its successor.
    :ivar removed: live rules without a successor.
    :ivar late: late clients of closed listeners, each with the live rule that will serve them.
    """

    _log = Logger()

    _current: Sequence[Bound]
    _before: Ruleset
    _after: Ruleset
    _maker: RuleMaker
    _binder: Binder
    _budget: DescriptorBudget
    _resolve: Callable[[str], Sequence[str]]
    keeps_unchanged: bool = field(default=False, init=False)
    difference: Difference = field(factory=Difference, init=False)
    failures: list[str] = field(factory=list, init=False)
    notes: list[str] = field(factory=list, init=False)
    renewed: tuple[str, ...] = field(default=(), init=False)
    replaced: list[tuple[LiveRule, LiveRule]] = field(factory=list, init=False)
    removed: list[LiveRule] = field(factory=list, init=False)
    late: list[tuple[LiveRule, LateClients]] = field(factory=list, init=False)
    _gone: list[Bound] = field(factory=list, init=False)
    _ports: list[Port] = field(factory=list, init=False)
    _same: list[tuple[Bound, Port]] = field(factory=list, init=False)
    _handed: list[tuple[Bound, Port, Planned]] = field(factory=list, init=False)
    _wanted: list[WantedPort] = field(factory=list, init=False)
    #: New sockets that receive datagrams since they were bound, with the listeners that received them before.
    _took: list[tuple[Bound, list[DatagramClients]]] = field(factory=list, init=False)
    _rivals: Rivals = field(
        default=Factory(lambda change: Rivals(change._binder.retired), takes_self=True), init=False
    )
    _spent: int = field(default=0, init=False)
    _prepared: bool = field(default=False, init=False)

    @property
    def problems(self) -> Sequence[Problem]:
        """See the class."""
        return self._maker.problems

    @property
    def bound(self) -> list[Bound]:
        """The listeners of the new rules, in order."""
        return [port.bound for port in self._ports if port.bound is not None]

    @property
    def fresh(self) -> Sequence[Bound]:
        """The new listeners in `bound`."""
        return tuple(one.made for one in self._wanted if one.made is not None)

    # Preparation, without visible changes for clients

    def prepare(self, *, dry_run: bool = False) -> Steps[None]:
        """
        Make and bind everything new. Failures are added to `problems` and `failures`.

        :param dry_run: whether to listen on nothing and make no files.
        """
        self.difference = yield from compare(self._before, self._after)
        found = yield from match(self._current, self._after)
        self._ports, self._gone = found.ports, found.gone
        yield from self._make()
        if self.failures or self.problems:
            return
        for bound in (*self._gone, *(one.before for one in self._wanted if one.before is not None)):
            self._rivals.add(bound)
            yield
        yield from self._bind(dry_run)
        self.renewed = yield from renewed(self._handed, self._wanted)
        if self.failures or dry_run:
            return
        self.failures += self._maker.selection.start()
        if self.failures:
            return
        yield from self._open()
        self._prepared = not self.failures
        self._note_what_waits()

    def _make(self) -> Steps[None]:
        """Make live rules for all ports that need one."""
        same_access = self._before.access == self._after.access
        rule: Rule | None = None
        make: Callable[[int], Planned] | None = None
        kept: set[str] = set()
        for port in self._ports:
            bound = port.bound
            if port.rule is not rule:
                rule, make = port.rule, None
            needs = None if bound is None or port.steered == DRAINED else self._renewal(bound, port.rule)
            planned: Planned | None = None
            if (
                bound is not None
                and same_access
                and (self.keeps_unchanged or is_reusable(port.rule))
                and (bound.live.rule is port.rule or bound.live.rule == port.rule)
                and bound.live.name == port.name
            ):
                self._same.append((bound, port))
                kept.add(port.rule.name)
                planned = Planned(bound.live, port.offset, bound.endpoint)
            else:
                if make is None:
                    make = self._maker.prepare(port.rule, None if bound is None else bound.live.streams)
                planned = make(port.offset)
                if bound is not None and needs is None:
                    self._handed.append((bound, port, planned))
            if bound is None and port.steered == DRAINED:
                port.bound = Bound(planned.live, port.offset, planned.endpoint, closed=True)
            elif bound is None or needs is not None:
                self._wanted.append(WantedPort(port, planned, bound, needs))
            yield
        self._maker.selection.keep(kept)
        self.failures += self._maker.failures

    def _renewal(self, bound: Bound, rule: Rule) -> ListenerRenewal | None:
        addresses: Sequence[str] = ()
        if has_name(rule):
            try:
                addresses = self._resolve(rule.listen.host)
            except OSError:  # unknown now: the listeners stay
                addresses = ()
        return renewal(bound, rule, addresses)

    # Binding

    def _bind(self, dry_run: bool) -> Steps[None]:
        # A bound datagram socket takes datagrams from others on its port, so these are bound last.
        for wanted in sorted(self._wanted, key=lambda one: bool(self._rivals.of_datagrams(one.planned))):
            planned = wanted.planned
            try:
                if dry_run and self._is_tried(planned):
                    continue
                rivals = self._rivals.of_datagrams(planned)
                made = wanted.made = self._bind_one(wanted)
                made.paused = True  # no client of an endpoint is accepted until the reload is certain
                if rivals:
                    self._took.append((made, rivals))
                    for listener in made.listeners:
                        listener.open()  # datagrams arrive from now on and need a buffer
            except (OSError, ValueError) as problem:
                self.failures.append(
                    cannot_bind(planned.live.rule, planned.live.name, planned.offset, problem)
                )
            yield
        if self.failures:
            return
        count = sum(1 if one.made is None else len(one.made.listeners) for one in self._wanted)
        if self._budget.take(count):
            self._spent = count
        else:
            more = len(self._wanted)
            self.failures.append(
                f"{more} more listener{'s are' if more != 1 else ' is'} too many:"
                f" {self._budget.spent} of {counted(self._budget.limit, 'descriptor')} are open,"
                f" and {RESERVE} are kept free; raise 'ulimit -n'"
            )

    def _is_tried(self, planned: Planned) -> bool:
        """
        Check a listener that a dry run cannot bind; return whether it is one.

        :raises OSError, ValueError: it could not be bound.
        """
        listen = planned.live.rule.listen
        if listen.kind in UNIX_KINDS:
            if not self._rivals.can_be_had(planned):
                datagrams = listen.kind is Kind.UNIX_DATAGRAM
                try_unix(UnixAddress(listen.path), socket.SOCK_DGRAM if datagrams else socket.SOCK_STREAM)
            return True
        if planned.endpoint is not None:
            if not self._rivals.can_be_had(planned):
                try_endpoint(listen.path)
            return True
        return bool(self._rivals.of_datagrams(planned))

    def _bind_one(self, wanted: WantedPort) -> Bound:
        planned, needs = wanted.planned, wanted.renewal
        resolve = self._resolve
        if needs is not None and needs.hosts is not None:
            hosts = needs.hosts

            def resolve(_: str) -> Sequence[str]:
                return hosts

        return self._rivals.bind(self._binder, planned, resolve)

    def _open(self) -> Steps[None]:
        # Twisted's listeners first, which may fail although they were bound. They accept no clients yet.
        for made in self.fresh:
            if made.endpoints:
                listen_on_endpoints(made, self._budget, self._endpoint_failed)
                yield
        if self.failures:
            return
        for made in self.fresh:
            for listener in made.listeners:
                try:
                    listener.open()
                except OSError as problem:
                    spec = made.live.rule.listen
                    label = address_label(spec, listener.address)
                    line = cannot_listen(made.live.name, label, problem, spec.where)
                    self.failures.append(line)
                    return
            yield

    def _endpoint_failed(self, line: str) -> None:
        """An endpoint of Twisted cannot listen. Some report this long after the reload."""
        if self._prepared:
            self._binder.late_failure(line)
        else:
            self.failures.append(line)

    def _note_what_waits(self) -> None:
        for name in self.difference.directives:
            if name in AT_START:
                self.notes.append(f"the directive '{name}' is obeyed at the next start")
        if self._before.pid_file != self._after.pid_file:
            self.notes.append("the pid file is written at the next start")
        steered = [(port.rule.name, port.steered) for port in self._ports if port.steered]
        for name, state in dict(steered).items():
            self.notes.append(f"{name} is {state} as before; 'resume' ends that")

    # Commit and undo, which cannot fail

    def undo(self) -> Steps[None]:
        """Close the new listeners and restore everything, without losing clients or datagrams."""
        for made, rivals in self._took:
            for listener in made.listeners:
                if isinstance(listener, DatagramClients):
                    yield from self.surely_all("handing datagrams back", listener.hand_back(rivals))
        self._took = []
        for wanted in self._wanted:
            if wanted.made is not None:
                self.surely("handing clients back", self._hand_back, wanted, wanted.made)
                self.surely("closing what was bound", wanted.made.close)
                if wanted.before is None or wanted.before.live is not wanted.made.live:
                    # Clients of a port of Twisted that could not be paused.
                    self.surely("ending sessions", wanted.made.live.close_all, CloseReason.KILLED)
            yield
        for take_back in self._rivals.taking_back():
            self.surely("taking the name of a unix socket back", take_back)
        self.surely("keeping a port for this process", self._rivals.stop_sharing, self.fresh)
        self._budget.give_back(self._spent)
        self._spent = 0
        self.surely("stopping filters", self._maker.selection.undo)

    def _hand_back(self, wanted: WantedPort, made: Bound) -> None:
        """Pass clients that arrived at `made` to the other listener."""
        for listener in made.listeners:
            if isinstance(listener, Listener):
                for bound in self._rivals.bound_at(wanted.planned):
                    others = [one for one in bound.listeners if isinstance(one, Listener)]
                    if others:
                        self.late.append((bound.live, listener.hand_back(others)))

    def switch(self) -> Steps[None]:
        """Activate the new rules."""
        self.surely("taking the filters", self._maker.selection.take)
        self.surely("keeping a port for this process", self._rivals.stop_sharing, self.fresh)
        for bound, port in self._same:
            # Equal except for places in the file and texts for logs.
            bound.live.rule, bound.live.written = port.rule, port.written
            yield
        for wanted in self._wanted:
            if wanted.made is not None:
                self.surely(f"{wanted.port.name}: beginning", self._begin, wanted, wanted.made)
            yield
        for bound, port, planned in self._handed:
            self.surely(f"{port.name}: changing over", self._hand_over, bound, planned)
            self.surely(f"{port.name}: changing over", self._steer, bound, port)
            yield
        for bound in self._gone:
            self.removed.append(bound.live)
            how = bound.live.options.on_remove
            yield from self.surely_all(f"{bound.live.name}: closing", self._close(bound, how))
        for wanted in self._wanted:
            if wanted.before is not None:
                closing = self._close(wanted.before, OnRemove.STAY)
                yield from self.surely_all(f"{wanted.port.name}: closing", closing)
        for made in self.fresh:
            for listener in made.listeners:
                if isinstance(listener, DatagramClients):
                    self.surely(f"{made.live.name}: joining", self._binder.retired.join, listener)

    def _begin(self, wanted: WantedPort, made: Bound) -> None:
        port, planned, before = wanted.port, wanted.planned, wanted.before
        port.bound = made
        made.paused = False
        new = tuple(made.listeners)
        if before is not None:
            kept = [] if wanted.renewal is None else wanted.renewal.kept
            before.listeners = [one for one in before.listeners if one not in kept]
            made.listeners = [*kept, *new]
            made.serve(planned.live, planned.offset, self._budget)
            if before.live is not planned.live:
                planned.live.inherit(before.live)
                self.replaced.append((before.live, planned.live))
                self.notes += adapt(kept, before.live, planned)
        if port.steered == PAUSED:
            made.pause()
        else:
            made.resume()
        for listener in new:
            listener.begin()

    def _close(self, bound: Bound, how: OnRemove) -> Steps[None]:
        if bound.closed:
            return
        try:
            if how is not OnRemove.CUT:
                for late in bound.take_waiting():
                    self.late.append((bound.live, late))
                    yield
        finally:
            self._budget.give_back(len(bound.listeners))
            bound.close(stays=how is OnRemove.STAY)
        yield

    def let_go(self) -> Steps[None]:
        """Drop references to inactive objects in steps, because freeing all at once takes time."""
        lists: tuple[list[Any], ...] = (self._ports, self._same, self._handed, self.replaced, self._gone)
        for one in lists:
            while one:
                one.pop()
                yield
        rules = list(self._before.rules)
        self._before = Ruleset()
        while rules:
            rules.pop()
            yield

    def _steer(self, bound: Bound, port: Port) -> None:
        """Apply the operator's state of the rule's name, not that of the socket's former rule."""
        if bound.closed or bound.paused == (port.steered == PAUSED):
            return
        if bound.paused:
            bound.resume()
        else:
            bound.pause()

    def _hand_over(self, bound: Bound, planned: Planned) -> None:
        old, new = bound.live, planned.live
        bound.endpoint = planned.endpoint
        bound.serve(new, planned.offset, self._budget)
        new.inherit(old)
        self.replaced.append((old, new))
        for made in bound.ports:
            try:
                renew_certificate(made, new.rule.listen.path)
            except Exception as problem:  # whatever Twisted's parsers and plug-ins raise
                label = listen_label(new.rule.listen, planned.offset)
                self.notes.append(f"{label}: its certificate stays as it was: {problem}")
        self.notes += adapt(bound.listeners, old, planned)

    # Steps that must not stop the others

    def surely(self, what: str, work: Callable[..., object], *arguments: object) -> None:
        """Run `work`. An exception is logged and noted."""
        try:
            work(*arguments)
        except Exception:
            self._accident(what)

    def surely_all(self, what: str, steps: Steps[None]) -> Steps[None]:
        """Do the same for work in steps."""
        try:
            yield from steps
        except Exception:
            self._accident(what)

    def _accident(self, what: str) -> None:
        log_failure(self._log, "reload: {what} failed", what=what)
        self.notes.append(f"{what} failed; the log has the traceback")
