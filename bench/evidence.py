# -*- test-case-name: tests.bench.test_evidence -*-
"""
``python -m bench --evidence``: why one forwarder is as fast as it is.

Three ways to name it: a contestant of the lab, which is then given iperf3
traffic; a command, likewise, when it is said where it listens and whereto it
forwards; or the process id of anything that is forwarding already, which is
only looked at. It is looked at from outside, one instrument after the other,
because each slows it down: system calls counted (``strace -c -f``), their sizes
(``strace``), the processor (``perf stat``), and a flame graph (``py-spy``). An
instrument that is not there, or that the machine does not allow, is named.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from attrs import frozen

from bench.lab import Lab, Place
from bench.loads.api import GIB, TARGETS, Load
from bench.loads.bulk import Bulk, parse_iperf, server_command
from bench.measure import running
from bench.peers.api import AbsentError
from bench.peers.field import contestants
from bench.processes import LabError, Program, cpu_seconds, tree
from bench.report import table

#: Calls that move bytes between a socket or pipe and somewhere else; their result is how many.
MOVING: Final = (
    *("read", "readv", "recvfrom", "recvmsg", "recvmmsg"),
    *("write", "writev", "sendto", "sendmsg", "sendmmsg", "splice", "sendfile"),
)
_PERF_EVENTS: Final = (
    "task-clock,context-switches,cpu-migrations,page-faults,cycles,instructions,cache-misses"
)
_STREAMS: Final = 8
#: Traffic outlasts an instrument by this, for its start and the beginning of the streams.
_LEAD: Final = 2.0


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of ``--evidence``."""
    group = parser.add_argument_group("evidence: what one forwarder's time goes into")
    group.add_argument(
        "--evidence",
        nargs="?",
        const="portfwd-auto",
        metavar="PEER",
        help="a contestant; default portfwd-auto",
    )
    group.add_argument("--pid", type=int, help="instead: a process that is forwarding already")
    group.add_argument("--command", metavar="'CMD ARGS'", help="instead: a command, run by sh, that forwards")
    group.add_argument(
        "--listen", metavar="PORT", type=int, help="with --command: where it listens, 127.0.0.1"
    )
    group.add_argument(
        "--target", metavar="PORT", type=int, help="with --command: whereto it forwards, 127.0.0.1"
    )
    group.add_argument("--seconds", type=float, default=3.0, help="how long each instrument looks (3)")
    group.add_argument("--to-upstream", action="store_true", help="traffic to the upstream, not from it")
    group.add_argument("--flame", type=Path, metavar="FILE.svg", help="write py-spy's flame graph here")


def is_asked(options: argparse.Namespace) -> bool:
    """Whether the command line asks for evidence."""
    return bool(options.evidence or options.pid or options.command)


@frozen
class Calls:
    """One line of ``strace -c``: a system call, how often, how often in vain, seconds in it."""

    name: str
    count: int
    errors: int
    seconds: float


def parse_counts(text: str) -> list[Calls]:
    """Read the table of ``strace -c``; lines that are none of it are passed over."""
    found = []
    for line in text.splitlines():
        match = re.fullmatch(r"\s*[\d.]+\s+([\d.]+)\s+\d+\s+(\d+)(?:\s+(\d+))?\s+([a-z_]\w*)\s*", line)
        if match and match[4] != "total":
            found.append(Calls(match[4], int(match[2]), int(match[3] or 0), float(match[1])))
    return found


@frozen
class Moves:
    """
    What one kind of call moved.

    :ivar sizes: how often which result, rounded up to a power of two.
    """

    name: str
    calls: int
    bytes: int
    empty: int
    refused: int
    sizes: dict[int, int]


_MOVE: Final = re.compile(r"(?:^|[\s>])([a-z_0-9]+)(?:\(| resumed>).* = (-?\d+)(?: (E[A-Z]+).*)?$")


def parse_moves(lines: Iterable[str]) -> list[Moves]:
    """
    Add up the results of calls in the text of ``strace -f``.

    A call that another thread interrupted counts when it is resumed, since only that line has its result.
    """
    results: dict[str, list[int]] = {}
    refused: Counter[str] = Counter()
    for line in lines:
        match = _MOVE.search(line)
        if match is None or match[1] not in MOVING:
            continue
        if match[3]:
            refused[match[1]] += 1
        else:
            results.setdefault(match[1], []).append(int(match[2]))
    found = []
    for name in sorted({*results, *refused}):
        got = results.get(name, [])
        sizes = Counter(1 << (size - 1).bit_length() for size in got if size > 0)
        calls = len(got) + refused[name]
        found.append(Moves(name, calls, sum(got), got.count(0), refused[name], dict(sorted(sizes.items()))))
    return found


