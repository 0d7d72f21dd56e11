"""SIGHUP, as an operator sends it: what goes on, what changes, what is refused and why."""

from __future__ import annotations

import hashlib
import os
import pwd
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from portfwd.testing.data import Pattern
from portfwd.testing.peers import Dialer, ScriptedListener, converse
from portfwd.values import InetAddress
from tests.integration.case import JSON_LOG, ForwarderCase, deep
from tests.integration.echo import EchoServer
from tests.integration.forwarder import TIMEOUT, Forwarder, wait_until
from tests.integration.programs import needs_root
from tests.integration.test_start_and_stop import low_port

HELLO = (["send 10", "end", "expect 10", "expect end"], ["expect 10", "expect end", "send 10", "end"])
#: What the log says when a reload is over, either way.
OVER = ("reload: done", "reload: refused", "reload: dry run")
#: Bytes that a long stream sends before it waits for their echo.
BLOCK = 65536


def over(forwarder: Forwarder) -> int:
    """How many reloads the log tells of."""
    return sum(any(word in line for word in OVER) for line in list(forwarder.lines))


class ReloadCase(ForwarderCase):
    """A forwarder whose file is changed."""

    def reload(self, forwarder: Forwarder, rules: str, path: Path | None = None) -> str:
        """Put `rules` into the file, send SIGHUP; what the log has said since, when it is over."""
        file = forwarder.directory / "rules.conf" if path is None else path
        if not any(line.startswith("log") for line in rules.splitlines()):
            rules = JSON_LOG + rules
        fresh = file.with_suffix(".new")
        fresh.write_text(rules)
        os.replace(fresh, file)
        before, count = len(forwarder.lines), over(forwarder)
        forwarder.signal(signal.SIGHUP)
        wait_until(lambda: over(forwarder) > count, TIMEOUT, lambda: forwarder.log)
        return "\n".join(forwarder.lines[before:])

    def hello(self, forwarder: Forwarder, rule: str, upstream: ScriptedListener) -> None:
        """A short conversation."""
        converse(Dialer(forwarder.addresses(rule)[-1], *HELLO[0]), upstream.peer(*HELLO[1]))

    def session(
        self, forwarder: Forwarder, rule: str, upstream: ScriptedListener
    ) -> tuple[socket.socket, ...]:
        """Both ends of a session that has begun."""
        client = socket.create_connection(("127.0.0.1", forwarder.port(rule)), TIMEOUT)
        self.addCleanup(client.close)
        server = upstream.accept(TIMEOUT)
        assert server is not None
        self.addCleanup(server.close)
        server.settimeout(TIMEOUT)
        client.sendall(b"a")
        self.assertEqual(server.recv(10), b"a")
        return client, server


