"""The clients of a soak: threads, each with one session after the other, of a random kind and way."""

from __future__ import annotations

import contextlib
import random
import socket
import ssl
import struct
import threading
from pathlib import Path

from tests.soak.rules import PLACES, Place

#: Seconds without any progress after which a client complains: far longer than any limit of the rules.
TIMEOUT = 60.0
#: Seconds after which a datagram or its answer counts as lost.
ASK_AGAIN = 1.0
#: Bytes that a client of the slow kind reads at a time.
SIP = 4096


class Crowd:
    """
    Clients that come until they are stopped.

    :ivar sessions: how many there were.
    :ivar complaints: what should not have happened.
    """

    def __init__(self, directory: Path, ports: dict[str, int], seed: int, size: int) -> None:
        self._directory = directory
        self._ports = ports
        self._tls = ssl.create_default_context(cafile=str(directory / "ca.pem"))
        self._stop = threading.Event()
        self.sessions = 0
        self.complaints: list[str] = []
        self._threads = [
            threading.Thread(target=self._run, args=(random.Random(seed * 1000 + number),), daemon=True)
            for number in range(size)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let every client finish what it does."""
        self._stop.set()
        for thread in self._threads:
            thread.join(2 * TIMEOUT)
            if thread.is_alive():
                self.complaints.append(f"a client is not done {2 * TIMEOUT:g} s after it was told to stop")

    def try_all(self) -> None:
        """Have a session of every rule: each must serve when operators have finished."""
        for place in PLACES:
            try:
                self._try(place)
            except OSError as problem:
                self.complaints.append(f"{place.name}: does not serve: {problem!r}")

    def _try(self, place: Place) -> None:
        question = b"question"
        if place.kind == "udp":
            with self._datagrams(place) as sock:
                for _ in range(int(TIMEOUT / ASK_AGAIN)):
                    sock.send(question)
                    with contextlib.suppress(TimeoutError):
                        sock.recv(100)
                        return
            raise TimeoutError
        if place.name == "refusing":
            return
        with self._connect(place) as sock:
            sock.sendall(question)
            answer = b""
            while len(answer) < len(question):
                more = sock.recv(100)
                if not more:
                    raise ConnectionError(f"the answer ends after {len(answer)} bytes")
                answer += more

    def _run(self, chance: random.Random) -> None:
        while not self._stop.wait(chance.random() * 0.05):
            place = chance.choice(PLACES)
            try:
                self._visit(place, chance)
            except TimeoutError:
                if place.kind != "udp":  # datagrams may be lost
                    self.complaints.append(f"{place.name}: nothing moved for {TIMEOUT:g} s")
            except OSError:
                """It was refused, killed or drained."""
            self.sessions += 1

    def _visit(self, place: Place, chance: random.Random) -> None:
        if place.kind == "udp":
            self._ask(place, chance)
            return
        with self._connect(place) as sock:
            way = chance.choice((self._echo, self._echo, self._reset, self._leave, self._sip, self._shout))
            way(sock, chance)

    def _connect(self, place: Place) -> socket.socket:
        if place.kind == "unix":
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(TIMEOUT)
            sock.connect(str(self._directory / "client.socket"))
            return sock
        sock = socket.create_connection(("127.0.0.1", self._ports[place.name]), TIMEOUT)
        try:
            return self._tls.wrap_socket(sock, server_hostname="localhost") if place.kind == "tls" else sock
        except BaseException:
            sock.close()
            raise

    def _datagrams(self, place: Place) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.settimeout(ASK_AGAIN)
        sock.connect(("127.0.0.1", self._ports[place.name]))
        return sock

    def _ask(self, place: Place, chance: random.Random) -> None:
        with self._datagrams(place) as sock:
            for _ in range(chance.randint(1, 10)):
                sock.send(chance.randbytes(chance.randint(1, 1400)))
                sock.recv(65536)

    # How a session goes

    def _echo(self, sock: socket.socket, chance: random.Random) -> None:
        """Send some, get it back, end in order."""
        for _ in range(chance.randint(1, 5)):
            data = chance.randbytes(chance.choice((1, 100, 20_000, 100_000)))
            sock.sendall(data)
            got = b""
            while len(got) < len(data):
                more = sock.recv(len(data) - len(got))
                if not more:
                    return  # killed, where there is no reset
                got += more
            if got != data:
                self.complaints.append(f"{len(data)} bytes came back as others")
        if isinstance(sock, ssl.SSLSocket):
            sock.unwrap()
        else:
            sock.shutdown(socket.SHUT_WR)
            sock.recv(1)

    def _reset(self, sock: socket.socket, chance: random.Random) -> None:
        """Send some, and reset."""
        sock.sendall(chance.randbytes(chance.randint(1, 50_000)))
        if sock.family == socket.AF_INET:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def _leave(self, sock: socket.socket, chance: random.Random) -> None:
        """Say nothing for a moment, and go."""
        self._stop.wait(chance.random())

    def _sip(self, sock: socket.socket, chance: random.Random) -> None:
        """Send much while nothing is read, then read it slowly, and perhaps not all of it."""
        sock.settimeout(0.2)
        data, left = bytes(65536), 0
        with contextlib.suppress(TimeoutError, ssl.SSLError):
            for _ in range(100):
                sock.sendall(data)
                left += len(data)
        sock.settimeout(TIMEOUT)
        left = min(left, chance.randint(1, 100) * SIP)
        while left > 0 and (got := sock.recv(SIP)):
            left -= len(got)
            self._stop.wait(0.01)

    def _shout(self, sock: socket.socket, chance: random.Random) -> None:
        """Bulk, both ways at once."""
        size = chance.randint(1, 8) << 20
        reader = threading.Thread(target=_swallow, args=(sock, size), daemon=True)
        reader.start()
        try:
            block = bytes(1 << 18)
            for _ in range(size // len(block)):
                sock.sendall(block)
        finally:
            reader.join(TIMEOUT)


def _swallow(sock: socket.socket, size: int) -> None:
    with contextlib.suppress(OSError):
        while size > 0 and (data := sock.recv(1 << 18)):
            size -= len(data)