def _attached(argv: Sequence[str], seconds: float, output: Path) -> str:
    """
    Run an instrument that looks until it is interrupted; the text it left in `output`.

    :raises LabError: if it could not look at all.
    """
    try:
        instrument = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
    except FileNotFoundError:
        raise LabError(f"{argv[0]} is not installed") from None
    try:
        instrument.wait(seconds)
    except subprocess.TimeoutExpired:
        instrument.send_signal(signal.SIGINT)
    try:
        _, said = instrument.communicate(timeout=20)
    except subprocess.TimeoutExpired:
        instrument.kill()
        raise LabError(f"{argv[0]} did not end") from None
    text = output.read_text(errors="replace") if output.exists() else ""
    if not text.strip():
        raise LabError(f"{argv[0]}: {said.decode(errors='replace').strip()[-200:] or 'said nothing'}")
    return text


def _pids(pid: int, option: str) -> list[str]:
    return [word for member in tree(pid) for word in (option, str(member))]


def count_calls(pid: int, seconds: float, folder: Path) -> list[Calls]:
    """``strace -c -f`` for `seconds`."""
    output = folder / "strace-c"
    argv = ["strace", "-c", "-f", "-o", str(output), *_pids(pid, "-p")]
    return parse_counts(_attached(argv, seconds, output))


def measure_moves(pid: int, seconds: float, folder: Path) -> list[Moves]:
    """``strace -f`` of the calls that move bytes, for `seconds`, without the bytes themselves."""
    output = folder / "strace"
    traced = "trace=" + ",".join(MOVING)
    # -s 0 writes no data: nobody's traffic ends up in a file.
    argv = [
        "strace",
        "-f",
        "-s",
        "0",
        "-e",
        traced,
        "-e",
        "signal=none",
        "-o",
        str(output),
        *_pids(pid, "-p"),
    ]
    return parse_moves(_attached(argv, seconds, output).splitlines())


def perf_stat(pid: int, seconds: float, folder: Path) -> str:
    """``perf stat`` for `seconds`; events that the machine does not have stand there as not supported."""
    output = folder / "perf"
    pids = ",".join(str(member) for member in tree(pid))
    argv = ["perf", "stat", "-e", _PERF_EVENTS, "-p", pids, "-o", str(output)]
    return _attached(argv, seconds, output)


def flame(pid: int, seconds: float, path: Path) -> None:
    """A flame graph by py-spy, native frames included where it can."""
    argv = ["py-spy", "record", "-p", str(pid), "-d", f"{max(1, round(seconds))}", "-o", str(path)]
    _attached(argv, seconds + 20, path)


def show_counts(calls: Sequence[Calls]) -> str:
    """The calls as a table, the costliest first."""
    body = [
        [call.name, str(call.count), str(call.errors), f"{call.seconds:.3f}"]
        for call in sorted(calls, key=lambda call: -call.seconds)
    ]
    return table(["system call", "calls", "in vain", "seconds"], body)


def show_moves(moves: Sequence[Moves]) -> str:
    """The moving calls with their mean and usual sizes, and the sum."""
    body = []
    for move in moves:
        mean = move.bytes / move.calls if move.calls else 0
        usual = sorted(move.sizes, key=lambda size: -move.sizes[size])[:3]
        sizes = ", ".join(f"≤{size}: {move.sizes[size]}" for size in usual)
        body.append([move.name, str(move.calls), str(move.refused), str(move.bytes), f"{mean:.0f}", sizes])
    calls, moved = sum(move.calls for move in moves), sum(move.bytes for move in moves)
    body.append(["all", str(calls), "", str(moved), f"{moved / calls if calls else 0:.0f}", ""])
    heading = ["system call", "calls", "refused", "bytes", "bytes a system call", "most often"]
    return (
        table(heading, body)
        + "\nA relayed byte is moved at least twice, by the call that reads it and by the one that"
        + " writes it: bytes *relayed* a system call, as closing lines have them, are half of this or less.\n"
    )


@contextlib.contextmanager
def _traffic(
    lab: Lab, address: str, port: int, target: int, to_client: bool, seconds: float
) -> Iterator[list[Program]]:
    """iperf3 through the forwarder for the length of the block; the list gets the client, for its report."""
    server = server_command(address)
    server[server.index(str(TARGETS["bulk"]))] = str(target)
    listening = lab.address(Place.FORWARDER)
    with lab.program(Place.SERVER, "iperf3-server", server) as serving:
        serving.wait_listening([target])
        argv = ["iperf3", "-c", listening, "-p", str(port), "-J", "-t", f"{seconds:g}", "-P", str(_STREAMS)]
        with lab.program(Place.CLIENT, "iperf3", [*argv, *(["-R"] if to_client else [])]) as client:
            time.sleep(_LEAD / 2)
            client.check_alive()
            yield [client]


