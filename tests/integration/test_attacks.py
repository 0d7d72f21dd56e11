"""
Crowds of silent, dripping and deaf clients against every kind of listener.

While a crowd attacks one listener from one address, clients of another rule (the canary) are served without
delay, and real clients of the attacked listener from another address are served too. The deep profile attacks
with 5 000 clients and judges the canary's delays.

Two bounds are judged. `Delays.work` is how long the forwarder's main thread ran in one exchange of the
canary: it holds whatever else the machine does. `Delays.wall` is what the exchange took beyond the time in
which that thread was ready to run and had no CPU; it is compared with the same canary without a crowd, and
with one that does without the forwarder. Each verdict says which bound held.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from statistics import quantiles

from attrs import define, field
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from portfwd.filters.builtin.users import hash_password
from tests.integration.case import deep
from tests.integration.control_case import ControlCase, read_exactly
from tests.integration.echo import EchoProcess
from tests.integration.forwarder import ROOT, TIMEOUT, Forwarder
from tests.integration.servers import write_certificates
from tests.ports import free_port

try:
    import prometheus_client
except ImportError:
    prometheus_client = None  # type: ignore[assignment]

CROWD = 5000 if deep() else 150
#: Exchanges of the canary in each attack.
EXCHANGES = 400 if deep() else 40
#: Seconds of each bound for 99 of 100 exchanges. What they take without the crowd, and beside it without the
#: forwarder, is allowed in addition: crowd, canary, upstreams and forwarder share the machine with others.
CANARY_LIMIT = 0.02
#: Clients that guess passwords.
GUESSERS = 20
#: Connections a second that a crowd opens again after they were closed.
AGAIN = 500
#: Where real clients come from; the crowd comes from 127.0.0.1.
REAL = ("127.0.0.2", 0)
#: The first bytes of a ClientHello that announces a long message.
HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64)
#: For listeners of streams, whose echo answers it: more than the buffers between two deaf sides.
LONG = b"x" * 3_000_000


@define
class Delays:
    """
    How long the exchanges of a canary took, in seconds.

    :ivar wall: by way of the forwarder, without the time in which that had no CPU.
    :ivar work: how long the forwarder ran meanwhile.
    :ivar direct: those without the forwarder.
    """

    wall: list[float] = field(factory=list)
    work: list[float] = field(factory=list)
    direct: list[float] = field(factory=list)


def verdict(attack: str, crowd: Delays, quiet: Delays) -> tuple[bool, bool, str]:
    """Whether the bounds of work and of time held, and a line that says so with the figures."""
    wall, work, direct, usual = (
        quantiles(one, n=100)[98] for one in (crowd.wall, crowd.work, crowd.direct, quiet.wall)
    )
    by_work, by_wall = work < CANARY_LIMIT, wall < CANARY_LIMIT + direct + usual
    said = ("NOT HELD", "held")
    words = (
        f"{attack}: p99 of work {work * 1e3:.1f} ms {said[by_work]}, of time {wall * 1e3:.1f} ms"
        f" ({usual * 1e3:.1f} without the crowd, {direct * 1e3:.1f} directly) {said[by_wall]}"
    )
    return by_work, by_wall, words


class Crowd:
    """Attacking clients; see `tests.integration.attackers`."""

    def __init__(self, address: str, again: int, behaviour: str, prelude: bytes) -> None:
        self._process = subprocess.Popen(
            [
                sys.executable, "-m", "tests.integration.attackers",
                address, str(CROWD), str(again), behaviour,
                # A command line has at most 128 KiB a word; deaf clients repeat what they are given.
                prelude[:50_000].hex(),
            ],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )  # fmt: skip

    def __enter__(self) -> Crowd:
        assert self._process.stdout is not None
        if self._process.stdout.readline() != b"ready\n":
            raise AssertionError("the crowd did not come")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=TIMEOUT)


class VerdictTests(SynchronousTestCase):
    """How a canary's delays are judged."""

    def test_bounds(self) -> None:
        """Work counts by itself; time beyond what it takes without the crowd, and without the forwarder."""
        quiet = Delays([0.001] * 100, [0.0005] * 100, [0.0001] * 100)
        for wall, work, direct, held in (
            (0.002, 0.001, 0.0001, (True, True)),
            (0.030, 0.001, 0.0001, (True, False)),
            (0.030, 0.001, 0.0200, (True, True)),
            (0.030, 0.021, 0.0200, (False, True)),
        ):
            *both, words = verdict("x", Delays([wall] * 100, [work] * 100, [direct] * 100), quiet)
            self.assertEqual(both, list(held))
            self.assertEqual(words.count("NOT HELD"), held.count(False))


