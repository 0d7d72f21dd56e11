"""
Every rules file that is shown to somebody loads, and asks for nothing that this version cannot do.

``examples/`` and ``docs/listings/``, in every grammar; a new file there is tested without a change here. A
file of ``examples/`` is checked as ``portfwd check`` does, after the commands of its comments that begin with
``First:``. Nothing else is made before.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import SkipTest, mock

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from twisted.trial.unittest import SynchronousTestCase

from bench.peers.api import AbsentError
from bench.peers.nginx import stream_module
from portfwd.cli.reading import read_rules
from portfwd.filters.options import OptionFiles
from portfwd.filters.registry import Origin, Registry
from portfwd.rules import format_problem, load, unsupported
from portfwd.rules.advice import advise
from portfwd.rules.model import Ruleset
from portfwd.service.build import filters as clauses
from portfwd.service.build.checks import check_problems
from portfwd.service.build.factories import Factories
from portfwd.service.build.filters import filter_problems
from portfwd.service.build.judging import judge
from portfwd.service.daemon.disk import DiskFiles
from portfwd.upstreams.checks.registry import BUILT_IN
from tests.places import short_directory

ROOT = Path(__file__).resolve().parents[1]
ROOMS = (ROOT / "examples", ROOT / "docs" / "listings")


def rules_files() -> list[Path]:
    """Every rules file that is shown."""
    found = (path for room in ROOMS for path in room.rglob("*") if path.suffix in {".conf", ".toml"})
    # Other files of YAML are for other programs.
    return [
        ROOT / "examples" / "rinetd-uv.yaml",
        *sorted(path for path in found if path.name != "pyproject.toml"),
    ]


def read(path: Path) -> Ruleset:
    """What `path` says."""
    return load(os.fspath(path), DiskFiles())


#: How a comment of an example begins that is a command to run before.
FIRST = "# First: "
#: What an example's comments say of an extra, or a package, that must be installed.
PIP = "pip install "
#: Modules of the extras that examples use.
EXTRAS = ("prometheus_client", "twisted.conch.ssh.keys", "yaml")


def first(path: Path) -> list[str]:
    """The commands that an example's comments say to run first."""
    return [line.removeprefix(FIRST) for line in path.read_text().splitlines() if line.startswith(FIRST)]


def examples() -> list[Path]:
    """The rules files of ``examples/``."""
    return [path for path in rules_files() if path.is_relative_to(ROOT / "examples")]


class MachineCase(SynchronousTestCase):
    """A machine that has nothing of what rules files name."""

    def setUp(self) -> None:
        """A machine with an empty ``/run`` and ``/etc``, and a user with a key; the filter is installed."""
        self.root = short_directory(self).resolve()
        for name in ("run", "etc", "home/.ssh"):
            (self.root / name).mkdir(parents=True)
        key = Ed25519PrivateKey.generate().public_key()
        text = key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        (self.root / "home" / ".ssh" / "id_ed25519.pub").write_bytes(text + b"\n")
        package = os.fspath(ROOT / "examples" / "filter-package")
        self.patch(sys, "path", [package, *sys.path])
        self.addCleanup(sys.modules.pop, "ssh_only", None)

    def here(self, text: str) -> str:
        """`text` with the paths of the machine, and the filter of the package by the name of its class."""
        for name in ("run", "etc"):
            text = re.sub(rf"(?<![\w/])/{name}/", f"{self.root}/{name}/", text)
        return text.replace("filter ssh-only ", "filter python:ssh_only.SSHOnly ")

    def check(self, path: Path, text: str | None = None) -> list[str]:
        """What ``portfwd check`` says of a file on the machine, or of `text` under its name."""
        copy = self.root / path.name
        copy.write_text(self.here(path.read_text() if text is None else text))
        read = read_rules(os.fspath(copy))
        assert read.readable is not None
        others = (*judge(read.readable, Factories().select()), *advise(read.readable, os.path.isdir))
        return [f"{path}: {one.code}: {one.message}" for one in (*read.problems, *others)]

    def follow(self, commands: list[str]) -> None:
        """Run commands in the root of the repository; packages are not installed."""
        text = "\n".join(self.here(one) for one in commands if not one.startswith(PIP))
        run = ["sh", "-euc", text]
        environment = os.environ | {"HOME": str(self.root / "home")}
        done = subprocess.run(run, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)


class FirstTests(MachineCase):
    """Examples on a machine with nothing but what they say to make first."""

    def test_check(self) -> None:
        """After its commands, ``portfwd check`` finds nothing in a file; without them it does."""
        if shutil.which("openssl") is None:
            raise SkipTest("needs openssl")
        for path in examples():
            for name in ("run", "etc"):
                shutil.rmtree(self.root / name)
                (self.root / name).mkdir()
            commands = [one for one in first(path) if not one.startswith(PIP)]
            if commands:
                self.assertNotEqual(self.check(path), [], path)
            self.follow(commands)
            self.assertEqual(self.check(path), [], path)

    def test_extras(self) -> None:
        """A file says which extra it needs, and no other does."""
        without: dict[str, Any] = dict.fromkeys(EXTRAS)
        for path in examples():
            with mock.patch.dict(sys.modules, without):
                lacking = [line for line in self.check(path) if "installed" in line]
            says = any(one.startswith(f"{PIP}'.[") for one in first(path))
            self.assertEqual(bool(lacking), says, (path, lacking))


