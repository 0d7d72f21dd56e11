"""Where a rule can listen: families, dual stack, port ranges, unix sockets."""

from __future__ import annotations

import os
import socket
import stat

from twisted.trial import unittest

from portfwd.testing.peers import Dialer, ScriptedListener, converse
from portfwd.values import InetAddress, UnixAddress
from tests.integration.case import ForwarderCase

HELLO = (["send 10", "end", "expect 10", "expect end"], ["expect 10", "expect end", "send 10", "end"])


class AddressTests(ForwarderCase):
    """Listeners of every kind."""

    def talk(self, address: InetAddress | UnixAddress, upstream: ScriptedListener) -> None:
        """A short conversation through `address`."""
        converse(Dialer(address, *HELLO[0]), upstream.peer(*HELLO[1]))

    def test_dual_stack(self) -> None:
        """No host listens on both families with one socket; ``*`` too."""
        upstream = self.listener()
        for host in ("", "*"):
            forwarder = self.forwarder(f"both: {host}:0 -> {upstream.address}\n")
            port = forwarder.port("both")
            self.talk(InetAddress("127.0.0.1", port), upstream)
            self.talk(InetAddress("::1", port), upstream)
            clients = sorted(str(line.client).rpartition(":")[0] for line in forwarder.access_lines(2))
            self.assertEqual(clients, ["127.0.0.1", "[::1]"])

    def test_one_family_only(self) -> None:
        """``[::]`` is IPv6 only, ``0.0.0.0`` IPv4 only; ``v6only=off`` changes it."""
        upstream = self.listener()
        forwarder = self.forwarder(
            f"six: [::]:0 -> {upstream.address}\n"
            f"four: 0.0.0.0:0 -> {upstream.address}\n"
            f"open: [::]:0 v6only=off -> {upstream.address}\n"
        )
        self.talk(InetAddress("::1", forwarder.port("six")), upstream)
        self.talk(InetAddress("127.0.0.1", forwarder.port("four")), upstream)
        self.talk(InetAddress("127.0.0.1", forwarder.port("open")), upstream)
        for host, rule in (("127.0.0.1", "six"), ("::1", "four")):
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            with socket.socket(family) as client:
                client.settimeout(5)
                self.assertRaises(ConnectionRefusedError, client.connect, (host, forwarder.port(rule)))

    def test_access_list_of_a_dual_stack_listener(self) -> None:
        """An IPv4 client is judged as the IPv4 address it is, not by its IPv6 form."""
        upstream = self.listener()
        forwarder = self.forwarder(
            f"good: :0 -> {upstream.address}\n    allow 127.0.0.0/8\n"
            f"bad: :0 -> {upstream.address}\n    allow ::ffff:0:0/96 ::1\n    deny 127.0.0.1\n"
        )
        self.talk(InetAddress("127.0.0.1", forwarder.port("good")), upstream)
        converse(Dialer(InetAddress("::1", forwarder.port("good")), "expect end"))
        converse(Dialer(InetAddress("127.0.0.1", forwarder.port("bad")), "expect end"))
        self.assertEqual([line.reason for line in forwarder.access_lines(3)], ["--", "AC", "AC"])

    def test_port_range(self) -> None:
        """The n-th port of a range leads to the n-th of the target's."""
        upstreams = self.neighbours()
        first, last = upstreams[0].address.port, upstreams[-1].address.port
        # Some other free neighbours, given back just now.
        places = self.neighbours()
        low, high = places[0].address.port, places[-1].address.port
        for place in places:
            place.close()
        forwarder = self.forwarder(f"lab: 127.0.0.1:{low}-{high} -> 127.0.0.1:{first}-{last}\n")
        self.assertEqual([address.port for address in forwarder.addresses("lab")], list(range(low, high + 1)))
        for number, upstream in enumerate(upstreams):
            self.talk(InetAddress("127.0.0.1", low + number), upstream)

    def neighbours(self, count: int = 3) -> list[ScriptedListener]:
        """Listeners on `count` ports in a row."""
        for _ in range(50):
            found = [self.listener()]
            try:
                for step in range(1, count):
                    found.append(self.listener(InetAddress("127.0.0.1", found[0].address.port + step)))
            except (OSError, OverflowError):
                for listener in found:
                    listener.close()
                continue
            return found
        raise unittest.SkipTest("needs some free ports in a row")

    def test_unix_path(self) -> None:
        """A unix socket by path; its file is gone when the forwarder is."""
        upstream = self.listener()
        path = self.directory / "in"
        forwarder = self.forwarder(f"case: unix:{path} -> {upstream.address}\n")
        self.assertEqual(forwarder.address("case"), UnixAddress(str(path)))
        self.talk(UnixAddress(str(path)), upstream)
        self.assertEqual(forwarder.stop(), 0)
        self.assertFalse(path.exists())

    def test_unix_mode(self) -> None:
        """``mode=`` is the file's; without it nobody else may connect."""
        upstream = self.listener()
        self.forwarder(
            f"own: unix:{self.directory}/own -> {upstream.address}\n"
            f"all: unix:{self.directory}/all mode=0666 -> {upstream.address}\n"
        )
        modes = [stat.S_IMODE(os.stat(self.directory / name).st_mode) for name in ("own", "all")]
        self.assertEqual(modes, [0o600, 0o666])

    def test_stale_unix_socket(self) -> None:
        """A file left by a process that is gone does not stand in the way."""
        path = self.directory / "in"
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(path))
        upstream = self.listener()
        self.forwarder(f"case: unix:{path} -> {upstream.address}\n")
        self.talk(UnixAddress(str(path)), upstream)

    def test_abstract(self) -> None:
        """Abstract names on both sides."""
        upstream = self.listener(UnixAddress(f"@{self.directory.name}-up"))
        forwarder = self.forwarder(f"case: unix:@{self.directory.name}-in -> {upstream.address}\n")
        self.talk(forwarder.address("case"), upstream)

    def test_rules_without_a_file(self) -> None:
        """``--rule``, more than once; a rule without a name is called by its address."""
        upstream = self.listener()
        forwarder = self.forwarder(
            None,
            ["--rule", f"127.0.0.1:0 -> {upstream.address}", "--rule", f"six: [::1]:0 -> {upstream.address}"],
        )
        self.talk(forwarder.address("127.0.0.1:0"), upstream)
        self.talk(forwarder.address("six"), upstream)

    def test_endpoint(self) -> None:
        """What Twisted calls an endpoint, on both sides."""
        upstream = self.listener()
        target = f'endpoint:"tcp:127.0.0.1:{upstream.address.port}"'
        forwarder = self.forwarder(f'case: endpoint:"tcp:0:interface=127.0.0.1" -> {target}\n')
        client, server = Dialer(forwarder.address("case"), *HELLO[0]), upstream.peer(*HELLO[1])
        converse(client, server)
        (line,) = forwarder.access_lines(1)
        self.assert_session(line, client, server, "--", orderly=True)
