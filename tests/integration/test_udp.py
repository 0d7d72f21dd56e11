"""UDP through a forwarder of its own: real programs, many sources, and bridges between UDP and TCP."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import select
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from twisted.trial import unittest

from portfwd.listen.datagram_listener import BATCH
from tests.integration.case import ForwarderCase, deep
from tests.integration.forwarder import Forwarder, is_listening
from tests.integration.programs import Program, needs, run
from tests.integration.servers import start_dnsmasq, write_certificates
from tests.ports import free_port

#: Seconds in which a datagram on the loopback comes.
TIMEOUT = 10.0
#: A question that a resolver may have been asked: its number, and a name.
QUESTION = struct.pack(">6H", 4711, 0x0100, 1, 0, 0, 0) + b"\7example\3com\0" + struct.pack(">2H", 1, 1)


class Answerer:
    """An upstream that answers each datagram, in a thread of its own."""

    def __init__(self, answers: Callable[[bytes], list[bytes]] = lambda data: [data]) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(0.2)
        self.seen = 0
        self._answers = answers
        self._over = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """Where it is."""
        return int(self.socket.getsockname()[1])

    def _run(self) -> None:
        while not self._over:
            try:
                data, client = self.socket.recvfrom(70_000)
            except TimeoutError:
                continue
            self.seen += 1
            for answer in self._answers(data):
                self.socket.sendto(answer, client)

    def close(self) -> None:
        """End it."""
        self._over = True
        self._thread.join()
        self.socket.close()


class StreamAnswerer:
    """A DNS server over TCP: answers each message with its length before it (RFC 1035 section 4.2.2)."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.socket.settimeout(0.2)
        self._over = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """Where it is."""
        return int(self.socket.getsockname()[1])

    def _run(self) -> None:
        clients: list[socket.socket] = []
        while not self._over:
            ready, _, _ = select.select([self.socket, *clients], [], [], 0.1)
            for sock in ready:
                if sock is self.socket:
                    clients.append(sock.accept()[0])
                    continue
                try:
                    data = sock.recv(65_536)
                except ConnectionResetError:
                    data = b""
                if data:
                    sock.sendall(data)
                else:
                    clients.remove(sock)
                    sock.close()
        for sock in clients:
            sock.close()

    def close(self) -> None:
        """End it."""
        self._over = True
        self._thread.join()
        self.socket.close()


class UDPCase(ForwarderCase):
    """A test with datagrams."""

    def answerer(self, answers: Callable[[bytes], list[bytes]] = lambda data: [data]) -> Answerer:
        """An upstream that is ended after the test."""
        made = Answerer(answers)
        self.addCleanup(made.close)
        return made

    def client(self, host: str = "127.0.0.1") -> socket.socket:
        """A client's socket."""
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(sock.close)
        sock.settimeout(TIMEOUT)
        return sock

    def forwarder(self, rules: str | None, *arguments: Any, **options: Any) -> Forwarder:
        """A forwarder that does not wait for associations to be silent when it is ended."""
        return super().forwarder(rules, *arguments, **{"drain": "0", **options})

    def ask(self, forwarder: Forwarder, rule: str, data: bytes, host: str = "127.0.0.1") -> bytes:
        """What a new client is answered, which must come from where it asked."""
        client = self.client(host)
        where = (host, forwarder.port(rule))
        client.sendto(data, where)
        answer, sender = client.recvfrom(70_000)
        self.assertEqual(sender[:2], where)
        return answer

    def persist(self, forwarder: Forwarder, rule: str, data: bytes) -> None:
        """Ask again and again, as programs do that know that datagrams get lost, until there is an answer."""
        client = self.client()
        client.settimeout(0.5)
        limit = time.monotonic() + 60
        while time.monotonic() < limit:
            client.sendto(data, ("127.0.0.1", forwarder.port(rule)))
            with contextlib.suppress(TimeoutError):
                self.assertEqual(client.recv(70_000), data)
                return
        self.fail(f"no answer within a minute: {forwarder.log}")


