"""
Sessions end without cycles of references: each is freed at once, and the garbage collector finds nothing.

A forwarder in this process, with clients in a thread. The collector is off meanwhile; then everything that
it finds is counted.
"""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import ssl
import struct
import threading
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import trustme
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from portfwd.relay.datagram_targets import LOOK
from portfwd.service.run.forwarder import Forwarder
from portfwd.values import CloseReason
from tests.integration.echo import EchoServer
from tests.integration.programs import temporary_directory
from tests.service.contexts import Lines, rules

#: Sessions of each kind.
COUNT = 1000 if os.environ.get("PORTFWD_TESTS") == "deep" else 20
#: Seconds for one exchange.
TIMEOUT = 60.0
#: Seconds without an answer after which a question is sent again.
ASK_AGAIN = 2.0
#: More than sockets are read at a time, less than they hold.
SIZE = 100_000

PASSING = "\n    filter python:tests.filters.passing.PassThrough"

#: What is done by one client, once it is connected.
Client = Callable[["Site", str], None]


class Site:
    """
    What clients need.

    :ivar tls: trusts the certificates of the rules.
    """

    def __init__(self, tls: ssl.SSLContext) -> None:
        self.tls = tls

    def connect(self, address: str, *, tls: bool = False) -> socket.socket:
        """A connection."""
        if address.startswith("unix:"):
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(TIMEOUT)
            sock.connect(address[5:])
        else:
            host, _, port = address.rpartition(":")
            sock = socket.create_connection((host, int(port)), TIMEOUT)
        return self.tls.wrap_socket(sock, server_hostname="localhost") if tls else sock


def exchange(sock: socket.socket) -> None:
    """Send, and get it back."""
    sock.sendall(bytes(SIZE))
    left = SIZE
    while left:
        data = sock.recv(left)
        if not data:
            raise EOFError
        left -= len(data)


def ends(site: Site, address: str) -> None:
    """Speak, and end in order."""
    with site.connect(address) as sock:
        exchange(sock)
        sock.shutdown(socket.SHUT_WR)
        assert not sock.recv(1)


def resets(site: Site, address: str) -> None:
    """Speak, and reset."""
    with site.connect(address) as sock:
        exchange(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def says_nothing(site: Site, address: str) -> None:
    """Come and go."""
    site.connect(address).close()


def is_refused(site: Site, address: str) -> None:
    """Come, and be turned away."""
    try:
        with site.connect(address) as sock:
            assert not sock.recv(1)
    except ConnectionResetError:
        """That is how some are told."""


def ends_tls(site: Site, address: str) -> None:
    """Speak TLS, and end in order."""
    with site.connect(address, tls=True) as sock:
        exchange(sock)
        cast(ssl.SSLSocket, sock).unwrap()


def truncates_tls(site: Site, address: str) -> None:
    """Speak TLS, and close without ``close_notify``."""
    with site.connect(address, tls=True) as sock:
        exchange(sock)


def mumbles(site: Site, address: str) -> None:
    """Say what is no TLS."""
    with site.connect(address) as sock:
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
        while sock.recv(1000):
            """An alert."""


def asks(site: Site, address: str) -> None:
    """
    Send a datagram until there is an answer.

    The rules have a short ``idle``: a process that had to wait for a processor may end an association first.
    """
    host, _, port = address.rpartition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(ASK_AGAIN)
        sock.connect((host, int(port)))
        for _ in range(int(TIMEOUT / ASK_AGAIN)):
            sock.send(b"question")
            with contextlib.suppress(TimeoutError):
                sock.recv(100)
                return
    raise TimeoutError


def sends_into_nowhere(site: Site, address: str) -> None:
    """Send a datagram that nobody answers."""
    host, _, port = address.rpartition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"question", (host, int(port)))


class Found:
    """
    What the collector found.

    :ivar types: how many of each.
    :ivar cycle: the references of one cycle, for whoever has to break it; empty for none.
    """

    def __init__(self, objects: list[object]) -> None:
        self.types = Counter(f"{type(one).__module__}.{type(one).__qualname__}" for one in objects)
        self.cycle = ""
        known = {id(one): one for one in objects}
        for start in sorted(objects, key=lambda one: not type(one).__module__.startswith("portfwd")):
            before: dict[int, object] = {}
            ahead = [start]
            while ahead and not self.cycle:
                one = ahead.pop(0)
                for other in gc.get_referents(one):
                    if other is start:
                        way = [one]
                        while way[-1] is not start:
                            way.append(before[id(way[-1])])
                        self.cycle = " <- ".join(repr(each)[:150] for each in [start, *way])
                        break
                    if id(other) in known and id(other) not in before:
                        before[id(other)] = one
                        ahead.append(other)
            if self.cycle:
                break

    @property
    def ours(self) -> dict[str, int]:
        """Those of `types` that are of this package."""
        return {name: count for name, count in self.types.items() if name.startswith("portfwd")}


