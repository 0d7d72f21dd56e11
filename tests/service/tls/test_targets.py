"""What a ``tls:`` target verifies and shows: whole handshakes in memory, with certificates made here."""

from __future__ import annotations

import base64
import hashlib
import os
import ssl
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import trustme
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from portfwd.rules.model import Options
from portfwd.service.tls import targets as tls
from portfwd.service.tls.file_watch import LOOK_EVERY
from portfwd.service.tls.targets import ClientSide, client_side
from portfwd.streams.transports.tls import TLSLayer
from portfwd.streams.transports.tls_side import TLSSide
from portfwd.values import TLSInfo
from tests.service.pems import (
    CA,
    OTHER_CA,
    directory_of,
    write_authority,
    write_crl,
    write_encrypted,
    write_pair,
)
from tests.streams.tls_peers import Heard, Peer, Wire, exchange, lose


class HandshakeTests(SynchronousTestCase):
    """Good and bad certificates."""

    def setUp(self) -> None:
        """Files."""
        self.directory = directory_of(self)
        self.ca = write_authority(self.directory)
        self.asked: list[str | None] = []
        self.said: list[str] = []

        def hear(event: Any) -> None:
            self.said.append(str(event["log_format"]).format(**event))

        globalLogPublisher.addObserver(hear)
        self.addCleanup(globalLogPublisher.removeObserver, hear)

    def server(self, *names: str, leaf: trustme.LeafCert | None = None) -> ssl.SSLContext:
        """A server with a certificate for `names`; it remembers what it was asked for."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        (leaf or CA.issue_cert(*names)).configure_cert(context)

        def asked(_tls: Any, name: str | None, _context: object) -> None:
            self.asked.append(name)

        context.sni_callback = asked
        return context

    def connect(
        self, side: TLSSide, server: ssl.SSLContext, say: Callable[[Peer], bytes] = lambda _: b""
    ) -> Heard:
        """Shake hands, and say hello."""
        wire, heard = Wire(), Heard()
        self.wire = wire
        stream: Any = heard
        transport: Any = wire
        self.layer = TLSLayer(side, stream)
        self.layer.makeConnection(transport)
        self.peer = Peer(server)
        self.layer.write(b"hello")
        exchange(self.layer, wire, self.peer)
        exchange(self.layer, wire, self.peer, say(self.peer))
        return heard

    def good(self, side: TLSSide, server: ssl.SSLContext) -> None:
        """The handshake is good, and the bytes arrive."""
        heard = self.connect(side, server)
        self.assertIsNone(heard.reason)
        self.assertEqual(self.peer.received, b"hello")

    def bad(self, side: TLSSide, server: ssl.SSLContext, why: str) -> None:
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
        """A certificate of another authority."""
        server = self.server(leaf=OTHER_CA.issue_cert("h.example"))
        self.bad(self.side("h.example"), server, "not signed by an authority that is trusted")

    def test_the_systems_authorities(self) -> None:
        """Without ca= the authorities of the system are used, which do not include this one."""
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

    def test_pin(self) -> None:
        """A certificate or a key that pin= names is trusted whoever has signed it; any other is not."""
        leaf = OTHER_CA.issue_cert("whatever.example")
        certificate = x509.load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes())
        shown = certificate.fingerprint(SHA256()).hex()
        key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        spki = "sha256//" + base64.b64encode(hashlib.sha256(key).digest()).decode()
        for pin in ((shown,), (spki,), ("0" * 64, spki)):
            for more in ({"ca": None}, {"ca": None, "verify": False}):
                self.good(self.side("h.example", pin=pin, **more), self.server(leaf=leaf))
        self.bad(self.side("h.example", ca=None, pin=("0" * 64,)), self.server(leaf=leaf), f"is {shown}")
        self.bad(self.side("h.example", pin=(shown,)), self.server(leaf=leaf), "not signed by an authority")
        self.good(
            self.side("h.example", ca=None, pin=(spki,), target_min_version="1.3"), self.server(leaf=leaf)
        )

    def test_pin_of_a_resumed_session(self) -> None:
        """A session that is resumed is judged by the certificate that it began with."""
        leaf = OTHER_CA.issue_cert("whatever.example")
        shown = x509.load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes()).fingerprint(SHA256()).hex()
        side, server = self.side("h.example", ca=None, pin=(shown,)), self.server(leaf=leaf)
        for resumed in (False, True):
            heard = self.connect(side, server, lambda peer: peer.say(b"x"))
            self.assertEqual(heard.tls.resumed, resumed)
            self.layer.connectionLost(Failure(ConnectionDone()))

    def test_many_sessions(self) -> None:
        """Sessions are resumed also where several connections begin before one ends; not with resume=off."""
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            for resume in (True, False):
                side, server = self.side("h.example", target_resume=resume), self.server("h.example")
                server.maximum_version = version
                resumed = 0
                for _ in range(3):
                    layers = []
                    for _ in range(10):
                        heard = self.connect(side, server, lambda peer: peer.say(b"x"))
                        resumed += heard.tls.resumed
                        layers.append(self.layer)
                    for layer in layers:
                        layer.connectionLost(Failure(ConnectionDone()))
                self.assertEqual(resumed, 20 if resume else 0, version)

    def test_sessions_are_asked_for_seldom(self) -> None:
        """One session serves all connections for a while: Python loses memory with each that is asked for."""
        now = datetime(2026, 1, 1, tzinfo=UTC)
        side = ClientSide("h.example", Options(ca=self.ca), now=lambda: now)
        server = self.server("h.example")
        kept = []
        for minutes in (0, 1, 1, 3, 3):
            now = datetime(2026, 1, 1, 0, minutes, tzinfo=UTC)
            heard = self.connect(side, server, lambda peer: peer.say(b"x"))
            self.assertEqual(heard.tls.resumed, bool(kept))
            self.layer.connectionLost(Failure(ConnectionDone()))
            (one,) = side.sessions.values()
            kept.append(one.session)
        self.assertIsNotNone(kept[0])
        self.assertEqual([one is kept[0] for one in kept], [True, True, True, False, False])
        self.assertIs(kept[3], kept[4])

    def test_what_the_client_asked_for(self) -> None:
        """server-name=client and alpn=client ask for what the client asked for, and verify that name."""
        side = self.side("10.0.0.1", server_name="client", target_alpn=("client",))
        server = self.server("h.example", "10.0.0.1")
        server.set_alpn_protocols(["h2", "http/1.1"])
        for client, name, alpn in (
            (TLSInfo("h.example", "h2"), "h.example", "h2"),
            (TLSInfo("h.example"), "h.example", ""),
            (TLSInfo("", "http/1.1"), "10.0.0.1", "http/1.1"),
            (None, "10.0.0.1", ""),
        ):
            heard = self.connect(side.for_client(client), server)
            self.assertIsNone(heard.reason)
            self.assertEqual((heard.tls.server_name, heard.tls.alpn), (name, alpn))
        self.bad(side.for_client(TLSInfo("other.example")), server, "for another name")

    def test_names_are_bounded(self) -> None:
        """Sessions are kept of as many names as are bounded, whatever clients ask for."""
        side = self.side("10.0.0.1", server_name="client", verify=False)
        server = self.server("h.example")
        for number in range(tls.MAX_NAMES + 2):
            asked = side.for_client(TLSInfo(f"n{number}.example"))
            self.connect(asked, server, lambda peer: peer.say(b"x"))
            self.layer.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(len(side.sessions), tls.MAX_NAMES)

    def test_eof(self) -> None:
        """With eof=accept an end without close_notify is an end; else it is a reset."""
        for eof, told in (("accept", "ended"), ("reset", "lost")):
            heard = self.connect(self.side("h.example", eof=eof), self.server("h.example"))
            self.layer.readConnectionLost()
            lose(self.layer, self.wire)
            self.assertEqual(heard.told[-1], told)

    def test_old_server(self) -> None:
        """A server that has only TLS 1.0 is reached with min-version=1.0, and not without."""
        server = self.server("h.example")
        server.set_ciphers("ALL@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            server.minimum_version = server.maximum_version = ssl.TLSVersion.TLSv1
        self.good(self.side("h.example", target_min_version="1.0"), server)
        self.bad(self.side("h.example"), server, "version")

    def test_curve(self) -> None:
        """curve= is the one group that is offered."""
        server = self.server("h.example")
        server.set_ecdh_curve("secp384r1")
        self.good(self.side("h.example", target_curve="secp384r1"), server)
        self.bad(self.side("h.example", target_curve="X25519"), server, "")

    def test_revoked(self) -> None:
        """A certificate of a crl= is refused; without a list of its authority every one is."""
        good, bad = CA.issue_cert("h.example"), CA.issue_cert("h.example")
        path = write_crl(self.directory, CA, bad)
        self.good(self.side("h.example", target_crl=path), self.server(leaf=good))
        self.bad(self.side("h.example", target_crl=path), self.server(leaf=bad), "is revoked")
        other = write_crl(self.directory, OTHER_CA)
        self.bad(self.side("h.example", target_crl=other), self.server(leaf=good), "no revocation list")
        problem = self.assertRaises(ValueError, self.side, "h.example", target_crl=self.ca)
        self.assertIn("holds no PEM revocation list", str(problem))

    def test_authorities(self) -> None:
        """ca= may be a directory, and an intermediate alone."""
        directory = directory_of(self)
        write_authority(directory, OTHER_CA)
        (directory / ".hidden.pem").write_bytes(b"rubbish")
        (directory / "b.crt").write_bytes(CA.cert_pem.bytes())
        self.good(self.side("h.example", ca=str(directory)), self.server("h.example"))
        self.good(
            self.side("h.example", ca=str(directory)), self.server(leaf=OTHER_CA.issue_cert("h.example"))
        )
        child = OTHER_CA.create_child_ca()
        path = directory / "child.only"
        path.write_bytes(child.cert_pem.bytes())
        self.good(self.side("h.example", ca=str(path)), self.server(leaf=child.issue_cert("h.example")))
        self.bad(self.side("h.example", ca=str(path)), self.server(leaf=OTHER_CA.issue_cert("h.example")), "")
        problem = self.assertRaises(ValueError, self.side, "h.example", ca=str(directory_of(self)))
        self.assertIn("no *.pem or *.crt", str(problem))

    def test_read_again(self) -> None:
        """Files that change are read again while connections are made; what is not good changes nothing."""
        clock = Clock()
        side = ClientSide("h.example", Options(ca=self.ca), seconds=clock.seconds)
        other = OTHER_CA.issue_cert("h.example")
        self.good(side, self.server("h.example"))
        write_authority(self.directory, OTHER_CA)
        self.bad(side, self.server(leaf=other), "not signed by")
        clock.advance(LOOK_EVERY)
        self.good(side, self.server(leaf=other))
        (self.directory / "ca.pem").write_bytes(b"rubbish")
        clock.advance(LOOK_EVERY)
        self.good(side, self.server(leaf=other))
        self.assertIn("the new certificates cannot be used, the old ones stay in use", self.said[-1])
        os.unlink(self.directory / "ca.pem")
        os.mkfifo(self.directory / "ca.pem")
        clock.advance(LOOK_EVERY)
        self.good(side, self.server(leaf=other))
        said = f"{self.ca}: it is not a regular file; name a file that can be read"
        self.assertTrue(self.said[-1].endswith(said), self.said[-1])
        self.bad(side, self.server("h.example"), "not signed by")

    def test_used_again(self) -> None:
        """A reload uses what was made before while the files are those that were read, and are good."""
        clock = Clock()

        def made(known: ClientSide | None = None, **options: Any) -> ClientSide:
            settings = Options(**{"ca": self.ca, **options})
            return client_side("h.example", settings, seconds=clock.seconds, known=known)

        side = made()
        self.assertIs(made(side), side)
        (self.directory / "ca.pem").write_bytes(b"rubbish")
        self.assertRaises(ValueError, made, side)
        clock.advance(LOOK_EVERY)
        self.bad(side, self.server(leaf=OTHER_CA.issue_cert("h.example")), "not signed by")
        self.assertRaises(ValueError, made, side)
        write_authority(self.directory, OTHER_CA)
        other = made(side)
        self.assertIsNot(other, side)
        self.good(other, self.server(leaf=OTHER_CA.issue_cert("h.example")))
        system = made(ca=None)
        self.assertIsNot(made(system, ca=None), system)
        free = made(ca=None, verify=False)
        self.assertIs(made(free, ca=None, verify=False), free)

    def test_password(self) -> None:
        """A key with a passphrase is read with the one of client-key-password-file=."""
        cert, key, password = write_encrypted(self.directory, "me", CA.issue_cert("me.example"))
        server = self.server("h.example")
        server.verify_mode = ssl.CERT_REQUIRED
        CA.configure_trust(server)
        shown = {"client_cert": cert, "client_key": key}
        self.good(self.side("h.example", client_key_password_file=password, **shown), server)
        problem = self.assertRaises(ValueError, self.side, "h.example", **shown)
        self.assertIn("client-key-password-file=", str(problem))

    def test_server_name(self) -> None:
        """server-name= is sent and verified instead of the host."""
        self.good(self.side("10.0.0.1", server_name="h.example"), self.server("h.example"))
        self.assertEqual(self.asked, ["h.example"])

    def test_not_verified(self) -> None:
        """With verify=off any certificate will do; a name is sent, an address is not."""
        server = self.server(leaf=OTHER_CA.issue_cert("other.example"))
        self.good(self.side("h.example", verify=False), server)
        self.good(self.side("127.0.0.1", verify=False), server)
        self.assertEqual(self.asked, ["h.example", None])

    def test_who(self) -> None:
        """Lines of the log name the rules and targets that have the side now, at first the one it is for."""
        clock = Clock()
        side = ClientSide("", Options(ca=self.ca, pin=("0",)), seconds=clock.seconds, label="a: target tls:x")
        rules = [Options(), Options(), Options()]
        for number, users, who in (
            (0, {}, "a: target tls:x: "),
            (1, {"b: target tls:y": rules[0]}, "b: target tls:y: "),
            (2, {"c: target tls:z": rules[1], "d: target tls:w": rules[2]}, "b: target tls:y and 2 more: "),
        ):
            side.users.update(users)
            write_authority(self.directory, (OTHER_CA, CA)[number % 2])
            clock.advance(LOOK_EVERY)
            self.connect(side, self.server("h.example"))
            self.assertEqual(self.said[-1], f"{who}the certificates were read again")
        del users
        rules.clear()
        self.assertEqual(list(side.users), [])

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
        self.assertEqual(problem.message, "/etc/ca.pem: holds no PEM certificate")

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
