"""Does the steps to a real forwarder, and compares it with the model after each."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import ssl
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import trustme

from tests.chaos.clients import Client
from tests.chaos.edits import HELD, Places, a_rule, broken, edited, free_of_conflicts, texts
from tests.chaos.model import DATAGRAMS, DRAINED, MOVING, TLS, UNIX, Model, Spec
from tests.integration.case import ACCIDENTS
from tests.integration.echo import EchoServer
from tests.integration.forwarder import Forwarder, wait_until
from tests.soak.operators import ask

#: Seconds in which the forwarder and the model must agree.
TIMEOUT = 20.0
#: Sessions at a time.
MOST_SESSIONS = 20
#: Certificates that a run takes turns with.
CERTIFICATES = 3
#: Steps between two looks at the access log, which is written in its own time.
LOG_EVERY = 50
#: Puts the run's own hosts file in the place of the system's, for this process alone.
WITH_HOSTS = ("unshare", "-m", "sh", "-c", 'mount --bind hosts /etc/hosts && exec "$@"', "sh")
#: Hands two sockets over as systemd does: sd_listen_fds(3).
HANDED_OVER = 'exec 3<&{0} 4<&{1} {0}<&- {1}<&-; LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES={2} exec "$@"'

_SAMPLE = re.compile(r'^portfwd_(\w+?)\{rule="([^"]*)"\} (\S+)$', re.MULTILINE)
_ALONE = re.compile(r"^portfwd_(\w+) (\S+)$", re.MULTILINE)


class Disagreement(AssertionError):
    """The forwarder is not as the model says."""


class DatagramEcho:
    """A thread that sends datagrams back."""

    def __init__(self, port: int) -> None:
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.bind(("127.0.0.1", port))
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            data, client = self._sock.recvfrom(65536)
            if not data:
                return
            self._sock.sendto(data, client)

    def close(self) -> None:
        """End."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", self._sock.getsockname())
        self._thread.join(10)
        self._sock.close()


def can_move_names() -> bool:
    """Whether this process may give another one its own hosts file."""
    return os.geteuid() == 0 and os.system("unshare -m true 2>/dev/null") == 0


