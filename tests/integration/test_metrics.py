"""The metrics page, asked with curl: counters, log lines and the peers' own counts say the same."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess

from twisted.trial.unittest import SkipTest

from portfwd.admin.metrics_page import MOST_CONNECTIONS
from portfwd.testing.peers import Dialer, converse
from tests.integration.case import ForwarderCase
from tests.integration.forwarder import TIMEOUT, Forwarder, wait_until
from tests.integration.silent_crowd import Crowd

try:
    import prometheus_client
except ImportError:
    prometheus_client = None  # type: ignore[assignment]

SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")
LABEL = re.compile(r'(\w+)="([^"]*)"')
COUNTED = (("bytes", "bytes"), ("spliced_bytes", "spliced"), ("reads", "reads"), ("writes", "writes"))


class Page:
    """The figures of one page."""

    def __init__(self, text: str) -> None:
        self._found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
        for line in text.splitlines():
            if not line.startswith("#"):
                match = SAMPLE.match(line)
                assert match is not None, line
                self._found[match[1], frozenset(LABEL.findall(match[2] or ""))] = float(match[3])

    def get(self, name: str, **labels: str) -> float | None:
        """One figure; None where there is none."""
        return self._found.get((f"portfwd_{name}", frozenset(labels.items())))


class MetricsCase(ForwarderCase):
    """A forwarder with a ``metrics`` line."""

    def setUp(self) -> None:
        super().setUp()
        if prometheus_client is None:
            raise SkipTest("needs prometheus-client")
        if shutil.which("curl") is None:
            raise SkipTest("needs curl")

    def measured(self, options: str = "", *, at: str = "127.0.0.1:0", drain: str = "2") -> Forwarder:
        """A forwarder with figures, and an upstream."""
        self.upstream = self.listener()
        rule = f"metrics {at}\nweb: 127.0.0.1:0 -> {self.upstream.address} {self.options(options)}\n"
        return self.forwarder(rule, drain=drain)

    def in_session(self, forwarder: Forwarder) -> tuple[socket.socket, socket.socket]:
        """Both ends of one session."""
        client = socket.create_connection(("127.0.0.1", forwarder.port("web")), TIMEOUT)
        self.addCleanup(client.close)
        server = self.upstream.accept(TIMEOUT)
        assert server is not None
        self.addCleanup(server.close)
        server.settimeout(TIMEOUT)
        return client, server

    def curl(self, forwarder: Forwarder, path: str) -> tuple[int, str]:
        """Status and body of a page."""
        address = forwarder.wait_for_line(r"metrics: listening on (\S+)")[1]
        command = ["curl", "--silent", "--max-time", str(TIMEOUT), "--write-out", "\n%{http_code}"]
        if address.startswith("unix:"):
            command += ["--unix-socket", address.removeprefix("unix:"), f"http://localhost{path}"]
        else:
            command.append(address.removesuffix("/metrics") + path)
        done = subprocess.run(command, capture_output=True, text=True, timeout=2 * TIMEOUT, check=True)
        body, _, code = done.stdout.rpartition("\n")
        return int(code), body

    def figures(self, forwarder: Forwarder) -> Page:
        """The page as it is now."""
        code, text = self.curl(forwarder, "/metrics")
        self.assertEqual(code, 200)
        return Page(text)


class CounterTests(MetricsCase):
    """Copied, and spliced in bulk."""

    def test_counters(self) -> None:
        """Bytes, calls, spliced bytes and sessions: as the log's lines and the peers counted them."""
        forwarder = self.measured()
        target = str(self.upstream.address)
        sent = answered = 0
        for size, answer in ((1, 0), (100_000, 7), (6_000_000, 5_000_000)):
            client = Dialer(forwarder.address("web"), f"send {size}", "end", "read to end")
            server = self.upstream.peer("read to end", *([f"send {answer}"] if answer else []), "end")
            converse(client, server)
            sent, answered = sent + client.sent.count, answered + server.sent.count
        lines = forwarder.access_lines(3)
        page = self.figures(forwarder)
        for key, peers in (("to_upstream", sent), ("to_client", answered)):
            way = key.replace("_", "-")
            self.assertEqual(page.get("bytes_total", rule="web", direction=way), peers)
            self.assertEqual(page.get("target_bytes_total", rule="web", target=target, direction=way), peers)
            for name, field in COUNTED:
                logged = sum(line.raw[key][field] for line in lines)
                self.assertEqual(page.get(f"{name}_total", rule="web", direction=way), logged, name)
        self.assertEqual(page.get("sessions_total", rule="web"), 3)
        self.assertEqual(page.get("sessions_active", rule="web"), 0)
        self.assertEqual(page.get("sessions_closed_total", rule="web", reason="--"), 3)
        self.assertEqual(page.get("target_closed_total", rule="web", target=target, reason="--"), 3)
        for name, count in (("dial", 3), ("session", 3), ("first_byte", 2)):
            self.assertEqual(page.get(f"{name}_seconds_count", rule="web"), count, name)
        duration = page.get("session_seconds_sum", rule="web")
        assert duration is not None
        self.assertAlmostEqual(duration, sum(line.raw["duration"] for line in lines), 4)

    def test_live(self) -> None:
        """What an open session has moved is told while it is open, and not again when it is closed."""
        forwarder = self.measured()
        client, server = self.in_session(forwarder)
        for _ in range(50):
            client.sendall(b"q" * 1000)
            left = 1000
            while left:
                left -= len(server.recv(left))
        server.sendall(b"answer")
        client.recv(100)
        # A peer may have its bytes before the call that gave them to it has returned and they are counted.
        wait_until(
            lambda: self.figures(forwarder).get("bytes_total", rule="web", direction="to-client") == 6,
            TIMEOUT,
            lambda: forwarder.log,
        )
        page = self.figures(forwarder)
        self.assertEqual(page.get("bytes_total", rule="web", direction="to-upstream"), 50_000)
        self.assertEqual(page.get("sessions_active", rule="web"), 1)
        self.assertEqual(page.get("target_sessions_active", rule="web", target=str(self.upstream.address)), 1)
        self.assertEqual(page.get("sessions_closed_total", rule="web", reason="--"), 0)
        client.close()
        server.close()
        forwarder.access_lines(1)
        page = self.figures(forwarder)
        self.assertEqual(page.get("bytes_total", rule="web", direction="to-upstream"), 50_000)
        self.assertEqual(page.get("sessions_active", rule="web"), 0)
        self.assertEqual(page.get("sessions_total", rule="web"), 1)


