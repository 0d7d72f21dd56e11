"""From rule values to live rules and bound listeners, with every failure collected."""

from __future__ import annotations

import errno
import gc
import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast
from unittest import mock

import trustme
from attrs import evolve
from OpenSSL import crypto
from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.endpoints import (
    TCP4ServerEndpoint,
    TCP6ServerEndpoint,
    UNIXServerEndpoint,
    serverFromString,
)
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.logger import LogEvent, LogLevel, formatEvent, globalLogPublisher
from twisted.trial.unittest import TestCase

from portfwd.errors import StartError
from portfwd.kernel.platform import Platform
from portfwd.limits.descriptors import PER_SESSION, DescriptorBudget
from portfwd.listen import systemd
from portfwd.listen.handed_clients import HandedClients
from portfwd.listen.listener import Listener
from portfwd.relay.live import LiveRule
from portfwd.rules.model import Kind, ListenSpec, PortRange, Ruleset, TargetSpec
from portfwd.service.build import endpoints, targets
from portfwd.service.build.addresses import bound_addresses
from portfwd.service.build.bind_failures import WAYS_OUT, listen_label
from portfwd.service.build.build import (
    Binder,
    Bound,
    Planned,
    count_descriptors,
    live_rules,
)
from portfwd.service.build.targets import destination, target_label, target_labels
from portfwd.streams.opening import StreamMaker
from portfwd.streams.sockets.socket_opening import SocketShare, SocketStreams
from portfwd.streams.transports.transport import TransportStream
from portfwd.values import InetAddress, UnixAddress
from tests.events import EventsOf
from tests.places import short_directory
from tests.relay.fakes import FakeStream
from tests.service.contexts import Lines, a_context, a_used_port, rules
from tests.service.pems import directory_of, write_pair
from tests.streams.tls_peers import CA, Peer, client_context


def planned(text: str, context: Any = None) -> list[Planned]:
    """The live rules of a file."""
    return live_rules(rules(text), a_context(reactor) if context is None else context, Lines())


class LabelTests(TestCase):
    """Targets and listeners as messages name them."""

    def test_targets(self) -> None:
        """As the file writes them."""
        made = planned(
            ":1 -> 10.0.0.1:2, 10.0.0.1:53/udp, [::1]:3, unix:/run/x, unix:@n, tls:a.example:443, "
            'endpoint:"tcp:h:5"'
        )
        self.assertEqual(
            target_labels(made[0].live),
            "10.0.0.1:2, 10.0.0.1:53/udp, [::1]:3, unix:/run/x, unix:@n, tls:a.example:443, endpoint:tcp:h:5",
        )
        self.assertEqual(target_label(TargetSpec(Kind.UNIX, path="/x"), None), "unix:/x")

    def test_listeners(self) -> None:
        """One port of a range; all addresses are those of the file, without a host."""
        self.assertEqual(listen_label(ListenSpec(Kind.TCP, "", PortRange(80, 90)), 3), ":83")
        self.assertEqual(listen_label(ListenSpec(Kind.TCP, "::1", PortRange(80, 80)), 0), "[::1]:80")
        self.assertEqual(listen_label(ListenSpec(Kind.UDP, "", PortRange(53, 53)), 0), ":53/udp")
        self.assertEqual(listen_label(ListenSpec(Kind.SYSTEMD, path="web"), 0), "systemd:web")


