"""What a ``tls:`` target verifies: whole handshakes in memory, against certificates made here."""

from __future__ import annotations

from functools import partial
from typing import Any

import trustme
from OpenSSL import SSL
from service_identity import VerificationError
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import directlyProvides
from zope.interface.verify import verifyObject

from portfwd.rules.model import Options
from portfwd.service.tls import Unverified, authorities, client_creator

CA, OTHER_CA = trustme.CA(), trustme.CA()


class Side(Protocol):
    """One end of the connection."""

    lost: Failure | None = None
    received = b""

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = Failure(ConnectionError())) -> None:  # noqa: B008 - Twisted's form
        self.lost = reason


class ServerContext:
    """A server with a certificate; it remembers the name it was asked for."""

    def __init__(self, *names: str) -> None:
        self.asked: list[bytes | None] = []
        self._context = SSL.Context(SSL.TLS_METHOD)
        CA.issue_cert(*names).configure_cert(self._context)
        self._context.set_tlsext_servername_callback(lambda one: self.asked.append(one.get_servername()))

    def serverConnectionForTLS(self, _protocol: object) -> SSL.Connection:
        connection = SSL.Connection(self._context, None)
        connection.set_accept_state()
        return connection


class HandshakeTests(SynchronousTestCase):
    """Good and bad certificates."""

    def connect(self, creator: IOpenSSLClientConnectionCreator, *names: str) -> tuple[Side, ServerContext]:
        """Shake hands with a server whose certificate is for `names`."""
        context = ServerContext(*names)
        clock = Clock()  # small writes are sent a turn later
        ends = []
        for is_client, maker in ((True, creator), (False, context)):
            side = Side()
            wrapped = Factory.forProtocol(partial(_same, side))
            factory = TLSMemoryBIOFactory(_provided(maker), is_client, wrapped, clock)
            protocol = factory.buildProtocol(None)
            transport: Any = StringTransport()
            transport.abortConnection = transport.loseConnection
            protocol.makeConnection(transport)
            ends.append((protocol, transport, side))
        (client, client_wire, side), (server, server_wire, _) = ends
        side.transport.write(b"hello")  # type: ignore[union-attr]
        for _ in range(10):
            clock.advance(0)
            for source, target in ((client_wire, server), (server_wire, client)):
                data = source.value()
                source.clear()
                if data:
                    target.dataReceived(data)
        for protocol, transport, _ in ends:
            if transport.disconnecting:
                protocol.connectionLost(Failure(ConnectionError("closed")))
        self.server_received = ends[1][2].received
        return side, context

    def assertGood(self, side: Side) -> None:
        """The bytes arrived."""
        self.assertIsNone(side.lost)
        self.assertEqual(self.server_received, b"hello")

    def assertBad(self, side: Side, kind: type[Exception]) -> None:
        """The client gave up for this reason; no byte arrived."""
        assert side.lost is not None
        self.assertIsInstance(side.lost.value, kind)
        self.assertEqual(self.server_received, b"")

    def creator(
        self, host: str, ca: trustme.CA | None = CA, **options: Any
    ) -> IOpenSSLClientConnectionCreator:
        """What a target on `host` verifies, by the authority `ca`."""
        if ca is not None:
            options["ca"] = "ca.pem"
        return client_creator(
            host, Options(**options), lambda path: (ca or CA).cert_pem.bytes() if path == "ca.pem" else b""
        )

    def test_good(self) -> None:
        """The right name by the right authority; the name is sent."""
        side, server = self.connect(self.creator("h.example"), "h.example")
        self.assertGood(side)
        self.assertEqual(server.asked, [b"h.example"])

    def test_wrong_authority(self) -> None:
        """A certificate by somebody else."""
        side, _ = self.connect(self.creator("h.example", OTHER_CA), "h.example")
        self.assertBad(side, SSL.Error)

    def test_the_systems_authorities(self) -> None:
        """Without ca= the system's authorities judge, and do not know this one."""
        side, _ = self.connect(self.creator("h.example", None), "h.example")
        self.assertBad(side, SSL.Error)

    def test_wrong_name(self) -> None:
        """A certificate for another name."""
        side, _ = self.connect(self.creator("h.example"), "other.example")
        self.assertBad(side, VerificationError)

    def test_addresses(self) -> None:
        """A target that is an address is verified as one, and no name is sent (RFC 6066 section 3)."""
        for host in ("127.0.0.1", "::1"):
            side, server = self.connect(self.creator(host), host)
            self.assertGood(side)
            self.assertEqual(server.asked, [None])
        side, _ = self.connect(self.creator("127.0.0.1"), "127.0.0.2")
        self.assertBad(side, VerificationError)

    def test_server_name(self) -> None:
        """server-name= is sent and verified instead of the host."""
        side, server = self.connect(self.creator("10.0.0.1", server_name="h.example"), "h.example")
        self.assertGood(side)
        self.assertEqual(server.asked, [b"h.example"])

    def test_not_verified(self) -> None:
        """With verify=off any certificate will do; the name is sent all the same."""
        side, server = self.connect(self.creator("h.example", OTHER_CA, verify=False), "other.example")
        self.assertGood(side)
        self.assertEqual(server.asked, [b"h.example"])

    def test_not_verified_address(self) -> None:
        """And an address is not sent."""
        side, server = self.connect(self.creator("127.0.0.1", verify=False), "other.example")
        self.assertGood(side)
        self.assertEqual(server.asked, [None])

    def test_bundle(self) -> None:
        """Any authority of a bundle will do, text around the certificates is passed by."""
        pem = b"# ours\n" + OTHER_CA.cert_pem.bytes() + b"\n# theirs\n" + CA.cert_pem.bytes()
        creator = client_creator("h.example", Options(ca="x"), lambda _: pem)
        side, _ = self.connect(creator, "h.example")
        self.assertGood(side)


def _same(side: Side) -> Side:
    return side


def _provided(maker: Any) -> Any:
    """A creator that says what it provides, as Twisted's factory asks for."""
    if isinstance(maker, ServerContext):
        directlyProvides(maker, IOpenSSLServerConnectionCreator)
    return maker


class BadFileTests(SynchronousTestCase):
    """What cannot be made ready."""

    def test_no_certificate(self) -> None:
        """A file without one is named."""
        problem = self.assertRaises(
            ValueError, client_creator, "h.example", Options(ca="/etc/ca.pem"), lambda _: b"hello"
        )
        self.assertEqual(str(problem), "/etc/ca.pem: holds no PEM certificate")

    def test_damaged_certificate(self) -> None:
        """A damaged one is said to be."""
        pem = CA.cert_pem.bytes()
        for bad in (
            pem[:200],
            pem.replace(b"M", b"!"),
            b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
        ):
            problem = self.assertRaises(ValueError, authorities, bad)
            self.assertEqual(str(problem), "holds a certificate that cannot be read")

    def test_missing_file(self) -> None:
        """The system's error goes to the caller."""

        def read(path: str) -> bytes:
            raise FileNotFoundError(path)

        self.assertRaises(FileNotFoundError, client_creator, "h.example", Options(ca="x"), read)

    def test_names_that_are_none(self) -> None:
        """A host that cannot be a name is refused now, not at the first connection."""
        for verify in (True, False):
            self.assertRaises(
                ValueError, client_creator, "a" * 80 + ".example", Options(verify=verify), lambda _: b""
            )

    def test_interface(self) -> None:
        """`Unverified` is what Twisted asks for."""
        verifyObject(IOpenSSLClientConnectionCreator, Unverified("h.example"))
