"""Tests of `portfwd.relay.datagram_targets`: associations to names that a test resolves."""

from __future__ import annotations

import socket
from unittest import mock

from portfwd.filters.api import DONE, Filter, Route, Verdict
from portfwd.relay.datagram_targets import MOST_UNREACHABLE, UNREACHABLE_FOR, DatagramTargets, usable_hosts
from portfwd.upstreams.health import TargetState
from portfwd.values import CloseReason, Direction, InetAddress
from tests.listen.post import PostCase
from tests.upstreams.test_names import FakeResolver

RULE = "r: 127.0.0.1:0/udp -> name.test:UP/udp"


class NamedCase(PostCase):
    """A target that is a name with addresses of the loopback."""

    def resolved(self, text: str, *hosts: str) -> FakeResolver:
        """Forward as `text` says, with a name that has `hosts`."""
        self.forward(text)
        resolver = FakeResolver()
        resolver.at_once = hosts
        self.forwarder.bound[0].live.context.names.resolver = resolver
        return resolver

    def upstream_at(self, host: str) -> socket.socket:
        """Another upstream with the port of the first."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(sock.close)
        sock.bind((host, self.upstream.getsockname()[1]))
        sock.setblocking(False)
        return sock

    def speak(self, client: socket.socket, seconds: int) -> None:
        """Send a datagram each second."""
        for _ in range(seconds):
            client.sendto(b"anybody?", self.where())
            self.advance(1)


class RefusedTests(NamedCase):
    """An address whose port is unreachable."""

    def test_next_address(self) -> None:
        """The association moves to the name's next address, in place; others begin with that one."""
        resolver = self.resolved(RULE, "127.0.0.9", "127.0.0.1")
        client = self.datagrams()
        there = self.ask(client)
        self.upstream.sendto(b"answer", there)
        self.assertEqual(self.receive(client)[0], b"answer")
        self.ask(self.datagrams())
        self.assertEqual((self.closed_lines, self.listener.accepted), ([], 2))
        self.advance(73)
        upstream = InetAddress(*self.upstream.getsockname())
        self.assertEqual([line.upstream for line in self.closed_lines], [upstream] * 2)
        self.assertEqual(resolver.asked, ["name.test"])

    def test_between_a_stream_and_datagrams(self) -> None:
        """So it is for a client that speaks TCP."""
        self.resolved("r: 127.0.0.1:0 -> name.test:UP/udp framing=length16", "127.0.0.9", "127.0.0.1")
        client = socket.create_connection(self.where())
        self.addCleanup(client.close)
        client.sendall(b"\0\5first")
        self.assertEqual(self.receive(self.upstream)[0], b"first")
        client.sendall(b"\0\4here")
        self.assertEqual(self.receive(self.upstream)[0], b"here")

    def test_all_addresses(self) -> None:
        """When none of the name's addresses is there, the next target's turn comes."""
        self.resolved("r: 127.0.0.1:0/udp -> name.test:UP/udp, 127.0.0.1:UP/udp", "127.0.0.8", "127.0.0.9")
        self.ask(self.datagrams())
        self.assertEqual([line.reason for line in self.closed_lines], [CloseReason.UPSTREAM_RESET])

    def test_health(self) -> None:
        """An unreachable port counts as a failed dial of its target, and an answer as a good one."""
        self.forward("r: 127.0.0.1:0/udp -> 127.0.0.8:UP/udp, 127.0.0.1:UP/udp max-fails=1 fail-timeout=1m")
        pool = self.forwarder.rules[0].balancing.pool()
        assert pool is not None
        client = self.datagrams()
        self.ask(client)
        self.assertEqual([one.health.state for one in pool.members], [TargetState.DOWN, TargetState.UP])
        self.ask(client)
        # A session may try it again after a minute, and it is there now.
        late = self.upstream_at("127.0.0.8")
        self.reactor.now += 61
        other = self.datagrams()
        other.sendto(b"again", self.where())
        _, sender = self.receive(late)
        self.advance(0.1)
        late.sendto(b"here", sender)
        self.assertEqual(self.receive(other)[0], b"here")
        self.assertIs(pool.members[0].health.state, TargetState.DOWN)
        self.advance(5)
        self.assertIs(pool.members[0].health.state, TargetState.UP)

    def test_not_permitted(self) -> None:
        """An address that the filters do not permit, or of another family than ``src=``, is not moved to."""
        self.assertEqual(usable_hosts(["::1", "127.0.0.1"], None), ["::1", "127.0.0.1"])
        self.assertEqual(usable_hosts(["::1", "127.0.0.1"], "127.0.0.5"), ["127.0.0.1"])
        self.resolved(
            RULE + "\n    filter python:tests.relay.test_datagram_targets.Only", "127.0.0.9", "127.0.0.1"
        )
        client = self.datagrams()
        self.speak(client, 3)
        self.assert_quiet(self.upstream)

    def test_for_a_while(self) -> None:
        """It comes behind the others for `UNREACHABLE_FOR`; the memory of such addresses is bounded."""
        self.forward("r: 127.0.0.1:0/udp -> 127.0.0.1:UP/udp")
        targets = DatagramTargets(self.reactor, self.forwarder.bound[0].live.context.names)
        addresses = [InetAddress("192.0.2.1", port) for port in range(1, MOST_UNREACHABLE + 3)]
        for address in addresses:
            targets.refused(mock.Mock(address=address, is_open=False), "refused")
        self.assertEqual(targets.in_order(addresses[1:4]), [addresses[1], addresses[2], addresses[3]])
        self.assertFalse(targets.was_unreachable(addresses[1]))
        self.assertEqual(targets.in_order(addresses[-1:] + addresses[:1]), addresses[:1] + addresses[-1:])
        self.reactor.now += UNREACHABLE_FOR
        self.assertFalse(targets.was_unreachable(addresses[-1]))
        self.assertIn("0 followed", repr(targets))