class LiveRuleTests(TestCase):
    """Rules at work."""

    def test_ranges(self) -> None:
        """The n-th port goes to the n-th port, and has a name and a written address of its own."""
        made = planned("lab: 127.0.0.1:8000-8002 -> 10.0.0.7:9000-9002")
        self.assertEqual([one.live.name for one in made], ["lab:8000", "lab:8001", "lab:8002"])
        self.assertEqual([one.offset for one in made], [0, 1, 2])
        self.assertEqual(
            [one.live.destinations[0].address for one in made],
            [InetAddress("10.0.0.7", port) for port in (9000, 9001, 9002)],
        )
        self.assertEqual(made[1].live.written, ("127.0.0.1", "8001", "10.0.0.7", "9001"))

    def test_range_to_one_port(self) -> None:
        """A target with one port takes them all."""
        (rule,) = rules("lab: 127.0.0.1:8000-8001 -> 10.0.0.7:9000-9001").rules
        rule = evolve(
            rule,
            targets=(evolve(rule.targets[0], ports=PortRange(9000, 9000)),),
            written=("127.0.0.1", "8000-8001", "10.0.0.7", "9000"),
        )
        made = live_rules(Ruleset((rule,)), a_context(reactor), Lines())
        self.assertEqual({str(one.live.destinations[0].address) for one in made}, {"10.0.0.7:9000"})
        self.assertEqual(made[1].live.written, ("127.0.0.1", "8001", "10.0.0.7", "9000"))

    def test_names_of_unnamed_ranges(self) -> None:
        """A rule that is called by its address is called by its own port."""
        names = [one.live.name for one in planned("[::1]:8000-8001 -> 10.0.0.7:9000-9001")]
        self.assertEqual(names, ["[::1]:8000", "[::1]:8001"])

    def test_single_ports(self) -> None:
        """A rule with one port keeps its name."""
        self.assertEqual([one.live.name for one in planned("web: :80 -> a.example:80")], ["web"])

    def test_session_numbers(self) -> None:
        """All rules of a process count together."""
        made = planned(":1 -> 10.0.0.1:1\n:2 -> 10.0.0.1:1\ndeny *", a_context())
        with mock.patch("portfwd.relay.live.LiveRule.dial"):
            sessions = [
                one.live.accept(cast(Any, FakeStream(cast(Clock, one.live.clock))), lambda: None)
                for one in made
            ]
        self.assertEqual([session.id for session in sessions], [1, 2])

    def test_access(self) -> None:
        """Global entries hold for all, own ones for their rule."""
        made = planned("deny 10.0.0.1\na: :1 -> 10.0.0.9:1\n    deny 10.0.0.2\nb: :2 -> 10.0.0.9:1\n")
        decided = [
            [one.live.access.decide(host).allowed for host in ("10.0.0.1", "10.0.0.2", "10.0.0.3")]
            for one in made
        ]
        self.assertEqual(decided, [[False, False, True], [False, True, True]])

    def test_kinds_of_targets(self) -> None:
        """Each target becomes an address, an endpoint or an address with TLS."""
        made = planned(':1 -> unix:@name, endpoint:"tcp:127.0.0.1:9", tls:127.0.0.1:443, a.example:80')
        unix, endpoint, tls, name = made[0].live.destinations
        self.assertEqual((unix.address, unix.tls), (UnixAddress("@name"), None))
        self.assertIsNotNone(endpoint.endpoint)
        self.assertIsNotNone(tls.tls)
        self.assertEqual(name.address, InetAddress("a.example", 80))

    def test_one_trust_store(self) -> None:
        """Targets that are verified alike share what verifies them, and others do not."""
        made = planned("a: :8000-8009 -> tls:h.example:4430-4439\nb: :1 -> tls:h.example:443 verify=off\n")
        creators = {id(one.live.destinations[0].tls) for one in made}
        self.assertEqual(len(creators), 2)

    def test_target_lines(self) -> None:
        """The log names rule and target of what concerns a certificate; a range of ports has one line."""
        lines = self.lines_of_targets()
        made = planned(
            "a: :8000-8001 -> tls:h.example:4430-4431 verify=off\n"
            "b: :1 -> tls:unix:/run/x, tls:h.example:443 verify=off\n"
        )
        self.assertEqual(
            [line.partition(" (verify=off)")[0] for line in lines()],
            [
                f"{who}: the certificate of this target is not checked"
                for who in (
                    "a: target tls:h.example:4430",
                    "b: target tls:unix:/run/x",
                    "b: target tls:h.example:443",
                )
            ],
        )
        side: Any = made[0].live.destinations[0].tls
        self.assertEqual(
            list(side.users),
            [
                "a: target tls:h.example:4430",
                "a: target tls:h.example:4431",
                "b: target tls:h.example:443",
            ],
        )
        made.clear()
        gc.collect()
        self.assertEqual(list(side.users), [])

    def lines_of_targets(self) -> Callable[[], list[str]]:
        """What the module of targets logs from now on."""
        lines: list[str] = []

        def hear(event: LogEvent) -> None:
            if event["log_namespace"] == targets.__name__:
                lines.append(formatEvent(event))

        globalLogPublisher.addObserver(hear)
        self.addCleanup(globalLogPublisher.removeObserver, hear)
        return lambda: lines

    def test_every_failure(self) -> None:
        """Each bad target has a line, once, with its rule and place; a good one has none."""
        bad = Path(self.mktemp())
        bad.write_text("no certificate")
        text = (
            f"a: :8000-8001 -> tls:h.example:443-444, tls:h.example:445-446 ca={bad}\n"
            'b: :1 -> endpoint:"nosuch:1"\n'
            "c: :2 -> 10.0.0.1:1\n"
            'd: :3 -> endpoint:"tcp:"\n'
            'e: endpoint:"tcp:abc" -> 10.0.0.1:1\n'
            f"f: :4 -> tls:h.example:443 ca={bad}.gone\n"
        )
        lines = self.assertRaises(StartError, planned, text).failures
        self.assertEqual([line.partition(":")[0] for line in lines], ["a", "b", "d", "e", "f"])
        self.assertTrue(lines[0].startswith(f"a: ca={bad}: holds no PEM certificate (test.conf:1:63); "))
        self.assertIn('endpoint:"nosuch:1": Unknown endpoint type', lines[1])
        self.assertIn('endpoint:"tcp:abc": invalid literal', lines[3])
        self.assertIn("No such file", lines[4])

    def test_target_without_a_port(self) -> None:
        """A value that no grammar makes is refused, not dialled."""
        spec = TargetSpec(Kind.SYSTEMD, path="x")
        self.assertRaises(ValueError, destination, spec, 0, a_context())


