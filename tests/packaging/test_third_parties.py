"""
Packages of other people beside portfwd, from wheels: a filter, a factory with metrics, a program that embeds.

They are made as the documentation says, installed in a fresh environment, used, upgraded and removed. It
takes a minute, so it is of the deep profile.
"""

from __future__ import annotations

import re
import socket
import subprocess
import time
import urllib.request
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from twisted.trial.unittest import SkipTest, TestCase

from tests.integration.case import needs_deep
from tests.integration.programs import temporary_directory
from tests.packaging.test_install import NEEDED, ROOT, Workshop, run

PROJECT = """\
[build-system]
requires = ["hatchling>=1.26"]
build-backend = "hatchling.build"

[project]
name = "{name}"
version = "{version}"
dependencies = ["portfwd"]

[project.{points}]
{entry}

[tool.hatch.build.targets.wheel]
include = ["/{module}.py"]
"""

PROGRAM = '''\
"""Forwards to the port that it is given, in the voice of this version."""

import sys

from twisted.internet import reactor

import portfwd
from portfwd.filters import DONE, TO_CLIENT, Direction, Filter, Forward, Verdict


class Voice(Filter):
    """Says which version this is before what the upstream says."""

    directions = frozenset({TO_CLIENT})

    def received(self, direction: Direction, data: bytes) -> Verdict:
        return [Forward(b"version 1: " + data), DONE]


def main() -> None:
    service = portfwd.forward(
        reactor, listen="127.0.0.1:0", to=f"127.0.0.1:{sys.argv[1]}", filters=[Voice, "counting"], name="web"
    )
    service.startService()
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    print("portfwd is ready:", *service.addresses["web"], flush=True)
    reactor.run()
'''