class AttackTests(ControlCase):
    """One forwarder with a listener of each kind, attacked one after the other."""

    def setUp(self) -> None:
        """Start it."""
        super().setUp()
        # Neither the crowd's echoes nor this process delay the canary.
        self.canary_echo, self.crowd_echo = EchoProcess(), EchoProcess()
        self.addCleanup(self.canary_echo.close)
        self.addCleanup(self.crowd_echo.close)
        write_certificates(self, "localhost")
        pem = self.directory / "localhost.pem"
        self.context = ssl.create_default_context(cafile=str(self.directory / "ca.pem"))
        self.metrics_port = free_port()
        tls_port = free_port()
        self.manhole_port = free_port()
        keys = self.directory / "keys"
        key = Ed25519PrivateKey.generate().public_key()
        keys.write_bytes(key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) + b"\n")
        lines = [f"manhole ssh:127.0.0.1:{self.manhole_port} keys={keys}"]
        if prometheus_client is not None:
            lines.append(f"metrics 127.0.0.1:{self.metrics_port}")
        users = self.directory / "users"
        users.write_text(hash_password("alice", "right", b"saltsaltsaltsalt") + "\n")
        self.under_attack = self.operated(
            f"canary: 127.0.0.1:0 -> 127.0.0.1:{self.canary_echo.port}\n"
            f"plain: 127.0.0.1:0 -> ECHO\n"
            f"tls: tls:127.0.0.1:{tls_port} cert={pem} key={pem} -> ECHO\n"
            "sni: 127.0.0.1:0 -> ECHO\n"
            "    filter sni\n"
            f"    route localhost -> 127.0.0.1:{tls_port}\n"
            "sniff: 127.0.0.1:0 -> ECHO\n"
            "    filter sniff timeout=10s\n"
            "    route tls -> ECHO\n"
            "    route * -> ECHO\n"
            "socks: 127.0.0.1:0 -> ECHO\n"
            "    filter socks5 allow=127.0.0.1\n"
            "guarded: 127.0.0.1:0 -> ECHO\n"
            f"    filter socks5 allow=127.0.0.1 users={users}\n"
            "connect: 127.0.0.1:0 -> ECHO\n"
            "    filter http-connect allow=127.0.0.1\n"
            "host: 127.0.0.1:0 -> ECHO\n"
            "    filter http-host\n"
            "    route localhost -> ECHO\n"
            "proxied: 127.0.0.1:0 -> ECHO\n"
            "    filter proxy-in trust=127.0.0.0/8\n".replace("ECHO", f"127.0.0.1:{self.crowd_echo.port}"),
            *lines,
            accidents=True,
        )
        self.tls_port = tls_port
        self.quiet = self.canary() if deep() else Delays()

    def real(self, forwarder: Forwarder, rule: str, first: bytes, answer: bytes) -> None:
        """A client from another address says `first`, reads `answer`, and is echoed."""
        with socket.create_connection(("127.0.0.1", forwarder.port(rule)), TIMEOUT, REAL) as client:
            client.sendall(first)
            self.assertEqual(read_exactly(client, len(answer))[: len(answer)], answer, rule)
            client.sendall(b"are you there?")
            self.assertEqual(read_exactly(client, 14), b"are you there?", rule)

    def real_tls(self, port: int) -> None:
        """A TLS client from another address is echoed."""
        sock = socket.create_connection(("127.0.0.1", port), TIMEOUT, REAL)
        with self.context.wrap_socket(sock, server_hostname="localhost") as client:
            client.sendall(b"secret")
            self.assertEqual(client.recv(6), b"secret")

    def attack(
        self, name: str, address: str, prelude: bytes, real: Callable[[], object], again: int = AGAIN
    ) -> None:
        """Let each kind of crowd attack, and serve the canary and a real client meanwhile."""
        for behaviour in ("silent", "drip", "deaf"):
            with Crowd(address, again, behaviour, prelude):
                delays = self.canary()
                real()
            self.assertTrue(self.under_attack.running, self.under_attack.log)
            if deep():
                self.judge(f"{name}, {behaviour}", delays)
                # Thousands of sessions end in the same moment.
                self.judge(f"{name}, {behaviour}, leaving", self.canary())

    def judge(self, attack: str, delays: Delays) -> None:
        """Say which bounds held; fail if one did not."""
        by_work, by_wall, words = verdict(attack, delays, self.quiet)
        sys.stdout.write(f"\n{words}\n")
        self.assertTrue(by_work and by_wall, words)

    def canary(self) -> Delays:
        """How long exchanges take, by way of the forwarder and directly, in turns."""
        ports = (self.under_attack.port("canary"), self.canary_echo.port)
        taken = Delays()
        clients = [socket.create_connection(("127.0.0.1", port), TIMEOUT) for port in ports]
        for number in range(EXCHANGES):
            for way, port in enumerate(ports):
                ran, waited = self.under_attack.main_thread()
                began = time.monotonic()
                if number % 10 == 9:
                    clients[way].close()
                    clients[way] = socket.create_connection(("127.0.0.1", port), TIMEOUT)
                self.exchange(clients[way], b"tweet")
                took = time.monotonic() - began
                if way:
                    taken.direct.append(took)
                    continue
                ran_then, waited_then = self.under_attack.main_thread()
                taken.work.append(ran_then - ran)
                taken.wall.append(max(0.0, took - (waited_then - waited)))
        for client in clients:
            client.close()
        return taken

    def address(self, rule: str) -> str:
        """Where the crowd goes."""
        return f"127.0.0.1:{self.under_attack.port(rule)}"

    def test_plain(self) -> None:
        """A rule without filters."""
        forwarder = self.under_attack
        self.attack("plain", self.address("plain"), LONG, lambda: self.real(forwarder, "plain", b"", b""))

    def test_tls(self) -> None:
        """A TLS listener, and one that routes by the name a client asks for."""
        self.attack("tls", f"127.0.0.1:{self.tls_port}", HELLO, lambda: self.real_tls(self.tls_port))
        port = self.under_attack.port("sni")
        self.attack("sni", self.address("sni"), HELLO, lambda: self.real_tls(port))

    def test_parsers(self) -> None:
        """Every filter that reads the beginning of a connection."""
        echo = socket.inet_aton("127.0.0.1") + self.echo.port.to_bytes(2, "big")
        target = f"127.0.0.1:{self.echo.port}"
        request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
        header = b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 2000\r\n"
        for rule, prelude, first, answer in (
            ("sniff", b"GET / HTTP/1.1\r\n", request, request),
            ("host", b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + LONG, request, request),
            ("connect", b"CONNECT x:1 HTTP/1.1\r\nX: " + LONG,
             f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode(), b"HTTP/1.1 200 "),
            ("proxied", b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 2", header, b""),
        ):  # fmt: skip
            self.attack(rule, self.address(rule), prelude, self.served(rule, first, answer))
        self.attack("socks", self.address("socks"), b"\5\1\0", lambda: self.real_socks(echo))

    def served(self, rule: str, first: bytes, answer: bytes) -> Callable[[], object]:
        """A real client of `rule`."""
        if rule != "connect":
            return lambda: self.real(self.under_attack, rule, first, answer)

        def ask() -> None:
            with socket.create_connection(
                ("127.0.0.1", self.under_attack.port(rule)), TIMEOUT, REAL
            ) as client:
                client.sendall(first)
                with client.makefile("rb") as lines:
                    self.assertTrue(lines.readline().startswith(answer))

        return ask

    def real_socks(self, destination: bytes) -> None:
        """A SOCKS client from another address is connected to the echo."""
        port = self.under_attack.port("socks")
        with socket.create_connection(("127.0.0.1", port), TIMEOUT, REAL) as client:
            client.sendall(b"\5\1\0")
            self.assertEqual(read_exactly(client, 2), b"\5\0")
            client.sendall(b"\5\1\0\1" + destination)
            self.assertEqual(read_exactly(client, 10)[:2], b"\5\0")
            client.sendall(b"are you there?")
            self.assertEqual(read_exactly(client, 14), b"are you there?")

    def test_operators(self) -> None:
        """The control socket."""
        # Only its user may connect to the control socket: the crowd is their program that forgets to close.
        request = b'{"id": 1, "command": "rules"}\n' * 1000
        self.attack(
            "control",
            self.path,
            request,
            lambda: self.assertIn("uptime", self.portfwd("status", "--json")),
            again=0,
        )

    def healthy(self) -> None:
        """Health is answered to somebody from another address, and so is a page of metrics."""
        for path, answer in (("healthz", b"ok\n"), ("metrics", b"portfwd_ready 1.0")):
            with socket.create_connection(("127.0.0.1", self.metrics_port), TIMEOUT, REAL) as client:
                client.sendall(b"GET /" + path.encode() + b" HTTP/1.0\r\n\r\n")
                page = b""
                while data := client.recv(65536):
                    page += data
            self.assertIn(answer, page)

    def test_metrics(self) -> None:
        """The page of metrics."""
        if prometheus_client is None:
            raise SkipTest("needs prometheus-client")
        request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100
        self.attack("metrics", f"127.0.0.1:{self.metrics_port}", request, self.healthy)

    def greeted(self) -> None:
        """The manhole says what it is to somebody from another address."""
        with socket.create_connection(("127.0.0.1", self.manhole_port), TIMEOUT, REAL) as client:
            self.assertEqual(read_exactly(client, 8), b"SSH-2.0-")

    def test_manhole(self) -> None:
        """The Python prompt."""
        prelude = b"SSH-2.0-crowd\r\n" + LONG
        self.attack("manhole", f"127.0.0.1:{self.manhole_port}", prelude, self.greeted)

    def test_passwords(self) -> None:
        """Clients that guess passwords, each from an address of its own."""
        over = threading.Event()
        guessed = threading.Event()
        threads = [
            threading.Thread(target=self.guess, args=(f"127.0.1.{number}", guessed, over))
            for number in range(1, GUESSERS + 1)
        ]
        for thread in threads:
            thread.start()
        try:
            self.assertTrue(guessed.wait(TIMEOUT))
            delays = self.canary()
        finally:
            over.set()
            for thread in threads:
                thread.join(TIMEOUT)
        if deep():
            self.judge("passwords", delays)

    def guess(self, source: str, guessed: threading.Event, over: threading.Event) -> None:
        """Guess until it is `over`."""
        address = ("127.0.0.1", self.under_attack.port("guarded"))
        while not over.is_set():
            with (
                contextlib.suppress(ConnectionError),
                socket.create_connection(address, TIMEOUT, (source, 0)) as client,
            ):
                client.sendall(b"\5\1\2" + b"\1\5alice\5wrong")
                if read_exactly(client, 4) == b"\5\2\1\1":
                    guessed.set()