class BandwidthTests(TestCase):
    """Gates, where a rule limits its bandwidth."""

    def test_one_set_for_all_ports(self) -> None:
        """All ports of a rule share its rate limiters; other rules know of none."""
        clock: Any = Clock()
        context = evolve(a_context(clock), streams=StreamMaker(clock, None))
        one, other, free = planned(
            ":8001-8002 -> h:9001-9002 bandwidth=1MiB/s relay=pair\n:3 -> h:4 relay=pair\n", context
        )
        limiters = one.live.context.streams.limiters
        self.assertIsNotNone(limiters)
        self.assertIs(limiters, other.live.context.streams.limiters)
        self.assertIs(one.live.streams, one.live.context.streams)
        self.assertIs(one.live.context.sinks, context.sinks)
        self.assertIs(free.live.context, context)
        self.assertIsNone(free.live.context.streams.limiters)

    def test_sockets_of_ours(self) -> None:
        """Streams of sockets get the same rate limiters as those that an endpoint would connect."""
        clock: Any = Clock()
        poller: Any = mock.Mock(now=0.0)
        context = evolve(
            a_context(clock),
            platform=Platform(own_sockets=True, epoll=True),
            streams=StreamMaker(clock, None),
            sockets=SocketShare(poller, None),
        )
        (one,) = planned(":1 -> h:2 bandwidth-up=1MiB/s\n", context)
        assert isinstance(one.live.streams, SocketStreams)
        self.assertIs(one.live.streams.limiters, one.live.context.streams.limiters)
        self.assertIsNotNone(one.live.streams.limiters)


class BindCase(TestCase):
    """Listeners on the loopback."""

    def setUp(self) -> None:
        """A context that nothing is accepted in."""
        self.context = a_context(reactor)
        self.budget = DescriptorBudget(0, 0)
        self.binder = Binder(self.context, self.budget)

    def bind(self, text: str) -> list[Bound]:
        """Bind; closed after the test."""
        made = self.binder.bind_all(planned(text, self.context))
        for one in made:
            self.addCleanup(self.close, one)
        return made

    async def close(self, one: Bound) -> None:
        """Close, and wait until it is."""
        for closing in one.close():
            await closing

    def failures(self, text: str) -> Sequence[str]:
        """What cannot be bound."""
        made = planned(text, self.context)
        return self.assertRaises(StartError, self.binder.bind_all, made).failures