class MovedTests(NamedCase):
    """A name that gets another address."""

    def test_moved(self) -> None:
        """A client that is not answered reaches the new address, before ``dns-refresh`` is over."""
        other = self.upstream_at("127.0.0.7")
        resolver = self.resolved(RULE, "127.0.0.1")
        client = self.datagrams()
        self.upstream.sendto(b"answer", self.ask(client))
        self.receive(client)
        resolver.at_once = ("127.0.0.7",)
        self.speak(client, 20)
        got, sender = self.receive(other)
        self.assertEqual(got, b"anybody?")
        other.sendto(b"I am here", sender)
        self.assertEqual(self.receive(client)[0], b"I am here")
        self.assertEqual((self.closed_lines, self.listener.accepted), ([], 1))

    def test_answered(self) -> None:
        """A client that is answered stays where it is, and the name is not asked again."""
        resolver = self.resolved(RULE, "127.0.0.1")
        client = self.datagrams()
        there = self.ask(client)
        resolver.at_once = ("127.0.0.7",)
        for _ in range(30):
            self.upstream.sendto(b"answer", there)
            self.receive(client)
            self.assertEqual(self.ask(client), there)
            self.advance(1)
        self.assertEqual(len(resolver.asked), 1)

    def test_silent(self) -> None:
        """Nor is it for a client that does not speak."""
        resolver = self.resolved(RULE, "127.0.0.1")
        self.ask(self.datagrams())
        for _ in range(28):
            self.advance(2.5)
        self.assertEqual(len(resolver.asked), 1)

    def test_unchanged(self) -> None:
        """While the name has the address still, the association stays; the name is asked now and then."""
        resolver = self.resolved(RULE, "127.0.0.1")
        client = self.datagrams()
        there = self.ask(client)
        self.speak(client, 30)
        while True:
            try:
                self.assertEqual(self.upstream.recvfrom(100)[1], there)
            except BlockingIOError:
                break
        self.assertLess(len(resolver.asked), 12)


class Only(Filter):
    """Permits 127.0.0.9, and no other address."""

    routes = True

    def received(self, direction: Direction, data: bytes) -> Verdict:
        """See `IFilter`."""
        route = Route(permits=lambda address: str(address).startswith("127.0.0.9:"))
        return (route, DONE)
