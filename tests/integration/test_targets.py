"""
Several targets in front of real servers: killed, stopped, flapping, promoted.

Failures are counted; how long anything takes decides nothing.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
import threading
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest

from tests.integration.control_case import ControlCase
from tests.integration.forwarder import ROOT, Forwarder, is_listening, wait_until
from tests.integration.programs import Program, needs, run
from tests.integration.servers import start_dnsmasq, start_nginx, unprivileged_user, write_certificates
from tests.places import short_directory
from tests.ports import free_port

SECONDS = 60.0


class TargetCase(ControlCase):
    """A forwarder with several servers behind it."""

    def server(self, name: str, port: int | None = None) -> tuple[Program, int]:
        """A server that says its name."""
        port = free_port() if port is None else port
        program = Program(
            [sys.executable, "-m", "tests.integration.named_server", str(port), name],
            self.directory / f"{name}.log",
            environment={"PYTHONPATH": str(ROOT)},
        )
        self.addCleanup(program.clean_up)
        program.wait_until(partial(is_listening, port), f"port {port}")
        return program, port

    def ask(self, forwarder: Forwarder, rule: str = "web") -> str:
        """The name of the server that one more session reaches; ``failed`` for none."""
        try:
            with socket.create_connection(("127.0.0.1", forwarder.port(rule)), SECONDS) as client:
                return client.recv(100).decode().strip() or "failed"
        except OSError:
            return "failed"

    def crowd(self, forwarder: Forwarder, count: int, rule: str = "web") -> Counter[str]:
        """Count the servers of `count` sessions, eight at a time."""
        found: Counter[str] = Counter()

        def work() -> None:
            for _ in range(count // 8):
                found[self.ask(forwarder, rule)] += 1

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return found

    def states(self) -> dict[str, str]:
        """What `portfwd targets` says of each target."""
        return {row["target"]: row["state"] for row in self.json_of("targets")["targets"]}

    def wait_for_states(self, *states: str) -> None:
        """Wait until the targets are so, in the order of the file."""
        wait_until(lambda: tuple(self.states().values()) == states, SECONDS, lambda: str(self.states()))


class FailingServerTests(TargetCase):
    """One of two servers fails under new connections."""

    def setUp(self) -> None:
        super().setUp()
        self.a, self.port_a = self.server("a")
        self.b, self.port_b = self.server("b")

    def start(self, options: str, *clauses: str) -> Forwarder:
        """A rule with both."""
        targets = f"127.0.0.1:{self.port_a}, 127.0.0.1:{self.port_b}"
        lines = "".join(f"\n  {clause}" for clause in clauses)
        return self.operated(f"web: 127.0.0.1:0 -> {targets} {options}{lines}\n")

    def test_killed(self) -> None:
        """No session fails when a server is killed, and it serves again when it is back."""
        forwarder = self.start("balance=roundrobin fail-timeout=1s")
        self.assertEqual(self.crowd(forwarder, 80), {"a": 40, "b": 40})
        os.kill(self.a.pid, signal.SIGKILL)
        self.a.wait()
        self.assertEqual(self.crowd(forwarder, 400), {"b": 400})
        forwarder.wait_for_line(f"target 127.0.0.1:{self.port_a} is down: 3 dials in a row failed")
        self.server("a", self.port_a)
        wait_until(lambda: self.ask(forwarder) == "a", SECONDS, lambda: forwarder.log)
        self.assertEqual(self.crowd(forwarder, 80)["failed"], 0)

    def test_stopped(self) -> None:
        """A server that hangs is seen by a check; from then on no session fails, and its own are closed."""
        forwarder = self.start(
            "balance=leastconn on-down=close", 'check expect "\\n" inter=200ms timeout=500ms fall=1 rise=1'
        )
        kept = [socket.create_connection(("127.0.0.1", forwarder.port("web")), SECONDS) for _ in range(20)]
        names = [client.recv(100).decode().strip() for client in kept]
        self.assertEqual(Counter(names), {"a": 10, "b": 10})
        os.kill(self.a.pid, signal.SIGSTOP)
        try:
            self.wait_for_states("down", "up")
            self.assertEqual(self.crowd(forwarder, 200), {"b": 200})
            for client, name in zip(kept, names, strict=True):
                if name == "a":
                    with self.assertRaises(ConnectionResetError):
                        client.recv(100)
        finally:
            os.kill(self.a.pid, signal.SIGCONT)
        self.wait_for_states("up", "up")
        found = self.crowd(forwarder, 80)
        self.assertEqual(found["failed"], 0)
        self.assertGreater(found["b"], 10, "the one that came back must not get all")
        for client in kept:
            client.close()
        wait_until(
            lambda: forwarder.access_text().count('"reason":"UD"') == 10, SECONDS, forwarder.access_text
        )

    def test_flapping(self) -> None:
        """A server that comes and goes costs no session."""
        forwarder = self.start("balance=random max-fails=2 fail-timeout=300ms", "check tcp inter=200ms")
        for _ in range(3):
            os.kill(self.a.pid, signal.SIGKILL)
            self.a.wait()
            self.assertEqual(self.crowd(forwarder, 80)["failed"], 0)
            self.a, _ = self.server("a", self.port_a)
            self.assertEqual(self.crowd(forwarder, 80)["failed"], 0)

    def test_maintenance(self) -> None:
        """A server that an operator drains gets no new sessions, and keeps those that it has."""
        forwarder = self.start("balance=roundrobin")
        label = f"127.0.0.1:{self.port_a}"
        with socket.create_connection(("127.0.0.1", forwarder.port("web")), SECONDS) as client:
            self.assertEqual(client.recv(10), b"a\n")
            self.assertIn("is draining", self.portfwd("target", "web", label, "drain"))
            self.assertEqual(self.crowd(forwarder, 40), {"b": 40})
            client.sendall(b"still there")
            self.assertEqual(client.recv(100), b"still there")
            row = self.json_of("targets", "web")["targets"][0]
            self.assertEqual((row["state"], row["sessions"], row["ordered"]), ("drain", 1, True))
        self.portfwd("reload")
        self.assertEqual(self.crowd(forwarder, 16), {"b": 16})
        self.portfwd("target", "web", label, "auto")
        self.assertEqual(self.crowd(forwarder, 40), {"a": 20, "b": 20})

    def test_reload(self) -> None:
        """A reload forgets nothing: a target that is down stays down, and sticky clients keep theirs."""
        forwarder = self.start("balance=roundrobin stick=1h max-fails=1 fail-timeout=5m")
        self.assertEqual(self.ask(forwarder), "a")
        self.assertEqual(self.crowd(forwarder, 40), {"a": 40})
        os.kill(self.a.pid, signal.SIGKILL)
        self.a.wait()
        self.assertEqual(self.ask(forwarder), "b")
        rules = forwarder.directory / "rules.conf"
        rules.write_text(rules.read_text().replace("stick=1h", "stick=2h"))
        self.portfwd("reload")
        self.assertEqual(list(self.states().values()), ["down", "up"])
        self.assertEqual(self.crowd(forwarder, 40), {"b": 40})

    def test_starting(self) -> None:
        """With ``retry=`` a session waits for a server that is just starting."""
        port = free_port()
        forwarder = self.operated(f"web: 127.0.0.1:0 -> 127.0.0.1:{port} retry=30s\n")
        found: list[str] = []
        thread = threading.Thread(target=lambda: found.append(self.ask(forwarder)))
        thread.start()
        wait_until(lambda: bool(self.json_of("sessions")["sessions"]), SECONDS, lambda: forwarder.log)
        self.server("late", port)
        thread.join()
        self.assertEqual(found, ["late"])


class CheckedServerTests(TargetCase):
    """Checks against real servers."""

    def test_nginx(self) -> None:
        """``check http``: a file that says whether the server is well."""
        ports = [free_port(), free_port()]
        blocks = "".join(
            f"server {{ listen 127.0.0.1:{port}; location / {{ try_files $uri @gone; }}"
            f" location @gone {{ return 503; }} location /who {{ return 200 '{port}'; }} }}\n"
            for port in ports
        )
        folder = start_nginx(self, ports, blocks.replace("try_files $uri", "try_files /$server_port$uri"))
        for port in ports:
            (folder / str(port)).mkdir()
            (folder / str(port) / "health").write_text("well\n")
        targets = ", ".join(f"127.0.0.1:{port}" for port in ports)
        forwarder = self.operated(
            f"web: 127.0.0.1:0 -> {targets} balance=roundrobin\n"
            "  check http path=/health expect=well inter=200ms fall=1 rise=1\n"
        )
        url = f"http://127.0.0.1:{forwarder.port('web')}/who"
        self.wait_for_states("up", "up")
        (folder / str(ports[0]) / "health").unlink()
        self.wait_for_states("down", "up")
        forwarder.wait_for_line("check http: status 503")
        answers = {run(needs("curl"), "-sS", url).stdout.decode() for _ in range(4)}
        self.assertEqual(answers, {str(ports[1])})
        (folder / str(ports[0]) / "health").write_text("well\n")
        self.wait_for_states("up", "up")

    def test_tls(self) -> None:
        """Checks of a ``tls:`` target speak TLS and verify it; ``check tls`` does so for TCP targets."""
        ports = [free_port(), free_port()]
        write_certificates(self, "localhost", "other")
        blocks = "".join(
            f"server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {self.directory}/{name}.pem;"
            f" ssl_certificate_key {self.directory}/{name}.pem; }}\n"
            for port, name in zip(ports, ("localhost", "other"), strict=True)
        )
        folder = start_nginx(self, ports, blocks)
        (folder / "index.html").write_text("well\n")
        tls = ", ".join(f"tls:127.0.0.1:{port}" for port in ports)
        plain = ", ".join(f"127.0.0.1:{port}" for port in ports)
        _, unencrypted = self.server("plain")
        forwarder = self.operated(
            f"web: 127.0.0.1:0 -> {tls} server-name=localhost ca={self.directory}/ca.pem\n"
            "  check http expect=well inter=200ms\n"
            f"pass: 127.0.0.1:0 -> {plain}\n"
            "  check tls verify=off inter=200ms\n"
            f"none: 127.0.0.1:0 -> 127.0.0.1:{unencrypted}\n  check tls verify=off inter=200ms\n"
        )

        def said() -> list[bool | None]:
            return [row["checks"][0]["passing"] for row in self.json_of("targets")["targets"]]

        wanted = [True, False, True, True, False]
        wait_until(lambda: said() == wanted, SECONDS, lambda: self.portfwd("targets"))
        forwarder.wait_for_line("check http: .*certificate")

    def test_redis(self) -> None:
        """``check redis role=master``: sessions follow the master."""
        server, client = needs("redis-server"), needs("redis-cli")
        ports = [free_port(), free_port()]
        for port in ports:
            folder = self.directory / f"redis{port}"
            folder.mkdir()
            program = Program(
                [server, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)],
                folder / "log",
            )
            self.addCleanup(program.clean_up)
            program.wait_until(partial(is_listening, port), f"port {port}")

        def tell(port: int, *words: str) -> str:
            return run(client, "-h", "127.0.0.1", "-p", str(port), *words).stdout.decode().strip()

        tell(ports[1], "REPLICAOF", "127.0.0.1", str(ports[0]))
        targets = ", ".join(f"127.0.0.1:{port}" for port in ports)
        forwarder = self.operated(
            f"cache: 127.0.0.1:0 -> {targets} on-down=close all-down=close\n"
            "  check redis role=master inter=200ms fall=1 rise=1\n"
        )
        self.wait_for_states("up", "down")
        self.assertEqual(tell(forwarder.port("cache"), "SET", "a", "1"), "OK")
        with socket.create_connection(("127.0.0.1", forwarder.port("cache")), SECONDS) as old:
            old.sendall(b"PING\r\n")
            self.assertEqual(old.recv(100), b"+PONG\r\n")
            tell(ports[1], "REPLICAOF", "NO", "ONE")
            tell(ports[0], "REPLICAOF", "127.0.0.1", str(ports[1]))
            self.wait_for_states("down", "up")
            with self.assertRaises(ConnectionResetError):
                old.recv(100)
        self.assertEqual(tell(forwarder.port("cache"), "SET", "b", "2"), "OK")
        self.assertEqual(tell(ports[1], "GET", "b"), "2")

    def test_mariadb(self) -> None:
        """``check mysql``: with and without a login, again and again, the server blocks nobody."""
        install, server, client = (
            shutil.which(name) for name in ("mariadb-install-db", "mariadbd", "mariadb")
        )
        user = unprivileged_user()
        if install is None or server is None or client is None:
            raise SkipTest("MariaDB is installed by hand: apt-get install mariadb-server")
        home, port = short_directory(self), free_port()
        home.chmod(0o755)
        if user is not None:
            shutil.chown(home, user)
        setup = Program(
            [install, "--no-defaults", f"--datadir={home}/data", "--auth-root-authentication-method=normal"],
            self.directory / "install.log",
            user=user,
        )
        self.addCleanup(setup.clean_up)
        self.assertEqual(setup.wait(), 0, (self.directory / "install.log").read_text())
        files = [f"--datadir={home}/data", f"--socket={home}/s", f"--pid-file={home}/p"]
        where = [f"--port={port}", "--bind-address=127.0.0.1", "--max-connect-errors=3"]
        program = Program([server, "--no-defaults", *files, *where], self.directory / "log", user=user)
        self.addCleanup(program.clean_up)
        program.wait_until(partial(is_listening, port), f"port {port}")
        run(client, "--no-defaults", "-uroot", f"-S{home}/s", "-e", "CREATE USER probe@'%'")
        # The server counts no errors of its own loopback address.
        rule = f"127.0.0.1:0 -> 127.0.0.1:{port} src=127.0.0.2\n  check mysql inter=100ms"
        forwarder = self.operated(
            f"any: {rule}\nprobe: {rule} user=probe\nnobody: {rule} user=nobody-there\n"
        )

        def said() -> list[str]:
            return [row["state"] for row in self.json_of("targets")["targets"]]

        wait_until(lambda: said() == ["up", "up", "down"], SECONDS, lambda: self.portfwd("targets"))
        forwarder.wait_for_line("check mysql: Access denied for user 'nobody-there'")
        before = self.logins(client, home)
        wait_until(lambda: self.logins(client, home) > before + 20, SECONDS, lambda: forwarder.log)
        self.assertEqual(said(), ["up", "up", "down"])
        command = (
            "--no-defaults",
            "-uprobe",
            "-h127.0.0.1",
            f"-P{forwarder.port('any')}",
            "-e",
            "SELECT 41+1",
        )
        self.assertIn(b"42", run(client, *command).stdout)

    def logins(self, client: str, home: Path) -> int:
        """How many connections a MariaDB server has had."""
        command = (
            "--no-defaults",
            "-uroot",
            f"-S{home}/s",
            "-N",
            "-e",
            "SHOW GLOBAL STATUS LIKE 'Connections'",
        )
        return int(run(client, *command).stdout.split()[-1])

    def test_dnsmasq(self) -> None:
        """``check dns``: a name server that is killed is seen, and its clients are served by the other."""
        ports = [free_port(), free_port()]
        servers = []
        for number, port in enumerate(ports, 1):
            servers.append(start_dnsmasq(self, port, f"--host-record=example.com,192.0.2.{number}"))
        targets = ", ".join(f"127.0.0.1:{port}/udp" for port in ports)
        forwarder = self.operated(
            f"dns: 127.0.0.1:0/udp -> {targets} answers=1\n"
            "  check dns name=example.com inter=200ms timeout=500ms fall=1 rise=1\n"
        )
        question = b"\0\1\1\0\0\1\0\0\0\0\0\0\7example\3com\0\0\1\0\1"

        def ask() -> int:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.settimeout(SECONDS)
                client.sendto(question, ("127.0.0.1", forwarder.port("dns")))
                return client.recv(512)[-1]

        self.wait_for_states("up", "up")
        self.assertEqual(ask(), 1)
        os.kill(servers[0].pid, signal.SIGKILL)
        self.wait_for_states("down", "up")
        self.assertEqual([ask() for _ in range(5)], [2] * 5)

    def test_agent(self) -> None:
        """``check agent``: a script in HAProxy's words drains, weakens and readmits its server."""
        _, a = self.server("a")
        _, b = self.server("b")
        agent = free_port()
        words = self.directory / "words"
        words.write_text("up 100%\n")
        script = (
            "import socket, sys\n"
            "with socket.create_server(('127.0.0.1', int(sys.argv[1]))) as server:\n"
            "    while True:\n"
            "        client, _ = server.accept()\n"
            "        with client:\n"
            "            client.sendall(open(sys.argv[2], 'rb').read())\n"
        )
        program = Program(
            [sys.executable, "-c", script, str(agent), str(words)], self.directory / "agent.log"
        )
        self.addCleanup(program.clean_up)
        program.wait_until(partial(is_listening, agent), f"port {agent}")
        forwarder = self.operated(
            f"web: 127.0.0.1:0 -> 127.0.0.1:{a}, 127.0.0.1:{b} balance=roundrobin\n"
            f"  check agent port={agent} inter=200ms\n"
        )
        for said, states in (("drain\n", "drain"), ("down # broken\n", "down"), ("ready 50%\n", "up")):
            words.write_text(said)
            self.wait_for_states(states, states)
        self.assertEqual(self.crowd(forwarder, 40), {"a": 20, "b": 20})

    def test_exec(self) -> None:
        """``check exec``: a program's exit status decides; its first line is the cause."""
        _, a = self.server("a")
        program = self.directory / "check"
        program.write_text('#!/bin/sh\necho "$PORTFWD_PORT says $1"\ntest -e "$2"\n')
        program.chmod(0o755)
        flag = self.directory / "well"
        forwarder = self.operated(
            f"web: 127.0.0.1:0 -> 127.0.0.1:{a} all-down=close\n"
            f"  check exec {program} no {flag} inter=200ms rise=1 timeout=20s\n"
        )
        self.wait_for_states("down")
        forwarder.wait_for_line(f"is down: check exec: exit status 1: {a} says no")
        self.assertEqual(self.ask(forwarder), "failed")
        (line,) = forwarder.access_lines(1)
        self.assertEqual(line.reason, "UN")
        flag.touch()
        self.wait_for_states("up")
        self.assertEqual(self.ask(forwarder), "a")