class BindTests(BindCase):
    """Sockets of our own."""

    def test_all_or_nothing(self) -> None:
        """Every failure has a line with rule, address and reason; what was bound is closed again."""
        used = a_used_port(self)
        path = short_directory(self) / "s"
        lines = self.failures(
            f"a: 127.0.0.1:{used} -> 10.0.0.1:1\n"
            f"b: unix:{path} -> 10.0.0.1:1\n"
            f"c: 192.0.2.77:8080 -> 10.0.0.1:1\n"
            f'd: endpoint:"tcp:{used}:interface=127.0.0.1" -> 10.0.0.1:1\n'
            f"e: systemd:nosuch -> 10.0.0.1:1\n"
        )
        self.assertEqual(
            lines,
            (
                f"a: cannot listen on 127.0.0.1:{used}: Address already in use (test.conf:1:4);"
                f" {WAYS_OUT[errno.EADDRINUSE]}",
                "c: cannot listen on 192.0.2.77:8080: Cannot assign requested address (test.conf:3:4);"
                f" {WAYS_OUT[errno.EADDRNOTAVAIL]}",
                f"d: cannot listen on endpoint:tcp:{used}:interface=127.0.0.1: Address already in use"
                f" (test.conf:4:4); {WAYS_OUT[errno.EADDRINUSE]}",
                "e: cannot listen on systemd:nosuch: systemd passed no socket of that name (test.conf:5:4)",
            ),
        )
        self.assertFalse(os.path.exists(path))

    def test_low_port(self) -> None:
        """Where a privilege is missing for a low port, the line says which; elsewhere nothing is guessed."""
        # Root without the capability is refused as well.
        self.patch(os, "geteuid", lambda: 0)
        with mock.patch(
            "portfwd.service.build.build.bind", side_effect=PermissionError(13, "Permission denied")
        ):
            low, high = self.failures("a: 127.0.0.1:1022 -> 10.0.0.1:1\nb: 127.0.0.1:1024 -> 10.0.0.1:1\n")
        self.assertEqual(
            low,
            "a: cannot listen on 127.0.0.1:1022: Permission denied (test.conf:1:4);"
            " ports below 1024 want a privilege that this process does not have: start it with"
            " CAP_NET_BIND_SERVICE, as root has it by default, or let systemd hold the socket",
        )
        self.assertEqual(high, "b: cannot listen on 127.0.0.1:1024: Permission denied (test.conf:2:4)")

    def test_bound_addresses(self) -> None:
        """Where it really listens: ports filled in, one for each of ours and of Twisted's."""
        first, second = self.bind(
            'a: 127.0.0.1:0 -> 10.0.0.1:1\nb: endpoint:"tcp:0:interface=127.0.0.1" -> 10.0.0.1:1\n'
        )
        for one in (first, second):
            (address,) = bound_addresses(one)
            self.assertRegex(address, r"^127\.0\.0\.1:\d{4,}$")

    def test_not_listening_yet(self) -> None:
        """A socket that is bound refuses clients until it is started."""
        (one,) = self.bind("a: 127.0.0.1:0 -> 10.0.0.1:1")
        port = one.listeners[0].address.port  # type: ignore[union-attr]
        with socket.socket() as client:
            self.assertEqual(client.connect_ex(("127.0.0.1", port)), errno.ECONNREFUSED)

    def test_systemd(self) -> None:
        """Every socket that systemd passed under the name; its listeners do not remove files."""
        with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
            self.patch(systemd, "inherited", lambda *_: {"web": [one.fileno(), two.fileno()]})
            (bound,) = self.bind("a: systemd:web -> 10.0.0.1:1")
            self.assertEqual(len(bound.listeners), 2)

    def test_systemd_passed_a_file(self) -> None:
        """A descriptor that is no socket is a failure; the sockets before it are closed again."""
        before = count_descriptors()
        with socket.create_server(("127.0.0.1", 0)) as good, open(os.devnull) as bad:
            self.patch(systemd, "inherited", lambda *_: {"web": [good.fileno(), bad.fileno()]})
            (line,) = self.failures("a: systemd:web -> 10.0.0.1:1")
            self.assertIn("a: cannot listen on systemd:web: ", line)
        self.assertEqual(count_descriptors(), before)

    def accept_one(self, bound: Bound) -> None:
        """A client connects, and the listener takes it."""
        (listener,) = bound.listeners
        assert isinstance(listener, Listener)
        assert isinstance(listener.address, InetAddress)
        listener.start()
        with socket.create_connection((listener.address.host, listener.address.port)):
            listener.doRead()

    def test_client_that_vanished(self) -> None:
        """A client whose socket cannot be set up costs nothing, and the listener goes on."""
        (one,) = planned("a: 127.0.0.1:0 -> 10.0.0.1:1", self.context)
        one.live.streams = mock.Mock()
        one.live.streams.accepted.side_effect = OSError(errno.ENOTCONN, "gone")
        (bound,) = self.binder.bind_all([one])
        self.addCleanup(self.close, bound)
        self.accept_one(bound)
        self.assertEqual(self.budget.spent, 0)

    def test_session_gives_back(self) -> None:
        """A session's descriptors come back when it has closed."""
        (one,) = planned("a: 127.0.0.1:0 -> 10.0.0.1:1", a_context())
        stream = FakeStream(cast(Clock, one.live.clock))
        one.live.streams = mock.Mock()
        one.live.streams.accepted.return_value = stream
        (bound,) = self.binder.bind_all([one])
        self.addCleanup(self.close, bound)
        with mock.patch("portfwd.relay.live.LiveRule.dial"):
            self.accept_one(bound)
            self.assertEqual(self.budget.spent, 2)
            stream.resets()
        self.assertEqual(self.budget.spent, 0)


