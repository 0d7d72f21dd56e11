"""What a ``tls:`` listener shows and asks for: whole handshakes in memory, files that change."""

from __future__ import annotations

import errno
import gc
import os
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import trustme
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from portfwd.rules.model import ListenOptions
from portfwd.service.tls import certificate_choice as tls_certificates
from portfwd.service.tls import context as tls_context
from portfwd.service.tls.certificate_choice import judge_keylog
from portfwd.service.tls.file_watch import LOOK_EVERY
from portfwd.service.tls.listeners import TICKET_KEYS_LAST, ServerSide, names_shown
from portfwd.streams.transports.tls import TLSLayer
from tests.service.pems import (
    CA,
    OTHER_CA,
    directory_of,
    replace,
    write_authority,
    write_crl,
    write_encrypted,
    write_pair,
)
from tests.streams.tls_peers import Heard, Peer, Wire, client_context, exchange

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def _answered(sent: bytes) -> set[int]:
    """The kinds of the extensions in a ServerHello at the front of `sent`."""
    at = 5 + 4 + 2 + 32
    at += 1 + sent[at] + 2 + 1
    end = at + 2 + int.from_bytes(sent[at : at + 2], "big")
    at += 2
    kinds = set()
    while at < end:
        kinds.add(int.from_bytes(sent[at : at + 2], "big"))
        at += 4 + int.from_bytes(sent[at + 2 : at + 4], "big")
    return kinds


class ListeningCase(SynchronousTestCase):
    """Files, a clock, and clients."""

    def setUp(self) -> None:
        """A good pair for ``a.example``."""
        self.directory = directory_of(self)
        self.clock = Clock()
        self.cert, self.key = write_pair(self.directory, "a", CA.issue_cert("a.example"))
        self.said: list[str] = []

        def hear(event: Any) -> None:
            self.said.append(str(event["log_format"]).format(**event))

        globalLogPublisher.addObserver(hear)
        self.addCleanup(globalLogPublisher.removeObserver, hear)

    def side(self, now: datetime = NOW, before: ServerSide | None = None, **options: Any) -> ServerSide:
        """A listener's side."""
        made = ListenOptions(**{"cert": self.cert, "key": self.key, **options})
        return ServerSide("rule", made, self.clock.seconds, now=lambda: now, before=before)

    def refresh(self, side: ServerSide) -> str:
        """Let the files be looked at, as they are now; what is said of them."""
        said = len(self.said)
        self.clock.advance(LOOK_EVERY)
        self.connect(side)
        return "\n".join(self.said[said:])

    def refused(self, **options: Any) -> str:
        """Why these options are no good."""
        return str(self.assertRaises((OSError, ValueError), self.side, **options))

    def connect(
        self, side: ServerSide, name: str = "a.example", context: ssl.SSLContext | None = None, **more: Any
    ) -> Heard:
        """A client's handshake; `Heard.tls` and `Heard.reason` tell."""
        wire, heard = Wire(), Heard()
        stream: Any = heard
        transport: Any = wire
        self.layer = TLSLayer(side, stream)
        self.layer.makeConnection(transport)
        self.peer = Peer(context or client_context(trusts=CA), name, **more)
        exchange(self.layer, wire, self.peer, self.peer.step(b""))
        return heard

    def shown(self) -> tuple[str, ...]:
        """The names of the certificate that the client got."""
        return tuple(value for _, value in cast(Any, self.peer.tls.getpeercert())["subjectAltName"])

    def reason(self, heard: Heard) -> str:
        """Why the client was not let in."""
        assert heard.reason is not None
        return str(heard.reason.value)


