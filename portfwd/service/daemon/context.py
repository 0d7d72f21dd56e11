# -*- test-case-name: tests.service.daemon.test_context -*-
"""Makes the `RelayContext` that all sessions of a process share."""

from __future__ import annotations

import os
import socket

from portfwd.kernel.pipes import PipePool
from portfwd.kernel.platform import Platform
from portfwd.kernel.poller import Poller
from portfwd.kernel.reactor import Reactor
from portfwd.limits.admission import AdmissionRegistry
from portfwd.limits.look_ups import LookUpLimits
from portfwd.metrics.tally import Ledger
from portfwd.relay.context import RelayContext
from portfwd.rules.model import Options
from portfwd.streams.opening import StreamMaker
from portfwd.streams.sockets.bulk_reads import BulkReads, BulkSlots
from portfwd.streams.sockets.socket_opening import SocketShare
from portfwd.upstreams.names import Names, Resolver
from portfwd.upstreams.resolver_files import ResolverFiles
from portfwd.upstreams.stub_resolver import StubResolver
from portfwd.upstreams.system_resolver import resolver_of


def make_context(
    reactor: Reactor,
    platform: Platform,
    poller: Poller | None,
    pool: PipePool | None,
    admissions: AdmissionRegistry,
    ledger: Ledger | None,
) -> RelayContext:
    """
    Make the context. Sockets of portfwd and transports share the slots for larger reads.

    :param poller: None on platforms without epoll, which have no sockets of portfwd.
    :param pool: None on platforms without splice.
    """
    slots = BulkSlots()
    resolver = resolver_of(reactor)
    return RelayContext(
        reactor=reactor,
        platform=platform,
        names=Names(resolver, reactor),
        client_names=Names(client_resolver(reactor, resolver), reactor, bounds=LookUpLimits()),
        streams=StreamMaker(reactor, poller, bulk=BulkReads(Options().bulk_buffer, slots)),
        sockets=None if poller is None else SocketShare(poller, pool, slots),
        admissions=admissions,
        ledger=ledger,
    )


def client_resolver(reactor: Reactor, system: Resolver, platform: str = os.name) -> Resolver:
    """
    The resolver of names that clients choose.

    These look-ups must be cancellable, and calls of the system's resolver are not. Platforms without
    resolv.conf(5) use the system's resolver, within the limits of clients.
    """
    if platform != "posix":
        return system
    return StubResolver(reactor, ResolverFiles(reactor.seconds, socket.gethostname()))
