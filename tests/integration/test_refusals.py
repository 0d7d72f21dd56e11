"""Clients that are turned away: by access list, and by a limit of the rule."""

from __future__ import annotations

import select
import socket

from portfwd.testing.peers import Dialer, converse
from portfwd.values import InetAddress
from tests.integration.case import ForwarderCase
from tests.integration.forwarder import TIMEOUT


class RefusalTests(ForwarderCase):
    """Refused before anything is dialled."""

    def refused(self, clauses: str, reason: str, kind: str = "end", options: str = "") -> None:
        """A client from 127.0.0.1 gets no byte, only the end that is stated."""
        upstream = self.listener()
        # Longer than anybody waits here: a session that lingers although its client has ended does not pass.
        forwarder = self.forwarder(f"case: 127.0.0.1:0 -> {upstream.address} linger=5m {options}\n{clauses}")
        descriptors = forwarder.open_descriptors()
        client = Dialer(forwarder.address("case"), f"expect {kind}")
        converse(client)
        (line,) = forwarder.access_lines(1)
        self.assert_session(line, client, None, reason, orderly=False)
        self.assertIsNone(upstream.accept(0.1), "nobody was dialled")
        self.assert_settled(forwarder, descriptors)

    def test_denied(self) -> None:
        """A deny that matches: AC, closed with FIN as rinetd does."""
        self.refused("    deny 127.0.0.*\n", "AC")

    def test_not_allowed(self) -> None:
        """An allow that does not match: the same."""
        self.refused("    allow 192.0.2.0/24\n", "AC")

    def test_denied_with_a_reset(self) -> None:
        """``on-deny=rst``."""
        self.refused("    deny 127.0.0.1\n", "AC", "reset", "on-deny=rst")

    def test_denied_while_it_speaks(self) -> None:
        """A refused client that has sent something sees FIN all the same, not the kernel's reset."""
        upstream = self.listener()
        forwarder = self.forwarder(f"case: 127.0.0.1:0 -> {upstream.address}\n    deny 127.0.0.1\n")
        converse(Dialer(forwarder.address("case"), "send 1000", "expect end", "end"))
        (line,) = forwarder.access_lines(1)
        self.assertEqual((line.reason, line.to_upstream), ("AC", 0))

    def goes_on_sending(self, clauses: str, options: str = "", first: bytes = b"") -> bool:
        """Whether a client that has read the end of its refusal, and goes on sending, is reset."""
        upstream = self.listener()
        forwarder = self.forwarder(f"case: 127.0.0.1:0 -> {upstream.address} linger=5m {options}\n{clauses}")
        with socket.socket() as client:
            client.settimeout(TIMEOUT)
            client.connect((forwarder.address("case").host, forwarder.address("case").port))
            client.send(first)
            while client.recv(1000):
                pass
            looks = select.poll()
            looks.register(client, select.POLLERR)
            for _ in range(20):
                try:
                    client.send(b"lost")
                except OSError:
                    return True
                if looks.poll(50):
                    return True
        return False

    def test_refused_goes_on_sending(self) -> None:
        """Nobody writes in vain for linger: a refused client that has the end is reset when it sends more."""
        for clauses, options, first in (
            ("    deny 127.0.0.1\n", "", b""),
            ("    filter proxy-in trust=127.0.0.1\n", "", b"GET / HTTP/1.0\r\n"),
            ("    filter proxy-in trust=192.0.2.1\n", "", b"PROXY UNKNOWN\r\n"),
            ("    filter sni\n", "", b"GET / HTTP/1.0\r\n"),
        ):
            self.assertTrue(self.goes_on_sending(clauses, options, first), clauses)

    def test_answered_goes_on_sending(self) -> None:
        """An answer of a filter is not put at risk: what comes behind it is thrown away."""
        self.assertFalse(self.goes_on_sending("    filter http-connect\n", first=b"NONSENSE\r\n\r\n"))

    def test_allowed_by_source(self) -> None:
        """The same rule takes one client and refuses another."""
        upstream = self.listener()
        forwarder = self.forwarder(f"case: 127.0.0.1:0 -> {upstream.address}\n    allow 127.0.0.2\n")
        address = forwarder.address("case")
        converse(
            Dialer(address, "send 10", "end", "expect end", source=InetAddress("127.0.0.2", 0)),
            upstream.peer("read to end", "end"),
        )
        converse(Dialer(address, "expect end"))
        lines = forwarder.access_lines(2)
        self.assertEqual([line.reason for line in lines], ["--", "AC"])

    def test_global_list(self) -> None:
        """An entry before the first rule holds for all of them."""
        upstream = self.listener()
        forwarder = self.forwarder(f"deny 127.0.0.1\ncase: 127.0.0.1:0 -> {upstream.address}\n")
        converse(Dialer(forwarder.address("case"), "expect end"))
        self.assertEqual(forwarder.access_lines(1)[0].reason, "AC")

    def test_unix(self) -> None:
        """Clients of unix sockets are refused by a list that names ``unix``, whoever accepts them."""
        upstream = self.listener()
        listeners = {
            "plain": f"unix:{self.directory}/plain",
            "twisted": f'endpoint:"unix:{self.directory}/twisted"',
        }
        forwarder = self.forwarder(
            "allow 10.0.0.0/8\n"
            f"open: unix:{self.directory}/open -> {upstream.address}\n"
            + "".join(
                f"{name}: {where} -> {upstream.address}\n    deny unix\n" for name, where in listeners.items()
            )
        )
        for name in listeners:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(TIMEOUT)
                client.connect(f"{self.directory}/{name}")
                self.assertEqual(client.recv(1), b"", name)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(f"{self.directory}/open")
            converse(upstream.peer("send 1", "end"))
        lines = {line.raw["rule"]: line.reason for line in forwarder.access_lines(3)}
        self.assertEqual({name: lines[name] for name in listeners}, dict.fromkeys(listeners, "AC"))
        self.assertNotEqual(lines["open"], "AC")

    def test_unix_datagrams(self) -> None:
        """So are senders of datagrams."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
            server.bind(("127.0.0.1", 0))
            server.setblocking(False)
            target = f"127.0.0.1:{server.getsockname()[1]}/udp"
            forwarder = self.forwarder(f"l: unix-dgram:{self.directory}/log -> {target}\n    deny unix\n")
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
                client.sendto(b"line", f"{self.directory}/log")
                (line,) = forwarder.access_lines(1)
            self.assertEqual(line.reason, "AC")
            self.assertRaises(BlockingIOError, server.recv, 1)

    def test_too_many_connections(self) -> None:
        """``max-conns``: one too many is closed with FIN, LC; when there is room again the next is served."""
        upstream = self.listener()
        forwarder = self.forwarder(f"case: 127.0.0.1:0 -> {upstream.address} max-conns=1\n")
        descriptors = forwarder.open_descriptors()
        address = forwarder.address("case")
        first = Dialer(address, "send 10", "expect 10", "say in", "hear out", "end", "expect end")
        server = upstream.peer("expect 10", "send 10", "expect end", "end")
        # The third peer connects only when the first one is served.
        late = Dialer(address, "expect end", "say out", name="late", after="in")
        converse(first, server, late)
        # The refused one stays, politely, until its client has ended too: which line is first is open.
        reasons = {line.reason for line in forwarder.access_lines(2)}
        self.assertEqual(reasons, {"LC", "--"})
        self.assert_settled(forwarder, descriptors)
        converse(Dialer(address, "end", "expect end"), upstream.peer("expect end", "end"))
        self.assertEqual(forwarder.access_lines(3)[2].reason, "--")
