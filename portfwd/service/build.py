# -*- test-case-name: tests.service.test_build -*-
"""
From rule values to what runs: destinations, live rules, bound listeners.

This is where the rooms meet that do not know each other. Everything that can
fail is collected, so that one start tells all that is wrong.
"""

from __future__ import annotations

import itertools
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from attrs import define, field, frozen
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import (
    TCP4ServerEndpoint,
    TCP6ServerEndpoint,
    UNIXServerEndpoint,
    clientFromString,
    serverFromString,
)
from twisted.internet.interfaces import (
    IListeningPort,
    IOpenSSLClientConnectionCreator,
    IStreamServerEndpoint,
)
from twisted.logger import Logger
from twisted.python.failure import Failure

from portfwd.errors import StartError
from portfwd.filters.registry import Registry
from portfwd.kernel.sockets import apply_settings, fixed_address, listening_settings
from portfwd.limits.descriptors import PER_SESSION, DescriptorBudget
from portfwd.listen import systemd
from portfwd.listen.arrivals import StreamFactory
from portfwd.listen.binding import DEFAULT_MODE, bind
from portfwd.listen.datagram_binding import bind_datagrams
from portfwd.listen.datagram_listener import DatagramListener
from portfwd.listen.listener import Listener
from portfwd.relay.dial import Destination, Opener, Surroundings
from portfwd.relay.live import LiveRule, SessionLog
from portfwd.rules.access import AccessList
from portfwd.rules.model import Kind, ListenSpec, PortRange, RelayKind, Rule, Ruleset, TargetSpec
from portfwd.service.filters import Clause, configure
from portfwd.service.tls import client_creator
from portfwd.streams.datagram_opening import DatagramStreams
from portfwd.streams.socket_opening import SocketStreams
from portfwd.streams.transport import TransportStream
from portfwd.upstreams.connect import from_twisted_address
from portfwd.values import Address, InetAddress, UnixAddress


def target_label(spec: TargetSpec, port: int | None) -> str:
    """A target as messages name it."""
    prefix = "" if spec.kind in (Kind.TCP, Kind.UDP) else f"{spec.kind.value}:"
    return f"{prefix}{InetAddress(spec.host, port)}" if port is not None else f"{prefix}{spec.path}"


T = TypeVar("T")
TLSCreators = dict[tuple[str, str | None, bool, str | None], IOpenSSLClientConnectionCreator]


def _described(description: str, parse: Callable[[], T]) -> T:
    """
    What a parser of endpoint descriptions makes of one.

    :raises ValueError: whatever the parser raised: Twisted's and plug-ins' raise what they like.
    """
    try:
        return parse()
    except Exception as problem:
        raise ValueError(f'endpoint:"{description}": {problem or type(problem).__name__}') from problem


def destination(
    spec: TargetSpec, offset: int, world: Surroundings, creators: TLSCreators | None = None
) -> Destination:
    """
    `spec` made ready to be dialled.

    :param offset: which port of a range, from 0; a target with one port takes them all.
    :param creators: those made before, to be used again: each holds all authorities in memory.
    :raises OSError, ValueError: a certificate file, or an endpoint's description, is not good.
    """
    port = None
    if spec.ports is not None:
        port = spec.ports.first + (offset if len(spec.ports) > 1 else 0)
    label = target_label(spec, port)
    options = spec.options
    if spec.kind is Kind.ENDPOINT:
        endpoint = _described(spec.path, lambda: clientFromString(world.reactor, spec.path))
        return Destination(label, options, endpoint=endpoint)
    if spec.kind is Kind.UNIX:
        return Destination(label, options, address=UnixAddress(spec.path))
    if port is None:
        raise ValueError(f"{label}: {spec.kind.value} names no upstream")
    tls = None
    if spec.kind is Kind.TLS:
        creators = {} if creators is None else creators
        key = (spec.host, options.server_name, options.verify, options.ca)
        tls = creators.get(key)
        if tls is None:
            tls = creators[key] = client_creator(spec.host, options, lambda path: Path(path).read_bytes())
    datagrams = spec.kind is Kind.UDP
    return Destination(label, options, address=InetAddress(spec.host, port), tls=tls, datagrams=datagrams)


