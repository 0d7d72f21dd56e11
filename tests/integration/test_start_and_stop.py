"""Starting, failing to start, draining, ending; in the foreground and as a daemon."""

from __future__ import annotations

import os
import pwd
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

from twisted.trial import unittest

from portfwd.service.daemon.last_resort import CUT_OFF, LOST
from portfwd.testing.peers import Dialer, ScriptedListener, converse
from portfwd.values import InetAddress
from tests.integration.case import JSON_LOG, ForwarderCase
from tests.integration.forwarder import (
    ROOT,
    TIMEOUT,
    TWISTD,
    Forwarder,
    addresses_in,
    is_listening,
    wait_until,
)
from tests.integration.programs import needs, needs_root, run

HELLO = (["send 10", "end", "expect 10", "expect end"], ["expect 10", "expect end", "send 10", "end"])


def twistd(*arguments: str, directory: Path) -> subprocess.CompletedProcess[bytes]:
    """Run ``twistd`` until it ends or has become a daemon."""
    return subprocess.run(
        [sys.executable, "-c", TWISTD, *arguments],
        cwd=directory,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=60,
        check=False,
    )


class LastResortTests(ForwarderCase):
    """Processes that cannot stop by themselves."""

    def broken(self, name: str, *twistd: str) -> Forwarder:
        """A forwarder with a filter of that name, which a client has just met."""
        upstream = self.listener()
        rules = f"{JSON_LOG}case: 127.0.0.1:0 -> {upstream.address}\n"
        rules += f"    filter python:tests.integration.breaking.{name}\n"
        directory = self.directory / "".join((name, *twistd))
        directory.mkdir()
        options = [*twistd, "-n", "--pidfile="]
        forwarder = Forwarder(directory, rules, ["--drain", "60"], twistd=options)
        self.addCleanup(forwarder.clean_up)
        forwarder.wait_until_ready()
        client = socket.create_connection(("127.0.0.1", forwarder.port("case")), TIMEOUT)
        self.addCleanup(client.close)
        client.sendall(b"a")
        return forwarder

    def test_the_event_loop_is_lost(self) -> None:
        """A process that is told of no event any more ends at once, as an error, under every reactor."""
        for reactor in ("portfwd", "epoll", "select"):
            forwarder = self.broken("LosesEvents", f"--reactor={reactor}")
            self.assertEqual(forwarder.wait(), LOST, forwarder.log)
            self.assertIn("the event loop is lost", forwarder.log)
            (line,) = forwarder.access_lines(1)
            self.assertEqual(line.reason, "ID")

    def test_two_signals(self) -> None:
        """A second SIGTERM ends a process whose main thread does something that never ends."""
        forwarder = self.broken("NeverReturns")
        forwarder.wait_for_line("never")
        for _ in range(2):
            forwarder.signal(signal.SIGTERM)
            time.sleep(0.1)
        self.assertEqual(forwarder.wait(), CUT_OFF)

    def test_a_thread_that_does_not_return(self) -> None:
        """A stop waits for no thread of the reactor's pool."""
        forwarder = self.broken("OccupiesThread")
        forwarder.wait_for_line("never")
        forwarder.signal(signal.SIGTERM)
        forwarder.wait_for_line("draining")
        forwarder.signal(signal.SIGTERM)
        self.assertEqual(forwarder.wait(), 0)
        self.assertNotIn("cut off", forwarder.log)


