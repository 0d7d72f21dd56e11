"""Limits, from outside: who waits, who is refused, and who is let in again."""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Sequence

from portfwd.testing.peers import Dialer, converse
from portfwd.values import InetAddress
from tests.integration.case import ForwarderCase
from tests.integration.echo import EchoServer
from tests.integration.forwarder import TIMEOUT, Forwarder


class LimitCase(ForwarderCase):
    """Clients of an echo server, one byte each."""

    def echo(self, options: str, *, head: str = "", rules: Sequence[str] = ("a",)) -> Forwarder:
        """A forwarder with these rules, all to one echo server, with the same options."""
        server = EchoServer()
        self.addCleanup(server.close)
        lines = "".join(f"{rule}: 127.0.0.1:0 -> 127.0.0.1:{server.port} {options}\n" for rule in rules)
        self.poll = selectors.DefaultSelector()
        self.addCleanup(self.poll.close)
        return self.forwarder(head + lines)

    def come(self, forwarder: Forwarder, count: int, rule: str = "a", source: str = "127.0.0.1") -> None:
        """So many clients come, and say something."""
        for _ in range(count):
            client = socket.create_connection(("127.0.0.1", forwarder.port(rule)), 20, (source, 0))
            self.addCleanup(client.close)
            client.sendall(b"x")
            self.poll.register(client, selectors.EVENT_READ)

    def answers(self, count: int, seconds: float = TIMEOUT) -> list[bytes]:
        """What the next `count` clients hear, an answer or an end; fewer, if it takes too long."""
        heard: list[bytes] = []
        until = time.monotonic() + seconds
        while len(heard) < count and (left := until - time.monotonic()) > 0:
            for key, _ in self.poll.select(left):
                client = key.fileobj
                assert isinstance(client, socket.socket)
                self.poll.unregister(client)
                heard.append(client.recv(1))
                if heard[-1] == b"":
                    client.close()
                else:
                    self.served.append(client)
        return heard

    def setUp(self) -> None:
        super().setUp()
        self.served: list[socket.socket] = []

    def leave(self, count: int) -> None:
        """Clients that were served go."""
        for _ in range(count):
            self.served.pop(0).close()

    def reasons(self, forwarder: Forwarder, count: int) -> dict[str, int]:
        """How often each reason stands in the log, and each detail."""
        found: dict[str, int] = {}
        for line in forwarder.access_lines(count):
            what = " ".join(filter(None, (line.reason, line.raw["detail"])))
            found[what] = found.get(what, 0) + 1
        return found


