# -*- test-case-name: tests.service.test_surroundings -*-
"""What the sessions of a process need of the world, put together once."""

from __future__ import annotations

from portfwd.kernel.pipes import PipePool
from portfwd.kernel.platform import Platform
from portfwd.kernel.poller import Poller
from portfwd.kernel.reactor import Reactor
from portfwd.limits.admission import Doorkeeper
from portfwd.metrics.tally import Ledger
from portfwd.relay.context import Surroundings
from portfwd.rules.model import Options
from portfwd.streams.bulk_reads import BulkReads, Places
from portfwd.streams.opening import StreamMaker
from portfwd.streams.socket_opening import SocketShare
from portfwd.upstreams.names import Names
from portfwd.upstreams.system_resolver import resolver_of


def surroundings(
    reactor: Reactor,
    platform: Platform,
    poller: Poller | None,
    pool: PipePool | None,
    doorkeeper: Doorkeeper,
    ledger: Ledger | None,
) -> Surroundings:
    """
    A world for all sessions; places for larger reads are shared by sockets of ours and the pair's.

    :param poller: None where there is no epoll: then there are no sockets of ours.
    :param pool: None where there is no splice.
    """
    places = Places()
    return Surroundings(
        reactor=reactor,
        platform=platform,
        names=Names(resolver_of(reactor), reactor),
        streams=StreamMaker(reactor, poller, bulk=BulkReads(Options().bulk_buffer, places)),
        sockets=None if poller is None else SocketShare(poller, pool, places),
        doorkeeper=doorkeeper,
        ledger=ledger,
    )