class SignalTests(ReloadCase):
    """One change at a time."""

    def test_applied(self) -> None:
        """Rules come, go and change; a session that is there goes on; the difference is in the log."""
        upstream, other = self.listener(), self.listener()
        first = f"a: 127.0.0.1:0 -> {upstream.address}\nold: 127.0.0.2:0 -> {upstream.address}\n"
        forwarder = self.forwarder(first)
        descriptors = forwarder.open_descriptors()
        client, server = self.session(forwarder, "a", upstream)
        said = self.reload(
            forwarder, f"a: 127.0.0.1:0 -> {other.address}\nnew: 127.0.0.3:0 -> {upstream.address}\n"
        )
        self.assertIn("reload: rules: 1 added, 1 removed, 1 changed", said)
        self.assertIn(f"~ a: targets {upstream.address} -> {other.address}", said)
        self.hello(forwarder, "a", other)
        self.hello(forwarder, "new", upstream)
        old = forwarder.address("old")
        assert isinstance(old, InetAddress)
        self.assertRaises(ConnectionRefusedError, socket.create_connection, (old.host, old.port))
        client.sendall(b"still here")
        self.assertEqual(server.recv(100), b"still here")
        client.close()
        self.assertEqual(server.recv(100), b"")
        server.close()
        forwarder.access_lines(3)
        self.assert_settled(forwarder, descriptors)

    def test_refused(self) -> None:
        """A bad file, a taken port: every line is named, and nothing is changed."""
        upstream, taken = self.listener(), self.listener()
        good = f"a: 127.0.0.1:0 -> {upstream.address}\n"
        forwarder = self.forwarder(good)
        client, server = self.session(forwarder, "a", upstream)
        said = self.reload(forwarder, f"{good}b: :8080 -> 10.0.0.5:80 ilde=5m\nnonsense\n")
        self.assertIn("reload: refused, nothing was changed: 2 things are wrong", said)
        forwarder.wait_for_line(r"rules\.conf:3:25: error: unknown option 'ilde'")
        forwarder.wait_for_line(r"rules\.conf:4:1: error")
        self.reload(forwarder, f"c: 127.0.0.2:0 -> 127.0.0.1:9\nb: {taken.address} -> 127.0.0.1:9\n")
        forwarder.wait_for_line(rf"b: cannot listen on {taken.address}: .*in use \(.*rules\.conf:3:4\)")
        self.hello(forwarder, "a", upstream)
        client.sendall(b"still here")
        self.assertEqual(server.recv(100), b"still here")
        self.assertNotIn("c: listening", forwarder.log)

    def test_on_remove(self) -> None:
        """Sessions whose listener goes stay, drain until the deadline, or are cut."""
        upstream = self.listener()
        forwarder = self.forwarder(
            "".join(
                f"{how}: 127.0.0.{number}:0 -> {upstream.address} on-remove={how}\n"
                for number, how in enumerate(("stay", "drain", "cut"), 1)
            ),
            drain="1",
        )
        ends = {}
        for number, how in enumerate(("stay", "drain", "cut"), 1):
            address = forwarder.address(how)
            assert isinstance(address, InetAddress)
            client = socket.create_connection((f"127.0.0.{number}", address.port), TIMEOUT)
            self.addCleanup(client.close)
            server = upstream.accept(TIMEOUT)
            assert server is not None
            self.addCleanup(server.close)
            ends[how] = (client, server)
        self.reload(forwarder, f"other: 127.0.0.4:0 -> {upstream.address}\n")
        for how in ("cut", "drain"):
            self.assertRaises(ConnectionResetError, ends[how][0].recv, 1)
        client, server = ends["stay"]
        client.sendall(b"ping")
        self.assertEqual(server.recv(10), b"ping")
        client.close()
        server.close()
        reasons = {line.rule: line.reason for line in forwarder.access_lines(3)}
        self.assertEqual(reasons, {"stay": "--", "drain": "TD", "cut": "KD"})

    def test_another_log(self) -> None:
        """Sessions that end afterwards have their lines in the new file, or on standard output."""
        upstream = self.listener()
        rule = f"a: 127.0.0.1:0 -> {upstream.address}\n"
        forwarder = self.forwarder(rule)
        client, server = self.session(forwarder, "a", upstream)
        self.reload(forwarder, f"log access=json file=other.log\n{rule}")
        client.close()
        server.close()
        other = forwarder.directory / "other.log"
        wait_until(lambda: other.exists() and bool(other.read_text()), TIMEOUT, lambda: forwarder.log)
        self.assertEqual(forwarder.access_text(), "")
        self.reload(forwarder, f"log access=text\n{rule}")
        client, server = self.session(forwarder, "a", upstream)
        client.close()
        server.close()
        wait_until(lambda: "rule=a" in forwarder.log, TIMEOUT, lambda: forwarder.log)

    def test_rules_of_the_command_line(self) -> None:
        """They cannot be read again, which is said."""
        forwarder = self.forwarder(None, ["--rule", "a: 127.0.0.1:0 -> 127.0.0.1:9"])
        forwarder.signal(signal.SIGHUP)
        forwarder.wait_for_line("reload: these rules came from the command line")


