"""``tls:`` targets against real servers: nginx, HAProxy, and some that misbehave; and TLS at both ends."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import trustme

from portfwd.kernel.sockets import reset_on_close
from tests.integration.case import ForwarderCase
from tests.integration.forwarder import Forwarder
from tests.integration.programs import needs, run
from tests.integration.servers import start_haproxy, start_nginx
from tests.integration.tls_client import TLSConversation
from tests.ports import free_port
from tests.service.pems import write_authority, write_pair


class TargetCase(ForwarderCase):
    """Certificates, and plain clients."""

    def setUp(self) -> None:
        """An authority, a server's pair and a client's."""
        super().setUp()
        self.directory.chmod(0o755)
        self.authority = trustme.CA()
        self.ca = write_authority(self.directory, self.authority)
        self.cert, self.key = write_pair(
            self.directory, "a", self.authority.issue_cert("localhost", "127.0.0.1")
        )
        me = self.authority.issue_cert("me.example", common_name="me")
        self.my_cert, self.my_key = write_pair(self.directory, "me", me)

    def start(self, port: int, options: str = "", host: str = "localhost", clauses: str = "") -> Forwarder:
        """A forwarder to a TLS server on `port`."""
        return self.forwarder(f"out: 127.0.0.1:0 -> tls:{host}:{port} ca={self.ca} {options}\n{clauses}")

    def ask(
        self, forwarder: Forwarder, question: bytes = b"GET / HTTP/1.0\r\n\r\n", *, end: bool = True
    ) -> bytes:
        """What a plain client is answered; ``<reset>`` behind it where that is its end."""
        got = b""
        with socket.create_connection(("127.0.0.1", forwarder.port("out")), 30) as client:
            try:
                client.sendall(question)
                if end:
                    client.shutdown(socket.SHUT_WR)
                while data := client.recv(65536):
                    got += data
            except ConnectionResetError:
                got += b"<reset>"
        return got


class ServerTests(TargetCase):
    """Servers that people have."""

    def test_nginx(self) -> None:
        """Mutual TLS with nginx: our certificate's name arrives, sessions are resumed, ALPN is agreed on."""
        port = free_port()
        start_nginx(
            self,
            [port],
            f"server {{ listen 127.0.0.1:{port} ssl http2; ssl_certificate {self.cert};"
            f" ssl_certificate_key {self.key}; ssl_client_certificate {self.ca}; ssl_verify_client on;"
            " ssl_protocols TLSv1.2 TLSv1.3;"
            ' location / { return 200 "$ssl_client_s_dn $ssl_session_reused $ssl_protocol'
            ' $ssl_alpn_protocol\\n"; } }',
        )
        shown = f"client-cert={self.my_cert} client-key={self.my_key} alpn=http/1.1"
        forwarder = self.start(port, shown)
        question = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        answers = [self.ask(forwarder, question, end=False) for _ in range(2)]
        for answer, reused in zip(answers, (b".", b"r"), strict=True):
            self.assertIn(b"CN=me", answer)
            self.assertIn(b" " + reused + b" TLSv1.3 http/1.1\n", answer)
        self.assertEqual([line.reason for line in forwarder.access_lines(2)], ["--", "--"])
        answer = self.ask(self.start(port), question, end=False)
        self.assertIn(b"No required SSL certificate was sent", answer)

    def test_haproxy(self) -> None:
        """HAProxy ends TLS and passes the bytes back; an address is verified as one."""
        back, front = free_port(), free_port()
        start_nginx(
            self, [back], f'server {{ listen 127.0.0.1:{back}; location / {{ return 200 "hi\\n"; }} }}'
        )
        start_haproxy(
            self,
            [front],
            f"listen tls\n    bind 127.0.0.1:{front} ssl crt {self.both()} ca-file {self.ca}"
            " verify required\n"
            f"    server plain 127.0.0.1:{back}\n",
        )
        shown = f"client-cert={self.my_cert} client-key={self.my_key}"
        forwarder = self.start(front, shown, host="127.0.0.1")
        self.assertIn(b"hi\n", self.ask(forwarder, end=False))
        (line,) = forwarder.access_lines(1)
        self.assertEqual(line.reason, "--", line.raw)

    def both(self) -> Path:
        """The server's certificate with its key, as HAProxy has them."""
        both = self.directory / "both.pem"
        both.write_bytes(b"".join((self.directory / name).read_bytes() for name in ("a.pem", "a.key")))
        return both

    def test_proxy_header(self) -> None:
        """nginx and HAProxy take the PROXY header, of either version, before the handshake."""
        port, back, front = free_port(), free_port(), free_port()
        answer = 'location / { return 200 "$proxy_protocol_addr\\n"; }'
        start_nginx(
            self,
            [port, back],
            f"server {{ listen 127.0.0.1:{port} ssl proxy_protocol; ssl_certificate {self.cert};"
            f" ssl_certificate_key {self.key}; {answer} }}\n"
            f"server {{ listen 127.0.0.1:{back} proxy_protocol; {answer} }}",
        )
        start_haproxy(
            self,
            [front],
            f"listen tls\n    bind 127.0.0.1:{front} accept-proxy ssl crt {self.both()}\n"
            f"    server plain 127.0.0.1:{back} send-proxy-v2\n",
        )
        for server, clause in (
            (port, "proxy-out"),
            (port, "proxy-out version=1"),
            (front, "hexdump\n    filter proxy-out tlv=crc32c"),
        ):
            forwarder = self.start(server, clauses=f"    filter {clause}\n")
            self.assertIn(b"\r\n\r\n127.0.0.1\n", self.ask(forwarder, end=False), (server, clause))

    def test_proxy_header_inside(self) -> None:
        """With inside=on the header is the first thing inside of TLS."""
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        got: list[bytes] = []

        def serve() -> None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.cert, self.key)
            with context.wrap_socket(listener.accept()[0], server_side=True) as client:
                while b"hello" not in b"".join(got):
                    got.append(client.recv(4096))
                client.sendall(b"bye")
                client.unwrap()

        serving = threading.Thread(target=serve, daemon=True)
        serving.start()
        forwarder = self.start(
            listener.getsockname()[1], clauses="    filter proxy-out version=1 inside=on\n"
        )
        self.assertEqual(self.ask(forwarder, b"hello"), b"bye")
        serving.join(30)
        self.assertRegex(b"".join(got), rb"\APROXY TCP4 127.0.0.1 127.0.0.1 \d+ \d+\r\nhello\Z")

    def test_both_ends(self) -> None:
        """TLS in, TLS out: curl through a listener with another certificate to nginx."""
        curl, port = needs("curl"), free_port()
        start_nginx(
            self,
            [port],
            f"server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {self.cert};"
            f" ssl_certificate_key {self.key};"
            ' location / { return 200 "both\\n"; } }',
        )
        mine, secret = write_pair(self.directory, "front", self.authority.issue_cert("front.example"))
        forwarder = self.forwarder(
            f"both: tls:127.0.0.1:0 cert={mine} key={secret} -> tls:localhost:{port} ca={self.ca}\n"
        )
        listening = forwarder.port("both")
        got = run(
            curl, "-sS", "--fail", "--cacert", self.ca, "--resolve", f"front.example:{listening}:127.0.0.1",
            f"https://front.example:{listening}/",
        )  # fmt: skip
        self.assertEqual(got.stdout, b"both\n")
        (line,) = forwarder.access_lines(1)
        said = line.raw["tls"]
        self.assertEqual((said["server_name"], said["resumed"]), ("front.example", False))
        self.assertTrue(said["version"].startswith("TLSv1.") and said["cipher"], said)
        self.assertEqual(line.raw["upstream_tls"]["server_name"], "localhost")


