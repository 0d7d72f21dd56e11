"""``tls:`` listeners against real clients: OpenSSL's, curl, HAProxy, and some that misbehave."""

from __future__ import annotations

import hashlib
import signal
import socket
import ssl
from typing import Any, Final

import trustme

from portfwd.kernel.sockets import reset_on_close
from portfwd.testing.data import Pattern
from portfwd.testing.peers import converse
from portfwd.wire import Need
from portfwd.wire.proxy import read_header
from portfwd.wire.proxy_tlvs import ALPN, AUTHORITY, SSL, SSL_CN, SSL_VERSION, read_client_tls
from tests.integration.case import ForwarderCase
from tests.integration.echo import EchoServer
from tests.integration.forwarder import Forwarder
from tests.integration.programs import needs, run
from tests.integration.servers import start_haproxy, start_nginx
from tests.integration.tls_client import TLSConversation
from tests.ports import free_port
from tests.service.pems import write_authority, write_pair

#: What ``openssl s_client`` is told, and whether it comes in.
OFFERS: Final = (
    (("-tls1_3", "-ciphersuites", "TLS_AES_256_GCM_SHA384"), True),
    (("-tls1_3", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"), True),
    (("-tls1_3", "-ciphersuites", "TLS_AES_128_GCM_SHA256"), True),
    (("-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384"), True),
    (("-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"), True),
    (("-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"), True),
    (("-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA256"), False),
    (("-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA"), False),
    (("-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"), False),  # the certificate has no RSA key
    (("-tls1_1", "-cipher", "DEFAULT:@SECLEVEL=0"), False),
    (("-tls1", "-cipher", "DEFAULT:@SECLEVEL=0"), False),
    (("-groups", "X25519"), True),
    (("-groups", "P-384"), True),
    (("-sigalgs", "ECDSA+SHA256"), True),
    (("-max_send_frag", "512"), True),
    (("-maxfraglen", "512"), True),
    (("-no_ticket",), True),
    (("-split_send_frag", "100"), True),
    (("-alpn", ",".join(f"protocol-number-{number:05d}" for number in range(500))), True),  # 11 KiB of hello
)


class ListenerCase(ForwarderCase):
    """A forwarder that ends TLS before an echo."""

    def setUp(self) -> None:
        """Certificates, and an upstream."""
        super().setUp()
        self.authority = trustme.CA()
        self.ca = write_authority(self.directory, self.authority)
        self.cert, self.key = write_pair(
            self.directory, "a", self.authority.issue_cert("localhost", "127.0.0.1")
        )
        self.echo = EchoServer()
        self.addCleanup(self.echo.close)

    def start(self, options: str = "", more: str = "", clauses: str = "", target: str = "") -> Forwarder:
        """A forwarder with a rule ``tls``."""
        target = target or f"127.0.0.1:{self.echo.port}"
        rule = f"web: tls:127.0.0.1:0 cert={self.cert} key={self.key} {options} -> {target} {more}\n{clauses}"
        self.running = self.forwarder(rule)
        return self.running

    def context(self) -> ssl.SSLContext:
        """A client that trusts the authority."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.authority.configure_trust(context)
        return context

    def plain(self) -> socket.socket:
        """A connection without TLS."""
        return socket.create_connection(("127.0.0.1", self.running.port("web")), 30)

    def client(
        self, context: ssl.SSLContext | None = None, session: ssl.SSLSession | None = None
    ) -> TLSConversation:
        """A client of the forwarder, whose handshake is through or refused."""
        made = TLSConversation(self.plain(), context or self.context(), "localhost", session)
        self.addCleanup(made.sock.close)
        made.shake()
        return made

    def line(self, reason: str, detail: str = "") -> None:
        """The one session's reason and why."""
        (line,) = self.running.access_lines(1)
        self.assertEqual(line.reason, reason, str(line.raw))
        self.assertIn(detail, line.raw["detail"])


class OpenSSLTests(ListenerCase):
    """``openssl s_client``."""

    def test_what_is_offered(self) -> None:
        """A table: versions, ciphers, groups, sizes of records and of hellos."""
        openssl = needs("openssl")
        forwarder = self.start("alpn=protocol-number-00499")
        for arguments, comes_in in OFFERS:
            done = run(
                openssl, "s_client", "-connect", f"127.0.0.1:{forwarder.port('web')}", "-CAfile", self.ca,
                "-verify_return_error", "-servername", "localhost", *arguments, data=b"hello\n", check=False,
            )  # fmt: skip
            self.assertEqual(done.returncode == 0, comes_in, f"{arguments} {done.stdout!r} {done.stderr!r}")
        lines = forwarder.access_lines(len(OFFERS))
        refused = [line.raw["detail"] for line in lines if line.reason == "CT"]
        self.assertEqual(len(refused), sum(not comes_in for _, comes_in in OFFERS), refused)
        for detail, words in zip(refused, ["no cipher"] * 3 + ["min-version="] * 2, strict=True):
            self.assertIn(words, detail)

    def test_renegotiation(self) -> None:
        """A client that wants to shake hands again within a connection is told no."""
        openssl = needs("openssl")
        forwarder = self.start()
        done = run(
            openssl, "s_client", "-connect", f"127.0.0.1:{forwarder.port('web')}", "-tls1_2", data=b"R\n",
            check=False,
        )  # fmt: skip
        self.assertIn(b"no renegotiation", done.stderr)
        (line,) = forwarder.access_lines(1)
        self.assertIn("wanted to renegotiate", line.raw["detail"])

    def test_resumption(self) -> None:
        """A session is resumed, in both versions, and over a reload of the same files."""
        self.start()
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = self.context()
            context.minimum_version = context.maximum_version = version
            session, reused = None, []
            for _ in range(2):
                client = self.client(context, session)
                client.say(b"hello")
                client.read(5)
                session = client.peer.tls.session
                reused.append(client.peer.tls.session_reused)
                self.running.signal(signal.SIGHUP)
                self.running.wait_for_line("reload: done")
            self.assertEqual(reused, [False, True])


class EndTests(ListenerCase):
    """How a client goes, and what the log makes of it."""

    def test_half_close(self) -> None:
        """``close_notify`` is the end of one direction: the answer comes back whole, in both versions."""
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            self.start()
            context = self.context()
            context.maximum_version = version
            client = self.client(context)
            data = bytes(range(256)) * 1000
            client.say(data)
            client.notify()
            self.assertEqual(client.read_to_end(), data)
            self.assertTrue(client.peer.notified)
            self.assertEqual(client.end, "fin")
            self.line("--")

    def test_much_both_ways(self) -> None:
        """Megabytes go both ways at once, while each side reads when it likes."""
        self.start()
        data = Pattern(3).slice(0, 6_000_000)
        client = self.client()
        got = client.exchange(data, len(data))
        self.assertEqual(hashlib.sha256(got).digest(), hashlib.sha256(data).digest())
        client.sock.close()
        (line,) = self.running.access_lines(1)
        self.assertEqual((line.to_upstream, line.to_client), (len(data), len(data)))

    def test_truncated(self) -> None:
        """A FIN without it is passed on as a reset, and the log says why."""
        listener = self.listener()
        server = listener.peer('expect "hello"', "expect reset")
        self.start(target=str(listener.address))
        client = self.client()
        client.say(b"hello")
        client.sock.shutdown(socket.SHUT_WR)
        converse(server)
        client.read_to_end()
        self.assertEqual(client.end, "reset")
        self.line("CD", "without close_notify")

    def test_reset(self) -> None:
        """A reset is one."""
        self.start()
        client = self.client()
        client.say(b"hello")
        client.read(5)
        reset_on_close(client.sock)
        client.sock.close()
        self.line("CD")


class HandshakeTests(ListenerCase):
    """Handshakes that do not come to their end."""

    def hello(self) -> bytes:
        """A ClientHello."""
        outgoing = ssl.MemoryBIO()
        tls = self.context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
        self.assertRaises(ssl.SSLWantReadError, tls.do_handshake)
        return outgoing.read()

    def test_silent(self) -> None:
        """A client that says nothing is reset after handshake-timeout."""
        self.start("handshake-timeout=300ms")
        with self.plain() as client:
            self.assertRaises(ConnectionResetError, client.recv, 1)
        self.line("cT", "the peer said nothing")

    def test_silent_crowd(self) -> None:
        """With more silent clients than descriptors, from the same source, every real client is served."""
        self.start_with_descriptors(100)
        crowd = [self.plain() for _ in range(60)]
        for _ in range(5):
            client = self.client()
            client.say(b"hello")
            self.assertEqual(client.read(5), b"hello")
        for one in crowd:
            one.close()

    def start_with_descriptors(self, count: int) -> None:
        """A forwarder with a rule ``web`` and that many descriptors."""
        rule = f"web: tls:127.0.0.1:0 cert={self.cert} key={self.key} -> 127.0.0.1:{self.echo.port}"
        self.running = self.forwarder(rule, descriptors=count)

    def test_half_way(self) -> None:
        """So is one that stops in the middle."""
        self.start("handshake-timeout=300ms")
        with self.plain() as client:
            client.sendall(self.hello()[:-10])
            self.assertRaises(ConnectionResetError, client.recv, 1)
        self.line("cT", "stopped in the middle")

    def test_gone(self) -> None:
        """A client that goes before or in the handshake."""
        for data, reset, detail in (
            (b"", False, "closed during the TLS handshake: the peer said nothing"),
            (self.hello()[:50], False, "closed during the TLS handshake: the peer stopped in the middle"),
            (self.hello()[:50], True, "reset"),
        ):
            self.start()
            with self.plain() as client:
                client.sendall(data)
                if reset:
                    reset_on_close(client)
            self.line("CT", detail)

    def test_no_tls(self) -> None:
        """HTTP without TLS is recognised."""
        self.start()
        with self.plain() as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            client.recv(100)
        self.line("CT", "speaks HTTP")

    def test_who_may(self) -> None:
        """A client certificate is asked for, and its name admitted or not; access lists come first."""
        clients = trustme.CA()
        path = self.directory / "clients.pem"
        path.write_bytes(clients.cert_pem.bytes())
        self.start(f"client-ca={path} client-name=*.ops.example")
        reasons = []
        for leaf in (clients.issue_cert("a.ops.example"), clients.issue_cert("b.example"), None):
            context = self.context()
            if leaf is not None:
                leaf.configure_cert(context)
            client = self.client(context)
            if client.end == "open":
                client.say(b"hello")
                client.read(5)
            reasons.append(client.peer.received)
            client.sock.close()
        self.assertEqual(reasons, [b"hello", b"", b""])
        details = [line.raw["detail"] for line in self.running.access_lines(3)]
        self.assertIn("client-name= does not admit", " ".join(details))
        self.assertIn("showed no certificate", " ".join(details))

    def test_refused(self) -> None:
        """Who is denied gets an end, and no handshake."""
        self.start(clauses="    deny 127.0.0.1\n")
        with self.plain() as client:
            client.sendall(self.hello())
            self.assertEqual(client.recv(100), b"")
        self.line("AC")


class RenewalTests(ListenerCase):
    """Certificates that change while clients come."""

    def name_shown(self) -> str:
        """The name in the certificate that a client is shown; its handshake is good."""
        context = self.context()
        context.check_hostname = False
        client = self.client(context)
        client.say(b"hello")
        self.assertEqual(client.read(5), b"hello")
        client.notify()
        client.read_to_end()
        certificate: Any = client.peer.tls.getpeercert()
        return str(certificate["subjectAltName"][0][1])

    def test_swapped(self) -> None:
        """A reload shows the new pair; no handshake fails, and who was there before goes on."""
        self.start()
        before = self.client()
        self.assertEqual(self.name_shown(), "localhost")
        write_pair(self.directory, "a", self.authority.issue_cert("renewed.example"))
        self.running.signal(signal.SIGHUP)
        shown = []
        while "renewed.example" not in shown:
            shown.append(self.name_shown())
        before.say(b"still here")
        self.assertEqual(before.read(10), b"still here")

    def test_bad_pair(self) -> None:
        """A pair that is not good is reported, and the old one stays."""
        self.start()
        (self.directory / "a.key").write_bytes(b"no key")
        self.running.signal(signal.SIGHUP)
        self.running.wait_for_line("holds no PEM private key")
        self.assertEqual(self.name_shown(), "localhost")


class ProgramTests(ListenerCase):
    """curl, nginx and HAProxy."""

    def test_curl(self) -> None:
        """Downloads and HTTP/2 by curl, to an nginx without TLS."""
        curl, port = needs("curl"), free_port()
        www = start_nginx(
            self, [port], f"server {{ listen 127.0.0.1:{port} http2; root {self.directory}/www; }}"
        )
        body = Pattern(7).slice(0, 6_000_000)
        (www / "large").write_bytes(body)
        self.start("alpn=h2", target=f"127.0.0.1:{port}")
        url = f"https://localhost:{self.running.port('web')}/large"
        for version in ("1.2", "1.3"):
            got = run(
                curl, "-sS", "--fail", "--http2", "--cacert", self.ca, "--tls-max", version,
                "-w", "%{stderr}%{http_version}", url,
            )  # fmt: skip
            self.assertEqual(hashlib.sha256(got.stdout).digest(), hashlib.sha256(body).digest())
            self.assertEqual(got.stderr, b"2")

    def test_what_the_handshake_said(self) -> None:
        """proxy-out tells the upstream the name asked for, the protocol, and who the client is."""
        upstream = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(upstream.close)
        self.start(
            f"alpn=h2 client-ca={self.ca}",
            target=f"127.0.0.1:{upstream.getsockname()[1]}",
            clauses="    filter proxy-out tlv=authority,alpn,ssl\n",
        )
        context = self.context()
        context.set_alpn_protocols(["h2"])
        self.authority.issue_cert("alice@example.com", common_name="alice").configure_cert(context)
        client = self.client(context)
        client.say(b"hello")
        served, _ = upstream.accept()
        with served:
            served.settimeout(30)
            got = b""
            while isinstance(answer := read_header(got), Need):
                got += served.recv(65536)
        tlvs = dict(answer.value.tlvs)
        self.assertEqual((tlvs[AUTHORITY], tlvs[ALPN]), (b"localhost", b"h2"))
        inner = dict(read_client_tls(tlvs[SSL]).tlvs)
        self.assertEqual((inner[SSL_CN], inner[SSL_VERSION]), (b"alice", b"TLSv1.3"))

    def test_proxy_headers(self) -> None:
        """HAProxy says whose connection it is before TLS; what it says goes on behind it."""
        front = free_port()
        listener = self.listener()
        clauses = "    filter proxy-in trust=127.0.0.0/8\n    filter proxy-out version=1\n"
        self.start(clauses=clauses, target=str(listener.address))
        start_haproxy(
            self,
            [front],
            f"listen front\n    bind 127.0.0.1:{front}\n"
            f"    server tls 127.0.0.1:{self.running.port('web')} ssl verify required ca-file {self.ca}"
            " verifyhost localhost sni str(localhost) send-proxy-v2\n",
        )
        with socket.create_connection(("127.0.0.1", front), 30) as client:
            host, port = client.getsockname()
            text = f"PROXY TCP4 {host} 127.0.0.1 {port} {front}\\r\\nhello"
            server = listener.peer(f'expect "{text}"', "end", "read to end")
            client.sendall(b"hello")
            client.shutdown(socket.SHUT_WR)
            converse(server)
        (line,) = self.running.access_lines(1)
        self.assertEqual((line.client, line.reason), (f"{host}:{port}", "--"))
