# -*- test-case-name: tests.service.run.test_reload -*-
"""
From the rules at work to others: what is kept, made, bound and let go.

A `Transition` is prepared in full, which changes nothing that clients could see,
and is then made or undone. A listener that both rulesets have keeps its socket,
and with it those who wait in its backlog; a rule that is the same in both keeps
all it has. Both halves are `Steps`, so that traffic goes on meanwhile. It
refuses to read files and to decide when: `portfwd.service.run.forwarder` does.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from attrs import define, field, frozen

from portfwd.errors import Problem, Severity
from portfwd.kernel.sockets import change_settings, listening_settings
from portfwd.limits.descriptors import RESERVE, DescriptorBudget
from portfwd.listen.binding import share_port
from portfwd.listen.datagram_clients import Reception
from portfwd.listen.listener import Listener
from portfwd.relay.live import LiveRule
from portfwd.rules.diagnostics import format_problem
from portfwd.rules.model import DATAGRAM_KINDS, Kind, OnRemove, Rule, Ruleset
from portfwd.rules.queries.diff import Difference, compare
from portfwd.rules.steps import Steps
from portfwd.service.build.bind_failures import cannot_bind, cannot_listen, lacks_privilege, listen_label
from portfwd.service.build.build import (
    Binder,
    Bound,
    Planned,
    RuleMaker,
    at_port,
    count_ports,
    listen_on_endpoints,
)
from portfwd.service.build.endpoints import renew_certificate

#: Differences, and as many failures, that one reload logs; who changes more than this sees it in the file.
MAX_LINES: Final = 50

#: Directives that are obeyed when the process starts, and only then.
AT_START: Final = ("admin", "manhole", "metrics")

Key = tuple[object, ...]


@frozen
class ReloadResult:
    """
    What came of a reload.

    :ivar applied: whether the new rules are at work; never for a dry run.
    :ivar dry_run: whether it was only to be tried.
    :ivar difference: between the rules before and the new ones; None where these could not be read.
    :ivar problems: what is wrong with the file, warnings included.
    :ivar failures: a line for each thing that cannot be had; with any of them nothing was changed.
    :ivar notes: what is not as the file says although it was applied, and what to do about it.
    :ivar seconds: how long it took.
    :ivar longest: seconds of the longest slice of it, in which no traffic was served.
    """

    applied: bool = False
    dry_run: bool = False
    difference: Difference | None = None
    problems: tuple[Problem, ...] = ()
    failures: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    longest: float = 0.0

    @property
    def refused(self) -> bool:
        """Whether something is wrong."""
        return bool(self.failures)

    def __str__(self) -> str:
        """One line."""
        if self.failures:
            count = len(self.failures)
            return f"refused, nothing was changed: {count} {'thing is' if count == 1 else 'things are'} wrong"
        if self.difference is None or not self.difference:
            return "nothing is different"
        return str(self.difference)

    def lines(self) -> Iterator[str]:
        """All of it for people: of failures, warnings and differences `MAX_LINES` at most, each."""
        yield f"{'dry run: ' if self.dry_run else ''}{self}"
        for failure in _first(self.failures):
            yield from failure.split("\n")
        yield from _first([str(one) for one in self.problems if one.severity is Severity.WARNING])
        if self.difference is not None:
            yield from shortened(self.difference)
        yield from _first([f"note: {note}" for note in self.notes])


def _first(lines: Sequence[str]) -> Iterator[str]:
    """`MAX_LINES` of them; the last one says how many more there are."""
    yield from lines[:MAX_LINES]
    if len(lines) > MAX_LINES:
        yield f"… and {len(lines) - MAX_LINES} more; 'portfwd check' tells all that is wrong with a file"


def shortened(difference: Difference) -> Iterator[str]:
    """The lines of a difference, `MAX_LINES` at most; the last one says how many more there are."""
    count = (
        len(difference.settings) + len(difference.removed) + len(difference.changed) + len(difference.added)
    )
    for number, line in enumerate(difference.lines(), 1):
        if number > MAX_LINES:
            yield f"… and {count - MAX_LINES} more"
            return
        yield line


def refusal(problems: Sequence[Problem], failures: Sequence[str] = ()) -> tuple[str, ...]:
    """The failures of a file with `problems`, each with its place, and of what else cannot be had."""
    return (*map(format_problem, problems), *dict.fromkeys(failures))


def listening_key(rule: Rule, offset: int) -> Key:
    """What must be equal in two rules for one socket to serve both: it cannot be changed once it is bound."""
    listen = rule.listen
    if listen.ports is None:
        return listen.kind, listen.path
    return listen.kind, listen.host, listen.ports.first + offset, listen.options.v6only


def is_reusable(rule: Rule) -> bool:
    """
    Whether a live rule can go on as it is when its text has not changed.

    What names files, by TLS, a filter or an endpoint, is made anew: they may have changed.
    """
    datagrams = rule.has_datagrams and not rule.is_mixed
    return (rule.is_plain or datagrams) and not rule.filters


@define(eq=False)
class _Port:
    """One port of the new rules. :ivar bound: what listens there now, if anything does."""

    rule: Rule
    offset: int
    name: str
    written: tuple[str, str, str, str]
    key: Key
    bound: Bound | None = None


@define(eq=False)
class Transition:
    """
    One change from rules at work to others.

    :ivar difference: known once it is prepared.
    :ivar problems: what is wrong with filters.
    :ivar failures: a line for everything that cannot be had.
    :ivar notes: see `ReloadResult`.
    :ivar replaced: live rules, each with the one that has taken its place.
    :ivar gone: what listens for nobody any more.
    """

    _current: Sequence[Bound]
    _before: Ruleset
    _after: Ruleset
    _maker: RuleMaker
    _binder: Binder
    _budget: DescriptorBudget
    _resolve: Callable[[str], Sequence[str]]
    difference: Difference = field(factory=Difference, init=False)
    failures: list[str] = field(factory=list, init=False)
    notes: list[str] = field(factory=list, init=False)
    replaced: list[tuple[LiveRule, LiveRule]] = field(factory=list, init=False)
    gone: list[Bound] = field(factory=list, init=False)
    _ports: list[_Port] = field(factory=list, init=False)
    _same: list[tuple[Bound, _Port]] = field(factory=list, init=False)
    _handed: list[tuple[Bound, Planned]] = field(factory=list, init=False)
    _new: list[Bound] = field(factory=list, init=False)
    _shared: list[socket.socket] = field(factory=list, init=False)
    #: What gets datagrams since it was bound, and whose they were.
    _took: list[tuple[Bound, list[Reception]]] = field(factory=list, init=False)
    _rivals: dict[int, list[Bound]] | None = field(default=None, init=False)
    _spent: int = field(default=0, init=False)
    _prepared: bool = field(default=False, init=False)

    @property
    def problems(self) -> Sequence[Problem]:
        """See the class."""
        return self._maker.problems

    @property
    def bound(self) -> list[Bound]:
        """What listens for the new rules, in their order."""
        return [port.bound for port in self._ports if port.bound is not None]

    @property
    def fresh(self) -> Sequence[Bound]:
        """Those of `bound` that did not listen before."""
        return tuple(self._new)

    # Preparing: nothing that a client could see

    def prepare(self, *, dry_run: bool = False) -> Steps[None]:
        """
        Make all that is new, and bind it; what cannot be had is among `problems` and `failures`.

        :param dry_run: listen on nothing, and make no file.
        """
        self.difference = yield from compare(self._before, self._after)
        self._ports = yield from self._match()
        wanted = yield from self._make()
        if self.failures or self.problems:
            return
        yield from self._bind(wanted, dry_run)
        if self.failures or dry_run:
            return
        yield from self._open()
        self._prepared = True
        self._note_what_waits()

    def _match(self) -> Steps[list[_Port]]:
        """Every port of the new rules, with what listens there already."""
        free: dict[Key, dict[str, Bound]] = {}
        for bound in self._current:
            key = listening_key(bound.live.rule, bound.offset)
            free.setdefault(key, {})[bound.live.name] = bound
            yield
        ports = []
        for rule in self._after.rules:
            for offset in range(count_ports(rule)):
                name, written = at_port(rule, offset)
                key = listening_key(rule, offset)
                port = _Port(rule, offset, name, written, key)
                # Several rules may ask for any free port, or write the same endpoint: names tell them apart.
                port.bound = free.get(key, {}).pop(name, None)
                ports.append(port)
                yield
        for port in ports:
            left = free.get(port.key)
            if port.bound is None and left:
                port.bound = left.pop(next(iter(left)))
        self.gone = [bound for left in free.values() for bound in left.values()]
        return ports

    def _make(self) -> Steps[list[tuple[_Port, Planned]]]:
        """Live rules for all ports that need one; those that are not bound yet are returned."""
        wanted: list[tuple[_Port, Planned]] = []
        same_access = self._before.access == self._after.access
        rule: Rule | None = None
        make: Callable[[int], Planned] | None = None
        for port in self._ports:
            bound = port.bound
            if port.rule is not rule:
                rule, make = port.rule, None
            if (
                bound is not None
                and same_access
                and is_reusable(port.rule)
                and bound.live.rule == port.rule
                and bound.live.name == port.name
            ):
                self._same.append((bound, port))
                yield
                continue
            if make is None:
                make = self._maker.prepare(port.rule, None if bound is None else bound.live.streams)
            planned = make(port.offset)
            if bound is None:
                wanted.append((port, planned))
            else:
                self._handed.append((bound, planned))
            yield
        self.failures += self._maker.failures
        return wanted

    def _bind(self, wanted: Sequence[tuple[_Port, Planned]], dry_run: bool) -> Steps[None]:
        # A socket for datagrams that is bound takes them from another one on its port: those come last.
        for port, planned in sorted(wanted, key=lambda one: self._takes_datagrams(one[1])):
            kind = planned.live.rule.listen.kind
            if dry_run and kind in (Kind.UNIX, Kind.UNIX_DATAGRAM, Kind.ENDPOINT):
                continue
            if dry_run and self._takes_datagrams(planned):
                continue
            rivals = self._datagram_rivals(planned)
            try:
                made = port.bound = self._bind_one(planned)
                self._new.append(made)
                if rivals:
                    self._took.append((made, rivals))
                    for listener in made.listeners:
                        listener.open()  # datagrams come from now on: they need a buffer
            except (OSError, ValueError) as problem:
                self.failures.append(self._explained(planned, problem))
            yield
        count = sum(len(made.listeners) for made in self._new)
        if self.failures:
            return
        if self._budget.take(count):
            self._spent = count
        else:
            more = len(self._new)
            self.failures.append(
                f"{more} more listener{'s are' if more != 1 else ' is'} too many:"
                f" {self._budget.spent} of {self._budget.limit} descriptors are open,"
                f" and {RESERVE} are kept free; raise 'ulimit -n'"
            )

    def _bind_one(self, planned: Planned) -> Bound:
        try:
            return self._binder.bind(planned, self._resolve)
        except OSError as problem:
            if problem.errno != errno.EADDRINUSE:
                raise
            rivals = [one.sock for one in self._rivals_of(planned)]
            if not rivals:
                raise
            for sock in rivals:
                share_port(sock, True)
            self._shared += rivals
            return self._binder.bind(planned, self._resolve, share=True)

    def _takes_datagrams(self, planned: Planned) -> bool:
        """Whether a socket for datagrams is to be bound beside one that clients use."""
        return bool(self._datagram_rivals(planned))

    def _datagram_rivals(self, planned: Planned) -> list[Reception]:
        """Those on its port whose datagrams a socket for `planned` takes as soon as it is bound."""
        if planned.live.rule.listen.kind not in DATAGRAM_KINDS:
            return []
        return [one for one in self._rivals_of(planned) if isinstance(one, Reception)]

    def _rivals_of(self, planned: Planned) -> list[Listener | Reception]:
        """Listeners that are going, and hold the port that `planned` wants."""
        if self._rivals is None:
            self._rivals = {}
            for bound in self.gone:
                port = _port(bound)
                if port is not None:
                    self._rivals.setdefault(port, []).append(bound)
        ports = planned.live.rule.listen.ports
        if ports is None:
            return []
        port = ports.first + planned.offset
        found = self._rivals.get(port, [])
        going = [listener for bound in found if not bound.closed for listener in bound.listeners]
        if planned.live.rule.listen.kind not in DATAGRAM_KINDS:
            return going
        return going + list(self._binder.retired.at_port(port))

    def _explained(self, planned: Planned, problem: Exception) -> str:
        line = cannot_bind(planned.live.rule, planned.live.name, planned.offset, problem)
        if lacks_privilege(planned.live.rule, planned.offset, problem):
            line += (
                "; a port so low wants a privilege that this process does not have (any more): restart it,"
                " or give it CAP_NET_BIND_SERVICE, or let systemd hold the socket"
            )
        return line

    def _open(self) -> Steps[None]:
        for made in self._new:
            for listener in made.listeners:
                try:
                    listener.open()
                except OSError as problem:
                    reason = problem.strerror or str(problem)
                    where = made.live.rule.listen.where
                    self._refuse(made, cannot_listen(made.live.name, str(listener.address), reason, where))
            yield
        if self.failures:
            return
        # Last, because these take clients at once.
        for made in self._new:
            if made.endpoints:
                listen_on_endpoints(made, self._budget, self._endpoint_failed)
                yield

    def _endpoint_failed(self, line: str) -> None:
        """One of Twisted's endpoints cannot listen; some say so when the reload is long over."""
        if self._prepared:
            self._binder.late_failure(line)
        else:
            self.failures.append(line)

    def _refuse(self, made: Bound, line: str) -> None:
        self.failures.append(f"{line} ({made.live.rule.listen.where})")

    def _note_what_waits(self) -> None:
        for name in self.difference.directives:
            if name in AT_START:
                self.notes.append(f"the directive '{name}' is obeyed at the next start")
        if self._before.pid_file != self._after.pid_file:
            self.notes.append("the pid file is written at the next start")

    # One of these two

    def undo(self) -> Steps[None]:
        """Close what was bound: everything is as it was, and no datagram is lost."""
        for made, rivals in self._took:
            for listener in made.listeners:
                if isinstance(listener, Reception):
                    yield from listener.hand_back(rivals)
        self._took = []
        while self._new:
            self._new.pop().close()
            yield
        self._stop_sharing()
        self._budget.give_back(self._spent)

    def switch(self) -> Steps[None]:
        """Let the new rules work; nothing of this can fail."""
        for made in self._new:
            for listener in made.listeners:
                listener.begin()
            yield
        for bound, port in self._same:
            # Equal, but for the places in the file and the words that a log repeats.
            bound.live.rule, bound.live.written = port.rule, port.written
        yield
        for bound, planned in self._handed:
            self._hand_over(bound, planned)
            yield
        closed = 0
        for bound in self.gone:
            if bound.live.options.on_remove is not OnRemove.CUT:
                bound.take_waiting()
            closed += 0 if bound.closed else len(bound.listeners)
            bound.close(stays=bound.live.options.on_remove is OnRemove.STAY)
            yield
        for made in self._new:
            for listener in made.listeners:
                if isinstance(listener, Reception):
                    self._binder.retired.join(listener)
        self._stop_sharing()
        self._budget.give_back(closed)

    def let_go(self) -> Steps[None]:
        """Forget what is not at work any more; to free it all at once would take its time."""
        lists: tuple[list[Any], ...] = (self._ports, self._same, self._handed, self.replaced, self.gone)
        for one in lists:
            while one:
                one.pop()
                yield
        rules = list(self._before.rules)
        self._before = Ruleset()
        while rules:
            rules.pop()
            yield

    def _hand_over(self, bound: Bound, planned: Planned) -> None:
        old, new = bound.live, planned.live
        before, after = old.rule.listen.options, new.rule.listen.options
        label = listen_label(new.rule.listen, planned.offset)
        bound.endpoint = planned.endpoint
        bound.serve(new, planned.offset, self._budget)
        new.inherit(old)
        self.replaced.append((old, new))
        if bound.closed:
            return
        for made in bound.ports:
            try:
                renew_certificate(made, new.rule.listen.path)
            except Exception as problem:  # whatever Twisted's parsers and plug-ins raise
                self.notes.append(f"{label}: its certificate stays as it was: {problem}")
        for listener in bound.listeners:
            try:
                listener.resize(after.backlog)
                settings = listening_settings(old.options), listening_settings(new.options)
                if not change_settings(listener.sock, *settings):
                    self.notes.append(
                        f"{label}: a buffer size that was set stays with its listener until the next start"
                    )
            except OSError as problem:
                self.notes.append(f"{label}: an option of the listener stays as it was: {problem.strerror}")
            if before.mode != after.mode:
                try:
                    listener.change_mode(after.mode)
                except OSError as problem:
                    self.notes.append(f"{label}: its permission bits stay as they were: {problem.strerror}")

    def _stop_sharing(self) -> None:
        fresh = [listener.sock for made in self._new for listener in made.listeners] if self._shared else []
        for sock in (*self._shared, *fresh):
            if sock.fileno() >= 0 and sock.family != getattr(socket, "AF_UNIX", None):
                share_port(sock, False)
        self._shared = []


def _port(bound: Bound) -> int | None:
    ports = bound.live.rule.listen.ports
    return None if ports is None else ports.first + bound.offset