class CyclesTests(TestCase):
    """Nothing is left of sessions of a kind."""

    timeout = 600

    async def setUp(self) -> None:
        """An upstream, and certificates."""
        self.echo = EchoServer()
        self.addCleanup(self.echo.close)
        self.directory = temporary_directory(self)
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self.directory / "ca.pem"))
        leaf = authority.issue_cert("localhost")
        leaf.private_key_and_cert_chain_pem.write_to_path(str(self.directory / "server.pem"))
        context = ssl.create_default_context()
        authority.configure_trust(context)
        self.site = Site(context)
        self.lines = Lines()
        self.addCleanup(gc.enable)

    async def start(self, text: str) -> tuple[Forwarder, str]:
        """A forwarder, and where its first rule listens."""
        values = {"echo": f"127.0.0.1:{self.echo.port}", "port": self.echo.port, "directory": self.directory}
        forwarder = Forwarder(cast(Any, reactor), rules(text.format(**values)), self.lines, drain=0.1)
        forwarder.startService()
        self.addCleanup(forwarder.stopService)
        return forwarder, next(iter(forwarder.addresses.values()))[0]

    async def sessions(self, forwarder: Forwarder, address: str, client: Client, count: int) -> None:
        """Have clients come one after the other, until all sessions are over."""

        def come() -> None:
            for _ in range(count):
                client(self.site, address)

        before = forwarder.session_total
        await self.in_thread(come)
        while forwarder.session_count or forwarder.session_total == before:
            await self.turn(0.01)
        # Cancelled calls of the reactor, and what was put off until its next turn.
        await self.turn(0.1)

    def in_thread(self, work: Callable[[], None]) -> Deferred[None]:
        """Do blocking work; a thread pool of Twisted's leaves a cycle for each call."""
        done: Deferred[None] = Deferred()

        def run() -> None:
            try:
                work()
            except Exception as problem:
                cast(Any, reactor).callFromThread(done.errback, problem)
            else:
                cast(Any, reactor).callFromThread(done.callback, None)

        threading.Thread(target=run, daemon=True).start()
        return done

    def turn(self, seconds: float) -> Deferred[None]:
        """Let the reactor work."""
        return deferLater(cast(Any, reactor), seconds, lambda: None)

    async def found(self, text: str, client: Client) -> Found:
        """What the collector finds after sessions of `client`."""
        forwarder, address = await self.start(text)
        await self.sessions(forwarder, address, client, 1)
        gc.collect()
        gc.disable()
        await self.sessions(forwarder, address, client, COUNT)
        self.lines.closed_lines.clear()
        return self.collect()

    def collect(self) -> Found:
        """All that the collector finds now."""
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            gc.collect()
            return Found(gc.garbage)
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()

    async def nothing_is_left(self, text: str, client: Client) -> None:
        """The collector finds nothing."""
        found = await self.found(text, client)
        self.assertEqual(found.types, {}, found.cycle)

    async def nothing_of_ours_is_left(self, text: str, client: Client) -> None:
        """It finds no object of ours, but a factory that a cycle of Twisted's has: that of its connector."""
        found = await self.found(text, client)
        del found.types["portfwd.upstreams.endpoint_attempt._OneProtocol"]
        self.assertEqual(found.ours, {}, found.cycle)

    async def every_relay(self, client: Client, clauses: str = "", options: str = "") -> None:
        """The same over each relay."""
        for relay in ("splice", "copy", "pair"):
            text = f"127.0.0.1:0 -> {{echo}} relay={relay} linger=0.5s {options}{clauses}\n"
            await self.nothing_is_left(text, client)

    async def test_ends(self) -> None:
        """Sessions that end in order, over every relay."""
        await self.every_relay(ends)

    async def test_resets(self) -> None:
        """Sessions that are reset."""
        await self.every_relay(resets)

    async def test_nothing_said(self) -> None:
        """Clients that come and go."""
        await self.every_relay(says_nothing)

    async def test_filtered(self) -> None:
        """A filter sees every byte."""
        await self.every_relay(ends, PASSING)
        await self.every_relay(resets, PASSING)

    async def test_delayed(self) -> None:
        """Bytes wait in a filter, with timers."""
        await self.every_relay(ends, "\n    filter faults latency delay=1ms")

    async def test_paced(self) -> None:
        """The bandwidth is limited."""
        await self.every_relay(ends, options="bandwidth=100MiB/s")
        await self.every_relay(
            ends, PASSING, "bandwidth-per-source=100MiB/s bandwidth-per-connection=90MiB/s"
        )

    async def test_limited(self) -> None:
        """There are limits."""
        await self.every_relay(ends, options="max-conns=5 max-conns-per-source=5 max-conns-per-target=5")

    async def test_refused(self) -> None:
        """Nobody listens at the target, or the client is not admitted."""
        await self.every_relay(is_refused, "\n    deny 127.0.0.0/8")
        for relay in ("copy", "pair"):
            await self.nothing_is_left(f"127.0.0.1:0 -> 127.0.0.1:1 relay={relay}\n", is_refused)

    async def test_dialled(self) -> None:
        """The dial has several targets, or looks a name up."""
        for relay in ("copy", "pair"):
            await self.nothing_is_left(f"127.0.0.1:0 -> 127.0.0.1:1, {{echo}} relay={relay}\n", ends)
            await self.nothing_is_left(f"127.0.0.1:0 -> localhost:{{port}} relay={relay}\n", ends)

    async def test_unix(self) -> None:
        """A unix socket."""
        for relay in ("copy", "pair"):
            await self.nothing_is_left(f"unix:{{directory}}/{relay}.socket -> {{echo}} relay={relay}\n", ends)

    async def test_tls(self) -> None:
        """TLS with the client."""
        for clauses in ("", PASSING):
            text = f"tls:127.0.0.1:0 cert={{directory}}/server.pem -> {{echo}} linger=0.5s{clauses}\n"
            await self.nothing_is_left(text, ends_tls)
            await self.nothing_is_left(text, truncates_tls)
            await self.nothing_is_left(text, mumbles)

    async def test_tls_targets(self) -> None:
        """TLS with the upstream, which may have a certificate that is not good."""
        inner, address = await self.start("tls:127.0.0.1:0 cert={directory}/server.pem -> {echo}\n")
        good = f"127.0.0.1:0 -> tls:{address} ca={{directory}}/ca.pem server-name=localhost linger=0.5s"
        for clauses in ("", PASSING):
            await self.nothing_is_left(f"{good}{clauses}\n", ends)
            await self.nothing_is_left(f"{good}{clauses}\n", resets)
        await self.nothing_is_left(f"127.0.0.1:0 -> tls:{address} server-name=localhost\n", is_refused)
        while inner.session_count:
            await self.turn(0.01)

    async def test_endpoints(self) -> None:
        """Twisted's own transports, plain and with TLS."""
        await self.nothing_of_ours_is_left('127.0.0.1:0 -> endpoint:"tcp:127.0.0.1:{port}"\n', ends)
        await self.nothing_of_ours_is_left('endpoint:"tcp:0:interface=127.0.0.1" -> {echo}\n', ends)
        pem = "{directory}/server.pem"
        listener = f'endpoint:"ssl:0:interface=127.0.0.1:privateKey={pem}:certKey={pem}"'
        await self.nothing_of_ours_is_left(f"{listener} -> {{echo}} linger=0.5s\n", ends_tls)

    async def test_datagrams(self) -> None:
        """Associations, with and without a filter, and to a port that nobody has."""
        inner, address = await self.start("udp:127.0.0.1:0 -> 127.0.0.1:{port} framing=length16\n")
        for clauses in ("", PASSING):
            await self.nothing_is_left(f"udp:127.0.0.1:0 -> udp:{address} idle=0.2s{clauses}\n", asks)
        await self.nothing_is_left("udp:127.0.0.1:0 -> udp:127.0.0.1:1 idle=0.2s\n", sends_into_nowhere)
        inner.cut(CloseReason.KILLED)
        await self.turn(LOOK + 0.1)  # for associations whose target was refused, or may have moved

    async def test_bridges(self) -> None:
        """Datagrams on one side, a stream on the other."""
        text = "udp:127.0.0.1:0 -> tcp:{echo} idle=0.2s framing=length16\n"
        await self.nothing_is_left(text, asks)
        inner, address = await self.start(text)
        await self.nothing_is_left(f"127.0.0.1:0 -> udp:{address} linger=0.2s\n", says_nothing)
        inner.cut(CloseReason.KILLED)

    async def test_reloads(self) -> None:
        """Rules that reloads replaced are freed, and so are those that were removed with sessions."""
        text = (
            "web: 127.0.0.1:0 -> {{echo}} idle={idle}s max-conns=10\n"
            "    filter faults latency delay=1ms\n"
            "tls: tls:127.0.0.1:0 cert={{directory}}/server.pem -> tls:{{echo}} idle={idle}s\n"
            "udp: udp:127.0.0.1:0 -> udp:{{echo}} idle={idle}s\n"
            "name: 127.0.0.1:0 -> localhost:{{port}} bandwidth={idle}MiB/s\n"
            "unix{idle}: unix:{{directory}}/{idle}.socket -> {{echo}}\n"
        )
        forwarder, address = await self.start(text.format(idle=1))
        values = {"echo": f"127.0.0.1:{self.echo.port}", "port": self.echo.port, "directory": self.directory}
        sets = [rules(text.format(idle=10 + number).format(**values)) for number in range(20)]
        await forwarder.reload(sets.pop())
        gc.collect()
        gc.disable()
        with self.site.connect(address) as sock:
            await self.in_thread(partial(exchange, sock))
            while sets:
                result = await forwarder.reload(sets.pop())
                self.assertTrue(result.applied, str(result))
                del result
        while forwarder.session_count:
            await self.turn(0.01)
        await self.turn(0.1)
        self.lines.closed_lines.clear()
        # Python's own search for plug-ins keeps a cycle whenever a directory has changed.
        found = self.collect()
        self.assertEqual(found.ours, {}, found.cycle)
