"""Tests of `portfwd.service.daemon.context`: the context that sessions get."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from portfwd.kernel.platform import Platform
from portfwd.limits.admission import AdmissionRegistry
from portfwd.rules.model import Options
from portfwd.service.daemon.context import client_resolver, make_context
from portfwd.streams.sockets.bulk_reads import SLOTS, BulkReader
from portfwd.streams.sockets.socket_opening import SocketStreams
from portfwd.upstreams.stub_resolver import StubResolver
from portfwd.upstreams.system_resolver import SystemResolver


class ContextTests(SynchronousTestCase):
    """One for a process."""

    def test_places_are_shared(self) -> None:
        """Who reads much at once is counted over sockets of ours and the pair together."""
        reactor: Any = Clock()
        reactor.callFromThread = None
        poller: Any = object()
        context = make_context(
            reactor, Platform(own_sockets=True, epoll=True), poller, None, AdmissionRegistry(), None
        )
        assert context.sockets is not None
        bulk = cast(Any, SocketStreams(context.sockets, Options()).join).keywords["setup"].bulk
        pair = context.streams.bulk
        assert bulk is not None
        assert pair is not None
        usual = bulk.size // 2
        readers = [BulkReader(pair) for _ in range(SLOTS)]
        self.assertEqual({reader.next_size(usual) for reader in readers}, {pair.size})
        waiting = BulkReader(bulk)
        self.assertEqual(waiting.next_size(usual), usual)
        readers[0].release()
        self.assertEqual(waiting.next_size(usual), bulk.size)

    def test_names_of_clients(self) -> None:
        """
        What clients choose shares no look-up, cache or limit with what the operator wrote.

        Where there is no resolv.conf, the system's resolver is asked for both.
        """
        reactor: Any = Clock()
        reactor.callFromThread = None
        platform = Platform(own_sockets=True, epoll=True)
        context = make_context(reactor, platform, None, None, AdmissionRegistry(), None)
        self.assertIsNot(context.names, context.client_names)
        self.assertIsNone(context.names.bounds)
        self.assertIsNotNone(context.client_names.bounds)
        self.assertIsInstance(context.client_names.resolver, StubResolver)
        self.assertIsInstance(context.names.resolver, SystemResolver)
        system = SystemResolver(cast(Any, None))
        self.assertIs(client_resolver(reactor, system, "nt"), system)

    def test_no_epoll(self) -> None:
        """Then there are no sockets of ours."""
        reactor: Any = Clock()
        reactor.callFromThread = None
        self.assertIsNone(
            make_context(
                reactor, Platform(own_sockets=True, epoll=True), None, None, AdmissionRegistry(), None
            ).sockets
        )