def _at_port(rule: Rule, offset: int) -> tuple[str, tuple[str, str, str, str]]:
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


def choose_streams(rule: Rule, world: Surroundings) -> Opener:
    """Sockets of ours where both ends are plain and nobody asked for the pair; else the pair's streams."""
    if rule.has_datagrams:
        poller = None if world.sockets is None else world.sockets.poller
        return DatagramStreams(world.reactor, rule.options, poller, world.streams, mixed=rule.is_mixed)
    if world.sockets is None or rule.options.relay is RelayKind.PAIR or not rule.is_plain:
        return world.streams
    return SocketStreams(world.sockets, rule.options, watched=bool(rule.filters))


@frozen(eq=False)
class Planned:
    """
    A live rule that is to listen.

    :ivar offset: which port of its rule's range, from 0.
    :ivar endpoint: Twisted's endpoint, where the rule names one; read before anything is started,
        because its certificates may be out of reach later.
    """

    live: LiveRule
    offset: int
    endpoint: IStreamServerEndpoint | None = None


def live_rules(
    ruleset: Ruleset,
    world: Surroundings,
    log: SessionLog,
    *,
    wall_clock: Callable[[], float] = time.time,
) -> list[Planned]:
    """
    Every rule at work, one for each port of a range.

    :raises StartError: with a line for each target or endpoint that cannot be made ready.
    """
    ids = itertools.count(1)
    everywhere = AccessList(ruleset.access)
    made: list[Planned] = []
    failures: list[str] = []
    creators: TLSCreators = {}
    registry = Registry.installed() if any(rule.filters for rule in ruleset.rules) else None
    for rule in ruleset.rules:
        access = everywhere.with_own(rule.access) if rule.access else everywhere
        streams = choose_streams(rule, world)
        filters: tuple[Clause, ...] = ()
        if registry is not None and rule.filters:
            configured = configure(rule, registry)
            filters = configured.clauses
            failures += [str(problem) for problem in configured.problems]
        endpoint = None
        if rule.listen.kind is Kind.ENDPOINT:
            path = rule.listen.path
            try:
                endpoint = _described(path, partial(serverFromString, world.reactor, path))
            except ValueError as problem:
                failures.append(f"{rule.name}: {problem} ({rule.where})")
        for offset in range(len(rule.listen.ports or PortRange(0, 0))):
            name, written = _at_port(rule, offset)
            ready: dict[object, Destination] = {}
            for spec in rule.every_target():
                try:
                    ready[spec] = destination(spec, offset, world, creators)
                except (OSError, ValueError) as problem:
                    failures.append(f"{rule.name}: {problem} ({rule.where})")
            destinations = [ready[spec] for spec in rule.targets if spec in ready]
            live = LiveRule(
                rule,
                name,
                destinations,
                access,
                world,
                log,
                wall_clock,
                ids,
                written,
                streams,
                filters,
                ready,
            )
            made.append(Planned(live, offset, endpoint))
    if failures:
        raise StartError(list(dict.fromkeys(failures)))
    return made


@define(eq=False)
class Bound:
    """
    A live rule and what listens for it.

    :ivar listeners: sockets of ours; bound, and not accepting before `start`.
    :ivar endpoints: Twisted's endpoints that were asked to listen.
    :ivar ports: those of them that do.
    """

    live: LiveRule
    offset: int
    listeners: list[Listener | DatagramListener] = field(factory=list)
    endpoints: list[IStreamServerEndpoint] = field(factory=list)
    ports: list[IListeningPort] = field(factory=list)
    _closed: bool = False

    def listening(self, port: IListeningPort) -> None:
        """One of the endpoints does; one that is too late is stopped again."""
        if self._closed:
            port.stopListening()
        else:
            self.ports.append(port)

    def close(self) -> list[Deferred[Any]]:
        """
        Accept no more.

        :returns: they fire when Twisted's ports are closed.
        """
        self._closed = True
        for listener in self.listeners:
            listener.stop()
        ports, self.ports = self.ports, []
        return [maybeDeferred(port.stopListening) for port in ports]