class LogTests(ForwarderCase):
    """twistd's log while nobody reads it."""

    def test_a_reader_that_stops(self) -> None:
        """
        Sessions go on behind a pipe that nobody empties, and a stop ends, with and without what was
        dropped.
        """
        upstream = self.listener()
        (self.directory / "rules.conf").write_text(
            f"{JSON_LOG}case: 127.0.0.1:0 -> {upstream.address}\n"
            "    filter python:tests.integration.breaking.Talkative\n"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", TWISTD, "-n", "--pidfile=", "portfwd", "-c", "rules.conf", "--drain=1"],
            cwd=self.directory,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
        )
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        assert process.stdout is not None
        self.addCleanup(process.stdout.close)
        lines: list[str] = []
        while not lines or "is ready" not in lines[-1]:
            lines.append(process.stdout.readline().decode())
        address = addresses_in("".join(lines), "case")[0]
        assert isinstance(address, InetAddress)
        client = socket.create_connection((address.host, address.port), TIMEOUT)
        self.addCleanup(client.close)
        server = upstream.accept(TIMEOUT)
        assert server is not None
        self.addCleanup(server.close)
        server.settimeout(TIMEOUT)
        # Each byte makes a line that fills the pipe.
        for _ in range(3):
            client.sendall(b"a")
            self.assertEqual(server.recv(10), b"a")
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(TIMEOUT), 0)


class StopTests(ForwarderCase):
    """SIGTERM and SIGINT."""

    def in_session(self, drain: str) -> tuple[Forwarder, socket.socket, socket.socket]:
        """A forwarder with one session; both ends of it."""
        upstream = self.listener()
        forwarder = self.forwarder(f"case: 127.0.0.1:0 -> {upstream.address}\n", drain=drain)
        client = socket.create_connection(("127.0.0.1", forwarder.port("case")), TIMEOUT)
        self.addCleanup(client.close)
        server = upstream.accept(TIMEOUT)
        assert server is not None
        self.addCleanup(server.close)
        server.settimeout(TIMEOUT)
        client.sendall(b"a")
        self.assertEqual(server.recv(10), b"a")
        return forwarder, client, server

    def wait_until_closed(self, forwarder: Forwarder) -> None:
        """Wait until nobody listens any more; a client that tried would become a session of its own."""
        port = forwarder.port("case")
        wait_until(lambda: not is_listening(port), TIMEOUT, lambda: f"it still accepts:\n{forwarder.log}")

    def test_without_sessions(self) -> None:
        """With nothing to wait for it ends at once, with 0, whatever ``--drain`` is."""
        for number in (signal.SIGTERM, signal.SIGINT):
            forwarder = self.forwarder("case: 127.0.0.1:0 -> 127.0.0.1:9\n", drain="60")
            before = time.monotonic()
            forwarder.signal(number)
            self.assertEqual(forwarder.wait(), 0)
            self.assertLess(time.monotonic() - before, 10)

    def test_drain(self) -> None:
        """It accepts no more, an open session goes on to its end, then it ends with 0."""
        forwarder, client, server = self.in_session("30")
        forwarder.signal(signal.SIGTERM)
        self.wait_until_closed(forwarder)
        client.sendall(b"still here")
        self.assertEqual(server.recv(100), b"still here")
        server.sendall(b"bye")
        self.assertEqual(client.recv(100), b"bye")
        client.shutdown(socket.SHUT_WR)
        self.assertEqual(server.recv(100), b"")
        server.close()
        self.assertEqual(client.recv(100), b"")
        self.assertEqual(forwarder.wait(), 0)
        (line,) = forwarder.access_lines(1)
        self.assertEqual((line.reason, line.to_upstream, line.to_client), ("--", 11, 3))

    def test_deadline(self) -> None:
        """Sessions that are left at the deadline are reset: TD, and exit code 0."""
        forwarder, client, server = self.in_session("1")
        before = time.monotonic()
        forwarder.signal(signal.SIGTERM)
        self.assertRaises(ConnectionResetError, client.recv, 10)
        self.assertGreater(time.monotonic() - before, 0.9)
        self.assertRaises(ConnectionResetError, server.recv, 10)
        self.assertEqual(forwarder.wait(), 0)
        self.assertEqual([line.reason for line in forwarder.access_lines(1)], ["TD"])

    def test_second_signal(self) -> None:
        """A second signal does not wait for the deadline."""
        forwarder, client, server = self.in_session("60")
        before = time.monotonic()
        forwarder.signal(signal.SIGTERM)
        self.wait_until_closed(forwarder)
        forwarder.signal(signal.SIGTERM)
        self.assertRaises(ConnectionResetError, client.recv, 10)
        self.assertRaises(ConnectionResetError, server.recv, 10)
        self.assertEqual(forwarder.wait(), 0)
        self.assertLess(time.monotonic() - before, 20)
        self.assertEqual([line.reason for line in forwarder.access_lines(1)], ["KD"])