def _section(title: str, make: Callable[[], str]) -> None:
    print(f"## {title}\n")
    try:
        print(make())
    except LabError as error:
        print(f"Not available: {error}.\n")


def _looked_at(
    pid: int,
    options: argparse.Namespace,
    folder: Path,
    traffic: Callable[[], contextlib.AbstractContextManager[object]],
) -> None:
    """All instruments in turn, each with its own traffic."""

    def during(look: Callable[[], str]) -> Callable[[], str]:
        def whole() -> str:
            with traffic():
                return look()

        return whole

    seconds = options.seconds
    _section(
        f"System calls: strace -c -f, {seconds:g} s",
        during(lambda: show_counts(count_calls(pid, seconds, folder))),
    )
    _section(
        f"Bytes a system call: strace -f, {seconds:g} s",
        during(lambda: show_moves(measure_moves(pid, seconds, folder))),
    )
    _section(
        f"Processor: perf stat, {seconds:g} s",
        during(lambda: f"```\n{perf_stat(pid, seconds, folder).strip()}\n```\n"),
    )

    def burn() -> str:
        if shutil.which("py-spy") is None:
            raise LabError("py-spy is not installed (pip install py-spy)")
        path = options.flame or Path("flame.svg")
        flame(pid, seconds, path)
        return f"Written: {path}\n"

    _section("Flame graph: py-spy", during(burn))


def main(options: argparse.Namespace) -> int:
    """Gather the evidence and print it as Markdown; the exit code."""
    try:
        if options.pid:
            return _of_pid(options)
        return _of_command(options) if options.command else _of_peer(options)
    except LabError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1


def _of_pid(options: argparse.Namespace) -> int:
    pid = options.pid
    if not Path(f"/proc/{pid}").exists():
        raise LabError(f"no process {pid}")
    print(f"# Evidence: process {pid}\n\nOnly looked at: it must have traffic of its own meanwhile.\n")
    with Lab(loopback=True) as lab:
        before = cpu_seconds(pid)
        time.sleep(options.seconds)
        print(f"CPU without instruments: {(cpu_seconds(pid) - before) / options.seconds:.0%} of one core.\n")
        _looked_at(pid, options, lab.folder("evidence"), contextlib.nullcontext)
    return 0


def _of_forwarder(
    lab: Lab, program: Program, title: str, port: int, target: int, options: argparse.Namespace
) -> None:
    length = options.seconds + _LEAD

    def traffic() -> contextlib.AbstractContextManager[list[Program]]:
        return _traffic(lab, lab.address(Place.SERVER), port, target, not options.to_upstream, length)

    print(f"# Evidence: {title}\n")

    def alone() -> str:
        before = cpu_seconds(program.pid)
        with traffic() as (client,):
            client.popen.wait(length + 20)
            transfer = parse_iperf(client.output())
        spent = cpu_seconds(program.pid) - before
        rate = transfer.bits_a_second / 1e9
        return f"{rate:.2f} Gbit/s with {_STREAMS} streams, {spent / (transfer.bytes / GIB):.3f} CPU s/GiB\n"

    _section("Without instruments", alone)
    _looked_at(program.pid, options, lab.folder("evidence"), traffic)


def _of_command(options: argparse.Namespace) -> int:
    if not options.listen or not options.target:
        raise LabError("--command needs --listen PORT and --target PORT: the lab drives traffic through it")
    with Lab(loopback=True) as lab:
        argv = ["sh", "-c", f"exec {options.command}"]
        with lab.program(Place.FORWARDER, "command", argv) as program:
            program.wait_listening([options.listen])
            _of_forwarder(lab, program, options.command, options.listen, options.target, options)
    return 0


def _of_peer(options: argparse.Namespace) -> int:
    with Lab(options.loopback) as lab:
        by_name = {peer.name: peer for peer in contestants(lab.scratch)}
        peer = by_name.get(options.evidence)
        if peer is None or not peer.starts:
            raise LabError(f"no contestant {options.evidence!r}; there are {', '.join(by_name)}")
        try:
            version = peer.version()
        except AbsentError as error:
            raise LabError(f"{peer.name}: {error}") from None
        load: Load = Bulk(_STREAMS, not options.to_upstream)
        with running(lab, load, peer, 0) as it:
            if it.program is None:
                raise LabError(f"{peer.name} starts nothing")
            _, port = it.reach("bulk")
            title = f"{peer.name} {version} ({peer.about})"
            _of_forwarder(lab, it.program, title, port, TARGETS["bulk"], options)
    return 0