class FakePort:
    """A port of Twisted's."""

    def __init__(self) -> None:
        self.stopped = 0

    def stopListening(self) -> None:
        self.stopped += 1


class EndpointTests(BindCase):
    """Twisted's endpoints, and what plug-ins may do."""

    def planned_with(self, listen: Any) -> Planned:
        """A rule whose endpoint listens so."""
        (one,) = planned('a: endpoint:"tcp:0" -> 10.0.0.1:1', self.context)
        return Planned(one.live, 0, cast(Any, mock.Mock(listen=listen)))

    def test_refuses_at_once(self) -> None:
        """The system's reason is told, without Twisted's words around it."""
        problem = CannotListenError("127.0.0.1", 80, OSError(errno.EACCES, "Permission denied"))
        refused = self.assertRaises(
            StartError, self.binder.bind_all, [self.planned_with(lambda _: fail(problem))]
        )
        self.assertEqual(
            refused.failures, ("a: cannot listen on endpoint:tcp:0: Permission denied (test.conf:1:4)",)
        )

    def test_raises(self) -> None:
        """An endpoint that raises is one that cannot listen."""
        refused = self.assertRaises(
            StartError, self.binder.bind_all, [self.planned_with(mock.Mock(side_effect=TypeError("odd")))]
        )
        self.assertEqual(refused.failures, ("a: cannot listen on endpoint:tcp:0: odd (test.conf:1:4)",))

    def test_refuses_later(self) -> None:
        """An endpoint that says so when all is up is logged."""
        listening: Deferred[Any] = Deferred()
        self.binder.bind_all([self.planned_with(lambda _: listening)])
        told = EventsOf(self, Binder)
        listening.errback(RuntimeError("the network is gone"))
        self.assertEqual(
            told.texts(LogLevel.critical),
            ["a: cannot listen on endpoint:tcp:0: the network is gone (test.conf:1:4)"],
        )

    def test_listens_too_late(self) -> None:
        """A port that comes when its rule was stopped is stopped again."""
        listening: Deferred[Any] = Deferred()
        (bound,) = self.binder.bind_all([self.planned_with(lambda _: listening)])
        bound.close()
        port = FakePort()
        listening.callback(port)
        self.assertEqual((port.stopped, bound.ports), (1, []))

    def test_closed_again(self) -> None:
        """Ports that listen already are closed when another rule cannot."""
        port = FakePort()
        good = self.planned_with(lambda _: succeed(port))
        bad = self.planned_with(lambda _: fail(RuntimeError("no")))
        self.assertRaises(StartError, self.binder.bind_all, [good, bad])
        self.assertEqual(port.stopped, 1)

    def test_certificates_are_read_early(self) -> None:
        """The files of a TLS endpoint are read when rules are made ready, so before chroot."""
        pem = self.mktemp()
        Path(pem).write_bytes(trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.bytes())
        text = f'a: endpoint:"ssl:0:interface=127.0.0.1:privateKey={pem}" -> 10.0.0.1:1'
        (one,) = planned(text, self.context)
        os.unlink(pem)
        (bound,) = self.binder.bind_all([one])
        self.addCleanup(self.close, bound)
        self.assertEqual(len(bound.ports), 1)
        self.assertIn("No such file", self.assertRaises(StartError, planned, text).failures[0])

    def test_strange_address(self) -> None:
        """A port whose address has no form of ours is named as the file names it."""
        (one,) = planned('a: endpoint:"tcp:0" -> 10.0.0.1:1', self.context)
        bound = Bound(one.live, 0, ports=[mock.Mock(getHost=lambda: None)])
        self.assertEqual(list(bound_addresses(bound)), ["endpoint:tcp:0"])

    def test_budget(self) -> None:
        """What Twisted accepted is served while there is room; who comes then is reset."""
        self.budget.limit = PER_SESSION + 12
        accepted: list[Any] = []
        (one,) = planned('a: endpoint:"tcp:0" -> 10.0.0.1:1', self.context)
        live = cast(LiveRule, mock.Mock(spec=LiveRule))
        live.clock, live.options, live.rule, live.name = (  # type: ignore[misc]
            one.live.clock, one.live.options, one.live.rule, "a",
        )  # fmt: skip
        live.accept = lambda stream, closed: accepted.append(closed)  # type: ignore[assignment, method-assign]
        factories: list[Any] = []

        def listen(factory: Any) -> Any:
            factories.append(factory)
            return succeed(FakePort())

        self.binder.bind_all([Planned(live, 0, cast(Any, mock.Mock(listen=listen)))])
        streams = [mock.Mock(TransportStream, transport=None) for _ in range(2)]
        for stream in streams:
            factories[0].arrival.opened(stream)
        self.assertEqual(self.budget.spent, 2)
        streams[0].abort.assert_not_called()
        streams[1].abort.assert_called_once_with()
        live.turned_away.assert_called_once()  # type: ignore[attr-defined]
        for closed in accepted:
            closed()
        self.assertEqual(self.budget.spent, 0)

    def test_handed_sockets(self) -> None:
        """Sockets that a program hands in are served while there is room; one that comes then is reset."""
        self.budget.limit = PER_SESSION + 12
        handed = HandedClients(hands_sockets=True)
        (one,) = planned('a: endpoint:"tcp:0" -> 10.0.0.1:1', self.context)
        live = cast(
            LiveRule,
            mock.Mock(
                spec=LiveRule, relays_sockets=True, rule=one.live.rule, options=None, streams=mock.Mock()
            ),
        )
        live.name = "a"
        self.binder.bind_all([Planned(live, 0, cast(Any, handed))])
        assert handed.accept is not None
        first, second = mock.Mock(), mock.Mock()
        handed.accept(first, None)
        cast(Any, live).streams.accepted.assert_called_once_with(first, None, live.options, None)
        cast(Any, live).accept.assert_called_once()
        handed.accept(second, None)
        second.close.assert_called_once_with()
        cast(Any, live).turned_away.assert_called_once()


