# -*- test-case-name: tests.bench.test_tls -*-
"""
TLS at one end of a forwarder: bulk by curl, full handshakes by ab, and memory that is kept after bulk.

iperf3 speaks no TLS, so curl fetches a file that has no end from nginx, 8 at a time; what all of
them got in the given time is the throughput.
"""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from bench.lab import Lab, Place
from bench.loads.api import GIB, TARGETS, Load, Running, Scale
from bench.loads.connections import parse_ab
from bench.loads.quiet import each, open_all
from bench.peers.api import AbsentError
from bench.peers.checkout import environment
from bench.peers.tls import IN, OUT, make_certificate
from bench.processes import LabError, descriptors

#: More than anybody fetches in a sample; the file is sparse.
_ENDLESS = 64 * GIB
_FETCHERS = 8

#: Connections that have moved bulk: enough that what each one keeps is not lost in noise.
_KEPT: Final = 200


def start_files(lab: Lab, stack: contextlib.ExitStack, *, tls: bool) -> None:
    """An nginx with two bytes at ``/`` and a file without end at ``/file``."""
    folder = lab.folder("files")
    port = TARGETS["web"]
    with (folder / "file").open("wb") as file:
        file.truncate(_ENDLESS)
    shown = ""
    if tls:
        cert, key = make_certificate(folder)
        shown = f"ssl_certificate {cert}; ssl_certificate_key {key}; ssl_protocols TLSv1.2 TLSv1.3;"
    (folder / "nginx.conf").write_text(
        f"daemon off;\nworker_processes 1;\nworker_rlimit_nofile {descriptors()};\npid {folder}/nginx.pid;\n"
        f"error_log {folder}/error.log warn;\nevents {{ worker_connections {descriptors()}; }}\n"
        f"http {{ access_log off; sendfile on;\n"
        f" server {{ listen {lab.address(Place.SERVER)}:{port}{' ssl' * tls} backlog=4096; {shown}\n"
        f'  location /file {{ root {folder}; }}\n  location / {{ return 200 "ok"; }} }} }}\n'
    )
    argv = ["nginx", "-e", f"{folder}/error.log", "-p", str(folder), "-c", str(folder / "nginx.conf")]
    stack.enter_context(lab.program(Place.SERVER, "files", argv)).wait_listening([port])


def parse_sizes(text: str) -> int:
    """
    Add up what each curl said that it got.

    :raises LabError: if one said nothing, or got nothing.
    """
    try:
        sizes = [int(word) for word in text.split()]
    except ValueError:
        raise LabError(f"curl said {text[:80]!r}") from None
    if len(sizes) != _FETCHERS or not all(sizes):
        raise LabError(f"{sum(map(bool, sizes))} of {_FETCHERS} fetched something")
    return sum(sizes)


class TLSLoad(Load):
    """A row with TLS at one end."""

    def __init__(self, name: str, group: str, title: str) -> None:
        super().__init__(name, group, title)
        self._ended = group == IN
        self.in_quick = name.startswith("filters")

    def skipped(self, folder: Path) -> str:
        """That there is no openssl to make a certificate with."""
        try:
            make_certificate(folder)
        except AbsentError as error:
            return str(error)
        return ""

    def takes(self, peer: object) -> bool:
        """Those that are made for it."""
        return getattr(peer, "only_group", "") == self.group

    def servers(self, lab: Lab, stack: contextlib.ExitStack) -> None:
        """One nginx."""
        start_files(lab, stack, tls=not self._ended)

    def url(self, running: Running) -> str:
        """Where the client finds it."""
        host, port = running.reach("web")
        return f"http{'s' * self._ended}://{host}:{port}/"


class Fetches(TLSLoad):
    """Bulk to the client."""

    def measure(self, running: Running, scale: Scale) -> Mapping[str, float]:
        """So many curls for so many seconds."""
        one = f"curl -sk --max-time {scale.seconds:g} -o /dev/null -w '%{{size_download}}\\n'"
        command = f"{one} {shlex.quote(self.url(running) + 'file')} &"
        script = f"{command} " * _FETCHERS + "wait; true"
        before = running.cpu()
        got = parse_sizes(running.lab.run(Place.CLIENT, ["sh", "-c", script], scale.seconds + 20))
        spent = running.cpu() - before
        return {"gbit_s": got * 8 / scale.seconds / 1e9, "cpu_s_gib": spent / (got / GIB)}


class Handshakes(TLSLoad):
    """A connection with a full handshake for each small request."""

    def measure(self, running: Running, scale: Scale) -> Mapping[str, float]:
        """One run of ab."""
        before = running.cpu()
        argv = ["ab", "-q", "-r", "-s", "10", "-c", "50", "-n", str(scale.connections), self.url(running)]
        visits = parse_ab(running.lab.run(Place.CLIENT, argv, 20 + scale.connections / 100))
        spent = running.cpu() - before
        figures = {"connections_s": visits.a_second, "failures": float(visits.failed)}
        if visits.completed:
            figures["cpu_us"] = spent / visits.completed * 1e6
        return figures


class Kept(TLSLoad):
    """Connections that have moved bulk and are quiet; a fresh forwarder, as for idle ones."""

    fresh = True

    def measure(self, running: Running, scale: Scale) -> Mapping[str, float]:
        """Memory with one, then with all."""
        host, port = running.reach("web")
        argv = [sys.executable, "-m", "bench.loads.kept", host, str(port)]
        with contextlib.ExitStack() as stack:
            client = stack.enter_context(
                running.lab.program(Place.CLIENT, "kept", argv, asked=True, env=environment())
            )
            open_all(client, 1)
            before = running.memory()
            open_all(client, _KEPT)
            return each(before, running.memory(), _KEPT)


def rows() -> list[Load]:
    """Bulk and handshakes, with TLS on either side; and what is kept of bulk."""
    return [
        Kept("kept-tls-in", IN, f"TLS terminated, {_KEPT} connections that have moved bulk"),
        Fetches("filters-tls-in", IN, "TLS terminated, bulk to the client, 8 streams"),
        Handshakes("handshakes-tls-in", IN, "TLS terminated, a full handshake each, 50 at a time"),
        Fetches("filters-tls-out", OUT, "TLS originated, bulk to the client, 8 streams"),
        Handshakes("handshakes-tls-out", OUT, "TLS originated, a full handshake each, 50 at a time"),
    ]