class PrivilegeTests(ReloadCase):
    """What a process that gave something up cannot do any more, and says."""

    def test_another_user(self) -> None:
        """A low port is refused with the ways out; the low port that was bound as root stays."""
        needs_root()
        nobody = pwd.getpwnam("nobody")
        self.directory.chmod(0o755)
        upstream = self.listener()
        port = low_port()
        first = f"low: 127.0.0.1:{port} -> {upstream.address}\n"
        forwarder = self.forwarder(first, twistd=[f"--uid={nobody.pw_uid}", f"--gid={nobody.pw_gid}"])
        if int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) >= 1024:
            self.reload(forwarder, f"{first}b: 127.0.0.1:{port - 1} -> {upstream.address}\n")
            forwarder.wait_for_line("Permission denied .*CAP_NET_BIND_SERVICE")
        said = self.reload(forwarder, f"{first}c: 127.0.0.2:0 -> {upstream.address}\n")
        self.assertIn("1 added, 1 unchanged", said)
        for rule in ("low", "c"):
            self.hello(forwarder, rule, upstream)

    def test_another_root(self) -> None:
        """A file beneath the new root is read again, filters included; one outside is out of reach."""
        needs_root()
        jail = self.directory / "jail"
        jail.mkdir()
        upstream = self.listener()
        rule = f"log access=off\na: 127.0.0.1:0 -> {upstream.address}\n"
        file = jail / "rules.conf"
        file.write_text(rule)
        forwarder = self.forwarder(None, ["-c", str(file)], twistd=[f"--chroot={jail}"])
        said = self.reload(forwarder, f"{rule}b: 127.0.0.2:0 -> {upstream.address}\n    filter sniff\n", file)
        self.assertIn("1 added, 1 unchanged", said)
        self.hello(forwarder, "b", upstream)
        secret = self.directory / "key.pem"
        secret.write_text("none")
        said = self.reload(forwarder, f"{rule}c: 127.0.0.3:0 -> tls:h:1 ca={secret}\n", file)
        self.assertIn("refused", said)
        forwarder.wait_for_line(rf"sees only what is beneath {jail} \(--chroot\)")


class NotifyTests(ReloadCase):
    """What systemd hears (``sd_notify(3)``)."""

    def test_life(self) -> None:
        """Ready, alive, reloading and ready again, stopping; each at its time."""
        path = self.directory / "notify"
        systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(systemd.close)
        systemd.settimeout(TIMEOUT)
        systemd.bind(str(path))
        forwarder = Forwarder(
            self.directory,
            f"{JSON_LOG}a: 127.0.0.1:0 -> 127.0.0.1:9\n",
            launcher=["env", f"NOTIFY_SOCKET={path}", "WATCHDOG_USEC=200000"],
        )
        self.addCleanup(forwarder.clean_up)
        alive = 0

        def hear() -> dict[str, str]:
            """The next message that is not only a sign of life."""
            nonlocal alive
            while True:
                said = dict(line.split("=", 1) for line in systemd.recv(4096).decode().split("\n"))
                if said.keys() - {"WATCHDOG", "STATUS"}:
                    return said
                alive += "WATCHDOG" in said

        self.assertEqual(hear(), {"READY": "1", "STATUS": "1 listener, 0 sessions"})
        self.assertIn("ready", forwarder.wait_for_line("portfwd is ready")[0])
        before = alive
        while alive < before + 2:
            alive += systemd.recv(4096) == b"WATCHDOG=1"
        self.reload(forwarder, "a: 127.0.0.1:0 -> 127.0.0.1:9\nb: 127.0.0.2:0 -> 127.0.0.1:9\n")
        reloading = hear()
        self.assertEqual(reloading["RELOADING"], "1")
        self.assertTrue(int(reloading["MONOTONIC_USEC"]) > 0)
        self.assertEqual(hear(), {"READY": "1", "STATUS": "2 listeners, 0 sessions"})
        self.reload(forwarder, "nonsense\n")
        self.assertEqual(hear()["RELOADING"], "1")
        self.assertEqual(hear()["STATUS"], "2 listeners, 0 sessions; the last reload was refused")
        self.assertEqual(forwarder.stop(), 0)
        self.assertEqual(hear()["STOPPING"], "1")