class Binder:
    """Binds live rules; what is bound when something fails is closed again."""

    def __init__(self, world: Surroundings, budget: DescriptorBudget) -> None:
        self._world = world
        self._budget = budget
        self._inherited: Mapping[str, list[int]] | None = None
        self._log = Logger()

    def bind_all(self, rules: Sequence[Planned]) -> list[Bound]:
        """
        Bind every listener; nobody is accepted before the reactor runs.

        Sockets of ours do not even listen yet; Twisted's endpoints know no such state.

        :raises StartError: with a line for each that cannot be bound; nothing stays bound.
        """
        bound: list[Bound] = []
        failures: list[str] = []
        told: Callable[[str], None] = failures.append

        def failed(line: str) -> None:
            told(line)

        for one in rules:
            try:
                made = self._bind(one)
            except (OSError, ValueError) as problem:
                reason = (
                    problem.strerror if isinstance(problem, OSError) and problem.strerror else str(problem)
                )
                where = listen_label(one.live.rule.listen, one.offset)
                failed(cannot_listen(one.live.name, where, reason))
                continue
            bound.append(made)
            listen_on_endpoints(made, self._budget, failed)
        if failures:
            for made in bound:
                made.close()
            raise StartError(failures)
        # Some endpoints know only later that they cannot listen.
        told = self._late_failure
        return bound

    def _late_failure(self, line: str) -> None:
        self._log.critical("{line}", line=line)

    def _bind(self, planned: Planned) -> Bound:
        live, offset = planned.live, planned.offset
        spec = live.rule.listen
        bound = Bound(live, offset)
        if planned.endpoint is not None:
            bound.endpoints.append(planned.endpoint)
        elif spec.kind is Kind.SYSTEMD:
            descriptors = self._inherited_sockets().get(spec.path)
            if not descriptors:
                raise ValueError("systemd passed no socket of that name")
            try:
                for descriptor in descriptors:
                    sock = systemd.adopt(descriptor)
                    apply_settings(sock, listening_settings(live.options))
                    bound.listeners.append(self._listener(live, spec, sock, inherited=True))
            except OSError:
                bound.close()
                raise
        elif spec.kind is Kind.UDP:
            bound.listeners += self._datagram_listeners(live, spec, offset)
        else:
            port = spec.ports.first + offset if spec.ports is not None else 0
            if self._world.platform.own_sockets:
                bound.listeners += [
                    self._listener(live, spec, sock) for sock in bind(spec, port, live.options)
                ]
            else:
                bound.endpoints += self._portable_endpoints(spec, port)
        return bound

    def _inherited_sockets(self) -> Mapping[str, list[int]]:
        if self._inherited is None:
            self._inherited = systemd.inherited(systemd.initial_environment(), os.getpid())
        return self._inherited

    def _portable_endpoints(self, spec: ListenSpec, port: int) -> list[IStreamServerEndpoint]:
        reactor, backlog = self._world.reactor, spec.options.backlog or socket.SOMAXCONN
        if spec.kind is Kind.UNIX:
            mode = DEFAULT_MODE if spec.options.mode is None else spec.options.mode
            name = UnixAddress(spec.path).sockaddr
            return [UNIXServerEndpoint(reactor, name, backlog, mode)]
        if spec.host:
            kind = TCP6ServerEndpoint if ":" in spec.host else TCP4ServerEndpoint
            return [kind(reactor, port, backlog, spec.host)]
        # Both families: one dual-stack socket, which "::" is by itself everywhere but on Windows.
        everywhere: list[IStreamServerEndpoint] = []
        if socket.has_ipv6:
            everywhere.append(TCP6ServerEndpoint(reactor, port, backlog, "::"))
        if sys.platform == "win32" or not socket.has_ipv6:
            everywhere.append(TCP4ServerEndpoint(reactor, port, backlog))
        return everywhere

    def _datagram_listeners(self, live: LiveRule, spec: ListenSpec, offset: int) -> list[DatagramListener]:
        port = spec.ports.first + offset if spec.ports is not None else 0
        sockets = self._world.sockets
        if sockets is None:
            raise ValueError("this version has no UDP without epoll")
        return [
            DatagramListener(live.name, sock, self._world.reactor, sockets.poller, self._budget, live)
            for sock in bind_datagrams(spec, port)
        ]

    def _listener(
        self, live: LiveRule, spec: ListenSpec, sock: socket.socket, *, inherited: bool = False
    ) -> Listener:
        give_back = partial(self._budget.give_back, PER_SESSION)
        options, local = live.options, fixed_address(sock)

        def accept(client: socket.socket, address: Address | None) -> None:
            try:
                stream = live.streams.accepted(client, address, options, local)
            except OSError:
                # The client vanished while it was being set up, or the kernel is out of memory for it.
                give_back()
                return
            live.accept(stream, give_back)

        return Listener(
            live.name,
            sock,
            self._world.reactor,
            self._budget,
            accept,
            spec.options.backlog,
            inherited=inherited,
        )