class AssociationTests(UDPCase):
    """UDP to UDP."""

    def test_sizes_and_hosts(self) -> None:
        """Nothing and 65 507 bytes come through whole; a listener on every address answers from each."""
        upstream = self.answerer()
        forwarder = self.forwarder(f"d: :0/udp -> 127.0.0.1:{upstream.port}/udp idle=1s\n")
        descriptors = forwarder.open_descriptors()
        for data in (b"", b"x", bytes(1472), bytes(65_507)):
            self.assertEqual(self.ask(forwarder, "d", data), data)
        for host in ("127.0.0.9", "::1"):
            try:
                self.assertEqual(self.ask(forwarder, "d", b"who?", host), b"who?")
            except OSError as problem:
                if host == "::1":
                    raise unittest.SkipTest(f"needs IPv6: {problem}") from problem
                raise
        lines = forwarder.access_lines(6)
        self.assertEqual(sorted(line.to_client for line in lines), [0, 1, 4, 4, 1472, 65_507])
        self.assertEqual({line.reason for line in lines}, {"cD"})
        self.assert_settled(forwarder, descriptors)

    def test_many_answers_interleaved(self) -> None:
        """Two clients at once, three answers to each question: each gets its own, and all of them."""
        upstream = self.answerer(lambda data: [data + b"1", data + b"2", data + b"3"])
        forwarder = self.forwarder(f"d: 127.0.0.1:0/udp -> 127.0.0.1:{upstream.port}/udp\n")
        where = ("127.0.0.1", forwarder.port("d"))
        clients = [self.client(), self.client()]
        for round_ in range(20):
            for number, client in enumerate(clients):
                client.sendto(b"%d-%d-" % (number, round_), where)
        for number, client in enumerate(clients):
            got = {client.recv(100) for _ in range(60)}
            self.assertEqual(got, {b"%d-%d-%d" % (number, r, n) for r in range(20) for n in (1, 2, 3)})

    def test_many_sources(self) -> None:
        """Any number of sources costs no more than the bound, and who comes after them is served."""
        count = 300_000 if deep() else 3_000
        upstream = self.answerer(lambda data: [data] if data else [])
        rules = f"log access=off\nd: 127.0.0.1:0/udp -> 127.0.0.1:{upstream.port}/udp max-assocs=200\n"
        forwarder = self.forwarder(rules)
        where = ("127.0.0.1", forwarder.port("d"))
        before = forwarder.open_descriptors()
        self.ask(forwarder, "d", b"first")
        memory = resident(forwarder)
        # As many addresses of the loopback as it takes, and one descriptor here.
        for number in range(count):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as source:
                source.bind((f"127.{1 + number // 62_500}.{number // 250 % 250}.{1 + number % 250}", 0))
                source.sendto(b"", where)
        self.persist(forwarder, "d", b"still there?")
        # Those that made room are closed at the end of a batch of datagrams.
        self.assertLessEqual(forwarder.open_descriptors(), before + 200 + BATCH)
        self.assertLess(resident(forwarder) - memory, 40 * 1024)

    def test_closed_port(self) -> None:
        """A closed port of the upstream: no datagram is made up, and there is one line."""
        free = self.client()
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        forwarder = self.forwarder(f"d: 127.0.0.1:0/udp -> 127.0.0.1:{port}/udp\n")
        client = self.client()
        client.sendto(b"lost", ("127.0.0.1", forwarder.port("d")))
        (line,) = forwarder.access_lines(1)
        self.assertEqual((line.reason, line.to_client), ("SD", 0))
        client.settimeout(0.1)
        with self.assertRaises(TimeoutError):
            client.recv(100)

    def test_stopped(self) -> None:
        """A stop answers what is under way, and does not wait for the idle limit."""
        upstream = self.answerer()
        forwarder = self.forwarder(f"d: 127.0.0.1:0/udp -> 127.0.0.1:{upstream.port}/udp\n", drain="30")
        self.ask(forwarder, "d", b"x")
        began = time.monotonic()
        self.assertEqual(forwarder.stop(), 0)
        self.assertLess(time.monotonic() - began, 15)
        self.assertEqual([line.reason for line in forwarder.access_lines(1)], ["TD"])


