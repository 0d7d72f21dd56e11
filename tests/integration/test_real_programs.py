"""
Real programs over every path through a forwarder: the outcome is that of a direct connection.

The programs are those with which forwarders were seen to lose data: writers that end first, senders that only
write, and clients whose server goes away.
"""

from __future__ import annotations

import hashlib
import os
import socket
import threading
from pathlib import Path

from portfwd.testing.data import Pattern
from tests.integration.case import deep
from tests.integration.paths import PATHS, PathsCase
from tests.integration.programs import Program, needs, run
from tests.integration.servers import start_nginx, start_postgresql, start_sshd
from tests.ports import free_port

#: Bytes of a document; more than all buffers between a client and a server.
DOCUMENT = 4_000_000
#: Seconds that a test waits for what takes a fraction of one.
TIMEOUT = 60.0


class SlowPrinter:
    """
    A server that reads every connection to its end in small pieces, with a pause between them.

    :param piece: bytes of one read.
    :param pause: seconds between two reads.
    """

    def __init__(self, piece: int, pause: float) -> None:
        self.received: list[bytes] = []
        self.done = threading.Semaphore(0)
        self._piece = piece
        self._pause = pause
        self._over = threading.Event()
        # The accepted sockets inherit the small buffer, so that the sender's kernel holds the rest.
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._socket.getsockname()[1])

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._read, args=(client,), daemon=True).start()

    def _read(self, client: socket.socket) -> None:
        got = bytearray()
        try:
            while data := client.recv(self._piece):
                got += data
                self._over.wait(self._pause)
            client.sendall(b"printed\n")
        except OSError as error:
            got += f"<{error}>".encode()
        client.close()
        self.received.append(bytes(got))
        self.done.release()

    def close(self) -> None:
        """Stop; connections that are open read on without pauses."""
        self._over.set()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