class ThirdPartiesTests(TestCase):
    """Three packages, from their first installation to their end."""

    if missing := [name for name in NEEDED if find_spec(name) is None]:
        skip = f"needs {', '.join(missing)}"

    def setUp(self) -> None:
        needs_deep()
        if find_spec("prometheus_client") is None:
            raise SkipTest("prometheus-client is not installed")
        self.workshop = Workshop()
        self.addCleanup(self.workshop.close)
        self.home = temporary_directory(self)
        self.environment = self.workshop.environment("third")
        self.workshop.install(self.environment, self.workshop.build("--wheel"))
        self.upstream = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(self.upstream.close)
        self.upstream.settimeout(20.0)
        self.target = self.upstream.getsockname()[1]

    def portfwd(self, *words: str) -> str:
        """What the command prints."""
        return run(self.environment / "bin" / "portfwd", *words, cwd=self.home)

    def package(self, name: str, module: str, text: str, points: str, entry: str) -> Path:
        """The tree of a package of one module."""
        tree = self.home / name
        tree.mkdir()
        (tree / f"{module}.py").write_text(text)
        project = PROJECT.format(name=name, version="0.1.0", module=module, points=points, entry=entry)
        (tree / "pyproject.toml").write_text(project)
        return tree

    def install(self, *trees: Path) -> None:
        """Build wheels, and install them."""
        wheels = [self.workshop.build("--wheel", tree) for tree in trees]
        self.workshop.install(self.environment, *wheels)

    def upgrade(self, tree: Path, old: str, new: str) -> None:
        """The next version of a package says `new` where it said `old`."""
        (module,) = (path for path in tree.glob("*.py") if not path.name.startswith("test_"))
        text = module.read_text()
        self.assertIn(old, text)
        module.write_text(text.replace(old, new))
        project = tree / "pyproject.toml"
        project.write_text(project.read_text().replace('version = "0.1.0"', 'version = "0.2.0"'))
        self.install(tree)

    def start(self, *command: str | Path) -> tuple[subprocess.Popen[bytes], Path]:
        """A program that says when it is ready, ended after the test; and its log."""
        log = self.home / f"log{len(list(self.home.glob('log*')))}"
        with open(log, "wb") as file:
            process = self.spawn(command, file)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        deadline = time.monotonic() + 60.0
        while b"portfwd is ready" not in log.read_bytes():
            self.assertIsNone(process.poll(), log.read_text())
            self.assertLess(time.monotonic(), deadline, log.read_text())
            time.sleep(0.05)
        return process, log

    def spawn(self, command: tuple[str | Path, ...], file: IO[bytes]) -> subprocess.Popen[bytes]:
        """Run `command`, as `run` does."""
        clean = {"PATH": "/usr/bin:/bin", "HOME": str(self.home)}
        words = [str(word) for word in command]
        return subprocess.Popen(words, stdout=file, stderr=file, cwd=self.home, env=clean)

    def stop(self, process: subprocess.Popen[bytes]) -> None:
        """End a program in order."""
        process.terminate()
        process.wait(30.0)

    def says(self, log: Path, sent: bytes) -> bytes:
        """What a client gets that sends something and reads; the upstream answers ``ok``."""
        ((host, port),) = re.findall(r"web: listening on (\S+):(\d+) ->", log.read_text())
        return self.converse(host, int(port), sent)

    def converse(self, host: str, port: int, sent: bytes) -> bytes:
        """A client that sends something, and what it gets until the end."""
        with socket.create_connection((host, port), 20.0) as client:
            client.sendall(sent)
            server, _ = self.upstream.accept()
            with server:
                server.settimeout(0.5)
                try:
                    if server.recv(100):
                        server.sendall(b"ok\n")
                except (TimeoutError, ConnectionError):
                    pass
            answer = b""
            while piece := client.recv(100):
                answer += piece
        return answer

    def test_life(self) -> None:
        """Every step of the three."""
        self.portfwd("new", "filter", "no-shouting")
        shouting = self.home / "no-shouting"
        counting = self.package(
            "portfwd-counting",
            "counting",
            (ROOT / "docs" / "listings" / "counting.py").read_text(),
            'entry-points."portfwd.filters"',
            'counting = "counting:PLUGIN"',
        )
        program = self.package("a-program", "a_program", PROGRAM, "scripts", 'a-program = "a_program:main"')
        self.install(shouting, counting, program)
        listed = self.portfwd("filters")
        for name in ("no-shouting", "counting"):
            self.assertIn(name, listed)
        rules = self.home / "rules.conf"
        text = (
            "admin unix:control\nmetrics 127.0.0.1:0\n"
            f"web: 127.0.0.1:0 -> 127.0.0.1:{self.target}\n"
            "    filter counting\n    filter no-shouting reply=no\n"
        )
        rules.write_text(text.replace("no-shouting", "python:portfwd_no_shouting.NoShoutingFilter"))
        self.assertIn("1 rule", self.portfwd("check", "rules.conf"))
        command = self.environment / "bin" / "portfwd", "run", "-c", rules
        process, log = self.start(*command)
        self.assertEqual(self.says(log, b"HELLO x\n"), b"ok\n")
        self.assertIn('name="hello"', self.metrics(log))

        # An upgrade: `reload --code` takes the code of `python:` filters, a restart that of all.
        self.upgrade(shouting, 'b"HELLO"', 'b"GOOD DAY"')
        self.portfwd("reload", "--code", "--socket", "control")
        self.assertEqual(self.says(log, b"GOOD DAY\n"), b"ok\n")
        self.assertEqual(self.says(log, b"HELLO x\n"), b"no")
        self.stop(process)
        rules.write_text(text)
        self.upgrade(counting, '"commands of clients"', '"what clients ask for"')
        process, log = self.start(*command)
        self.assertEqual(self.says(log, b"GOOD DAY\n"), b"ok\n")
        self.assertIn("what clients ask for", self.metrics(log))
        self.stop(process)

        script = self.environment / "bin" / "a-program"
        for version in ("1", "2"):
            running, log = self.start(script, str(self.target))
            ((host, port),) = re.findall(r"ready: (\S+):(\d+)", log.read_text())
            self.assertEqual(self.converse(host, int(port), b"hi\n"), f"version {version}: ok\n".encode())
            self.stop(running)
            self.assertEqual(running.returncode, 0, log.read_text())
            if version == "1":
                self.upgrade(program, "version 1", "version 2")

        self.workshop.uninstall(self.environment, "portfwd-no-shouting", "portfwd-counting", "a-program")
        self.assertFalse(script.exists())
        self.assertNotIn("no-shouting", self.portfwd("filters"))
        said = self.assertRaises(AssertionError, self.portfwd, "check", "rules.conf")
        self.assertIn("there is no filter", str(said))

    def metrics(self, log: Path) -> str:
        """The page of metrics."""
        (where,) = re.findall(r"metrics: listening on (\S+)", log.read_text())
        with urllib.request.urlopen(where, timeout=20.0) as page:
            return str(page.read().decode())