class BridgeTests(UDPCase):
    """Between datagrams and streams."""

    def test_datagrams_to_a_stream(self) -> None:
        """``framing=length16``: each datagram is a message there, and comes back as one, of whatever size."""
        server = StreamAnswerer()
        self.addCleanup(server.close)
        forwarder = self.forwarder(f"d: :0/udp -> 127.0.0.1:{server.port} framing=length16\n")
        client = self.client()
        where = ("127.0.0.1", forwarder.port("d"))
        messages = [QUESTION, b"", bytes(40_000), b"x" * 512]
        for message in messages:
            client.sendto(message, where)
        # What is no question of DNS has a connection of its own, so the two kinds may change places.
        self.assertEqual(sorted(client.recv(70_000) for _ in messages), sorted(messages))

    def test_a_stream_to_datagrams(self) -> None:
        """The mirror: a TCP client asks a server that has UDP only, ends, and is still answered."""
        upstream = self.answerer()
        forwarder = self.forwarder(
            f"d: 127.0.0.1:0 -> 127.0.0.1:{upstream.port}/udp framing=length16 linger=1s\n"
        )
        message = len(QUESTION).to_bytes(2, "big") + QUESTION
        with socket.create_connection(("127.0.0.1", forwarder.port("d")), TIMEOUT) as client:
            for place in range(len(message)):
                client.sendall(message[place : place + 1])
            client.sendall(message)
            client.shutdown(socket.SHUT_WR)
            got = b""
            while data := client.recv(1000):
                got += data
        self.assertEqual(got, message * 2)
        (line,) = forwarder.access_lines(1)
        self.assertEqual((line.reason, line.ended_first), ("--", "client"))

    def test_unframed(self) -> None:
        """``framing=none``, as rinetd has it: what is read is passed on as it is; a server may push."""
        upstream = self.answerer(lambda data: [data.upper(), b"and more"])
        forwarder = self.forwarder(f"0.0.0.0 0 127.0.0.1 {upstream.port}/udp\n")
        with socket.create_connection(("127.0.0.1", forwarder.port("0.0.0.0:0")), TIMEOUT) as client:
            client.sendall(b"question")
            got = b""
            while len(got) < 16:
                got += client.recv(100)
        self.assertEqual(got, b"QUESTIONand more")

    def test_tls_both_ways(self) -> None:
        """DNS over TLS from a server that has UDP, and DNS over UDP from a server that has TLS."""
        upstream = self.answerer()
        write_certificates(self, "localhost")
        files = f"cert={self.directory}/localhost.pem key={self.directory}/localhost.pem"
        forwarder = self.forwarder(
            f"front: tls:127.0.0.1:0 {files} -> 127.0.0.1:{upstream.port}/udp framing=length16\n"
        )
        port = forwarder.port("front")
        context = ssl.create_default_context(cafile=f"{self.directory}/ca.pem")
        message = len(QUESTION).to_bytes(2, "big") + QUESTION
        with (
            socket.create_connection(("127.0.0.1", port), TIMEOUT) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as client,
        ):
            client.sendall(message)
            got = b""
            while len(got) < len(message):
                got += client.recv(1000)
        self.assertEqual(got, message)
        back = self.forwarder(
            f"back: 127.0.0.1:0/udp -> tls:127.0.0.1:{port} framing=length16 server-name=localhost"
            f" ca={self.directory}/ca.pem\n"
        )
        self.assertEqual(self.ask(back, "back", QUESTION), QUESTION)

    def test_refused_stream(self) -> None:
        """Where the stream's upstream is not there, the association says so."""
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        listener.close()
        forwarder = self.forwarder(f"d: 127.0.0.1:0/udp -> 127.0.0.1:{port}\n")
        self.client().sendto(b"x", ("127.0.0.1", forwarder.port("d")))
        (line,) = forwarder.access_lines(1)
        self.assertEqual(line.reason, "SC")


