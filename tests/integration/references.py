"""
Other forwarders on the stage: nginx and HAProxy, played the same scripts as our relays.

They are processes with clocks of their own, so the stage waits for them in real time: it is settled when
nobody has seen anything for `QUIET` seconds. They write no closing line.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from portfwd.values import Side
from tests.relay.stage import BUFFER, Peer, Session

#: Seconds in which nothing is seen that show that nothing goes on, longer than a delayed acknowledgement.
QUIET = 0.08
#: Seconds for which a program may take to listen.
START = 10.0

NGINX = """
{module}daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{ worker_connections 256; }}
stream {{
    proxy_timeout 10m;
    proxy_half_close on;
    server {{ listen 127.0.0.1:{port}; proxy_pass 127.0.0.1:{target}; }}
}}
"""
HAPROXY = """
global
    nbthread 1
defaults
    mode tcp
    timeout connect 5s
    timeout client 10m
    timeout server 10m
listen reference
    bind 127.0.0.1:{port}
    server upstream 127.0.0.1:{target}
"""
PROGRAMS = ("nginx", "haproxy")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _module() -> str:
    """The line that loads nginx's stream module where it is one of its own."""
    path = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
    return f"load_module {path};\n" if path.exists() else ""


class Reference:
    """
    One of them, with an upstream that is scripted.

    :param directory: for its files.
    """

    def __init__(self, program: str, directory: Path) -> None:
        self.name = program
        self._upstream = socket.socket()
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            self._upstream.setsockopt(socket.SOL_SOCKET, option, BUFFER)
        self._upstream.bind(("127.0.0.1", 0))
        self._upstream.listen(16)
        self._upstream.setblocking(False)
        self.port = _free_port()
        path = directory / program
        values = {
            "directory": directory,
            "port": self.port,
            "target": self._upstream.getsockname()[1],
            "module": _module(),
        }
        path.write_text((NGINX if program == "nginx" else HAPROXY).format(**values))
        found = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") or program
        command = (
            [found, "-e", f"{directory}/error.log", "-p", str(directory), "-c", str(path)]
            if program == "nginx"
            else [found, "-db", "-f", str(path)]
        )
        with (directory / f"{program}.log").open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        self._wait_until_it_listens()

    def _wait_until_it_listens(self) -> None:
        until = time.monotonic() + START
        while time.monotonic() < until:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    break
            select.select([], [], [], 0.02)
        # Forget the session of the probe.
        if select.select([self._upstream], [], [], 1.0)[0]:
            self._upstream.accept()[0].close()

    def close(self) -> None:
        """End it."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(START)
        self._upstream.close()

    def begin(self) -> Session:
        """A client connects; connections that came for clients before it are none of its."""
        while select.select([self._upstream], [], [], 0)[0]:
            self._upstream.accept()[0].close()
        sock = socket.socket()
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, BUFFER)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.connect(("127.0.0.1", self.port))
        sock.setblocking(False)
        return Session(f"tcp-{self.name}", Peer(Side.CLIENT, sock), Peer(Side.UPSTREAM, None))

    def settle(self, session: Session) -> None:
        """Let everybody act until nobody has seen anything for a while."""
        quiet_since = time.monotonic()
        while time.monotonic() - quiet_since < QUIET:
            happened = self._arrived(session)
            happened |= session.client.act()
            happened |= session.upstream.act()
            if happened:
                quiet_since = time.monotonic()
            else:
                # Bounded: a reset of a peer that is not read has no event here.
                select.select([one for one in self._sockets(session) if one is not None], [], [], 0.005)

    def _sockets(self, session: Session) -> list[socket.socket | None]:
        return [
            self._upstream if session.upstream.socket is None else None,
            *(
                peer.socket
                for peer in (session.client, session.upstream)
                if peer.is_there and peer.seen == "open" and peer.reading
            ),
        ]

    def _arrived(self, session: Session) -> bool:
        if session.upstream.socket is not None or session.upstream.gone:
            return False
        try:
            sock, _ = self._upstream.accept()
        except BlockingIOError:
            return False
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        session.upstream.socket = sock
        return True

    def play(self, script: list[tuple[Side, str, int]]) -> Session:
        """Play a script, settling between its steps, and let both read to the end."""
        session = self.begin()
        for side, act, count in script:
            self.settle(session)
            session.do(side, act, count)
        self.settle(session)
        for act in ("resume", "end"):
            for side in Side:
                session.do(side, act)
                self.settle(session)
        return session