class TroubleTests(ForwarderCase):
    """What cannot be started says why, and does not start at all."""

    def test_ports_that_are_taken(self) -> None:
        """A line for each, with rule, address and reason; nothing is served; exit code 1."""
        taken = [self.listener() for _ in range(2)]
        rules = self.directory / "rules.conf"
        rules.write_text(
            f"good: unix:{self.directory}/good -> 127.0.0.1:9\n"
            + "".join(f"bad{n}: {listener.address} -> 127.0.0.1:9\n" for n, listener in enumerate(taken))
        )
        done = twistd("-n", "--pidfile=", "portfwd", "-c", str(rules), directory=self.directory)
        said = (done.stdout + done.stderr).decode()
        self.assertEqual(done.returncode, 1, said)
        for n, listener in enumerate(taken):
            (line,) = [line for line in said.splitlines() if f"bad{n}" in line]
            self.assertIn(str(listener.address), line)
            self.assertIn("in use", line.lower())
        self.assertNotIn("Traceback", said)
        self.assertNotIn("is ready", said)
        self.assertFalse((self.directory / "good").exists())

    def test_ports_that_are_taken_as_a_daemon(self) -> None:
        """The reason reaches the terminal, the exit code is not 0, and nothing hangs or stays."""
        taken = self.listener()
        pidfile = self.directory / "pid"
        done = twistd(
            f"--pidfile={pidfile}", f"--logfile={self.directory}/twistd.log", "portfwd",
            "--rule", f"bad: {taken.address} -> 127.0.0.1:9",
            directory=self.directory,
        )  # fmt: skip
        said = (done.stdout + done.stderr).decode()
        self.assertNotEqual(done.returncode, 0, said)
        self.assertIn(f"bad: {taken.address}", said.replace("cannot listen on ", ""))
        self.assertFalse(pidfile.exists())

    def test_bad_rules(self) -> None:
        """Every problem of the file at once, each with its place; nothing is bound; exit code 2."""
        rules = self.directory / "rules.conf"
        rules.write_text("web: :8080 -> 10.0.0.5:80 ilde=5m\nunix:/x -> 127.0.0.1:99999\n")
        done = twistd("-n", "--pidfile=", "portfwd", "-c", str(rules), directory=self.directory)
        said = (done.stdout + done.stderr).decode()
        self.assertEqual(done.returncode, 2, said)
        self.assertIn("rules.conf:1:27: error: unknown option 'ilde'", said)
        self.assertIn("did you mean 'idle'?", said)
        self.assertIn("rules.conf:2:", said)
        self.assertNotIn("Traceback", said)

    def test_no_rules_file(self) -> None:
        """A file that cannot be read is named; no traceback."""
        done = twistd("-n", "--pidfile=", "portfwd", "-c", "nowhere.conf", directory=self.directory)
        said = (done.stdout + done.stderr).decode()
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("nowhere.conf", said)
        self.assertNotIn("Traceback", said)

    def test_nothing_to_do(self) -> None:
        """Neither a file nor a rule is a mistake that is told as such."""
        done = twistd("-n", "--pidfile=", "portfwd", directory=self.directory)
        said = (done.stdout + done.stderr).decode()
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("--rule", said)
        self.assertNotIn("Traceback", said)


