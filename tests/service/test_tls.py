"""What a ``tls:`` target verifies and shows: whole handshakes in memory, with certificates made here."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any

import trustme
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from portfwd.rules.model import Options
from portfwd.service import tls
from portfwd.service.tls import CIPHERS, client_side, load_pair, new_context
from portfwd.streams.tls import TLSLayer
from tests.service.pems import CA, OTHER_CA, directory_of, write_authority, write_pair
from tests.streams.tls_peers import Heard, Peer, Wire, exchange

#: What OpenSSL 3 makes of `CIPHERS`, and the suites of TLS 1.3 that it has by itself.
OFFERED = {
    "TLSv1.3": {"TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256"},
    "TLSv1.2": {
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-RSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-RSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "ECDHE-RSA-CHACHA20-POLY1305",
    },
}


class ContextTests(SynchronousTestCase):
    """What is offered, on both sides."""

    def test_table(self) -> None:
        """These versions and ciphers, and no others."""
        for server in (True, False):
            context = new_context(server=server)
            offered: dict[str, set[str]] = {}
            for cipher in context.get_ciphers():
                offered.setdefault(cipher["protocol"], set()).add(cipher["name"])
            self.assertEqual(offered, OFFERED)
            self.assertIs(context.minimum_version, ssl.TLSVersion.TLSv1_2)
            self.assertTrue(context.options & ssl.OP_NO_RENEGOTIATION)
            self.assertTrue(context.options & ssl.OP_NO_COMPRESSION)

    def test_own_ciphers(self) -> None:
        """A list of one's own is taken; one that names none is refused."""
        context = new_context(server=True, ciphers="ECDHE+AESGCM:!AES256")
        names = {cipher["name"] for cipher in context.get_ciphers() if cipher["protocol"] == "TLSv1.2"}
        self.assertEqual(names, {"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256"})
        problem = self.assertRaises(ValueError, new_context, server=True, ciphers="NONE-OF-THESE")
        self.assertIn("ciphers=NONE-OF-THESE", str(problem))
        self.assertNotIn("RC4", CIPHERS)