class WaitTests(LimitCase):
    """``on-limit=wait``: nobody is turned away, and nothing spins."""

    def test_max_conns(self) -> None:
        """No more than the limit are served at a time; all are in the end."""
        forwarder = self.echo("max-conns=3 on-limit=wait")
        self.come(forwarder, 9)
        self.assertEqual(self.answers(3), [b"x"] * 3)
        before, start = forwarder.cpu_seconds(), time.monotonic()
        self.assertEqual(self.answers(1, 1.0), [])
        used = (forwarder.cpu_seconds() - before) / (time.monotonic() - start)
        self.assertLess(used, 0.1, "share of a CPU while clients wait")
        for _ in range(2):
            self.leave(3)
            self.assertEqual(self.answers(3), [b"x"] * 3)
        self.leave(3)
        self.assertEqual(self.reasons(forwarder, 9), {"--": 9})

    def test_all_rules(self) -> None:
        """A limit of all rules together: whoever leaves one lets somebody into another."""
        forwarder = self.echo("", head="limits max-conns=2 on-limit=wait\n", rules=("a", "b", "c"))
        self.come(forwarder, 2, "a")
        self.assertEqual(self.answers(2), [b"x"] * 2)
        self.come(forwarder, 2, "b")
        self.come(forwarder, 2, "c")
        self.assertEqual(self.answers(1, 0.2), [])
        for _ in range(4):
            self.leave(1)
            self.assertEqual(self.answers(1), [b"x"])
        self.leave(2)
        self.assertEqual(self.reasons(forwarder, 6), {"--": 6})

    def test_shared(self) -> None:
        """Rules that share a limit wait for each other's clients."""
        head = "limits few max-conns=2 on-limit=wait\ndefault limit=few\n"
        forwarder = self.echo("", head=head, rules=("a", "b", "c"))
        self.come(forwarder, 2, "a")
        self.assertEqual(self.answers(2), [b"x"] * 2)
        self.come(forwarder, 2, "b")
        self.come(forwarder, 2, "c")
        self.assertEqual(self.answers(1, 0.2), [])
        for _ in range(4):
            self.leave(1)
            self.assertEqual(self.answers(1), [b"x"])
        self.leave(2)
        self.assertEqual(self.reasons(forwarder, 6), {"--": 6})

    def test_rate(self) -> None:
        """A second's worth comes at once, the others as fast as the rate lets them."""
        forwarder = self.echo("rate=5/s on-limit=wait")
        start = time.monotonic()
        self.come(forwarder, 10)
        self.assertEqual(self.answers(10), [b"x"] * 10)
        self.assertGreater(time.monotonic() - start, 0.9)
        self.leave(10)
        self.assertEqual(self.reasons(forwarder, 10), {"--": 10})

    def test_stop(self) -> None:
        """Who waits does not keep the forwarder from stopping."""
        forwarder = self.echo("max-conns=1 on-limit=wait")
        self.come(forwarder, 3)
        self.assertEqual(self.answers(1), [b"x"])
        self.leave(1)
        self.assertEqual(self.answers(1), [b"x"])
        self.assertEqual(forwarder.stop(), 0)