class ReactorTests(ForwarderCase):
    """Every reactor twistd offers on Linux carries the relay."""

    def smoke(self, reactor: str) -> None:
        """Both kinds of relay, half-close, a reset, a refusal."""
        upstream = self.listener()
        dead = self.listener(backlog=None)
        forwarder = self.forwarder(
            f"auto: 127.0.0.1:0 -> {upstream.address}\n"
            f"pair: 127.0.0.1:0 -> {upstream.address} relay=pair\n"
            f"dead: 127.0.0.1:0 -> {dead.address}\n",
            twistd=[f"--reactor={reactor}"],
        )
        descriptors = forwarder.open_descriptors()
        steps = ["send 4MiB", "end", "read to end"]
        for rule in ("auto", "pair"):
            client, server = Dialer(forwarder.address(rule), *steps), upstream.peer(*steps)
            converse(client, server)
            self.assertEqual(client.received.sha256, server.sent.sha256)
            self.assertEqual(server.received.sha256, client.sent.sha256)
            converse(
                Dialer(forwarder.address(rule), "send 10", "hear got", "reset"),
                upstream.peer("expect 10", "say got", "expect reset"),
            )
        converse(Dialer(forwarder.address("dead"), "expect reset"))
        reasons = [line.reason for line in forwarder.access_lines(5)]
        self.assertEqual(reasons, ["--", "CD", "--", "CD", "SC"])
        self.assert_settled(forwarder, descriptors)

    def test_epoll(self) -> None:
        """``--reactor=epoll``."""
        self.smoke("epoll")

    def test_poll(self) -> None:
        """``--reactor=poll``."""
        self.smoke("poll")

    def test_select(self) -> None:
        """``--reactor=select``."""
        self.smoke("select")

    def test_asyncio(self) -> None:
        """``--reactor=asyncio``."""
        self.smoke("asyncio")