class RenewalTests(TestCase):
    """The certificate of an ``ssl:`` endpoint whose port a reload keeps."""

    def shown(self, factory: Any) -> tuple[Any, ...]:
        """The names of the certificate that a client of `factory` gets."""
        transport = StringTransport()
        protocol = factory.buildProtocol(None)
        protocol.makeConnection(transport)
        peer = Peer(client_context(), "a.example")
        said = peer.step(b"")
        while said or transport.value():
            protocol.dataReceived(said)
            data = transport.value()
            transport.clear()
            said = peer.step(data)
        return cast(Any, peer.tls.getpeercert())["subjectAltName"]

    def test_renewed(self) -> None:
        """New clients get the new certificate; ports of other endpoints are left alone."""
        directory = directory_of(self)
        cert, key = write_pair(directory, "a", CA.issue_cert("a.example"))
        description = f"ssl:0:privateKey={key}:certKey={cert}:interface=127.0.0.1"
        ports: list[Any] = []
        endpoint = serverFromString(reactor, description)
        endpoint.listen(Factory.forProtocol(Protocol)).addCallback(ports.append)
        (port,) = ports
        self.addCleanup(port.stopListening)
        self.assertEqual(self.shown(port.factory), (("DNS", "a.example"),))
        write_pair(directory, "a", CA.issue_cert("a.example", "new.example"))
        self.assertFalse(endpoints.renew_certificate(port, "tcp:0"))
        self.assertTrue(endpoints.renew_certificate(port, description))
        self.assertEqual(self.shown(port.factory), (("DNS", "a.example"), ("DNS", "new.example")))
        Path(cert).write_bytes(b"rubbish")
        broken = (ValueError, crypto.Error)
        self.assertRaises(broken, endpoints.renew_certificate, port, description)
        self.assertEqual(len(self.shown(port.factory)), 2)