class Run:
    """
    One run.

    :ivar done: how often each thing was done.
    """

    def __init__(self, directory: Path, seed: int) -> None:
        self._directory = directory
        self._chance = Random(seed)
        self._echo = EchoServer()
        self._datagrams = DatagramEcho(self._echo.port)
        self._taken = socket.create_server(("127.0.0.1", 0))
        self._held = {name: socket.create_server(("127.0.0.1", 0)) for name in HELD}
        self._used: set[str] = set()
        ports = _free_ports(8)
        self.places = Places(
            directory,
            tuple(ports[:-1]),
            self._taken.getsockname()[1],
            self._echo.port,
            ports[-1],
            can_move_names(),
        )
        #: The rule of the beginning and the end, between which descriptors are compared.
        self._first = Spec("first", "tcp", "127.0.0.1", str(ports[0]))
        authority = trustme.CA()
        leaves = [authority.issue_cert("localhost") for _ in range(CERTIFICATES)]
        self._pems = [leaf.private_key_and_cert_chain_pem.bytes() for leaf in leaves]
        self._shown = [ssl.PEM_cert_to_DER_cert(leaf.cert_chain_pems[0].bytes().decode()) for leaf in leaves]
        self._certificate = 0
        self._address = "127.0.0.3"
        self.model = Model(address=self._address)
        self._clients: dict[int, Client] = {}
        self._number = 0
        self._file: list[Spec] = []
        self.done: Counter[str] = Counter()
        self.history: list[str] = []
        self._write_certificate()
        self._write_hosts()
        self._write([self._first])
        self.forwarder = Forwarder(
            directory,
            (directory / "rules.conf").read_text(),
            ["--drain", "3600"],
            launcher=(*(WITH_HOSTS if self.places.names else ()), *self._hands_over()),
            pass_fds=[sock.fileno() for sock in self._held.values()],
        )
        self.forwarder.wait_until_ready()
        self.model.rules = {self._first.name: self._first}
        self._descriptors = self._rest()

    def _hands_over(self) -> tuple[str, ...]:
        numbers = [sock.fileno() for sock in self._held.values()]
        assert min(numbers) > 4, numbers
        return ("bash", "-c", HANDED_OVER.format(*numbers, ":".join(self._held)), "bash")

    # Files

    def _write(self, specs: Sequence[Spec], breaks: bool = False) -> None:
        """Write the rules, and remember them unless they are broken."""
        text, more = texts(self.places, specs, self._chance.randint(0, 3))
        if breaks:
            text = broken(self._chance, self.places, text)
        for name, content in (("more.conf", more), ("rules.conf", text)):
            beside = self._directory / "new"
            beside.write_text(content)
            beside.replace(self._directory / name)
        if not breaks:
            self._file = list(specs)

    def _write_certificate(self) -> None:
        beside = self._directory / "new"
        beside.write_bytes(self._pems[self._certificate])
        beside.replace(self._directory / "server.pem")

    def _write_hosts(self) -> None:
        # In its place: it is mounted.
        with (self._directory / "hosts").open("w") as file:
            file.write(f"127.0.0.1 localhost\n{self._address} {MOVING}\n")

    # Steps

    def step(self) -> None:
        """One step, and a look at everything."""
        ways: tuple[tuple[Callable[[], bool], int], ...] = (
            (self._reload, 6),
            (self._break, 2),
            (self._connect, 6),
            (self._leave, 4),
            (self._pause, 2),
            (self._drain, 1),
            (self._resume, 3),
            (self._kill, 1),
            (self._lose, 1),
            (self._renew, 1),
            (self._move_name, 1),
            (self._knock, 1),
        )
        choices = [way for way, weight in ways for _ in range(weight)]
        while not self._chance.choice(choices)():
            pass
        self.agree()

    def _tell(self, what: str, detail: object = "") -> bool:
        self.done[what] += 1
        self.history.append(f"{what} {detail}")
        return True

    def _ask(self, request: str) -> dict[str, Any]:
        return ask(self._directory / "admin.sock", request)

    def _told(self, request: str) -> None:
        answer = self._ask(request)
        if not answer.get("ok"):
            raise Disagreement(f"{request}: {answer}")

    def _reload(self) -> bool:
        specs = edited(self._chance, self.places, self._file)
        while not specs:
            specs = free_of_conflicts([a_rule(self._chance, self.places, "a")])
        self._write(specs)
        self._tell("reload", "; ".join(map(str, specs)))
        self._apply(True)
        self.model.reload(specs, self._certificate, self._address)
        self._used |= {spec.place for spec in specs if spec.kind == "systemd"}
        return True

    def _break(self) -> bool:
        specs = edited(self._chance, self.places, self._file)
        good = self._file
        self._write(specs, breaks=True)
        self._tell("break", (self._directory / "rules.conf").read_text().splitlines()[-1])
        self._apply(False)
        self.model.refused()
        self._write(good)
        return True

    def _apply(self, good: bool) -> None:
        if self._chance.random() < 0.3:
            answer = self._ask("reload dry-run")
            if bool(answer.get("ok")) is not good:
                raise Disagreement(f"the dry run says {answer}")
        if self._chance.random() < 0.5:
            answer = self._ask("reload")
            if bool(answer.get("ok")) is not good:
                raise Disagreement(f"the reload says {answer}")
            return
        before = self._counted()
        self.forwarder.signal(signal.SIGHUP)
        wait_until(lambda: self._counted() != before, TIMEOUT, lambda: f"no reload:\n{self._last_lines()}")
        applied = self._counted()[0] != before[0]
        if applied is not good:
            raise Disagreement(f"a reload was {'' if applied else 'not '}applied\n{self._last_lines()}")

    def _counted(self) -> tuple[int, int]:
        status = self._ask("status")["result"]
        return status["reloads"], status["reload_failures"]

    def _last_lines(self) -> str:
        return "\n".join(self.forwarder.log.splitlines()[-30:])

    def _open(self) -> list[Spec]:
        """Rules whose clients are let in by the kernel."""
        return [
            spec
            for spec in self.model.rules.values()
            if self.model.said.get(spec.name) != DRAINED and spec.place not in self.model.lost
        ]

    def _connect(self) -> bool:
        open_rules = self._open()
        if not open_rules or len(self._clients) >= MOST_SESSIONS:
            return False
        spec = self._chance.choice(open_rules)
        if any(one.spec.name == spec.name or one.heir == spec.name for one in self.model.waiting):
            return False
        self._number += 1
        number = self._number
        self._clients[number] = self._client(number, spec)
        outcome = self.model.connect(number, spec.name)
        return self._tell("connect", f"{number} {spec.name}: {outcome}")

    def _client(self, number: int, spec: Spec) -> Client:
        address: tuple[str, int] | str
        if spec.kind in UNIX:
            address = f"{self._directory}/{spec.place}"
        elif spec.kind == "systemd":
            address = self._held[spec.place].getsockname()
        else:
            host = self.model.host(spec)
            address = ("127.0.0.1" if host == "0.0.0.0" else host, int(spec.place))
        return Client(number, spec.kind, address, self._directory)

    def _leave(self) -> bool:
        leaving = [one.client for one in self.model.sessions.values() if one.kind not in DATAGRAMS]
        if not leaving:
            return False
        number = self._chance.choice(leaving)
        self._tell("leave", number)
        self._clients.pop(number).leave()
        self.model.leave(number)
        return True

    def _a_rule(self) -> str:
        return self._chance.choice(list(self.model.rules))

    def _pause(self) -> bool:
        name = self._a_rule()
        self._tell("pause", name)
        self._told(f"pause {name}")
        self.model.pause(name)
        return True

    def _drain(self) -> bool:
        name = self._a_rule()
        if self.model.rules[name].kind in DATAGRAMS:
            return False  # its associations end after some seconds of silence
        self._tell("drain", name)
        self._told(f"drain {name}")
        self.model.drain(name)
        return True

    def _resume(self) -> bool:
        steered = list(self.model.said)
        name = self._chance.choice(steered) if steered else self._a_rule()
        self._tell("resume", name)
        self._told(f"resume {name}")
        self.model.resume(name)
        return True

    def _kill(self) -> bool:
        # Of rules that are gone, too.
        names = {*self.model.rules, *(one.rule for one in self.model.sessions.values())}
        name = self._chance.choice(sorted(names))
        self._tell("kill", name)
        self._told(f"kill rule={name}")
        self.model.kill(name)
        return True

    def _lose(self) -> bool:
        """Somebody removes the file of a unix socket."""
        files = [spec for spec in self._open() if spec.kind in UNIX]
        if not files:
            return False
        spec = self._chance.choice(files)
        self._tell("lose", spec.place)
        os.unlink(self._directory / spec.place)
        self.model.lose(spec.place)
        return True

    def _renew(self) -> bool:
        """The next reload reads another certificate."""
        self._certificate = (self._certificate + 1) % CERTIFICATES
        self._write_certificate()
        return self._tell("renew", self._certificate)

    def _move_name(self) -> bool:
        """The next reload finds another address."""
        if not self.places.names:
            return False
        self._address = "127.0.0.4" if self._address == "127.0.0.3" else "127.0.0.3"
        self._write_hosts()
        return self._tell("move", self._address)

    def _knock(self) -> bool:
        """A client of a socket of systemd's on which no rule listens any more."""
        used = {spec.place for spec in self._open() if spec.kind == "systemd"}
        unused = sorted(self._used - used)
        if not unused:
            return False
        place = self._chance.choice(unused)
        self._tell("knock", place)
        with contextlib.suppress(ConnectionResetError), socket.socket() as client:
            client.settimeout(TIMEOUT)
            client.connect(self._held[place].getsockname())
            if client.recv(1):
                raise Disagreement(f"somebody listens on systemd:{place}")
        return True

    # Comparing

    def agree(self) -> None:
        """
        Wait until the forwarder is as the model says, and try every session.

        :raises Disagreement: it never is.
        """
        # A client that is turned away has its session until it has left.
        for number in self.model.reset:
            client = self._clients.pop(number)
            if not client.is_datagrams and not client.is_turned_away():
                raise Disagreement(f"{client} was not turned away")
            client.close()
        self.model.reset.clear()
        for number in (
            set(self._clients) - set(self.model.sessions) - {one.client for one in self.model.waiting}
        ):
            client = self._clients.pop(number)
            if not client.is_datagrams and not client.is_turned_away():
                raise Disagreement(f"{client} was not ended")
            client.close()
        self._until_equal()
        for number in self.model.sessions:
            client = self._clients[number]
            try:
                if client.is_asking:
                    client.answered()
                client.converse()
            except (OSError, AssertionError) as problem:
                raise Disagreement(f"{client} gets no answer: {problem!r}") from problem

    def _until_equal(self) -> None:
        until = time.monotonic() + TIMEOUT
        pause = threading.Event()
        while True:
            wrong = self._differences()
            if not wrong:
                return
            if time.monotonic() > until:
                raise Disagreement("\n".join(wrong))
            pause.wait(0.003)

    def _differences(self) -> list[str]:
        wrong: list[str] = []

        def compare(what: str, real: object, expected: object) -> None:
            if real != expected:
                wrong.append(f"{what}: {real}, not {expected}")

        model = self.model
        rows = self._ask("rules limit=500")["result"]["rules"]
        active, belonging = model.active(), model.belonging()
        model.remember({row["name"]: row["total"] for row in rows})
        compare(
            "rules",
            sorted((row["name"], row["state"], row["sessions"], row["total"]) for row in rows),
            sorted((name, model.state(name), belonging[name], model.totals[name]) for name in model.rules),
        )
        compare("listeners", self._listening(), model.listening() | {("127.0.0.1", str(self.places.metrics))})
        # The socket of a rule that is gone has its file as long as it has associations.
        stays = any(session.kind == "unix-dgram" for session in model.sessions.values())
        for spec in model.rules.values():
            drained = model.said.get(spec.name) == DRAINED
            if spec.kind in UNIX and spec.place not in model.lost and not (drained and stays):
                there = (self._directory / spec.place).exists()
                compare(f"the file of {spec.name}", there, not drained)
        sessions = self._ask("sessions limit=500")["result"]["sessions"]
        compare("sessions", Counter(row["rule"] for row in sessions), active)
        compare("reloads", self._counted(), (model.reloads, model.failures))
        wrong += self._differences_of_metrics()
        return wrong

    def _listening(self) -> set[tuple[str, str]]:
        """What the kernel says, of this run's ports."""
        mine = {*map(str, self.places.ports), str(self.places.metrics)}
        found = set()
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            row = line.split()
            host, port = row[1].split(":")
            if row[3] == "0A" and str(int(port, 16)) in mine:
                found.add((socket.inet_ntoa(bytes.fromhex(host)[::-1]), str(int(port, 16))))
        return found

    def _differences_of_metrics(self) -> list[str]:
        url = f"http://127.0.0.1:{self.places.metrics}/metrics"
        with urllib.request.urlopen(url, timeout=TIMEOUT) as page:
            text = page.read().decode()
        totals: dict[str, float] = {}
        active: Counter[str] = Counter()
        for name, rule, value in _SAMPLE.findall(text):
            if name == "sessions_total":
                totals[rule] = float(value)
            elif name == "sessions_active" and float(value):
                active[rule] = int(float(value))
        counted = self.model.totals
        wrong = [
            f"sessions_total of {name}: {totals.get(name)}, not {counted[name]}"
            for name in self.model.rules
            if totals.get(name) != counted[name]
        ]
        if active != self.model.active():
            wrong.append(f"sessions_active: {active}, not {self.model.active()}")
        return wrong

    def check_certificate(self) -> None:
        """See what TLS rules have shown."""
        for session in self.model.sessions.values():
            client = self._clients[session.client]
            if client.kind in TLS and client.certificate() != self._shown[session.certificate]:
                raise Disagreement(f"{client} was not shown certificate {session.certificate}")

    def check_log(self) -> None:
        """Compare the access log with what the model has closed."""

        def lines() -> Counter[tuple[str, str]]:
            found: Counter[tuple[str, str]] = Counter()
            for line in self.forwarder.access_text().splitlines():
                entry = json.loads(line)
                found[entry["rule"], entry["reason"]] += entry.get("repeated", 1)
            return found

        wait_until(
            lambda: lines() == self.model.closed,
            TIMEOUT,
            lambda: f"the log has {lines() - self.model.closed} more, {self.model.closed - lines()} less",
        )

    # The end

    def _rest(self) -> Counter[str]:
        """What is open once no session is; sockets by kind."""
        # Twisted opens /dev/null when its first port listens. In a chroot the kernel may name it by the path
        # outside.
        names = (name.partition(":[")[0] for name in self.forwarder.descriptors())
        return Counter(name for name in names if not name.endswith("/dev/null"))

    def end(self) -> list[str]:
        """Leave nothing behind; say what is not as it should be."""
        wrong = []
        for name in list(self.model.said):
            self._told(f"resume {name}")
            self.model.resume(name)
        self.agree()
        for name in {one.rule for one in self.model.sessions.values()} | set(self.model.rules):
            self._ask(f"kill rule={name}")
            self.model.kill(name)
        while self.model.sessions:
            for name in {one.rule for one in self.model.sessions.values()}:
                self._ask(f"kill rule={name}")
                self.model.kill(name)
        self._write([self._first])
        self._told("reload")
        self.model.reload([self._first], self._certificate, self._address)
        self.agree()
        self.check_log()

        # Clients of systemd's sockets that were used are refused, which takes a descriptor each.
        expected = self._descriptors + Counter({"socket": len(self._used)})

        def same() -> bool:
            return self._rest() == expected

        try:
            wait_until(same, TIMEOUT, lambda: f"open: {self._rest()}, not {expected}")
        except AssertionError as problem:
            wrong.append(str(problem))
        left = [name for name in os.listdir(self._directory) if name.endswith(".going")]
        if left:
            wrong.append(f"files are left: {left}")
        if code := self.forwarder.stop():
            wrong.append(f"exit code {code}")
        wrong += [line for line in self.forwarder.lines if any(word in line for word in ACCIDENTS)]
        return wrong

    def clean_up(self) -> None:
        """Whatever happened, leave no process and no socket."""
        self.forwarder.clean_up()
        for client in self._clients.values():
            client.close()
        self._echo.close()
        self._datagrams.close()
        self._taken.close()
        for sock in self._held.values():
            sock.close()


def _free_ports(count: int) -> list[int]:
    """So many ports that nobody has, below those that the kernel gives to clients."""
    found: list[int] = []
    port = 20000 + os.getpid() * 16 % 11000
    while len(found) < count:
        port += 1
        with (
            socket.socket() as probe,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
            contextlib.suppress(OSError),
        ):
            probe.bind(("0.0.0.0", port))
            datagrams.bind(("0.0.0.0", port))
            found.append(port)
    return found
