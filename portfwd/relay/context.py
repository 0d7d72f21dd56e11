# -*- test-case-name: tests.relay.test_dial -*-
"""The objects that all sessions of a process share."""

from __future__ import annotations

import socket
from typing import Protocol
from weakref import WeakValueDictionary

from attrs import field, frozen

from portfwd.kernel.platform import Platform
from portfwd.kernel.polling import Polling
from portfwd.kernel.reactor import Reactor
from portfwd.kernel.turn_clock import RULES, TurnClock
from portfwd.limits.admission import AdmissionRegistry
from portfwd.metrics.tally import Ledger
from portfwd.relay.destination import TLSTarget
from portfwd.relay.loops import Loops
from portfwd.relay.sinks import Sinks
from portfwd.relay.verifier import Verifier
from portfwd.rules.model import Options
from portfwd.streams.opening import StreamMaker
from portfwd.streams.sockets.socket_opening import SocketShare
from portfwd.streams.stream import Stream
from portfwd.upstreams.names import Names
from portfwd.upstreams.states import TargetStates
from portfwd.values import Address


@frozen(eq=False)
class RelayContext:
    """
    What sessions need.

    :ivar timers: the clock under those of rules, which take turns.
    :ivar names: the addresses of names that the rules file writes.
    :ivar client_names: the addresses of names that clients choose.
    :ivar streams: makes streams for the pair.
    :ivar sinks: where copies go that filters make.
    :ivar admissions: counts who is in, for limits.
    :ivar loops: knows connections of this process to its own listeners.
    :ivar ledger: adds up what sessions did, where somebody wants to know.
    :ivar verifier: checks secrets in threads.
    :ivar targets: the health of every target.
    :ivar tls_targets: what verifies TLS targets at work, by host and options: a reload uses them again.
    :ivar sockets: makes streams of sockets of ours, where the platform has what they need.
    """

    reactor: Reactor
    platform: Platform
    names: Names
    streams: StreamMaker
    sockets: SocketShare | None = None
    timers: TurnClock = field()
    client_names: Names = field()
    loops: Loops = field()
    sinks: Sinks = field()
    admissions: AdmissionRegistry = field(factory=AdmissionRegistry)
    ledger: Ledger | None = None
    verifier: Verifier = field()
    targets: TargetStates = field()
    tls_targets: WeakValueDictionary[tuple[object, ...], TLSTarget] = field(factory=WeakValueDictionary)

    @timers.default
    def _timers(self) -> TurnClock:
        return TurnClock(self.reactor, RULES)

    @verifier.default
    def _verifier(self) -> Verifier:
        return Verifier(self.reactor)

    @targets.default
    def _targets(self) -> TargetStates:
        return TargetStates(self.reactor.seconds)

    @loops.default
    def _loops(self) -> Loops:
        return Loops(self.reactor.seconds)

    @client_names.default
    def _client_names(self) -> Names:
        return self.names

    @sinks.default
    def _sinks(self) -> Sinks:
        return Sinks(self.reactor, self.names, self.loops)


class Opener(Protocol):
    """
    Makes streams of connected sockets.

    :ivar poller: waits for connections, if it is not the reactor who does.
    """

    @property
    def poller(self) -> Polling | None:
        """See the class."""

    def accepted(
        self, sock: socket.socket, address: Address | None, options: Options, local: Address | None = None
    ) -> Stream:
        """A client's; `local` is where it was accepted, if that is known."""

    def plain(
        self, sock: socket.socket, address: Address | None, buffer: int, *, seen: int | None = None
    ) -> Stream:
        """An upstream's."""
