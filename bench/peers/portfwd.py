# -*- test-case-name: tests.bench.test_peers -*-
"""
portfwd from this checkout, once for each kind of relay, and with filters.

Before a kind takes part, ``portfwd check`` is asked whether it can; what it
refuses is left out and named with its answer. The bytes and system calls are
read from the JSON lines that it writes when sessions close.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Final

from bench.peers.api import AbsentError, Counters, Forward, Logs, Peer, Setup
from bench.peers.checkout import ROOT, commit, environment
from bench.processes import Program

#: Seconds of silence after which a half-closed session of one rule of `PortfwdMixed` ends: long enough to
#: open ten thousand of them.
HALF_CLOSE: Final = 10
_SEES_ALL: Final = "python:bench.peers.passing.SeesAll"
_TWISTD: Final = "from twisted.scripts.twistd import run; run()"
_CHECK: Final = (
    "import sys; sys.argv[:] = ['portfwd', 'check', sys.argv[1]]; "
    "from portfwd.cli.main import main; sys.exit(main())"
)


def refusal(rules: str, folder: Path, root: Path = ROOT) -> str:
    """What ``portfwd check`` of the checkout at `root` has against `rules`; empty if nothing."""
    path = folder / "check.conf"
    path.write_text(rules)
    done = subprocess.run(
        [sys.executable, "-c", _CHECK, str(path)],
        env=environment(root),
        cwd=folder,
        capture_output=True,
        timeout=60,
        check=False,
    )
    if done.returncode == 0:
        return ""
    return parse_refusal((done.stderr + b"\n" + done.stdout).decode(errors="replace"))


def parse_refusal(text: str) -> str:
    """The first error that ``portfwd check`` names, without its place; or the end of a traceback."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    located = [line.partition(": error: ")[2] for line in lines if ": error: " in line]
    return (located or lines[-1:] or ["portfwd check failed and said nothing"])[0]


#: Targets of `PortfwdChecked`, and the port at which they listen.
CHECKED_TARGETS: Final = 1000
CHECKED_PORT: Final = 9100


class Portfwd(Peer):
    """portfwd with ``relay=auto``."""

    name = "portfwd-auto"
    about = "relay=auto"
    takes_read_size = True
    takes_datagrams = True
    ready_line = "portfwd is ready"
    _relay: ClassVar[str] = "auto"
    _filters: ClassVar[tuple[str, ...]] = ()

    def __init__(self, scratch: Path, root: Path = ROOT, suffix: str = "") -> None:
        """
        :param root: the checkout that is run.
        :param suffix: is added to the name.
        """
        self._scratch = scratch
        self._root = root
        self.name = type(self).name + suffix

    def version(self) -> str:
        """Commit."""
        forward = Forward("probe", 1, "127.0.0.1", 2)
        rules = self.rules(Setup("127.0.0.1", (forward,), self._scratch, Logs.COUNTERS))
        problem = refusal(rules, self._scratch, self._root)
        if problem:
            raise AbsentError(problem)
        return commit(self._root)

    def rules(self, setup: Setup) -> str:
        """Its rules file."""
        lines = {
            Logs.OFF: "log access=off\n",
            Logs.ON: f"log access=text file={setup.folder}/access.log\n",
            Logs.COUNTERS: f"log access=json file={setup.folder}/access.json\n",
        }[setup.logs]
        options = f"relay={self._relay}"
        if setup.read_size:
            # What is read at once: by splice into its pipe, by all others into their buffer.
            names = ("pipe",) if self._relay == "splice" else ("buffer", "bulk-buffer")
            options += "".join(f" {name}={setup.read_size}" for name in names)
        for forward in setup.forwards:
            lines += (
                f"{forward.name}: {setup.host}:{forward.port} -> "
                f"{forward.target_host}:{forward.target_port} {options}\n"
            )
            lines += "".join(f"    filter {said}\n" for said in self._filters)
        if setup.datagrams:
            for forward in setup.forwards:
                lines += (
                    f"{forward.name}-udp: {setup.host}:{forward.port}/udp -> "
                    f"{forward.target_host}:{forward.target_port}/udp\n"
                )
        return lines

    def command(self, setup: Setup) -> list[str]:
        """Under twistd, in the foreground."""
        path = setup.folder / "rules.conf"
        path.write_text(self.rules(setup))
        return [sys.executable, "-c", _TWISTD, "-n", "--pidfile=", "portfwd", "-c", str(path)]

    def environment(self) -> dict[str, str]:
        """So that twistd finds the plug-in of the checkout."""
        return environment(self._root)

    def counters(self, setup: Setup, program: Program) -> Counters:
        """Sum of its closing lines; nothing in a row that does not log them."""
        if setup.logs is not Logs.COUNTERS:
            return Counters()
        text = ""
        with contextlib.suppress(FileNotFoundError):
            text = (setup.folder / "access.json").read_text()
        return parse_closing_lines(text)