class ProgramTests(UDPCase):
    """Programs that people have."""

    def test_iperf3(self) -> None:
        """iperf3's datagrams come through, both ways."""
        if shutil.which("iperf3") is None:
            raise unittest.SkipTest("needs iperf3")
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        listener.close()
        server = subprocess.Popen(
            ["iperf3", "-s", "-B", "127.0.0.1", "-p", str(port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.addCleanup(server.wait)
        self.addCleanup(server.kill)
        free = socket.create_server(("127.0.0.1", 0))
        front = free.getsockname()[1]
        free.close()
        target = f"127.0.0.1:{front} -> 127.0.0.1:{port}"
        # Its control connection is TCP, on the same port.
        # With -R, its client only listens.
        both = f"c: {target}\nd: {target.replace(' ->', '/udp ->')}/udp answers-before-reply=off\n"
        self.forwarder(both)
        for way in ([], ["-R"]):
            command = f"iperf3 -u -c 127.0.0.1 -p {front} -b 20M -t 1 -l 1200 -J".split()
            outcome = subprocess.run([*command, *way], capture_output=True, text=True, timeout=60)
            self.assertEqual(outcome.returncode, 0, outcome.stdout + outcome.stderr)
            end = json.loads(outcome.stdout)["end"]["sum"]
            self.assertGreater(end["packets"], 500)
            self.assertLess(end["lost_percent"], 20, str(way))

    def test_quic(self) -> None:
        """aioquic's clients reach its server, three connections at once."""
        if importlib.util.find_spec("aioquic") is None:
            raise unittest.SkipTest("needs aioquic")
        write_certificates(self, "localhost")
        free = self.client()
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        script = [sys.executable, str(Path(__file__).with_name("quic.py"))]
        server = subprocess.Popen(
            [*script, "server", str(port), f"{self.directory}/localhost.pem"], stdout=subprocess.PIPE
        )
        assert server.stdout is not None
        self.addCleanup(server.stdout.close)
        self.addCleanup(server.wait)
        self.addCleanup(server.kill)
        self.assertEqual(server.stdout.readline(), b"listening\n")
        forwarder = self.forwarder(f"q: 127.0.0.1:0/udp -> 127.0.0.1:{port}/udp\n")
        outcome = subprocess.run(
            [
                *script,
                "client",
                str(forwarder.port("q")),
                f"{self.directory}/ca.pem",
                "10",
                "500000",
                "2000000",
            ],
            capture_output=True,
            text=True,
            timeout=120,
        )
        self.assertEqual((outcome.returncode, outcome.stderr), (0, ""))

    def test_socat(self) -> None:
        """socat as a client."""
        if shutil.which("socat") is None:
            raise unittest.SkipTest("needs socat")
        upstream = self.answerer()
        forwarder = self.forwarder(f"d: 127.0.0.1:0/udp -> 127.0.0.1:{upstream.port}/udp\n")
        outcome = subprocess.run(
            ["socat", "-t1", "-", f"UDP:127.0.0.1:{forwarder.port('d')}"],
            input=b"hello",
            capture_output=True,
            timeout=60,
        )
        self.assertEqual(outcome.stdout, b"hello")

    def test_dig(self) -> None:
        """dig is answered over UDP, and over TCP by a server that has UDP only."""
        if shutil.which("dig") is None:
            raise unittest.SkipTest("needs dig")
        upstream = self.answerer(lambda data: [reply(data)])
        forwarder = self.forwarder(
            f"u: 127.0.0.1:0/udp -> 127.0.0.1:{upstream.port}/udp\n"
            f"t: 127.0.0.1:0 -> 127.0.0.1:{upstream.port}/udp framing=length16\n"
        )
        for rule, way in (("u", "+notcp"), ("t", "+tcp")):
            command = f"dig +noedns +short {way} @127.0.0.1 -p {forwarder.port(rule)} example.com".split()
            outcome = subprocess.run(command, capture_output=True, text=True, timeout=60)
            self.assertEqual(outcome.stdout.strip(), "192.0.2.33", outcome.stderr)

    def test_logger(self) -> None:
        """logger's lines reach a syslog server, sent by UDP and to a socket like ``/dev/log``."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
            server.bind(("127.0.0.1", 0))
            server.settimeout(TIMEOUT)
            target = f"127.0.0.1:{server.getsockname()[1]}/udp"
            path = self.directory / "log"
            forwarder = self.forwarder(f"u: 127.0.0.1:0/udp -> {target}\nl: unix-dgram:{path} -> {target}\n")
            by_udp = ("--server", "127.0.0.1", "--port", str(forwarder.port("u")), "--udp")
            for number, way in enumerate((by_udp, ("--socket", str(path)))):
                run(needs("logger"), *way, f"line {number}")
                self.assertIn(f"line {number}".encode(), server.recv(2000))

    def test_dnsmasq(self) -> None:
        """A real resolver answers dig: over UDP, by its TCP, by TLS before its TCP, and by its UDP to TCP."""
        port = free_port()
        records = "--host-record=example.com,192.0.2.33", f"--txt-record=long.example,{'x' * 200}"
        start_dnsmasq(self, port, *records)
        write_certificates(self, "localhost")
        files = f"cert={self.directory}/localhost.pem key={self.directory}/localhost.pem"
        front = self.forwarder(f"dot: tls:127.0.0.1:0 {files} -> 127.0.0.1:{port}\n")
        trust = f"server-name=localhost ca={self.directory}/ca.pem"
        forwarder = self.forwarder(
            f"u: 127.0.0.1:0/udp -> 127.0.0.1:{port}/udp\n"
            f"s: 127.0.0.1:0/udp -> 127.0.0.1:{port} framing=length16\n"
            f"d: 127.0.0.1:0/udp -> tls:127.0.0.1:{front.port('dot')} framing=length16 {trust}\n"
            f"t: 127.0.0.1:0 -> 127.0.0.1:{port}/udp framing=length16\n"
        )
        for rule, way in (("u", "+notcp"), ("s", "+notcp"), ("d", "+notcp"), ("t", "+tcp")):
            for question, answer in (("example.com A", "192.0.2.33"), ("long.example TXT", "xxx")):
                asked = f"+short {way} @127.0.0.1 -p {forwarder.port(rule)} {question}".split()
                outcome = run(needs("dig"), *asked)
                self.assertIn(answer, outcome.stdout.decode(), f"{rule} {outcome.stderr!r}")
        # It has places for 20 TCP connections. These clients leave enough of them for everybody else.
        for rule in ("s", "d"):
            self.ask_often(forwarder.port(rule), 60)
        outcome = run(needs("dig"), *f"+short +tcp @127.0.0.1 -p {port} example.com".split())
        self.assertIn("192.0.2.33", outcome.stdout.decode())
        self.assertLess(forwarder.open_descriptors(), 40)

    def test_unbound(self) -> None:
        """unbound, which answers in any order, over TCP and over TLS of its own."""
        write_certificates(self, "localhost")
        port, tls_port = free_port(), free_port()
        settings = f"""
            server:
                directory: "{self.directory}"
                chroot: ""
                username: ""
                pidfile: ""
                use-syslog: no
                interface: 127.0.0.1@{port}
                interface: 127.0.0.1@{tls_port}
                tls-port: {tls_port}
                tls-service-key: "{self.directory}/localhost.pem"
                tls-service-pem: "{self.directory}/localhost.pem"
                incoming-num-tcp: 8
                tcp-idle-timeout: 200
                module-config: "iterator"
                local-zone: "example.com." static
                local-data: "example.com. IN A 192.0.2.33"
                local-data: "example.com. IN AAAA 2001:db8::33"
            remote-control:
                control-enable: no
            """
        (self.directory / "unbound.conf").write_text(settings)
        command = [needs("unbound"), "-d", "-c", str(self.directory / "unbound.conf")]
        server = Program(command, self.directory / "unbound.log")
        self.addCleanup(server.clean_up)
        server.wait_until(partial(is_listening, port), f"port {port}")
        trust = f"server-name=localhost ca={self.directory}/ca.pem"
        forwarder = self.forwarder(
            f"s: 127.0.0.1:0/udp -> 127.0.0.1:{port} framing=length16\n"
            f"d: 127.0.0.1:0/udp -> tls:127.0.0.1:{tls_port} framing=length16 {trust}\n"
        )
        for rule in ("s", "d"):
            asked = f"+short @127.0.0.1 -p {forwarder.port(rule)} example.com".split()
            self.assertIn("192.0.2.33", run(needs("dig"), *asked).stdout.decode())
            self.ask_often(forwarder.port(rule), 100)

    def ask_often(self, port: int, clients: int) -> None:
        """Ask for A and AAAA from each of so many sockets, as the C library does; each is answered twice."""
        asking = [self.client() for _ in range(clients)]
        for number, client in enumerate(asking):
            for type_ in (1, 28):
                question = struct.pack(">6H", number * 100 + type_, 0x0100, 1, 0, 0, 0)
                question += b"\7example\3com\0" + struct.pack(">2H", type_, 1)
                client.sendto(question, ("127.0.0.1", port))
        for number, client in enumerate(asking):
            answers = {int.from_bytes(client.recv(2000)[:2], "big") for _ in range(2)}
            self.assertEqual(answers, {number * 100 + 1, number * 100 + 28})


def reply(question: bytes) -> bytes:
    """An answer to `question` with one address."""
    end = question.index(b"\0", 12) + 5
    head = question[:2] + struct.pack(">5H", 0x8180, 1, 1, 0, 0)
    answer = struct.pack(">3HIH", 0xC00C, 1, 1, 60, 4) + socket.inet_aton("192.0.2.33")
    return head + question[12:end] + answer


def resident(forwarder: Forwarder) -> int:
    """KiB of memory that the forwarder has now."""
    with open(f"/proc/{forwarder.pid}/status") as status:
        for line in status:
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
    return 0