def listen_on_endpoints(bound: Bound, budget: DescriptorBudget, failed: Callable[[str], None]) -> None:
    """
    Let Twisted's endpoints of `bound` listen.

    :param failed: gets one line when an endpoint cannot; most say so at once.
    """
    live = bound.live
    where = listen_label(live.rule.listen, bound.offset)

    def accept(stream: TransportStream) -> None:
        # Twisted has the socket already, so this only keeps the count right.
        taken = budget.take(PER_SESSION)
        live.accept(stream, (lambda: budget.give_back(PER_SESSION)) if taken else _nothing)

    def refused(failure: Failure) -> None:
        problem = getattr(failure.value, "socketError", failure.value)
        reason = problem.strerror if isinstance(problem, OSError) and problem.strerror else str(problem)
        failed(cannot_listen(live.name, where, reason))

    for endpoint in bound.endpoints:
        factory = StreamFactory(live.clock, live.options.buffer, accept)
        listening = maybeDeferred(endpoint.listen, factory)
        listening.addCallbacks(bound.listening, refused)


def _nothing() -> None:
    """Nothing to give back."""


def cannot_listen(name: str, where: str, reason: str) -> str:
    """
    A failure in one line.

    A rule that is called by its address is not named twice: of a daemon's line 100 bytes reach the terminal.
    """
    line = f"cannot listen on {where}: {reason}"
    return line if name == where else f"{name}: {line}"


def listen_label(spec: ListenSpec, offset: int) -> str:
    """A listener as messages name it, for one port of its range."""
    if spec.ports is not None:
        return str(InetAddress(spec.host or "*", spec.ports.first + offset))
    return f"{spec.kind.value}:{spec.path}"


def bound_addresses(bound: Bound) -> Iterator[str]:
    """Where `bound` really listens, for the log."""
    for listener in bound.listeners:
        yield str(listener.address)
    for port in bound.ports:
        address = from_twisted_address(port.getHost())
        yield str(address) if address is not None else listen_label(bound.live.rule.listen, bound.offset)


def target_labels(live: LiveRule) -> str:
    """The targets of a live rule, for the log."""
    return ", ".join(one.label for one in live.destinations)


def count_descriptors() -> int:
    """How many descriptors this process has open; an estimate where the kernel does not tell."""
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return 16