class PortableTests(TestCase):
    """A platform where sockets cannot be our own: Twisted's endpoints."""

    def endpoints(self, text: str) -> list[Any]:
        """What would listen."""
        self.reactor = MemoryReactorClock()
        context = a_context(self.reactor, own_sockets=False)
        (one,) = planned(text, context)
        binder = Binder(context, DescriptorBudget(0, 0))
        return binder.bind(one).endpoints

    def test_addresses(self) -> None:
        """IPv4, IPv6, and one dual-stack socket where no host is given."""
        (four,) = self.endpoints("127.0.0.1:8 -> 10.0.0.1:1")
        self.assertIsInstance(four, TCP4ServerEndpoint)
        (six,) = self.endpoints("[::1]:8 -> 10.0.0.1:1")
        self.assertIsInstance(six, TCP6ServerEndpoint)
        (both,) = self.endpoints(":8 -> 10.0.0.1:1")
        both.listen(Factory())
        ((port, _, _, interface),) = self.reactor.tcpServers
        self.assertEqual((type(both), port, interface), (TCP6ServerEndpoint, 8, "::"))

    def test_without_ipv6(self) -> None:
        """IPv4 alone where there is no IPv6, and one socket each on Windows."""
        self.patch(socket, "has_ipv6", False)
        (four,) = self.endpoints(":8 -> 10.0.0.1:1")
        self.assertIsInstance(four, TCP4ServerEndpoint)
        self.patch(socket, "has_ipv6", True)
        self.patch(endpoints, "sys", mock.Mock(platform="win32"))
        kinds = [type(one) for one in self.endpoints(":8 -> 10.0.0.1:1")]
        self.assertEqual(kinds, [TCP6ServerEndpoint, TCP4ServerEndpoint])

    def test_unix(self) -> None:
        """The mode is the rule's, or 0600; an abstract name keeps its NUL."""
        (path,) = self.endpoints("unix:/run/x mode=0640 -> 10.0.0.1:1")
        self.assertIsInstance(path, UNIXServerEndpoint)
        path.listen(Factory())
        ((address, _, _, mode, _),) = self.reactor.unixServers
        self.assertEqual((address, mode), ("/run/x", 0o640))
        (abstract,) = self.endpoints("unix:@x -> 10.0.0.1:1")
        abstract.listen(Factory())
        ((address, _, _, mode, _),) = self.reactor.unixServers
        self.assertEqual((address, mode), ("\0x", 0o600))


class CountTests(TestCase):
    """Descriptors of this process."""

    def test_counted(self) -> None:
        """One more is one more."""
        before = count_descriptors()
        with open(os.devnull):
            self.assertEqual(count_descriptors(), before + 1)

    def test_not_told(self) -> None:
        """Where the kernel does not tell, some are assumed."""
        self.patch(os, "listdir", mock.Mock(side_effect=FileNotFoundError))
        self.assertEqual(count_descriptors(), 16)