class DaemonTests(ForwarderCase):
    """Without ``-n``."""

    def started(self, *options: str, rule: str, root: Path | None = None) -> int:
        """
        The process of a daemon that was started; it is ended after the test.

        :param root: its root directory, if not ours: twistd writes its pid file when it is in there.
        """
        pidfile = (self.directory if root is None else root) / "pid"
        done = twistd(
            f"--pidfile={pidfile if root is None else '/pid'}", f"--logfile={self.directory}/twistd.log",
            *options, "portfwd", "--rule", rule,
            directory=self.directory,
        )  # fmt: skip
        self.assertEqual(done.returncode, 0, (done.stdout + done.stderr).decode())
        wait_until(lambda: pidfile.exists() and bool(pidfile.read_text()), TIMEOUT, lambda: "no pid file")
        pid = int(pidfile.read_text())
        self.addCleanup(self.end, pid)
        return pid

    def end(self, pid: int) -> None:
        """SIGTERM ends it, and its pid file goes."""

        def gone() -> bool:
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                return True
            return is_zombie(pid)

        if not gone():
            os.kill(pid, signal.SIGTERM)
        try:
            wait_until(gone, TIMEOUT, lambda: f"still there:\n{self.log()}")
        except AssertionError:
            os.kill(pid, signal.SIGKILL)
            raise

    def log(self) -> str:
        """What the daemon wrote."""
        file = self.directory / "twistd.log"
        return file.read_text() if file.exists() else ""

    def talk(self, rule: str, upstream: ScriptedListener) -> None:
        """A short conversation through the daemon, whose port its log tells."""
        wait_until(lambda: "portfwd is ready" in self.log(), TIMEOUT, self.log)
        (address,) = addresses_in(self.log(), rule)
        converse(Dialer(address, *HELLO[0]), upstream.peer(*HELLO[1]))

    def test_pid_file(self) -> None:
        """It goes to the background, writes its pid file, forwards, and ends on SIGTERM."""
        upstream = self.listener()
        pid = self.started(rule=f"case: 127.0.0.1:0 -> {upstream.address}")
        self.talk("case", upstream)
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not (self.directory / "pid").exists(), TIMEOUT, self.log)

    def test_pid_files_of_rules(self) -> None:
        """With ``pidlogfile`` two daemons run in one directory, and each has its own file only."""
        pids = {}
        for name in ("a", "b"):
            file = self.directory / f"{name}.pid"
            rules = self.directory / f"{name}.conf"
            rules.write_text(f"pidlogfile {file}\n{name}: 127.0.0.1:0 -> 127.0.0.1:9\n")
            done = twistd(
                f"--logfile={self.directory}/{name}.log", "portfwd", "-c", str(rules),
                directory=self.directory,
            )  # fmt: skip
            self.assertEqual(done.returncode, 0, (done.stdout + done.stderr).decode())
            pids[file] = int(file.read_text())
            self.addCleanup(self.end, pids[file])
        self.assertEqual(len(set(pids.values())), 2)
        self.assertFalse((self.directory / "twistd.pid").exists())
        for file, pid in pids.items():
            os.kill(pid, signal.SIGTERM)
            wait_until(lambda file=file: not file.exists(), TIMEOUT, self.log)  # type: ignore[misc]

    def test_privileges(self) -> None:
        """A port below 1024 is bound as root, inside a new root directory; then it runs as nobody."""
        needs_root()
        nobody = pwd.getpwnam("nobody")
        self.directory.chmod(0o755)
        jail = self.directory / "jail"
        (jail / "dev").mkdir(parents=True)
        # twistd opens it when it becomes a daemon, which is after it has changed its root.
        try:
            os.mknod(jail / "dev/null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        except PermissionError:
            raise unittest.SkipTest("needs mknod") from None
        (jail / "dev/null").chmod(0o666)
        # And it looks up the groups of the user it becomes.
        (jail / "etc").mkdir()
        (jail / "etc/passwd").write_text(f"nobody:x:{nobody.pw_uid}:{nobody.pw_gid}::/:/bin/false\n")
        (jail / "etc/group").write_text(f"nogroup:x:{nobody.pw_gid}:\n")
        upstream = self.listener()
        port = low_port()
        pid = self.started(
            f"--uid={nobody.pw_uid}", f"--gid={nobody.pw_gid}", f"--chroot={jail}",
            rule=f"low: 127.0.0.1:{port} -> {upstream.address}",
            root=jail,
        )  # fmt: skip
        self.talk("low", upstream)
        status = dict(
            line.split(":\t", 1)
            for line in Path(f"/proc/{pid}/status").read_text().splitlines()
            if ":\t" in line
        )
        self.assertEqual(set(status["Uid"].split()), {str(nobody.pw_uid)})
        self.assertEqual(set(status["Gid"].split()), {str(nobody.pw_gid)})
        self.assertEqual(os.readlink(f"/proc/{pid}/root"), str(jail))


def low_port() -> int:
    """A port below 1024 nobody has."""
    for port in range(1023, 600, -1):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise unittest.SkipTest("needs a free port below 1024")


def is_zombie(pid: int) -> bool:
    """Whether it has ended and only nobody has asked for its exit code."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


class QuickstartTests(ForwarderCase):
    """The two commands of the README."""

    def test_quickstart(self) -> None:
        """``twistd -n portfwd -c examples/quickstart.conf`` answers a curl on port 8080."""
        curl = needs("curl")
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", 8080))
            except OSError:
                raise unittest.SkipTest("needs port 8080") from None
        forwarder = Forwarder(self.directory, None, ["-c", str(ROOT / "examples/quickstart.conf")])
        self.addCleanup(forwarder.clean_up)
        forwarder.wait_until_ready()
        done = run(curl, "-sS", "--fail", "http://127.0.0.1:8080/")
        self.assertIn(b"portfwd", done.stdout)
        self.assertEqual(forwarder.stop(), 0)
