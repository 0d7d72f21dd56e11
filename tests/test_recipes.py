"""The recipes of the documentation, under every split, and the firewall before a real server."""

from __future__ import annotations

import poplib
import runpy
import shutil
import socket
import ssl
import subprocess
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SkipTest, SynchronousTestCase
from twisted.web.client import ResponseDone

from portfwd.filters import TO_CLIENT, TO_UPSTREAM, InetAddress, RouteClause, Side
from portfwd.filters.services import Services
from portfwd.testing import Pipe, check_filter, every_split
from portfwd.testing.running import RunningForwarder
from tests.service.pems import CA, directory_of, write_authority, write_pair

LISTINGS = Path(__file__).resolve().parents[1] / "docs" / "listings"
UP, DOWN = TO_UPSTREAM, TO_CLIENT


def recipe(name: str) -> Any:
    """What a recipe defines."""
    return SimpleNamespace(**runpy.run_path(str(LISTINGS / f"recipe_{name}.py")))


def command(*words: bytes) -> bytes:
    """A command of RESP."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


class Answer:
    """A response of a web server, whose body is there."""

    def __init__(self, code: int) -> None:
        self.code, self.phrase = code, b""

    def deliverBody(self, protocol: Any) -> None:
        """See `IResponse`."""
        protocol.dataReceived(b"body")
        protocol.connectionLost(Failure(ResponseDone()))


class RecipeTests(SynchronousTestCase):
    """One recipe each."""

    def test_authorise(self) -> None:
        """The service is asked once for an address while the answer counts, and again after a failure."""
        made = recipe("authorise")
        clock, asked = Clock(), []
        factory = made.Authorise(made.Options(url="http://x/", keep=60.0))
        factory.start(Services(None, clock, Pipe().notes, "web"))
        answers: list[Any] = []

        def request(method: bytes, url: bytes) -> Any:
            asked.append(url)
            answers.append(Deferred())
            return answers[-1]

        factory.agent = SimpleNamespace(request=request)
        first, second = Pipe(factory), Pipe(factory)
        self.assertEqual(asked, [b"http://x/192.0.2.1"])
        self.assertIsNone(first.dialled)
        answers[0].callback(Answer(200))
        self.assertTrue(first.connected and second.connected)
        clock.advance(61.0)
        third = Pipe(factory)
        self.assertEqual(len(asked), 2)
        answers[1].errback(OSError("down"))
        assert third.finished is not None
        self.assertEqual(third.finished.detail, "cannot ask: down")
        third.close()
        Pipe(factory)
        self.assertEqual(len(asked), 3)
        answers[2].callback(Answer(403))
        factory.agent = SimpleNamespace(request=lambda method, url: succeed(Answer(200)))
        factory.answers.clear()
        check_filter(lambda: factory, [b"x", [(UP, b"x"), (DOWN, b"y")]])

    def test_authorise_by_a_server(self) -> None:
        """A real web server is asked once for two clients, and its no is a no."""
        asked: list[str] = []
        codes = iter((200, 403))

        class Service(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                self.send_response(next(codes))
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        service = ThreadingHTTPServer(("127.0.0.1", 0), Service)
        self.addCleanup(service.server_close)
        self.addCleanup(service.shutdown)
        Thread(target=service.serve_forever, daemon=True).start()
        upstream = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(upstream.close)
        where = f"-> 127.0.0.1:{upstream.getsockname()[1]}"
        clause = f"filter python:recipe_authorise.PLUGIN url=http://127.0.0.1:{service.server_port}/"
        rules = f"one: 127.0.0.1:0 {where}\n    {clause}\ntwo: 127.0.0.1:0 {where}\n    {clause}"
        with RunningForwarder(rules, [str(LISTINGS)]) as forwarder:
            for _ in range(2):
                with forwarder.connect("one") as client:
                    client.sendall(b"hello")
                    server, _ = upstream.accept()
                    with server:
                        self.assertEqual(server.recv(5), b"hello")
            with forwarder.connect("two") as client:
                self.assertEqual(client.recv(5), b"")
            details = [session["detail"] for session in forwarder.wait_for_sessions(3)]
        self.assertEqual(asked, ["/127.0.0.1", "/127.0.0.1"])
        self.assertIn("not authorised", details[2])

    def test_firewall(self) -> None:
        """Refused commands are answered in their turn, however they are cut."""
        made = recipe("firewall")
        get, flush = command(b"GET", b"a"), command(b"flushall")
        nested = b"*2\r\n$3\r\nfoo\r\n*1\r\n:1\r\n"

        def run(pieces: Any) -> tuple[bytes, bytes]:
            pipe = Pipe(made.Firewall)
            pipe.send(UP, *pieces)
            for answer in (b"$1\r\n1\r\n", nested[:5], nested[5:], b"%1\r\n+k\r\n_\r\n"):
                pipe.send(DOWN, answer)
            return pipe.to_upstream, pipe.to_client

        refusal = b"-ERR this command is refused\r\n"
        sent = get + flush + get + get + flush + command(b"EVAL", b"return 1", b"0")
        expected = (get * 3, b"$1\r\n1\r\n" + refusal + nested + b"%1\r\n+k\r\n_\r\n" + refusal * 2)
        self.assertEqual(every_split(run, sent), expected)
        requests = [(UP, get + flush), (DOWN, b"$1\r\n1\r\n"), (UP, flush), (UP, get), (DOWN, nested)]
        check_filter(made.Firewall, [requests, command(b"PING"), flush])

    def test_firewall_fails_closed(self) -> None:
        """What Redis reads in another way than the filter, or ignores, ends the session unseen."""
        made = recipe("firewall")
        for sent in (
            b"FLUSHALL\r\n",
            b'"\\x46LUSHALL"\r\n',
            b"FLUSHALL\tASYNC\r\n",
            b"\r\n",
            b"*0\r\n",
            b"*-1\r\n",
            b"*1\r\n:1\r\n",
            b"*1\r\n$0\r\n\r\n",
            b"*1\r\n$9\r\nGET\r\nGET\r\n\r\n",
            b"*1\n$4\nPING\n",
        ):
            pipe = Pipe(made.Firewall)
            pipe.send(UP, sent)
            self.assertIsNotNone(pipe.finished, sent)
            self.assertEqual(pipe.to_upstream, b"", sent)

    def test_firewall_before_redis(self) -> None:
        """A pipeline of commands to a real server comes back in order, without the refused ones."""
        server = shutil.which("redis-server")
        if server is None:
            raise SkipTest("needs redis-server")
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        options = ["--port", str(port), "--save", "", "--bind", "127.0.0.1"]
        process = subprocess.Popen([server, *options], stdout=subprocess.DEVNULL, cwd=self.mkdir())
        self.addCleanup(process.wait)
        self.addCleanup(process.terminate)
        rules = (
            f"redis: 127.0.0.1:0 -> 127.0.0.1:{port} retry=20s\n    filter python:recipe_firewall.Firewall"
        )
        big = b"x" * 300_000
        sent = command(b"SET", b"a", big) + command(b"FLUSHALL") + command(b"GET", b"a") + command(b"CONFIG")
        refusal = b"-ERR this command is refused\r\n"
        expected = b"+OK\r\n" + refusal + b"$300000\r\n" + big + b"\r\n" + refusal
        with (
            RunningForwarder(rules, [str(LISTINGS)]) as forwarder,
            forwarder.connect("redis", 20.0) as client,
        ):
            client.sendall(sent)
            received = bytearray()
            while len(received) < len(expected):
                piece = client.recv(65536)
                self.assertNotEqual(piece, b"")
                received += piece
        self.assertEqual(bytes(received), expected)

    def mkdir(self) -> str:
        """A directory of this test."""
        path = Path(self.mktemp())
        path.mkdir()
        return str(path)

    def test_banner(self) -> None:
        """The first line is another, and the rest is as it was."""
        banner = recipe("banner").Banner

        def run(pieces: Any) -> bytes:
            pipe = Pipe(banner(b"220 hello"))
            pipe.send(DOWN, *pieces)
            return pipe.to_client

        self.assertEqual(every_split(run, b"220 Exim 4.1\r\n250 ok\r\n"), b"220 hello\r\n250 ok\r\n")
        check_filter(
            banner, [[(UP, b"x"), (DOWN, b"220 Exim\r\nmore")], b"x", [(UP, b"x"), (DOWN, b"y" * 600)]]
        )

    def test_first_line(self) -> None:
        """The line chooses the target."""
        api = InetAddress("192.0.2.7", 80)
        routes = [RouteClause(("GET /api*",), api), RouteClause(("DELETE *",), None)]
        lines = recipe("first_line").FirstLine
        for line, target, closes in (
            (b"GET /api/x", api, False),
            (b"GET /", None, False),
            (b"DELETE /", None, True),
        ):
            pipe = Pipe(lines(routes))
            pipe.send(UP, line + b"\r\n")
            self.assertEqual(pipe.finished is not None, closes, line)
            self.assertEqual(pipe.dialled and pipe.dialled.target, target)
        check_filter(lines, [b"GET /api HTTP/1.1\r\nHost: x\r\n", b"DELETE / x\r\n"], routes=routes)

    def test_datagrams(self) -> None:
        """One datagram is answered, others pass."""
        pipe = Pipe(recipe("datagrams").Pong, datagrams=True)
        pipe.send(UP, b"PING", b"other")
        self.assertEqual((pipe.writes[UP], pipe.writes[DOWN]), ([b"other"], [b"PONG"]))
        check_filter(recipe("datagrams").Pong, [b"PING", b"other"], datagrams=True)

    def test_starttls(self) -> None:
        """No command passes before TLS; what is sent behind STLS in one piece is TLS's."""
        stls = partial(recipe("starttls").STLS, "/x.pem")
        pipe = Pipe(stls())
        pipe.send(DOWN, b"+OK ready\r\n")
        pipe.send(UP, b"USER a\r\nCA", b"PA\r\nSTLS\r\nUSER b\r\n")
        self.assertEqual(pipe.secured, [Side.CLIENT])
        self.assertTrue(pipe.to_client.endswith(b"-ERR STLS first\r\n+OK\r\nSTLS\r\n.\r\n+OK begin TLS\r\n"))
        check_filter(stls, [[(DOWN, b"+OK\r\n"), (UP, b"CAPA\r\nSTLS\r\n"), (UP, b"x")], b"USER a\r\n"])

    def test_starttls_with_poplib(self) -> None:
        """A real client begins TLS, and the server sees its commands in plain."""
        made = directory_of(self)
        pem, key = write_pair(made, "mail", CA.issue_cert("mail.example"))
        both = Path(made, "both.pem")
        both.write_bytes(Path(pem).read_bytes() + Path(key).read_bytes())
        upstream = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(upstream.close)
        seen: list[bytes] = []

        def serve() -> None:
            server, _ = upstream.accept()
            with server, server.makefile("rwb") as file:
                file.write(b"+OK ready\r\n")
                file.flush()
                seen.append(file.readline())
                file.write(b"+OK\r\n")

        thread = Thread(target=serve, daemon=True)
        thread.start()
        rules = f"mail: 127.0.0.1:0 -> 127.0.0.1:{upstream.getsockname()[1]}\n"
        rules += f"    filter python:recipe_starttls.STLS cert={both.resolve()}"
        context = ssl.create_default_context(cafile=write_authority(made))
        context.check_hostname = False
        with RunningForwarder(rules, [str(LISTINGS)]) as forwarder:
            client = poplib.POP3(*forwarder.addresses["mail"], timeout=10.0)
            client.stls(context)
            self.assertEqual(client.noop(), b"+OK")
            client.sock.close()
        thread.join(10.0)
        self.assertEqual(seen, [b"NOOP\r\n"])

    def test_connect(self) -> None:
        """The client's bytes follow the proxy's answer, and another answer ends the session."""
        connect = recipe("connect").Connect
        head = b"CONNECT db.example:5432 HTTP/1.1\r\nHost: db.example:5432\r\n\r\n"
        answer = b"HTTP/1.1 200 OK\r\nVia: x\r\n\r\n"

        def run(pieces: Any) -> tuple[bytes, bytes]:
            pipe = Pipe(connect("db.example", 5432))
            pipe.send(UP, b"early")
            pipe.send(DOWN, *pieces)
            pipe.send(UP, b" late")
            return pipe.to_upstream, pipe.to_client

        self.assertEqual(every_split(run, answer + b"hi"), (head + b"early late", b"hi"))
        pipe = Pipe(connect("db.example", 5432))
        pipe.send(DOWN, b"HTTP/1.1 403 Forbidden\r\n\r\n")
        assert pipe.finished is not None
        self.assertEqual(pipe.finished.detail, "the proxy refused: HTTP/1.1 403 Forbidden")
        samples = [
            [(UP, b"early"), (DOWN, answer + b"hi"), (UP, b"late")],
            [(UP, b"x"), (DOWN, b"HTTP/1.1 403 x\r\n\r\n")],
        ]
        check_filter(lambda: connect("db.example", 5432), samples)