class OldLineTests(MachineCase):
    """The tables for those who come from another program."""

    PAGE = ROOT / "docs" / "how-to" / "from-socat-haproxy-nginx.md"
    PROGRAMS = ("socat", "HAProxy", "nginx")
    #: A rule for options that stand alone. It has two targets, because some options are for several.
    RULE = ":8080 -> 10.0.0.5:80, 10.0.0.6:80"
    #: The row whose remark announces a warning, and its code.
    ANNOUNCED = ("OPENSSL:10.0.0.6:636,verify=0", "unverified")

    def rows(self) -> Iterator[tuple[str, str, list[str]]]:
        """The program, the cell with its words, and the lines of the rules file, of each row."""
        program = ""
        for line in self.PAGE.read_text("utf-8").splitlines():
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if not line.startswith("|") or set(line) <= set("|- "):
                continue
            self.assertEqual(len(cells), 3, line)
            if cells[1] == "rules file":
                program = cells[0]
            elif cells[1]:
                lines = [one.strip("`") for one in cells[1].split("<br>")]
                self.assertEqual(cells[1], "<br>".join(f"`{one}`" for one in lines))
                yield program, cells[0], lines

    def rules(self, lines: list[str]) -> str:
        """A rules file of lines in a cell: clauses are indented, options and directives get a rule."""
        clauses = ("filter ", "route ", "target ", "check ", "allow ", "deny ")
        if all(re.fullmatch(r"[\w-]+=\S+", word) for word in lines[0].split()):
            return f"{self.RULE} {lines[0]}\n"
        text = "".join(f"    {one}\n" if one.startswith(clauses) else f"{one}\n" for one in lines)
        return text if "->" in text else f"{text}{self.RULE}\n"

    def test_rows(self) -> None:
        """What each row says to write passes ``portfwd check``, with announced warnings only."""
        if shutil.which("openssl") is None:
            raise SkipTest("needs openssl")
        self.follow(["sh examples/certificates.sh /etc/portfwd", "mkdir -p /run/portfwd"])
        (self.root / "conf.d").mkdir()
        (self.root / "conf.d" / "one.conf").write_text(":8081 -> 10.0.0.5:80\n")
        found = list(self.rows())
        self.assertEqual([name for name, _, _ in found if name not in self.PROGRAMS], [])
        for name in self.PROGRAMS:
            self.assertGreater(sum(program == name for program, _, _ in found), 20)
        wrong = []
        for number, (_, old, lines) in enumerate(found):
            problems = self.check(Path(f"row-{number}.conf"), self.rules(lines))
            row, code = self.ANNOUNCED
            if row in old:
                self.assertEqual([code in one for one in problems], [True], problems)
            elif problems:
                wrong.append((old, problems))
        self.assertEqual(wrong, [])

    def test_haproxy(self) -> None:
        """HAProxy accepts the configuration of the page."""
        haproxy = shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin")
        if haproxy is None:
            raise SkipTest("needs haproxy")
        command = [haproxy, "-c", "-f", os.fspath(ROOT / "docs" / "listings" / "haproxy.cfg")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_nginx(self) -> None:
        """nginx accepts the configuration of the page."""
        nginx = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
        try:
            module = stream_module()
        except AbsentError as problem:
            raise SkipTest(f"needs libnginx-mod-stream: {problem}") from None
        if nginx is None:
            raise SkipTest("needs nginx")
        text = f"{module}pid {self.root}/pid;\nerror_log stderr;\nevents {{}}\n"
        text += (ROOT / "docs" / "listings" / "stream.nginx").read_text()
        file = self.root / "nginx.conf"
        file.write_text(text)
        command = [nginx, "-t", "-p", os.fspath(self.root), "-c", os.fspath(file)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)


class ExampleTests(SynchronousTestCase):
    """What people copy works."""

    def test_there_are_some(self) -> None:
        """The files of the README and of the quick start are among those that are tested."""
        names = {path.name for path in rules_files()}
        shown = {"quickstart.conf", "web.conf", "services.conf", "rinetd.conf", "oxidinetd.toml"}
        self.assertEqual(shown - names, set())

    def test_load(self) -> None:
        """Each has rules and loads without a problem, not even a warning."""
        for path in rules_files():
            ruleset = read(path)
            self.assertNotEqual(ruleset.rules, (), path)
            self.assertEqual([format_problem(problem) for problem in ruleset.warnings], [], path)

    def test_filters(self) -> None:
        """Every clause of a filter is one that the filter takes."""
        places = (ROOT / "examples" / "filter-package", ROOT / "docs" / "listings")
        self.patch(sys, "path", [*map(os.fspath, places), *sys.path])
        for module in ("ssh_only", "authorise"):
            self.addCleanup(sys.modules.pop, module, None)
        own = Origin("ssh-only", "ssh_only:SSHOnly", "portfwd-ssh-only")
        registry = Registry([*Registry.installed().origins(), own])
        # What an example has in /etc lies beside it here.
        files = OptionFiles(lambda path: (ROOT / "examples" / "filters" / Path(path).name).read_text(), str)
        # Certificates of filters are read when the rules are; nobody has those of the examples.
        self.patch(clauses, "start_problem", lambda rule, factory: "")
        for path in rules_files():
            problems = [format_problem(problem) for problem in filter_problems(read(path), registry, files)]
            self.assertEqual(problems, [], path)

    def test_checks(self) -> None:
        """Every clause of a check is one that the check takes; each check has an example."""
        files = OptionFiles(lambda path: "secret\n", str)
        for path in rules_files():
            problems = [format_problem(problem) for problem in check_problems(read(path), files=files)]
            self.assertEqual(problems, [], path)
        for name in BUILT_IN:
            text = (ROOT / "examples" / "checks" / f"{name}.conf").read_text()
            self.assertRegex(text, rf"(?m)^\s+check {name}\b")

    def test_supported(self) -> None:
        """None uses what this version cannot obey."""
        for path in rules_files():
            problems = [format_problem(problem) for problem in unsupported(read(path))]
            self.assertEqual(problems, [], path)