class MisbehaviourTests(TargetCase):
    """Servers that do not do what they should."""

    def serve(
        self, behave: Callable[[socket.socket], None], context: ssl.SSLContext | None = None
    ) -> tuple[Forwarder, threading.Thread]:
        """A forwarder to a server of one connection."""
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)

        def run() -> None:
            sock, _ = listener.accept()
            with sock:
                behave(sock)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return self.start(listener.getsockname()[1], "connect-timeout=500ms"), thread

    def context(self, leaf: trustme.LeafCert | None = None) -> ssl.SSLContext:
        """A server's context."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        (leaf or self.authority.issue_cert("localhost")).configure_cert(context)
        return context

    def outcome(self, behave: Callable[[socket.socket], None]) -> tuple[bytes, str, str]:
        """What the client got, the close reason and the detail."""
        forwarder, thread = self.serve(behave)
        got = self.ask(forwarder, b"question", end=False)
        (line,) = forwarder.access_lines(1)
        thread.join(10)
        return got, line.reason, line.raw["detail"]

    def test_truncated(self) -> None:
        """A server that ends without close_notify: the client gets what came, and a reset."""

        def behave(sock: socket.socket) -> None:
            talk = TLSConversation(sock, self.context())
            talk.read(8)
            talk.say(b"half of the sto")

        got, reason, detail = self.outcome(behave)
        self.assertEqual((got, reason), (b"half of the sto<reset>", "SD"))
        self.assertIn("without close_notify", detail)

    def test_whole(self) -> None:
        """One that says close_notify has said all, and the client gets an end."""

        def behave(sock: socket.socket) -> None:
            talk = TLSConversation(sock, self.context())
            talk.read(8)
            talk.say(b"whole story")
            talk.notify()
            sock.shutdown(socket.SHUT_WR)
            talk.read_to_end()

        self.assertEqual(self.outcome(behave)[:2], (b"whole story", "--"))

    def test_expired(self) -> None:
        """A certificate that has expired is named as that."""
        leaf = self.authority.issue_cert("localhost", not_after=datetime(2020, 1, 1, tzinfo=UTC))

        def behave(sock: socket.socket) -> None:
            TLSConversation(sock, self.context(leaf)).shake()

        got, reason, detail = self.outcome(behave)
        self.assertEqual((got, reason), (b"<reset>", "TC"))
        self.assertIn("the certificate has expired", detail)

    def test_silent(self) -> None:
        """A server that takes the connection and says nothing is given up after connect-timeout."""
        got, reason, detail = self.outcome(lambda sock: _until_closed(sock))
        self.assertEqual((got, reason), (b"<reset>", "TC"))
        self.assertIn("no TLS handshake within 0.5 s", detail)

    def test_reset(self) -> None:
        """One that resets in the middle of the handshake."""

        def behave(sock: socket.socket) -> None:
            sock.recv(1)
            reset_on_close(sock)

        got, reason, detail = self.outcome(behave)
        self.assertEqual((got, reason), (b"<reset>", "TC"))
        self.assertIn("reset during the TLS handshake", detail)

    def test_no_tls(self) -> None:
        """One that speaks another protocol."""

        def behave(sock: socket.socket) -> None:
            sock.sendall(b"220 mail.example ESMTP\r\n")
            _until_closed(sock)

        got, reason, detail = self.outcome(behave)
        self.assertEqual((got, reason), (b"<reset>", "TC"))
        self.assertIn("does not speak TLS", detail)


def _until_closed(sock: socket.socket) -> None:
    try:
        while sock.recv(65536):
            pass
    except ConnectionResetError:
        pass
