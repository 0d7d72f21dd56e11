# -*- test-case-name: tests.service.build.test_build -*-
"""
A live rule with its listeners: sockets of portfwd, or ports of Twisted.

It accepts, pauses, serves another live rule, and closes. `portfwd.service.build.build.Binder` binds it.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.python.failure import Failure

from portfwd.kernel.socket_addresses import fixed_address
from portfwd.kernel.sockets import close_by_reset
from portfwd.limits.descriptors import PER_SESSION, DescriptorBudget, Descriptors
from portfwd.listen.accept_limit import Accept, MakeRoom
from portfwd.listen.datagram_clients import DatagramClients
from portfwd.listen.endpoint_clients import StreamFactory
from portfwd.listen.handed_clients import HandedClients
from portfwd.listen.late_clients import LAST_BATCHES, LateClients
from portfwd.listen.listener import Listener
from portfwd.listen.unix_files import refuse_other_kinds
from portfwd.relay.live import LiveRule
from portfwd.rules.model import TLS_KINDS
from portfwd.service.build.bind_failures import cannot_listen, listen_label
from portfwd.service.build.unix_port import with_file
from portfwd.streams.transports.transport import TransportStream
from portfwd.values import Address


@define(eq=False)
class Bound:
    """
    A live rule with its listeners.

    :ivar listeners: sockets of portfwd; bound, and not accepting before `start`.
    :ivar endpoints: endpoints of Twisted that were asked to listen.
    :ivar ports: the ports of those that listen.
    :ivar closed: whether it is closed for good.
    :ivar paused: whether clients wait in the backlog.
    """

    live: LiveRule
    offset: int
    endpoint: IStreamServerEndpoint | None = None
    listeners: list[Listener | DatagramClients] = field(factory=list)
    endpoints: list[IStreamServerEndpoint] = field(factory=list)
    ports: list[IListeningPort] = field(factory=list)
    closed: bool = False
    paused: bool = False

    def listening(self, port: IListeningPort) -> None:
        """An endpoint listens now. If the rule is closed already, its port is stopped."""
        port = with_file(port)
        if self.closed:
            port.stopListening()
            return
        self.ports.append(port)
        if self.paused and hasattr(port, "stopReading"):
            port.stopReading()

    @property
    def can_pause(self) -> bool:
        """Whether `pause` is possible. Ports of Twisted's plug-ins may not support it."""
        return all(hasattr(port, "stopReading") for port in self.ports)

    def pause(self) -> None:
        """Leave clients in the backlog until `resume`."""
        self.paused = True
        for listener in self.listeners:
            listener.hold()
        for port in self.ports:
            port.stopReading()  # type: ignore[attr-defined]

    def resume(self) -> None:
        """Accept again."""
        self.paused = False
        for listener in self.listeners:
            listener.release()
        for port in self.ports:
            if hasattr(port, "startReading"):
                port.startReading()

    def serve(self, live: LiveRule, offset: int, budget: DescriptorBudget) -> None:
        """Serve further clients for `live`. Existing sessions keep their rule."""
        self.live, self.offset = live, offset
        for listener in self.listeners:
            if isinstance(listener, DatagramClients):
                listener.serve(live)
            else:
                share = budget.share(live.rule.name)
                accept = taking(live, fixed_address(listener.sock), share)
                listener.hand_to(live.name, accept, room_maker(live), share)
        self.judge()

    def judge(self) -> None:
        """Apply the current limits of the rule at which clients wait."""
        for listener in self.listeners:
            if isinstance(listener, Listener):
                listener.judge_by(self.live.accept_limit)

    def take_waiting(self) -> Iterator[LateClients]:
        """
        Accept the clients in the backlog, for which the connection is established already.

        :returns: the late clients, which the caller must serve.
        """
        for listener in self.listeners:
            if isinstance(listener, Listener):
                yield listener.late_clients()
            else:
                listener.take_waiting()
        for port in self.ports:
            read = getattr(port, "doRead", None)
            if read is not None:
                for _ in range(LAST_BATCHES):
                    read()

    def close(self, *, stays: bool = False) -> list[Deferred[Any]]:
        """
        Stop accepting.

        :param stays: whether associations end only at their own limits.
        :returns: Deferreds that fire when Twisted's ports are closed.
        """
        self.closed = True
        for listener in self.listeners:
            listener.bank(self.live.counts.pauses, self.live.counts.dropped)
            listener.stop(stays=stays)
        self.listeners = []
        ports, self.ports = self.ports, []
        return [maybeDeferred(port.stopListening) for port in ports]


def taking(live: LiveRule, local: Address | None, budget: Descriptors) -> Accept:
    """
    The function that serves the clients of a listener for `live`.

    :param local: local address of all clients; None if it differs.
    """
    give_back = partial(budget.give_back, PER_SESSION)
    options = live.options

    def accept(client: socket.socket, address: Address | None) -> None:
        try:
            stream = live.streams.accepted(client, address, options, local)
        except OSError:
            # The client has disconnected meanwhile, or the kernel has no memory.
            give_back()
            return
        live.accept(stream, give_back)

    return accept


def room_maker(live: LiveRule) -> MakeRoom | None:
    """The function that closes a client of `live` before its TLS handshake; None if there are none."""
    shakes = live.rule.listen.kind in TLS_KINDS or live.tls_starts
    return live.handshakes.drop_silent if shakes else None


def listen_on_endpoints(bound: Bound, budget: DescriptorBudget, failed: Callable[[str], None]) -> None:
    """
    Start Twisted's endpoints of `bound`.

    :param failed: called with one line if an endpoint cannot listen, usually at once.
    """
    live = bound.live
    where = listen_label(live.rule.listen, bound.offset)

    def accept(stream: TransportStream) -> None:
        share = budget.share(bound.live.rule.name)
        if share.take(PER_SESSION):
            bound.live.accept(stream, partial(share.give_back, PER_SESSION))
        else:
            # Twisted has accepted the client already, so it cannot wait in the backlog.
            stream.abort()
            bound.live.turned_away(share)

    def refused(failure: Failure) -> None:
        problem: Any = getattr(failure.value, "socketError", failure.value)
        path = getattr(failure.value, "port", None)
        try:
            if isinstance(path, bytes) and problem.errno == errno.EADDRINUSE:
                refuse_other_kinds(os.fsdecode(path))  # as for a listener of ours
        except FileExistsError as other:
            problem = other
        failed(cannot_listen(live.name, where, problem, live.rule.listen.where))

    def accept_socket(sock: socket.socket, address: Address | None) -> None:
        share = budget.share(bound.live.rule.name)
        if share.take(PER_SESSION):
            taking(bound.live, None, share)(sock, address)
        else:
            close_by_reset(sock)
            bound.live.turned_away(share)

    for endpoint in bound.endpoints:
        if isinstance(endpoint, HandedClients) and live.relays_sockets:
            endpoint.accept = accept_socket
            continue
        # A reload may have replaced this rule.
        factory = StreamFactory(lambda: bound.live.context.streams.bare(bound.live.options.buffer), accept)
        listening = maybeDeferred(endpoint.listen, factory)
        listening.addCallbacks(bound.listening, refused)