class Stream(threading.Thread):
    """
    A client that sends for as long as it is let, and gets its own bytes back.

    :ivar problem: what went wrong, if something did.
    :ivar sent: bytes.
    """

    def __init__(self, port: int, seed: int, enough: threading.Event) -> None:
        super().__init__(daemon=True)
        self._socket = socket.create_connection(("127.0.0.1", port), TIMEOUT)
        self._pattern = Pattern(seed)
        self._enough = enough
        self.problem: BaseException | str = ""
        self.sent = 0

    def run(self) -> None:
        """One block after the other; at the end the whole of both directions is compared by its hash."""
        out, back = hashlib.sha256(), hashlib.sha256()
        try:
            with self._socket as sock:
                while not self._enough.is_set():
                    block = self._pattern.slice(self.sent, BLOCK)
                    sock.sendall(block)
                    out.update(block)
                    self.sent += BLOCK
                    self._receive(sock, back.update, BLOCK)
                    self._enough.wait(0.02)
                sock.shutdown(socket.SHUT_WR)
                if sock.recv(1):
                    self.problem = "more came back than was sent"
        except (OSError, EOFError) as problem:
            self.problem = problem
        if not self.problem and out.digest() != back.digest():
            self.problem = "what came back is not what was sent"

    def _receive(self, sock: socket.socket, update: Callable[[bytes], None], count: int) -> None:
        while count:
            data = sock.recv(count)
            if not data:
                raise EOFError(f"ended with {count} bytes to come")
            update(data)
            count -= len(data)


class Newcomers(threading.Thread):
    """
    A client after the other, each with a few bytes.

    :ivar served: how many there were.
    :ivar problems: what went wrong with the others.
    """

    def __init__(self, port: int, enough: threading.Event) -> None:
        super().__init__(daemon=True)
        self._port = port
        self._enough = enough
        self.served = 0
        self.problems: list[OSError | bytes] = []

    def run(self) -> None:
        """Connect, send, get it back, close."""
        while not self._enough.is_set():
            try:
                with socket.create_connection(("127.0.0.1", self._port), TIMEOUT) as client:
                    client.sendall(b"hello")
                    client.shutdown(socket.SHUT_WR)
                    got = b""
                    while data := client.recv(100):
                        got += data
            except OSError as problem:
                self.problems.append(problem)
            else:
                if got == b"hello":
                    self.served += 1
                else:
                    self.problems.append(got)


class TrafficTests(ReloadCase):
    """Promise 5: a reload refuses no connection and cuts none that it should keep."""

    def test_under_traffic(self) -> None:
        """Reload after reload under new connections and long streams: none refused, none reset, all whole."""
        reloads, streams = (1000, 50) if deep() else (50, 8)
        server = EchoServer()
        self.addCleanup(server.close)
        web = f"web: 127.0.0.1:0 -> 127.0.0.1:{server.port}"
        path = self.directory / "extra"
        versions = (
            f"{web}\none: 127.0.0.2:0 -> 127.0.0.1:9\n",
            f"{web} idle=1h max-conns=500\ntwo: unix:{path} -> 127.0.0.1:9\n",
            f"deny 10.9.9.9\n{web}\n    filter sniff\n",
            f"{web} ilde=1h\n",
            f"{web} relay=pair keepalive=60:10:3\ntwo: unix:{path} -> 127.0.0.1:9\n",
        )
        forwarder = self.forwarder(versions[0], drain="10")
        descriptors = forwarder.open_descriptors()
        port = forwarder.port("web")
        enough = threading.Event()
        self.addCleanup(enough.set)
        # Each stream begins under another version of its rule.
        long = []
        crowd = [Newcomers(port, enough) for _ in range(2)]
        for thread in crowd:
            thread.start()
        for number in range(reloads):
            if number % 5 == 0 and len(long) < streams:
                for _ in range(max(1, streams * 5 // reloads)):
                    long.append(Stream(port, len(long) + 1, enough))
                    long[-1].start()
            self.reload(forwarder, versions[(number + 1) % len(versions)])
        enough.set()
        for thread in (*crowd, *long):
            thread.join(TIMEOUT)
            self.assertFalse(thread.is_alive(), thread)
        self.assertEqual([one for newcomers in crowd for one in newcomers.problems], [])
        self.assertEqual([stream.problem for stream in long if stream.problem], [])
        self.assertGreaterEqual(len(long), streams)
        served = sum(newcomers.served for newcomers in crowd)
        self.assertGreater(served, reloads)
        lines = forwarder.access_lines(served + len(long))
        self.assertEqual({line.reason for line in lines}, {"--"})
        self.assertEqual(
            sum(line.to_upstream for line in lines), 5 * served + sum(stream.sent for stream in long)
        )
        refused = sum("reload: refused" in line for line in forwarder.lines)
        self.assertEqual(refused, reloads // len(versions))
        self.reload(forwarder, versions[0])
        self.assert_settled(forwarder, descriptors)
