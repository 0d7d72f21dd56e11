# -*- test-case-name: tests.service.build.test_build -*-
"""
A live rule and what listens for it: sockets of ours, or ports of Twisted's.

It accepts, pauses, serves another live rule, and closes. Binding is `portfwd.service.build.build.Binder`'s.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.python.failure import Failure

from portfwd.kernel.sockets import close_by_reset, fixed_address
from portfwd.limits.descriptors import PER_SESSION, DescriptorBudget, Descriptors
from portfwd.listen.accept_limit import Accept, MakeRoom
from portfwd.listen.datagram_clients import DatagramClients
from portfwd.listen.endpoint_clients import StreamFactory
from portfwd.listen.handed_clients import HandedClients
from portfwd.listen.late_clients import LAST_BATCHES, LateClients
from portfwd.listen.listener import Listener
from portfwd.relay.live import LiveRule
from portfwd.rules.model import TLS_KINDS
from portfwd.service.build.bind_failures import cannot_listen, listen_label
from portfwd.service.build.unix_port import with_file
from portfwd.streams.transports.transport import TransportStream
from portfwd.values import Address


@define(eq=False)
class Bound:
    """
    A live rule and what listens for it.

    :ivar listeners: sockets of ours; bound, and not accepting before `start`.
    :ivar endpoints: Twisted's endpoints that were asked to listen.
    :ivar ports: those of them that do.
    :ivar closed: whether it accepts no more, for good.
    :ivar paused: whether clients are left waiting in the backlog.
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
        """One of the endpoints does; one that is too late is stopped again."""
        port = with_file(port)
        if self.closed:
            port.stopListening()
            return
        self.ports.append(port)
        if self.paused and hasattr(port, "stopReading"):
            port.stopReading()

    @property
    def can_pause(self) -> bool:
        """Whether `pause` can be had: not every port that a plug-in of Twisted's makes can wait."""
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
        """Give the next clients to `live`; sessions that are there stay where they are."""
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
        """Let clients wait for the limits of the rule as they are now."""
        for listener in self.listeners:
            if isinstance(listener, Listener):
                listener.judge_by(self.live.accept_limit)

    def take_waiting(self) -> Iterator[LateClients]:
        """
        Take those in whom the kernel has let in already: they cannot know that they came late.

        :returns: those who wait for a limit, or for their turn; whoever calls this has them served.
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
        Accept no more.

        :param stays: associations last until their own limits end them.
        :returns: they fire when Twisted's ports are closed.
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
    What takes the clients of a listener in, for `live`.

    :param local: where they came to, if that is the same for all.
    """
    give_back = partial(budget.give_back, PER_SESSION)
    options = live.options

    def accept(client: socket.socket, address: Address | None) -> None:
        try:
            stream = live.streams.accepted(client, address, options, local)
        except OSError:
            # The client vanished while it was being set up, or the kernel is out of memory for it.
            give_back()
            return
        live.accept(stream, give_back)

    return accept


def room_maker(live: LiveRule) -> MakeRoom | None:
    """What drops a client of `live` that has not begun its TLS handshake; None where there are none."""
    shakes = live.rule.listen.kind in TLS_KINDS or live.tls_starts
    return live.handshakes.drop_silent if shakes else None


def listen_on_endpoints(bound: Bound, budget: DescriptorBudget, failed: Callable[[str], None]) -> None:
    """
    Let Twisted's endpoints of `bound` listen.

    :param failed: gets one line when an endpoint cannot; most say so at once.
    """
    live = bound.live
    where = listen_label(live.rule.listen, bound.offset)

    def accept(stream: TransportStream) -> None:
        share = budget.share(bound.live.rule.name)
        if share.take(PER_SESSION):
            bound.live.accept(stream, partial(share.give_back, PER_SESSION))
        else:
            # Twisted has accepted it already, so it cannot wait in the backlog.
            stream.abort()
            bound.live.turned_away(share)

    def refused(failure: Failure) -> None:
        problem: Any = getattr(failure.value, "socketError", failure.value)
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
        # A reload may have put another rule in the place of this one.
        factory = StreamFactory(lambda: bound.live.context.streams.bare(bound.live.options.buffer), accept)
        listening = maybeDeferred(endpoint.listen, factory)
        listening.addCallbacks(bound.listening, refused)
