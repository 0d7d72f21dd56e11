"""Tests of `portfwd.relay.secured`: TLS begins in the middle of sessions, over real sockets."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence
from typing import Any

import trustme
from attrs import frozen
from twisted.internet.defer import Deferred

from portfwd.filters import (
    DONE,
    NEED_MORE,
    TO_CLIENT,
    Direction,
    Factory,
    Filter,
    Forward,
    Plugin,
    Reply,
    RouteClause,
    Side,
    StartTLS,
    Verdict,
)
from portfwd.filters.options import file_path, option, text
from portfwd.values import CloseReason
from tests.service.run.test_reload import ReloadCase

RULE = "a: 127.0.0.1:0 -> {target}\n    filter python:tests.relay.test_secured.PLUGIN {options}\n"


@frozen
class Options:
    """What a test says."""

    cert: str | None = option(file_path, default=None, help="For the client.")
    ca: str | None = option(file_path, default=None, help="For the upstream.")
    name: str | None = option(text, default=None, help="Of the upstream.")


class Starting(Filter):
    r"""TLS begins with whoever sends ``go\\n``; ``ok`` goes to the client before."""

    def __init__(self, name: str | None) -> None:
        self._name = name
        self._begun: set[Side] = set()

    def received(self, direction: Direction, data: bytes) -> Verdict:
        """See `IFilter`."""
        side = Side.UPSTREAM if direction is TO_CLIENT else Side.CLIENT
        if side in self._begun:
            return DONE
        if len(data) < 3:
            return NEED_MORE
        if data[:3] != b"go\n":
            return None
        self._begun.add(side)
        start = StartTLS(side, rest=data[3:], server_name=self._name if side is Side.UPSTREAM else None)
        return [Reply(b"ok") if side is Side.CLIENT else Forward(b""), start]


def make(options: Options, clauses: Sequence[RouteClause]) -> Factory:
    """The factory of a clause."""
    sides: dict[Side, dict[str, str]] = {}
    if options.cert:
        sides[Side.CLIENT] = {"cert": options.cert, "handshake-timeout": "0.3s"}
    if options.ca:
        sides[Side.UPSTREAM] = {"ca": options.ca, "connect-timeout": "0.3s"}
    return Factory(lambda connection: Starting(options.name), starts_tls=sides)


PLUGIN = Plugin("starting", "Starts TLS.", Options, make)


class SecuredTests(ReloadCase):
    """Handshakes in the middle of a session."""

    def setUp(self) -> Deferred[None]:
        """Make certificates."""
        authority = trustme.CA()
        self.pem, self.ca = self.mktemp(), self.mktemp()
        authority.issue_cert("127.0.0.1", "db.example").private_key_and_cert_chain_pem.write_to_path(self.pem)
        authority.cert_pem.write_to_path(self.ca)
        self.client_context = ssl.create_default_context(cafile=self.ca)
        self.server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.server_context.load_cert_chain(self.pem)
        return super().setUp()

    async def open(self, options: str) -> tuple[Any, socket.socket, socket.socket]:
        """A session: its forwarder, client and upstream."""
        forwarder = self.started(RULE.format(target=self.target, options=options))
        return (forwarder, *await self.session(forwarder))

    async def test_client(self) -> None:
        """The client's TLS ends here; what either side says is passed, and so are ends."""
        forwarder, client, upstream = await self.open(f"cert={self.pem}")

        def talk() -> None:
            client.sendall(b"go\n")
            self.assertEqual(client.recv(2), b"ok")
            secure = self.client_context.wrap_socket(client, server_hostname="db.example")
            secure.sendall(b"hello" * 1000)
            got = b""
            while len(got) < 5000:
                got += upstream.recv(5000)
            self.assertEqual(got, b"hello" * 1000)
            upstream.sendall(b"answer" * 100_000)
            upstream.shutdown(socket.SHUT_WR)
            answer = b""
            while piece := secure.recv(65536):
                answer += piece
            self.assertEqual(answer, b"answer" * 100_000)
            secure.unwrap().close()

        await self.in_thread(talk)
        await self.until(lambda: not forwarder.session_count)
        summary = self.lines.closed_lines[-1]
        assert summary.tls is not None
        self.assertEqual((summary.reason, summary.tls.server_name), (CloseReason.NORMAL, "db.example"))

    async def test_upstream(self) -> None:
        """TLS with the upstream begins here; its certificate is verified for the host that was dialled."""
        forwarder, client, upstream = await self.open(f"ca={self.ca}")

        def talk() -> None:
            upstream.sendall(b"go\n")
            secure = self.server_context.wrap_socket(upstream, server_side=True)
            client.sendall(b"hello")
            self.assertEqual(secure.recv(5), b"hello")
            secure.sendall(b"answer")
            self.assertEqual(client.recv(6), b"answer")
            client.close()
            self.assertEqual(secure.recv(1), b"")
            secure.close()

        await self.in_thread(talk)
        await self.until(lambda: not forwarder.session_count)
        summary = self.lines.closed_lines[-1]
        assert summary.upstream_tls is not None
        self.assertEqual(summary.upstream_tls.version, "TLSv1.3")

    async def closed_with(self, forwarder: Any, client: socket.socket, upstream: socket.socket) -> Any:
        """The summary of the session when it is closed."""
        await self.until(lambda: not forwarder.session_count)
        client.close()
        upstream.close()
        return self.lines.closed_lines[-1]

    async def test_wrong_name(self) -> None:
        """A certificate of another name ends the session, and the client with it."""
        forwarder, client, upstream = await self.open(f"ca={self.ca} name=other.example")

        def talk() -> None:
            upstream.sendall(b"go\n")
            try:
                self.server_context.wrap_socket(upstream, server_side=True).recv(1)
            except (ssl.SSLError, OSError):
                pass

        await self.in_thread(talk)
        summary = await self.closed_with(forwarder, client, upstream)
        self.assertEqual(summary.reason, CloseReason.TLS_FAILED)
        self.assertIn("other.example", summary.detail)

    async def test_no_handshake(self) -> None:
        """Bytes that are no TLS, an end, and silence end the session as failed handshakes."""
        for what in ("nonsense", "end", "silence"):
            forwarder, client, upstream = await self.open(f"cert={self.pem}")
            client.sendall(b"go\n" + b"nonsense\r\n\r\n" * (what == "nonsense"))
            if what == "end":
                client.shutdown(socket.SHUT_WR)
            summary = await self.closed_with(forwarder, client, upstream)
            timeout, failed = CloseReason.CLIENT_TLS_TIMEOUT, CloseReason.CLIENT_TLS_FAILED
            self.assertEqual(summary.reason, timeout if what == "silence" else failed, what)
            await forwarder.stopService()

    async def test_counted(self) -> None:
        """A client counts among the handshakes of its rule until it is through, or makes room for another."""
        forwarder, client, upstream = await self.open(f"cert={self.pem}")
        handshakes = forwarder.rules[0].handshakes
        counts: list[tuple[int, int]] = []
        began = handshakes.began

        def counting(session: Any) -> None:
            counts.append((handshakes.silent, handshakes.begun))
            began(session)
            counts.append((handshakes.silent, handshakes.begun))

        self.patch(handshakes, "began", counting)

        def talk() -> ssl.SSLSocket:
            client.sendall(b"go\n")
            self.assertEqual(client.recv(2), b"ok")
            secure = self.client_context.wrap_socket(client, server_hostname="db.example")
            secure.sendall(b"hello")
            self.assertEqual(upstream.recv(5), b"hello")
            return secure

        secure = await self.in_thread(talk)
        self.assertEqual((counts, handshakes.silent, handshakes.begun), ([(1, 0), (0, 1)], 0, 0))
        other, far = await self.session(forwarder)
        other.sendall(b"go\n")
        await self.until(lambda: handshakes.silent == 1)
        self.assertTrue(handshakes.drop_silent("a test"))
        self.assertEqual(handshakes.silent, 0)
        await self.until(lambda: any(one.id == 2 for one in self.lines.closed_lines))
        (summary,) = (one for one in self.lines.closed_lines if one.id == 2)
        self.assertEqual(summary.reason, CloseReason.LIMIT)
        self.assertIn("without a TLS handshake: a test", summary.detail)
        for one in (secure, upstream, other, far):
            one.close()

    async def test_pipelined(self) -> None:
        """A ClientHello that comes with the request is not lost, wherever it is cut."""
        for cut in (1, 2, 3, 4, 50):
            forwarder, client, upstream = await self.open(f"cert={self.pem}")

            def talk(cut: int = cut, client: Any = client, upstream: Any = upstream) -> None:
                incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
                tls = self.client_context.wrap_bio(incoming, outgoing, server_hostname="db.example")
                try:
                    tls.do_handshake()
                except ssl.SSLWantReadError:
                    pass
                data = b"go\n" + outgoing.read()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                client.sendall(data[:cut])
                client.sendall(data[cut:])
                self.assertEqual(client.recv(2), b"ok")
                while True:
                    try:
                        tls.do_handshake()
                        break
                    except ssl.SSLWantReadError:
                        incoming.write(client.recv(65536))
                tls.write(b"hello")
                client.sendall(outgoing.read())
                self.assertEqual(upstream.recv(5), b"hello")

            await self.in_thread(talk)
            client.close()
            upstream.close()
            await forwarder.stopService()