class HandshakeTests(SynchronousTestCase):
    """Good and bad certificates."""

    def setUp(self) -> None:
        """Files."""
        self.directory = directory_of(self)
        self.ca = write_authority(self.directory)
        self.asked: list[str | None] = []

    def server(self, *names: str, leaf: trustme.LeafCert | None = None) -> ssl.SSLContext:
        """A server with a certificate for `names`; it remembers what it was asked for."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        (leaf or CA.issue_cert(*names)).configure_cert(context)

        def asked(_tls: Any, name: str | None, _context: object) -> None:
            self.asked.append(name)

        context.sni_callback = asked
        return context

    def connect(
        self, side: tls.ClientSide, server: ssl.SSLContext, say: Callable[[Peer], bytes] = lambda _: b""
    ) -> Heard:
        """Shake hands, and say hello."""
        wire, heard = Wire(), Heard()
        stream: Any = heard
        transport: Any = wire
        self.layer = TLSLayer(side, stream)
        self.layer.makeConnection(transport)
        self.peer = Peer(server)
        self.layer.write(b"hello")
        exchange(self.layer, wire, self.peer)
        exchange(self.layer, wire, self.peer, say(self.peer))
        return heard

    def good(self, side: tls.ClientSide, server: ssl.SSLContext) -> None:
        """The handshake is good, and the bytes arrive."""
        heard = self.connect(side, server)
        self.assertIsNone(heard.reason)
        self.assertEqual(self.peer.received, b"hello")

    def bad(self, side: tls.ClientSide, server: ssl.SSLContext, why: str) -> None:
        """The client gives up, for this reason; no byte arrives."""
        heard = self.connect(side, server)
        assert heard.reason is not None
        self.assertIn(why, str(heard.reason.value))
        self.assertEqual(self.peer.received, b"")

    def side(self, host: str, **options: Any) -> tls.ClientSide:
        """What a target on `host` verifies."""
        return client_side(host, Options(**{"ca": self.ca, **options}))

    def test_good(self) -> None:
        """The right name by the right authority; the name is sent."""
        self.good(self.side("h.example"), self.server("h.example"))
        self.assertEqual(self.asked, ["h.example"])

    def test_wrong_authority(self) -> None:
        """A certificate by somebody else."""
        server = self.server(leaf=OTHER_CA.issue_cert("h.example"))
        self.bad(self.side("h.example"), server, "not signed by an authority that is trusted")

    def test_the_systems_authorities(self) -> None:
        """Without ca= the system's authorities judge, and do not know this one."""
        self.bad(self.side("h.example", ca=None), self.server("h.example"), "the certificate ")

    def test_bundles(self) -> None:
        """Where OpenSSL's own place is empty, the known ones are tried in turn."""
        paths = ssl.get_default_verify_paths()._replace(cafile=None, capath=None)
        self.patch(ssl, "get_default_verify_paths", lambda: paths)
        self.patch(tls, "SYSTEM_BUNDLES", (self.ca + ".gone", self.ca))
        self.good(self.side("h.example", ca=None), self.server("h.example"))
        self.patch(tls, "SYSTEM_BUNDLES", ())
        self.bad(self.side("h.example", ca=None), self.server("h.example"), "the certificate ")

    def test_expired(self) -> None:
        """A certificate that has expired."""
        from datetime import UTC, datetime

        leaf = CA.issue_cert("h.example", not_after=datetime(2020, 1, 1, tzinfo=UTC))
        self.bad(self.side("h.example"), self.server(leaf=leaf), "has expired")

    def test_wrong_name(self) -> None:
        """A certificate for another name."""
        self.bad(self.side("h.example"), self.server("other.example"), "for another name")

    def test_common_name(self) -> None:
        """A common name alone is none that a host could have (RFC 9525 section 2)."""
        leaf = CA.issue_cert("x@h.example", common_name="h.example")
        self.bad(self.side("h.example"), self.server(leaf=leaf), "for another name")

    def test_absolute_name(self) -> None:
        """The dot at the end of an absolute name is neither sent nor looked for (RFC 6066 section 3)."""
        self.good(self.side("h.example."), self.server("h.example"))
        self.good(self.side("10.0.0.1", server_name="h.example."), self.server("h.example"))
        self.assertEqual(self.asked, ["h.example", "h.example"])

    def test_addresses(self) -> None:
        """A target that is an address is verified as one, and no name is sent (RFC 6066 section 3)."""
        for host in ("127.0.0.1", "::1"):
            self.good(self.side(host), self.server(host))
        self.assertEqual(self.asked, [None, None])
        self.bad(self.side("127.0.0.1"), self.server("127.0.0.2"), "for another name")

    def test_zone(self) -> None:
        """The zone of an address is ours alone: the certificate has none."""
        self.good(self.side("fe80::1%eth0"), self.server("fe80::1"))

    def test_other_letters(self) -> None:
        """A name with letters beyond ASCII is sent and verified by IDNA 2008."""
        self.good(self.side("10.0.0.1", server_name="straße.example"), self.server("xn--strae-oqa.example"))
        self.assertEqual(self.asked, ["xn--strae-oqa.example"])
        self.bad(self.side("straße.example"), self.server("strasse.example"), "for another name")

    def test_server_name(self) -> None:
        """server-name= is sent and verified instead of the host."""
        self.good(self.side("10.0.0.1", server_name="h.example"), self.server("h.example"))
        self.assertEqual(self.asked, ["h.example"])

    def test_not_verified(self) -> None:
        """With verify=off any certificate will do, and the log warns; a name is sent, an address is not."""
        said: list[str] = []

        def hear(event: Any) -> None:
            said.append(str(event["log_format"]).format(**event))

        globalLogPublisher.addObserver(hear)
        self.addCleanup(globalLogPublisher.removeObserver, hear)
        server = self.server(leaf=OTHER_CA.issue_cert("other.example"))
        self.good(self.side("h.example", verify=False), server)
        self.good(self.side("127.0.0.1", verify=False), server)
        self.assertEqual(self.asked, ["h.example", None])
        self.assertIn("tls:h.example: the certificate of this target is not checked", said[0])

    def test_bundle(self) -> None:
        """Any authority of a bundle will do, text around the certificates is passed by."""
        pem = b"# ours\n" + OTHER_CA.cert_pem.bytes() + b"\n# theirs\xff\n" + CA.cert_pem.bytes()
        self.good(client_side("h.example", Options(ca="x"), lambda _: pem), self.server("h.example"))

    def test_client_certificate(self) -> None:
        """client-cert= is shown to a server that asks; without it the server's alert names the option."""
        server = self.server("h.example")
        server.verify_mode = ssl.CERT_REQUIRED
        CA.configure_trust(server)
        cert, key = write_pair(self.directory, "me", CA.issue_cert("me.example"))
        self.good(self.side("h.example", client_cert=cert, client_key=key), server)
        shown = self.peer.tls.getpeercert()
        assert shown is not None
        self.assertEqual(shown["subjectAltName"], (("DNS", "me.example"),))
        heard = self.connect(self.side("h.example"), server)
        self.layer.readConnectionLost()
        self.layer.connectionLost()
        assert heard.reason is not None
        self.assertIn("client-cert=", str(heard.reason.value))

    def test_alpn(self) -> None:
        """alpn= is offered, and what was agreed on is known."""
        server = self.server("h.example")
        server.set_alpn_protocols(["http/1.1"])
        heard = self.connect(self.side("h.example", target_alpn=("h2", "http/1.1")), server)
        self.assertEqual((heard.tls.alpn, heard.tls.version), ("http/1.1", "TLSv1.3"))

    def test_resumption(self) -> None:
        """The session of a connection that is over is resumed, once."""
        side, server = self.side("h.example"), self.server("h.example")
        reused = []
        for _ in range(2):
            self.connect(side, server, lambda peer: peer.say(b"tickets come before this"))
            reused.append(self.peer.tls.session_reused)
            self.layer.loseConnection()
            self.layer.connectionLost()
        self.assertEqual(reused, [False, True])