class CertificateTests(ListeningCase):
    """What is shown."""

    def test_one(self) -> None:
        """One pair is shown to everybody; the name and the version are known."""
        heard = self.connect(self.side())
        self.assertEqual((heard.tls.server_name, heard.tls.version), ("a.example", "TLSv1.3"))
        self.assertEqual(self.shown(), ("a.example",))

    def test_by_name(self) -> None:
        """Of a directory the one is shown whose name is asked for; else the default."""
        directory = directory_of(self)
        write_pair(directory, "default", CA.issue_cert("main.example"))
        write_pair(directory, "b", CA.issue_cert("b.example", "*.c.example"), apart=False)
        side = self.side(cert=str(directory), key=None)
        self.assertIn("certificates=2", repr(side))
        for name, shown in (
            ("main.example", ("main.example",)),
            ("B.Example", ("b.example", "*.c.example")),
            ("x.c.example", ("b.example", "*.c.example")),
        ):
            heard = self.connect(side, name)
            self.assertEqual((self.shown(), heard.tls.server_name.lower()), (shown, name.lower()))
        careless = client_context()
        careless.check_hostname = False
        CA.configure_trust(careless)
        for name in ("nobody.example", "x.y.c.example"):
            self.connect(side, name, careless)
            self.assertEqual(self.shown(), ("main.example",))

    def test_alpn(self) -> None:
        """The first protocol of ours that the client offers is agreed on."""
        context = client_context(trusts=CA)
        context.set_alpn_protocols(["http/1.1", "h2"])
        heard = self.connect(self.side(alpn=("h2", "http/1.1")), context=context)
        self.assertEqual(heard.tls.alpn, "h2")

    def test_alpn_mismatch(self) -> None:
        """A client that offers none of ours is refused, or let in if alpn-mismatch= says so."""
        other = client_context(trusts=CA)
        other.set_alpn_protocols(["spdy/1"])
        heard = self.connect(self.side(alpn=("h2",)), context=other)
        self.assertIn("offers none of the protocols of alpn=: it offers spdy/1", self.reason(heard))
        self.assertIsNotNone(self.peer.problem)
        heard = self.connect(self.side(alpn=("h2",), alpn_mismatch="ignore"), context=other)
        self.assertEqual((heard.told[-1], heard.tls.alpn), ("opened", ""))
        self.assertEqual(self.connect(self.side(alpn=("h2",))).told[-1], "opened")

    def test_finite_field(self) -> None:
        """A key exchange in a finite field would stop all sessions for 160 ms: it is refused by an alert."""
        context = client_context(trusts=CA)
        try:
            context.set_ecdh_curve("ffdhe8192")
        except (ValueError, ssl.SSLError):
            raise SkipTest("needs an OpenSSL that knows ffdhe8192 by name") from None
        heard = self.connect(self.side(), context=context)
        self.assertIn("finite-field", self.reason(heard))
        self.assertIn("HANDSHAKE_FAILURE", str(self.peer.problem))
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        self.assertIn("no cipher", self.reason(self.connect(self.side(), context=context)))

    def test_finite_field_of_the_operator(self) -> None:
        """Unless curve= names one."""
        context = client_context(trusts=CA)
        try:
            context.set_ecdh_curve("ffdhe2048")
        except (ValueError, ssl.SSLError):
            raise SkipTest("needs an OpenSSL that knows ffdhe2048 by name") from None
        self.assertEqual(self.connect(self.side(curve="ffdhe2048"), context=context).told[-1], "opened")

    def test_client_without_hardware_for_aes(self) -> None:
        """A client that would like ChaCha20 best gets it; for all others our order holds, as for ciphers=."""
        for ciphers, ours, wanted in (
            ("ECDHE+CHACHA20:ECDHE+AESGCM", None, "CHACHA20"),
            ("ECDHE+AES128:ECDHE+CHACHA20:ECDHE+AES256", None, "AES256"),
            ("ECDHE+CHACHA20:ECDHE+AESGCM", "ECDHE+AESGCM:ECDHE+CHACHA20", "AES256"),
        ):
            context = client_context(trusts=CA)
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            context.set_ciphers(ciphers)
            self.assertIn(wanted, self.connect(self.side(ciphers=ours), context=context).tls.cipher)

    def test_name_is_acknowledged(self) -> None:
        """The server acknowledges the server name of a client (RFC 6066 section 3)."""
        context = client_context(trusts=CA)
        context.maximum_version = ssl.TLSVersion.TLSv1_2  # in 1.3 this answer is encrypted
        for name, wanted in (("a.example", True), (None, False)):
            context.check_hostname = False
            peer, wire, heard = Peer(context, "a.example"), Wire(), Heard()
            if name is None:
                peer.outgoing = ssl.MemoryBIO()
                peer.tls = context.wrap_bio(peer.incoming, peer.outgoing)
            layer = TLSLayer(self.side(), cast(Any, heard))
            layer.makeConnection(cast(Any, wire))
            layer.dataReceived(peer.step(b""))
            self.assertEqual(0 in _answered(wire.sent), wanted)

    def test_unknown_name(self) -> None:
        """With unknown-name=refuse a client gets a certificate for its name, or an alert."""
        side = self.side(unknown_name="refuse")
        self.assertEqual(self.connect(side).told[-1], "opened")
        careless = client_context(trusts=CA)
        careless.check_hostname = False
        heard = self.connect(side, "b.example", careless)
        self.assertIn("asks for 'b.example', which no certificate contains", self.reason(heard))
        assert self.peer.problem is not None
        self.assertEqual(self.peer.problem.reason, "TLSV1_UNRECOGNIZED_NAME")
        self.assertIn("asks for no name", self.reason(self.connect(side, "127.0.0.1", careless)))

    def test_both_kinds_of_keys(self) -> None:
        """Certificates with an RSA and an elliptic key for one name serve clients that know only one."""
        directory = directory_of(self)
        write_pair(directory, "rsa", CA.issue_cert("a.example", key_type=trustme.KeyType.RSA))
        write_pair(directory, "ecdsa", CA.issue_cert("a.example"))
        side = self.side(cert=str(directory), key=None)
        self.assertEqual(len(side.certificates.shown), 1)
        for ciphers, kind in (
            ("ECDHE-RSA-AES128-GCM-SHA256", "RSA"),
            ("ECDHE-ECDSA-AES128-GCM-SHA256", "EC"),
        ):
            context = client_context(trusts=CA)
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            context.set_ciphers(ciphers)
            self.connect(side, context=context)
            der = self.peer.tls.getpeercert(binary_form=True)
            assert der is not None
            self.assertIn(kind, type(x509.load_der_x509_certificate(der).public_key()).__name__)

    def test_one_bad_file(self) -> None:
        """If a file of a directory cannot be used, the others and its previous certificate are used."""
        directory = directory_of(self)
        write_pair(directory, "a", CA.issue_cert("a.example"))
        write_pair(directory, "b", CA.issue_cert("b.example"))
        (directory / ".b.pem.swp.pem").write_bytes(b"half")
        (directory / "c.pem").write_bytes(b"rubbish")
        side = self.side(cert=str(directory), key=None)
        self.assertEqual(len(side.pairs), 2)
        self.assertIn("a certificate cannot be used, the others are used: ", self.said[-1])
        self.assertIn("c.pem: holds no PEM certificate", self.said[-1])
        said = len(self.said)
        (directory / "b.pem").write_bytes(b"half")
        write_pair(directory, "a", CA.issue_cert("a.example", "new.example"))
        self.assertNotIn("the old ones stay", self.refresh(side))
        again = "".join(self.said[said:])
        self.assertIn("a certificate cannot be used, its previous one stays in use: ", again)
        self.assertIn("b.pem: holds no PEM certificate", again)
        self.assertNotIn("c.pem", "".join(self.said[said:]))
        self.connect(side, "new.example")
        self.assertEqual(self.shown(), ("a.example", "new.example"))
        self.connect(side, "b.example")
        self.assertEqual(self.shown(), ("b.example",))
        for one in directory.glob("*.pem"):
            one.write_bytes(b"rubbish")
        self.assertIn("holds no PEM certificate", self.refresh(side))

    def test_expired_one_for_the_same_name(self) -> None:
        """An expired certificate does not stand before a good one for the same name."""
        directory = directory_of(self)
        old = datetime(2025, 1, 1, tzinfo=UTC)
        write_pair(directory, "a-old", CA.issue_cert("a.example", "old.example", not_after=old))
        write_pair(directory, "b-new", CA.issue_cert("a.example"))
        self.connect(self.side(cert=str(directory), key=None))
        self.assertEqual(self.shown(), ("a.example",))

    def test_key_with_a_passphrase(self) -> None:
        """key-password-file= opens the key; a wrong password, an empty file or none are told."""
        cert, key, password = write_encrypted(self.directory, "e", CA.issue_cert("a.example"))
        self.assertEqual(
            self.connect(self.side(cert=cert, key=key, key_password_file=password)).told[-1], "opened"
        )
        self.assertIn("key-password-file=", self.refused(cert=cert, key=key))
        for content, wanted in ((b"other\n", "with the password that was given"), (b"\n", "no password")):
            Path(password).write_bytes(content)
            self.assertIn(wanted, self.refused(cert=cert, key=key, key_password_file=password))
        self.assertEqual(self.connect(self.side(key_password_file=self.cert)).told[-1], "opened")

    def test_revoked(self) -> None:
        """A client whose certificate is on the list of crl= is refused."""
        clients = trustme.CA()
        authority = write_authority(self.directory, clients)
        good, bad = clients.issue_cert("good@example.com"), clients.issue_cert("bad@example.com")
        path = write_crl(self.directory, clients, bad)
        for leaf, opened in ((good, True), (bad, False)):
            context = client_context(trusts=CA)
            leaf.configure_cert(context)
            heard = self.connect(self.side(client_ca=authority, crl=path), context=context)
            self.assertEqual(heard.told[-1] == "opened", opened)
        self.assertIn("is revoked", self.reason(heard))
        self.assertIn("write client-ca=FILE", self.refused(crl=path))

    def test_old_versions(self) -> None:
        """A client that has only TLS 1.1 is refused, with the reason."""
        context = client_context(trusts=CA)
        context.set_ciphers("DEFAULT@SECLEVEL=0")
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
        self.assertIn("min-version=", self.reason(self.connect(self.side(), context=context)))

    def test_tls_1_2(self) -> None:
        """TLS 1.2 is spoken; without a cipher in common the reason says so."""
        context = client_context(trusts=CA)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        self.assertEqual(self.connect(self.side(), context=context).tls.version, "TLSv1.2")
        context.set_ciphers("AES128-SHA")
        self.assertIn("no cipher", self.reason(self.connect(self.side(), context=context)))

    def test_resumption(self) -> None:
        """A client resumes its session, at a certificate chosen by name too."""
        directory = directory_of(self)
        write_pair(directory, "default", CA.issue_cert("main.example"))
        write_pair(directory, "b", CA.issue_cert("b.example"))
        side, context = self.side(cert=str(directory), key=None), client_context(trusts=CA)
        for name in ("main.example", "b.example"):
            self.connect(side, name, context)
            session = self.peer.tls.session
            self.connect(side, name, context, session=session)
            self.assertTrue(self.peer.tls.session_reused, name)

    def test_keylog(self) -> None:
        """keylog= is a file for its owner alone, and is warned about."""
        path = self.directory / "keys"
        # A context keeps the file open until it is collected, and other tests count descriptors.
        self.addCleanup(gc.collect)
        self.connect(self.side(keylog=str(path)))
        self.assertIn("CLIENT_TRAFFIC_SECRET_0", path.read_text())
        self.assertEqual(path.stat().st_mode & 0o777, 0o600)
        self.assertTrue(any("keylog=" in line for line in self.said), self.said)

    def test_open_keylog(self) -> None:
        """A keylog that is there, and that others may read or own, is refused."""
        path = self.directory / "keys"
        path.touch()
        path.chmod(0o644)
        self.assertIn(
            "(mode 0644), and it decrypts every session; 'chmod 600'", self.refused(keylog=str(path))
        )
        path.chmod(0o600)
        self.addCleanup(gc.collect)
        self.side(keylog=str(path))
        found = os.stat(path)
        other = os.stat_result((*found[:4], found.st_uid + 1, *found[5:]))
        problem = self.assertRaises(ValueError, judge_keylog, "keys", other)
        self.assertIn("keylog=keys: this file belongs to another user", str(problem))

    def test_keylog_that_is_no_file(self) -> None:
        """A FIFO is refused with or without a reader, without blocking."""
        path = str(self.directory / "fifo")
        os.mkfifo(path, 0o600)
        self.assertIn("it is not a regular file", self.refused(keylog=path))
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self.addCleanup(os.close, reader)
        self.assertIn("it is not a regular file", self.refused(keylog=path))

    def test_files_that_change_into_others(self) -> None:
        """OpenSSL reads the bytes that were checked, and not what has the name by then: a FIFO, say."""
        if not hasattr(os, "memfd_create"):
            raise SkipTest("this system has no files in memory")
        authority, crl = write_authority(self.directory, CA), write_crl(self.directory, CA)
        read_pairs, read_revoked = tls_certificates.read_pairs, tls_context.read_revoked
        kept: dict[str, bytes] = {}

        def swap(*paths: str) -> None:
            for path in paths:
                kept[path] = Path(path).read_bytes()
                os.unlink(path)
                os.mkfifo(path)

        def read(path: str) -> bytes:
            return kept[path] if path in kept else Path(path).read_bytes()

        context = tls_context.new_context(server=True)
        options = ListenOptions(cert=self.cert, key=self.key, client_ca=authority, crl=crl)
        ((pair,), _) = read_pairs(options)
        swap(self.cert, self.key)
        tls_context.load_pair(context, pair, read)
        self.patch(tls_context, "read_revoked", lambda *given: (read_revoked(*given), swap(crl)))
        tls_context.refuse_revoked(context, crl, read)
        self.assertTrue(context.verify_flags & ssl.VERIFY_CRL_CHECK_LEAF)

    def test_expiry(self) -> None:
        """A certificate near its end is warned about when it is read."""
        soon = CA.issue_cert("a.example", not_after=NOW + timedelta(days=3))
        write_pair(self.directory, "a", soon)
        self.side()
        self.assertIn("expires on 2026-01-04", self.said[-1])

    def test_bad_files(self) -> None:
        """What is missing or wrong refuses the rule."""
        self.assertIn("write cert=FILE", self.refused(cert=None))
        self.assertIn("gone.pem", self.refused(cert="gone.pem"))
        self.assertIn("write key=FILE", self.refused(key=None))
        self.assertIn("leave key= out", self.refused(cert=str(self.directory)))
        self.assertIn("OpenSSL knows no such cipher", self.refused(ciphers="NO"))