class PostgreSQLTests(TargetCase):
    """``check pgsql role=primary`` with streaming replication."""

    def setUp(self) -> None:
        """A primary and its replica."""
        super().setUp()
        self.psql = needs("psql")
        self.user = unprivileged_user()
        self.home = self.directory / "pg"
        self.home.mkdir(mode=0o777)
        self.home.chmod(0o777)
        self.directory.chmod(0o755)
        self.ports = [free_port(), free_port()]
        data = self.home / "one"
        self.finish(
            needs("initdb"), "-D", str(data), "-U", "tester", "-A", "trust", "-N", "--no-instructions"
        )
        (data / "postgresql.auto.conf").open("a").write("wal_level = replica\nmax_wal_senders = 4\n")
        self.servers = [self.postgres(0)]
        self.finish(
            needs("pg_basebackup"), "-h", "127.0.0.1", "-p", str(self.ports[0]), "-U", "tester",
            "-D", str(self.home / "two"), "-R", "-X", "stream", "--checkpoint=fast", "--no-sync",
        )  # fmt: skip
        self.servers.append(self.postgres(1))

    def finish(self, *command: str) -> None:
        """Run a program as the server's user."""
        program = Program(command, self.home / f"{Path(command[0]).name}.log", user=self.user)
        self.addCleanup(program.clean_up)
        self.assertEqual(program.wait(), 0, program.log.read_text())

    def postgres(self, number: int) -> Program:
        """The server of that number."""
        data = self.home / ("one", "two")[number]
        port = self.ports[number]
        program = Program(
            [
                needs("postgres"),
                "-D",
                str(data),
                "-p",
                str(port),
                "-h",
                "127.0.0.1",
                "-k",
                str(self.home),
                "-F",
            ],
            self.home / f"postgres{number}.log",
            user=self.user,
        )
        self.addCleanup(program.clean_up)
        program.wait_until(lambda: "ready to accept" in program.log.read_text(), "the server")
        return program

    def sql(self, port: int, statement: str, *, check: bool = True) -> str:
        """The answer to a statement."""
        url = f"postgresql://tester@127.0.0.1:{port}/postgres"
        done = run(self.psql, "-XAtq", "-v", "ON_ERROR_STOP=1", url, "-c", statement, check=check)
        return done.stdout.decode().strip()

    def test_promotion(self) -> None:
        """After a promotion sessions at the old primary are closed, and every write reaches the new one."""
        targets = ", ".join(f"127.0.0.1:{port}" for port in self.ports)
        forwarder = self.operated(
            f"db: 127.0.0.1:0 -> {targets} on-down=close all-down=close\n"
            "  check pgsql role=primary user=tester inter=200ms fall=1 rise=1\n"
            f"read: 127.0.0.1:0 -> {targets}\n"
            "  check pgsql role=replica user=tester inter=200ms fall=1 rise=1\n",
            accidents=True,
        )
        self.wait_for("db", "up", "down")
        self.wait_for("read", "down", "up")
        through = forwarder.port("db")
        self.sql(through, "create table t (n int)")
        self.assertEqual(self.sql(forwarder.port("read"), "select pg_is_in_recovery()"), "t")
        with socket.create_connection(("127.0.0.1", through), SECONDS) as old:
            # The old primary goes down in order and comes back as a replica of the new one.
            self.servers[0].clean_up()
            self.sql(self.ports[1], "select pg_promote()")
            self.wait_for("db", "down", "up")
            try:
                self.assertEqual(old.recv(100), b"")
            except ConnectionResetError:
                pass
        for number in range(10):
            self.sql(through, f"insert into t values ({number})")
        (self.home / "one" / "standby.signal").touch()
        (self.home / "one" / "postgresql.auto.conf").open("a").write(
            f"primary_conninfo = 'host=127.0.0.1 port={self.ports[1]} user=tester'\n"
        )
        self.servers[0] = self.postgres(0)
        self.wait_for("read", "up", "down")
        self.assertEqual(tuple(self.rows("db")), ("down", "up"))
        for number in range(10):
            self.sql(through, f"insert into t values ({number})")
        self.assertEqual(self.sql(self.ports[1], "select count(*) from t"), "20")

    def rows(self, rule: str) -> list[Any]:
        """The states of the targets of one rule."""
        return [row["state"] for row in self.json_of("targets", rule)["targets"]]

    def wait_for(self, rule: str, *states: str) -> None:
        """Wait until they are so."""
        wait_until(lambda: tuple(self.rows(rule)) == states, SECONDS, lambda: self.portfwd("targets"))