class PairCounterTests(CounterTests):
    """Twisted's way."""

    relay_option = "pair"


class CrowdTests(MetricsCase):
    """Many connections that do not read."""

    def test_health(self) -> None:
        """Health is answered beside twice as many connections as there are places, whatever they do."""
        forwarder = self.measured()
        port = int(forwarder.wait_for_line(r"metrics: listening on http://127\.0\.0\.1:(\d+)")[1])
        for says in (b"", b"GET /met", b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 40):
            crowd = Crowd(("127.0.0.1", port), 2 * MOST_CONNECTIONS, says)
            self.addCleanup(crowd.leave)
            self.assertEqual(self.curl(forwarder, "/healthz"), (200, "ok\n"), says)


class PageTests(MetricsCase):
    """The page and its neighbours."""

    def test_draining(self) -> None:
        """While sessions drain the forwarder is alive, and not ready."""
        forwarder = self.measured(drain="60")
        self.assertEqual(self.curl(forwarder, "/healthz"), (200, "ok\n"))
        self.assertEqual(self.curl(forwarder, "/readyz"), (200, "ready\n"))
        client, server = self.in_session(forwarder)
        forwarder.signal(signal.SIGTERM)
        forwarder.wait_for_line("draining")
        self.assertEqual(self.curl(forwarder, "/healthz"), (200, "ok\n"))
        self.assertEqual(self.curl(forwarder, "/readyz"), (503, "not ready\n"))
        page = self.figures(forwarder)
        self.assertEqual((page.get("ready"), page.get("sessions_active", rule="web")), (0, 1))
        client.close()
        server.close()
        self.assertEqual(forwarder.wait(), 0)

    def test_unix(self) -> None:
        """On a unix socket with its mode, about a limit that was reached."""
        path = self.directory / "metrics.sock"
        forwarder = self.measured("max-conns-per-source=1", at=f"unix:{path} mode=0660")
        self.assertEqual(path.stat().st_mode & 0o777, 0o660)
        client, server = self.in_session(forwarder)
        converse(Dialer(forwarder.address("web"), "expect end"))
        client.close()
        server.close()
        forwarder.access_lines(2)
        page = self.figures(forwarder)
        self.assertEqual(page.get("limit_refusals_total", rule="web", limit="max-conns-per-source"), 1)
        self.assertEqual(page.get("sessions_closed_total", rule="web", reason="LC"), 1)
        taken, most = page.get("descriptors"), page.get("descriptors_limit")
        assert taken is not None and most is not None
        self.assertLess(taken, most)
        self.assertEqual(forwarder.stop(), 0)
        self.assertFalse(path.exists())

    def test_stuck_watchers(self) -> None:
        """Watchers who ask and never read, or who never finish asking, slow nobody."""
        forwarder = self.measured()
        port = int(forwarder.wait_for_line(r"metrics: listening on http://127.0.0.1:(\d+)/")[1])
        for words in (b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 500, b"GET /met"):
            watcher = socket.create_connection(("127.0.0.1", port), TIMEOUT)
            self.addCleanup(watcher.close)
            watcher.settimeout(0.2)
            try:
                watcher.sendall(words)
            except TimeoutError:
                continue  # it reads no more requests before it has answered some
        client = Dialer(forwarder.address("web"), "send 1MiB", "end", "expect end")
        converse(client, self.upstream.peer("expect 1MiB", "expect end", "end"))
        self.assertEqual(forwarder.access_lines(1)[0].reason, "--")
        self.assertEqual(self.curl(forwarder, "/healthz"), (200, "ok\n"))


del MetricsCase