class PortfwdSplice(Portfwd):
    """portfwd with ``relay=splice``."""

    name = "portfwd-splice"
    about = "relay=splice"
    takes_datagrams = False
    _relay = "splice"


class PortfwdCopy(Portfwd):
    """portfwd with ``relay=copy``."""

    name = "portfwd-copy"
    about = "relay=copy"
    takes_datagrams = False
    _relay = "copy"


class PortfwdPair(Portfwd):
    """portfwd with ``relay=pair``."""

    name = "portfwd-pair"
    about = "relay=pair"
    takes_datagrams = False
    _relay = "pair"


class PortfwdOneFilter(Portfwd):
    """portfwd with a filter that sees every byte."""

    name = "portfwd-1-filter"
    about = "relay=auto, 1 Python filter that passes every byte"
    takes_datagrams = False
    takes_read_size = False
    only_group = "filters"
    _filters: ClassVar[tuple[str, ...]] = (_SEES_ALL,)


class PortfwdThreeFilters(PortfwdOneFilter):
    """portfwd with three of them."""

    name = "portfwd-3-filters"
    about = "relay=auto, 3 Python filters that pass every byte"
    _filters = (_SEES_ALL,) * 3


class PortfwdDoneFilter(PortfwdOneFilter):
    """portfwd with a filter that is done with the first bytes."""

    name = "portfwd-done-filter"
    about = "relay=auto, 1 Python filter that is done at once"
    _filters = ("python:bench.peers.passing.DoneAtOnce",)


class PortfwdMixed(Portfwd):
    """
    portfwd whose rules differ.

    The first splices, the second copies, the third shows all to a filter, the fourth ends half-closed
    sessions early.
    """

    name = "portfwd-mixed"
    about = "a rule each with relay=splice, relay=copy, and 1 Python filter that passes every byte"
    takes_datagrams = False
    takes_read_size = False
    only_group = "fairness"

    def rules(self, setup: Setup) -> str:
        """Its rules file."""
        lines = "log access=off\n"
        kinds = ("relay=splice", "relay=copy", f"\n    filter {_SEES_ALL}", f"half-close={HALF_CLOSE}s")
        for forward, kind in zip(setup.forwards, kinds, strict=False):
            target = f"{forward.target_host}:{forward.target_port}"
            lines += f"{forward.name}: {setup.host}:{forward.port} -> {target} {kind}\n"
        return lines


class PortfwdChecked(Portfwd):
    """portfwd with a rule whose many targets are checked; they are addresses of its own loopback."""

    name = "portfwd-checked"
    about = f"and {CHECKED_TARGETS} targets with check tcp inter=2s"
    takes_datagrams = False
    takes_read_size = False
    only_group = "targets"

    def rules(self, setup: Setup) -> str:
        """Its rules file."""
        targets = ", ".join(
            f"127.1.{index // 250}.{index % 250 + 1}:{CHECKED_PORT}" for index in range(CHECKED_TARGETS)
        )
        return f"{super().rules(setup)}checked: 127.0.0.1:0 -> {targets}\n    check tcp inter=2s\n"


def _flows(value: Any) -> Iterator[dict[str, Any]]:
    """Every object within `value` that counts the reads and writes of a flow."""
    if isinstance(value, dict):
        if {"bytes", "reads", "writes"} <= value.keys():
            yield value
        for inner in value.values():
            yield from _flows(inner)


def parse_closing_lines(text: str) -> Counters:
    """
    Add up the flows of JSON closing lines; a last line without its end is left alone.

    A byte is read by one call and written by another, so its system calls are reads plus writes.
    """
    total = calls = spliced = 0
    for line in text.splitlines(keepends=True):
        if not line.endswith("\n"):
            break
        with contextlib.suppress(ValueError):
            for flow in _flows(json.loads(line)):
                total += flow["bytes"]
                calls += flow["reads"] + flow["writes"]
                spliced += flow.get("spliced", 0)
    return Counters(total, calls, spliced)