class ClientCertificateTests(ListeningCase):
    """Who is asked for a certificate, and who may come in."""

    def setUp(self) -> None:
        """An authority of clients."""
        super().setUp()
        self.client_ca = write_authority(self.directory, OTHER_CA)

    def client(self, leaf: trustme.LeafCert | None) -> ssl.SSLContext:
        """A client with a certificate, or none."""
        context = client_context(trusts=CA)
        # In TLS 1.3 a client is through before it hears that it is refused.
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        if leaf is not None:
            leaf.configure_cert(context)
        return context

    def come(self, leaf: trustme.LeafCert | None, **options: Any) -> Heard:
        """Connect a client with this certificate."""
        side = self.side(client_ca=self.client_ca, **options)
        return self.connect(side, context=self.client(leaf))

    def test_required(self) -> None:
        """With client-ca= a certificate of that authority is needed; its common name is known."""
        leaf = OTHER_CA.issue_cert("alice@example.com", common_name="alice")
        self.assertEqual(self.come(leaf).tls.client_name, "alice")
        self.assertIn("no certificate", self.reason(self.come(None)))
        self.assertIn(
            "the certificate comes with an authority that is not trusted",
            self.reason(self.come(CA.issue_cert("mallory.example"))),
        )

    def test_optional(self) -> None:
        """With verify-client=optional none will do, but no bad one."""
        heard = self.come(None, verify_client="optional")
        self.assertEqual((heard.told[-1], heard.tls.client_name), ("opened", ""))
        wrong = self.come(CA.issue_cert("mallory.example"), verify_client="optional")
        self.assertIn("the certificate comes with an authority that is not trusted", self.reason(wrong))

    def test_names(self) -> None:
        """client-name= admits by the common name or any alternative name."""
        alice = OTHER_CA.issue_cert("alice@example.com", common_name="alice")
        host = OTHER_CA.issue_cert("db1.ops.example", "10.0.0.1")
        for leaf, names, wanted in (
            (alice, ("alice",), True),
            (alice, ("*@EXAMPLE.com",), True),
            (host, ("bob", "*.ops.example"), True),
            (host, ("10.0.0.1",), True),
            (alice, ("bob",), False),
            (host, ("ops.example",), False),
            (alice, ("[a]lice",), False),
            (alice, ("alic?",), False),
            (OTHER_CA.issue_cert("a@example.com", common_name="straße"), ("straße",), True),
            (OTHER_CA.issue_cert("db.xn--strae-oqa.example"), ("*.straße.example",), True),
            (OTHER_CA.issue_cert("db.strasse.example"), ("*.straße.example",), False),
            (OTHER_CA.issue_cert("a@example.com", common_name="x[1]?"), ("x[1]?",), True),
        ):
            heard = self.come(leaf, client_name=names)
            self.assertEqual(heard.told[-1] == "opened", wanted, names)
        heard = self.come(host, client_name=("ops.example",))
        self.assertTrue(self.reason(heard).endswith("does not admit the client's certificate"))
        nobody = self.come(None, client_name=("alice",), verify_client="optional")
        self.assertIn("or is missing", self.reason(nobody))
        named = self.come(alice, client_name=("bob",))
        self.assertIn("'alice'", self.reason(named))

    def test_other_kinds_of_names(self) -> None:
        """Directory names and unsupported kinds of names admit no client and raise no error."""
        shown = {
            "subject": ((("commonName", "alice"),),),
            "subjectAltName": (
                ("DirName", ((("commonName", "bob"),),)),
                ("othername", "<unsupported>"),
                ("URI", "spiffe://ops.example/db"),
            ),
        }
        self.assertEqual(names_shown(shown), ("alice", ("alice", "spiffe://ops.example/db")))
        builder = x509.CertificateBuilder(
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "alice")]),
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "alice")]),
            (secret := ec.generate_private_key(ec.SECP256R1())).public_key(),
            1,
            NOW - timedelta(days=1),
            NOW + timedelta(days=36500),
        ).add_extension(
            x509.SubjectAlternativeName(
                [
                    x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bob")])),
                    x509.OtherName(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"),
                ]
            ),
            critical=False,
        )
        # Signed by itself, and trusted as it is.
        pem = builder.sign(secret, SHA256()).public_bytes(Encoding.PEM)
        key = secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        own = self.directory / "own.pem"
        own.write_bytes(key + pem)
        context = self.client(None)
        context.load_cert_chain(own)
        for name, wanted in (("alice", True), ("bob", False)):
            heard = self.connect(self.side(client_ca=str(own), client_name=(name,)), context=context)
            self.assertEqual(heard.told[-1] == "opened", wanted, name)

    def test_nothing_to_check_against(self) -> None:
        """verify-client= and client-name= need client-ca=."""
        self.assertIn("write client-ca=FILE", self.refused(verify_client="required"))
        self.assertIn("write client-ca=FILE", self.refused(client_name=("a",)))


class RenewalTests(ListeningCase):
    """Files that change."""

    def setUp(self) -> None:
        """A side that has been looked at."""
        super().setUp()
        self.side_ = self.side()

    def names_after(self, seconds: float = LOOK_EVERY) -> tuple[str, ...]:
        """What a client is shown, some time later."""
        self.clock.advance(seconds)
        context = client_context(trusts=CA)
        context.check_hostname = False
        self.connect(self.side_, context=context)
        return self.shown()

    def test_renewed(self) -> None:
        """A new pair is shown to those who come later, and not before it is time to look."""
        before = self.side_.certificates
        write_pair(self.directory, "a", CA.issue_cert("new.example"))
        self.assertEqual(self.names_after(1.0), ("a.example",))
        self.assertEqual(self.names_after(), ("new.example",))
        self.assertIsNot(self.side_.certificates, before)
        self.assertIn("rule: 1 certificate read again", self.said)

    def test_in_the_middle(self) -> None:
        """Open handshakes and connections keep their certificates; no handshake fails."""
        open_, under_way = self.connect(self.side_), Wire()
        heard, transport = Heard(), cast(Any, under_way)
        layer = TLSLayer(self.side_, cast(Any, heard))
        layer.makeConnection(transport)
        peer = Peer(client_context(trusts=CA), "a.example")
        layer.dataReceived(peer.step(b""))
        write_pair(self.directory, "a", CA.issue_cert("new.example"))
        self.assertEqual(self.names_after(), ("new.example",))
        exchange(layer, under_way, peer)
        self.assertEqual((heard.told[-1], open_.told[-1]), ("opened", "opened"))

    def test_unchanged(self) -> None:
        """Files that did not change are not read."""
        before = self.side_.certificates
        self.names_after()
        self.assertIs(self.side_.certificates, before)

    def test_half_renewed(self) -> None:
        """Between a new certificate and its key the old pair stays; it is told once."""
        leaf = CA.issue_cert("new.example")
        replace(Path(self.cert), b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        self.assertEqual(self.names_after(), ("a.example",))
        self.assertEqual(self.names_after(), ("a.example",))
        told = [line for line in self.said if "the old ones stay" in line]
        self.assertEqual(len(told), 1, self.said)
        self.assertIn("does not belong to the certificate", told[0])
        replace(Path(self.key), leaf.private_key_pem.bytes())
        self.assertEqual(self.names_after(), ("new.example",))

    def test_gone(self) -> None:
        """Files that are gone leave the old pair where it is."""
        os.unlink(self.cert)
        self.assertEqual(self.names_after(), ("a.example",))
        self.assertIn("the old ones stay", self.said[-1])

    def test_empty_directory(self) -> None:
        """So does a directory that was emptied."""
        directory = directory_of(self)
        cert, key = write_pair(directory, "a", CA.issue_cert("a.example"))
        self.side_ = self.side(cert=str(directory), key=None)
        os.unlink(cert)
        self.assertEqual(self.names_after(), ("a.example",))
        self.assertIn("no *.pem", self.said[-1])
        os.unlink(key)

    def test_slow_files(self) -> None:
        """Files are read by whatever `run` is; clients see the old ones until that is done, or for good."""
        calls: list[tuple[Callable[[], Any], Deferred[Any]]] = []

        def run(call: Callable[[], Any]) -> Deferred[Any]:
            calls.append((call, Deferred()))
            return calls[-1][1]

        options = ListenOptions(cert=self.cert, key=self.key)
        self.side_ = ServerSide("rule", options, self.clock.seconds, now=lambda: NOW, run=run)
        write_pair(self.directory, "a", CA.issue_cert("new.example"))
        for _ in range(3):
            self.assertEqual(self.names_after(), ("a.example",))
        ((call, done),) = calls
        done.errback(TimeoutError(errno.ETIMEDOUT, "no answer within 10 seconds"))
        self.assertIn("the old ones stay in use: [Errno 110] no answer within 10 seconds", self.said[-1])
        self.assertEqual((self.names_after(), len(calls)), (("a.example",), 1))
        call()  # the thread has come back, and others may be begun
        self.assertEqual((self.names_after(), len(calls)), (("a.example",), 2))
        call, done = calls[1]
        done.callback(call())
        self.assertEqual(self.names_after(0), ("new.example",))

    def test_authority(self) -> None:
        """The file of client-ca= is looked at as well."""
        authority = write_authority(self.directory, OTHER_CA)
        self.side_ = self.side(client_ca=authority, verify_client="optional")
        before = self.side_.certificates
        replace(Path(authority), CA.cert_pem.bytes())
        self.names_after()
        self.assertIsNot(self.side_.certificates, before)


class TicketTests(ListeningCase):
    """Sessions that are to be resumed after the files were read again."""

    def resumed(self, first: ServerSide, second: Callable[[], ServerSide]) -> bool:
        """Whether a session of the one is resumed by the other."""
        resumed = []
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = client_context(trusts=CA)
            context.minimum_version = context.maximum_version = version
            self.connect(first, context=context)
            resumed.append((context, self.peer.tls.session))
        side = second()
        answers = set()
        for context, session in resumed:
            heard = self.connect(side, context=context, session=session)
            self.assertEqual(heard.told[-1], "opened")
            answers.add(bool(self.peer.tls.session_reused))
        (answer,) = answers
        return answer

    def reread(self, side: ServerSide) -> ServerSide:
        """The side, which has looked at its files."""
        self.assertNotIn("the old ones stay", self.refresh(side))
        return side

    def test_unchanged(self) -> None:
        """After a reload, too, of files that are the same, whether they were written again or not."""
        side = self.side()
        self.assertTrue(self.resumed(side, lambda: self.side(before=side)))
        replace(Path(self.cert), Path(self.cert).read_bytes())
        self.assertTrue(self.resumed(side, lambda: self.side(before=side)))
        self.assertTrue(self.resumed(side, lambda: self.reread(side)))

    def test_others(self) -> None:
        """Not where a certificate, an option or an authority is another one, or keys are written down."""
        side = self.side()
        self.assertFalse(self.resumed(side, lambda: self.side(before=side, alpn=("h2",))))
        write_pair(self.directory, "a", CA.issue_cert("a.example"))
        self.assertFalse(self.resumed(side, lambda: self.side(before=side)))
        authority = write_authority(self.directory, OTHER_CA)
        optional: dict[str, Any] = {"client_ca": authority, "verify_client": "optional"}
        asking = self.side(**optional)
        self.assertTrue(self.resumed(asking, lambda: self.side(before=asking, **optional)))
        replace(Path(authority), CA.cert_pem.bytes())
        self.assertFalse(self.resumed(asking, lambda: self.side(before=asking, **optional)))
        logged = self.side(keylog=str(self.directory / "keys"))
        self.assertFalse(
            self.resumed(logged, lambda: self.side(before=logged, keylog=str(self.directory / "keys")))
        )

    def test_off(self) -> None:
        """With resume=off no session is resumed, in either version, also while the first one is open."""
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            side = self.side(resume=False)
            context = client_context(trusts=CA)
            context.maximum_version = version
            self.connect(side, context=context)
            first = self.layer, self.peer
            heard = self.connect(side, context=context, session=first[1].tls.session)
            self.assertFalse(heard.tls.resumed)

    def test_off_with_options(self) -> None:
        """With resume=off all other options hold as with it."""
        authority = write_authority(self.directory)
        side = self.side(
            resume=False, client_ca=authority, alpn=("h2",), curve="prime256v1", min_version="1.2"
        )
        context = client_context(trusts=CA)
        context.set_alpn_protocols(["h2"])
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        self.assertIn("certificate", self.reason(self.connect(side, context=context)))
        CA.issue_cert("staff.example").configure_cert(context)
        heard = self.connect(side, context=context)
        self.assertEqual((heard.told[-1], heard.tls.alpn), ("opened", "h2"))
        self.assertEqual(self.shown(), ("a.example",))

    def after(self, side: ServerSide, seconds: float) -> ServerSide:
        """The same so much later, after somebody came."""
        self.clock.advance(seconds)
        self.connect(side)
        return side

    def test_keys_change(self) -> None:
        """The keys of tickets last a day, also where the files do not change; then a handshake is full."""
        side = self.side()
        self.assertTrue(self.resumed(side, lambda: self.after(side, TICKET_KEYS_LAST - 1)))
        self.assertFalse(self.resumed(side, lambda: self.after(side, LOOK_EVERY)))
        self.assertTrue(self.resumed(side, lambda: self.after(side, LOOK_EVERY)))

    def test_one_of_many(self) -> None:
        """Of a directory, only the certificate that was renewed has new tickets."""
        directory = directory_of(self)
        write_pair(directory, "a", CA.issue_cert("a.example"))
        write_pair(directory, "b", CA.issue_cert("b.example"))
        side = self.side(cert=str(directory), key=None)
        write_pair(directory, "b", CA.issue_cert("b.example"))
        self.assertTrue(self.resumed(side, lambda: self.reread(side)))
        write_pair(directory, "a", CA.issue_cert("a.example"))
        self.assertFalse(self.resumed(side, lambda: self.reread(side)))

    def test_while_it_is_read(self) -> None:
        """A file that changes while it is read makes nothing that a later reading takes over."""
        side = self.side()
        read = tls_certificates.read_file

        def changing(path: str) -> bytes:
            data = read(path)
            if path == self.key:
                write_pair(self.directory, "a", CA.issue_cert("a.example"))
            return data

        write_pair(self.directory, "a", CA.issue_cert("a.example"))
        self.patch(tls_certificates, "read_file", changing)
        self.refresh(side)
        self.assertEqual([one.digest for one in side.certificates.shown], [b""])