class RefuseTests(LimitCase):
    """Without it clients are refused, with ``LC`` and the limit in the line."""

    def test_rate(self) -> None:
        """One a minute: the first is served, no other one is."""
        forwarder = self.echo("rate=1/m")
        self.come(forwarder, 5)
        self.assertEqual(sorted(self.answers(5)), [b""] * 4 + [b"x"])
        self.leave(1)
        self.assertEqual(self.reasons(forwarder, 5), {"--": 1, "LC rate=0.0166667/s": 4})

    def test_sources(self) -> None:
        """So many for each address, of each rule and of all rules."""
        forwarder = self.echo(
            "max-conns-per-source=2", head="limits max-conns-per-source=3\n", rules=("a", "b")
        )
        for source in ("127.0.0.1", "127.0.0.2"):
            self.come(forwarder, 2, "a", source)
            self.assertEqual(self.answers(2), [b"x"] * 2)
            self.come(forwarder, 1, "a", source)
            self.assertEqual(self.answers(1), [b""])
            self.come(forwarder, 1, "b", source)
            self.assertEqual(self.answers(1), [b"x"])
            self.come(forwarder, 1, "b", source)
            self.assertEqual(self.answers(1), [b""])
        self.leave(6)
        self.assertEqual(
            self.reasons(forwarder, 10),
            {"--": 6, "LC max-conns-per-source=2": 2, "LC limits max-conns-per-source=3": 2},
        )

    def test_shared(self) -> None:
        """Limits that two rules share; a third rule has none of them."""
        forwarder = self.echo("", head="limits few max-conns=2\ndefault limit=few\n", rules=("a", "b"))
        self.come(forwarder, 1, "a")
        self.come(forwarder, 1, "b")
        self.assertEqual(self.answers(2), [b"x"] * 2)
        self.come(forwarder, 1, "a")
        self.assertEqual(self.answers(1), [b""])
        self.leave(2)
        self.assertEqual(self.reasons(forwarder, 3), {"--": 2, "LC limits few max-conns=2": 1})

    def test_datagrams(self) -> None:
        """An association is a session: one too many is not answered, and has its line."""
        upstream = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(upstream.close)
        upstream.bind(("127.0.0.1", 0))
        upstream.settimeout(TIMEOUT)
        forwarder = self.forwarder(
            f"a: 127.0.0.1:0/udp -> 127.0.0.1:{upstream.getsockname()[1]}/udp max-conns-per-source=1\n"
        )
        clients = []
        for number in range(2):
            client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.addCleanup(client.close)
            client.sendto(b"%d" % number, ("127.0.0.1", forwarder.port("a")))
            clients.append(client)
        self.assertEqual(self.reasons(forwarder, 1), {"LC max-conns-per-source=1": 1})
        clients[0].sendto(b"again", ("127.0.0.1", forwarder.port("a")))
        self.assertEqual([upstream.recv(10) for _ in range(2)], [b"0", b"again"])

    def test_sources_behind_a_proxy(self) -> None:
        """A PROXY header from somebody who is trusted says which source it is."""
        upstream = self.listener()
        forwarder = self.forwarder(
            f"a: 127.0.0.1:0 -> {upstream.address} rate-per-source=1/m\n    filter proxy-in trust=127.0.0.1\n"
        )
        for host, kind in (("192.0.2.1", "in"), ("192.0.2.2", "in"), ("192.0.2.1", "refused")):
            header = f'send "PROXY TCP4 {host} 198.51.100.1 1000 80\\r\\n"'
            if kind == "in":
                converse(
                    Dialer(forwarder.address("a"), header, "end", "expect end"),
                    upstream.peer("expect end", "end"),
                )
            else:
                converse(Dialer(forwarder.address("a"), header, "expect end"))
        reasons = [(line.reason, line.client) for line in forwarder.access_lines(3)]
        self.assertEqual(
            reasons, [("--", "192.0.2.1:1000"), ("--", "192.0.2.2:1000"), ("LC", "192.0.2.1:1000")]
        )

    def test_targets(self) -> None:
        """A target that is full is passed over; where all are full clients are refused, until one leaves."""
        upstreams = [self.listener() for _ in range(2)]
        targets = ", ".join(str(one.address) for one in upstreams)
        forwarder = self.forwarder(f"a: 127.0.0.1:0 -> {targets} max-conns-per-target=1\n")
        address = forwarder.address("a")
        converse(
            Dialer(address, "send 1", "say first", "hear full", "end", "expect end", name="one"),
            upstreams[0].peer("expect 1", "expect end", "end"),
            Dialer(
                address, "send 2", "say second", "hear full", "end", "expect end", name="two", after="first"
            ),
            upstreams[1].peer("expect 2", "expect end", "end"),
            Dialer(address, "expect end", "say full", name="late", after="second"),
        )
        self.assertEqual(
            self.reasons(forwarder, 3), {"--": 2, f"LC {upstreams[1].address}: max-conns-per-target=1": 1}
        )
        converse(
            Dialer(forwarder.address("a"), "end", "expect end", source=InetAddress("127.0.0.9", 0)),
            upstreams[0].peer("expect end", "end"),
        )
        self.assertEqual(forwarder.access_lines(4)[3].upstream, str(upstreams[0].address))


class DescriptorTests(LimitCase):
    """Descriptors are shared."""

    def test_greedy_rule(self) -> None:
        """Silent clients of one rule leave others, the control socket and metrics what they need."""
        server = EchoServer()
        self.addCleanup(server.close)
        target = f"127.0.0.1:{server.port}"
        socket_file = self.directory / "admin.sock"
        forwarder = self.forwarder(
            f"admin unix:{socket_file}\na: 127.0.0.1:0 -> {target}\nb: 127.0.0.1:0 -> {target}\n",
            descriptors=256,
        )
        for _ in range(150):
            client = socket.create_connection(("127.0.0.1", forwarder.port("a")), 20)
            self.addCleanup(client.close)
        forwarder.wait_for_line("a: no descriptors for more sessions")
        with socket.create_connection(("127.0.0.1", forwarder.port("b")), 20) as client:
            client.sendall(b"hello")
            self.assertEqual(client.recv(5), b"hello")
        with socket.socket(socket.AF_UNIX) as operator:
            operator.settimeout(TIMEOUT)
            operator.connect(str(socket_file))
            self.assertIn(b"portfwd", operator.recv(1000))


del LimitCase