class Collector:
    """
    A syslog collector that restarts: it ends and closes its connection, whatever is still unread.

    :param restarts: numbers of lines, in rising order, at which it does.
    """

    def __init__(self, restarts: list[int]) -> None:
        self.lines: set[bytes] = set()
        self._restarts = restarts
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._socket.getsockname()[1])

    def _run(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            with client, client.makefile("rb") as messages:
                for line in messages:
                    self.lines.add(line)
                    if self._restarts and len(self.lines) >= self._restarts[0]:
                        del self._restarts[0]
                        client.shutdown(socket.SHUT_WR)
                        break

    def close(self) -> None:
        """Stop; what the current connection still brings has been read when this returns."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(TIMEOUT)
        self._socket.close()


def send_lines(port: int, count: int) -> None:
    """A sender that only writes, a line every two milliseconds, and connects anew when a write fails."""
    pace = threading.Event()
    sender = socket.create_connection(("127.0.0.1", port), TIMEOUT)
    for number in range(count):
        line = b"<14>line %d\n" % number
        try:
            sender.sendall(line)
        except OSError:
            sender.close()
            sender = socket.create_connection(("127.0.0.1", port), TIMEOUT)
            sender.sendall(line)
        pace.wait(0.002)
    sender.shutdown(socket.SHUT_WR)
    sender.recv(1)
    sender.close()


class WriterTests(PathsCase):
    """Programs that write and do not read."""

    def test_printer(self) -> None:
        """``nc -N`` to a printer that reads slowly, for longer than every limit: each byte is printed."""
        netcat = needs("nc")
        size, piece, pause = (1_600_000, 4000, 0.05) if deep() else (400_000, 4000, 0.05)
        printer = SlowPrinter(piece, pause)
        self.addCleanup(printer.close)
        data = Pattern(3).slice(0, size)
        forwarder = self.start_paths(printer.port, "half-close=2s idle=2s linger=2s")
        answers: dict[str, bytes] = {}

        def print_it(name: str, port: int) -> None:
            answers[name] = run(netcat, "-N", "127.0.0.1", str(port), data=data, seconds=300).stdout

        clients = [
            threading.Thread(target=print_it, args=path, daemon=True) for path in self.each_path(forwarder)
        ]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
            self.assertTrue(printer.done.acquire(timeout=TIMEOUT), forwarder.access_text())
        self.assertEqual([len(got) for got in printer.received], [size] * len(PATHS), forwarder.access_text())
        self.assertEqual(set(printer.received), {data})
        self.assertEqual(answers, dict.fromkeys(PATHS, b"printed\n"))
        self.assert_orderly(forwarder)

    def test_syslog(self) -> None:
        """A sender whose collector restarts three times loses as few lines as on a direct connection."""
        count, restarts = 600, [100, 200, 300]
        lost: dict[str, int] = {}
        for name in ("direct", *PATHS):
            collector = Collector(list(restarts))
            if name == "direct":
                send_lines(collector.port, count)
            else:
                forwarder = self.start_paths(collector.port)
                send_lines(forwarder.port(name), count)
                forwarder.stop()
            collector.close()
            lost[name] = count - len(collector.lines)
        # The sender learns a round trip or two later than directly: ten lines are ample for that.
        allowed = lost["direct"] + 10 * len(restarts)
        self.assertEqual({name: n for name, n in lost.items() if n > allowed}, {}, str(lost))


class ClientTests(PathsCase):
    """Programs that ask and are answered."""

    def test_curl(self) -> None:
        """curl with HTTP/1.0, where the end of the connection is the end of the document."""
        curl, port = needs("curl"), free_port()
        folder = start_nginx(self, [port], f"server {{ listen 127.0.0.1:{port}; }}")
        data = Pattern(4).slice(0, DOCUMENT)
        (folder / "document").write_bytes(data)
        forwarder = self.start_paths(port)
        for name, through in self.each_path(forwarder):
            got = run(curl, "-sS", "--http1.0", "--fail", f"http://127.0.0.1:{through}/document").stdout
            self.assertEqual(hashlib.sha256(got).digest(), hashlib.sha256(data).digest(), name)
        self.assert_orderly(forwarder)

    def test_rsync(self) -> None:
        """rsync's daemon: a tree goes there and comes back."""
        rsync, port = needs("rsync"), free_port()
        configuration = self.directory / "rsyncd.conf"
        store = self.directory / "store"
        store.mkdir()
        configuration.write_text(
            f"use chroot = no\nuid = {os.geteuid()}\ngid = {os.getegid()}\n"
            f"[store]\npath = {store}\nread only = no\n"
        )
        server = Program(
            [
                rsync,
                "--daemon",
                "--no-detach",
                "--address=127.0.0.1",
                f"--port={port}",
                f"--config={configuration}",
            ],
            self.directory / "rsync.log",
        )  # fmt: skip
        self.addCleanup(server.clean_up)
        server.wait_for_port(port)
        tree = self.directory / "tree"
        tree.mkdir()
        for number in range(20):
            (tree / f"file{number}").write_bytes(Pattern(number).slice(0, 150_000))
        forwarder = self.start_paths(port)
        for name, through in self.each_path(forwarder):
            url = f"rsync://127.0.0.1:{through}/store/{name}/"
            back = self.directory / f"back-{name}"
            run(rsync, "-a", f"{tree}/", url)
            run(rsync, "-a", url, f"{back}/")
            self.assertEqual(self.hashes(back), self.hashes(tree), name)
        self.assert_orderly(forwarder, sessions=2)

    def hashes(self, folder: Path) -> dict[str, str]:
        """Name and hash of every file."""
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}

    def test_postgresql(self) -> None:
        """psql: statements, and bulk in both directions of the protocol."""
        psql, port = needs("psql"), start_postgresql(self)
        rows = b"".join(b"%d\trow %d\n" % (n, n) for n in range(50_000))
        forwarder = self.start_paths(port)
        for name, through in self.each_path(forwarder):
            url = f"postgresql://tester@127.0.0.1:{through}/postgres"
            run(psql, "-Xq", url, "-c", f"create table {name}_t (n int, t text)")
            run(psql, "-Xq", url, "-c", f"copy {name}_t from stdin", data=rows)
            done = run(psql, "-Xq", url, "-c", f"copy (select * from {name}_t order by n) to stdout")
            self.assertEqual(done.stdout, rows, name)
        self.assert_orderly(forwarder, sessions=3)

    def test_ssh(self) -> None:
        """ssh: what goes in comes out, and the command's exit code."""
        port, options = start_sshd(self)
        forwarder = self.start_paths(port)
        data = Pattern(6).slice(0, 2_000_000)
        for name, through in self.each_path(forwarder):
            done = run(
                needs("ssh"), *options, "-p", str(through), "127.0.0.1", "cat; exit 7", data=data, check=False
            )
            self.assertEqual((done.stdout == data, done.returncode), (True, 7), (name, done.stderr))
        self.assert_orderly(forwarder)