class BadFileTests(SynchronousTestCase):
    """What cannot be made ready."""

    def test_no_certificate(self) -> None:
        """A file without one is named."""
        problem = self.assertRaises(
            ValueError, client_side, "h.example", Options(ca="/etc/ca.pem"), lambda _: b"hello"
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
            options = Options(ca="ca.pem")
            problem = self.assertRaises(ValueError, client_side, "h.example", options, lambda _, bad=bad: bad)
            self.assertIn("ca.pem: holds a certificate that cannot be read", str(problem))

    def test_refused_by_openssl(self) -> None:
        """What OpenSSL does not take is told with its reason."""

        class Strict(ssl.SSLContext):
            """Takes nothing."""

            def load_verify_locations(self, *_: Any, **__: Any) -> None:
                raise ssl.SSLError("not this one")

            load_cert_chain = load_verify_locations  # type: ignore[assignment]

        context = Strict(ssl.PROTOCOL_TLS_CLIENT)
        problem = self.assertRaises(
            ValueError, tls.trust_file, context, "ca.pem", lambda _: CA.cert_pem.bytes()
        )
        self.assertEqual(str(problem), "ca.pem: OpenSSL does not take it: not this one")
        problem = self.assertRaises(ValueError, load_pair, context, "a.pem", "a.key")
        self.assertEqual(str(problem), "a.pem: OpenSSL does not take it: not this one")

    def test_passphrase(self) -> None:
        """Nobody is asked for a passphrase at the terminal."""
        self.assertRaises(ValueError, tls._no_passphrase)

    def test_missing_file(self) -> None:
        """The system's error goes to the caller."""

        def read(path: str) -> bytes:
            raise FileNotFoundError(path)

        self.assertRaises(FileNotFoundError, client_side, "h.example", Options(ca="x"), read)

    def test_key_without_certificate(self) -> None:
        """A client's key alone means nothing."""
        problem = self.assertRaises(ValueError, client_side, "h.example", Options(client_key="me.key"))
        self.assertIn("no client-cert=", str(problem))

    def test_names_that_are_none(self) -> None:
        """A host that cannot be a name is refused now, not at the first connection."""
        for verify in (True, False):
            self.assertRaises(ValueError, client_side, "a" * 80 + ".example", Options(verify=verify))
