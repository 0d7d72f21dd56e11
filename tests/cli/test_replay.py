"""Tests of ``portfwd replay``."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import threading
import time
from typing import Any
from unittest import mock

from portfwd.logs.recording import data_line, ended_line, lost_line, opened_line, record_line
from portfwd.values import TO_CLIENT, TO_UPSTREAM
from tests.cli.running import CommandTestCase

#: Far more than any wait of these tests takes on a busy machine.
LONG = 30.0


def session(number: int, *, answer: bytes = b"ONE", **notes: str) -> list[bytes]:
    """The lines of a session: a question, its answer, both ends."""
    return [
        opened_line(100.0, number, list(notes.items())),
        data_line(100.5, number, TO_UPSTREAM, b"one"),
        data_line(101.0, number, TO_CLIENT, answer),
        ended_line(102.0, number, TO_UPSTREAM),
        ended_line(103.0, number, TO_CLIENT),
    ]


class ReplayTestCase(CommandTestCase):
    """Records, and a server that repeats everything in capitals."""

    def setUp(self) -> None:
        # The path of a unix socket must be short.
        self.directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.directory)
        self.socket_path = os.path.join(self.directory, "s")

    def record(self, *sessions: list[bytes]) -> str:
        """A record of these sessions."""
        return self.file(
            b"".join([record_line(99.0), *(line for lines in sessions for line in lines)]), ".record"
        )

    def in_thread(self, work: Any, *arguments: Any) -> threading.Thread:
        """Do `work` in a thread that is waited for in the end."""
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        thread.start()
        self.addCleanup(thread.join, LONG)
        return thread

    def serve(self, listener: socket.socket, count: int) -> None:
        """Shout at so many clients, one after the other."""

        def shout() -> None:
            with listener:
                for _ in range(count):
                    client, _ = listener.accept()
                    with client:
                        client.settimeout(LONG)
                        while data := client.recv(100):
                            client.sendall(data.upper())

        listener.settimeout(LONG)
        self.in_thread(shout)

    def server(self, count: int = 1) -> str:
        """The address of such a server."""
        listener = socket.create_server(("127.0.0.1", 0))
        where = f"127.0.0.1:{listener.getsockname()[1]}"
        self.serve(listener, count)
        return where


class ListTests(ReplayTestCase):
    """Without an address."""

    def test_list(self) -> None:
        """The sessions are listed, with who they were and what cannot be played."""
        path = self.record(
            session(7, rule="web", client="192.0.2.1:5"),
            [*session(8), lost_line(104, 8, 9)],
            session(9, network="udp", rule="a\nb"),
        )
        code, out, err = self.run_main("replay", path)
        self.assertEqual((code, err), (0, ""))
        self.assertEqual(
            out.splitlines(),
            [
                "   1 1970-01-01 00:01:40Z rule=web client=192.0.2.1:5 up 3 down 3",
                "   2 1970-01-01 00:01:40Z up 3 down 3 (9 bytes missing)",
                r"   3 1970-01-01 00:01:40Z network=udp rule=a\x0ab up 3 down 3 (datagrams cannot be played)",
                "3 sessions",
            ],
        )
        self.assertEqual(self.run_main("replay", path, "--session", "2")[1].splitlines()[1:], ["1 session"])

    def test_no_record(self) -> None:
        """What is no record, is not there, or has no such session is told with its exit code."""
        for words, code, text in (
            ((self.missing(),), 1, "cannot read"),
            ((self.file("hello\n"),), 2, "line 1: this is no record"),
            ((self.record(session(1)), "--session", "2"), 2, "there is no session 2"),
        ):
            got, out, err = self.run_main("replay", *words)
            self.assertEqual((got, out), (code, ""))
            self.assertRegex(err, rf"^portfwd replay: .*{text}")

    def test_command_line(self) -> None:
        """A wrong command line says what was expected."""
        for words, text in (
            (("--to", "nowhere"), "expected HOST:PORT"),
            (("--to", "a:1", "--listen", "b:1"), "not allowed with"),
            (("--speed", "0"), "above 0"),
            (("--speed", "fast"), "above 0"),
            (("--speed", "inf"), "above 0"),
            (("--patience", "long"), "expected a duration"),
        ):
            code, _, err = self.run_main("replay", "x", *words)
            self.assertEqual(code, 2)
            self.assertIn(text, err)


class ToTests(ReplayTestCase):
    """Playing to a server."""

    def test_same(self) -> None:
        """Every session is played, and a server that says the same is exit code 0."""
        path = self.record(session(1), session(2))
        code, out, err = self.run_main("replay", path, "--to", self.server(2), "--no-wait")
        self.assertEqual((code, err), (0, ""))
        same = "the same: 3 bytes sent, 3 received"
        self.assertEqual(out, f"session 1: {same}\nsession 2: {same}\n")

    def test_speed(self) -> None:
        """With a speed it takes its time: here two seconds, two hundred times as fast."""
        began = time.monotonic()
        code, _, _ = self.run_main("replay", self.record(session(1)), "--to", self.server(), "--speed", "200")
        self.assertEqual(code, 0)
        self.assertGreater(time.monotonic() - began, 1.5 / 200)

    def test_unix(self) -> None:
        """A server may listen on a unix socket."""
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self.socket_path)
        listener.listen()
        self.serve(listener, 1)
        code, _, err = self.run_main(
            "replay", self.record(session(1)), "--to", f"unix:{self.socket_path}", "--no-wait"
        )
        self.assertEqual((code, err), (0, ""))

    def test_different(self) -> None:
        """The first difference is shown as it was and as it is, and the other sessions are played too."""
        path = self.record(session(1, answer=b"ONCE"), session(2))
        code, out, _ = self.run_main("replay", path, "--to", self.server(2), "--no-wait")
        self.assertEqual(code, 1)
        self.assertEqual(
            [" ".join(line.split()) for line in out.splitlines()],
            [
                "session 1: the upstream differs: byte 2 has another value",
                "then 00000000 4f 4e 43 45 |ONCE|",
                "now 00000000 4f 4e 45 |ONE|",
                "session 2: the same: 3 bytes sent, 3 received",
            ],
        )

    def test_not_played(self) -> None:
        """What cannot be played as it was is said, and is no success."""
        path = self.record([*session(1), lost_line(104, 1, 9)], session(2, only="to-client"))
        code, out, _ = self.run_main("replay", path, "--to", self.server(0), "--no-wait")
        self.assertEqual(code, 1)
        self.assertEqual(
            out.splitlines(),
            [
                "session 1: not played: 9 bytes missing",
                "session 2: not played: the client's bytes were not recorded",
            ],
        )

    def test_nobody_there(self) -> None:
        """A server that cannot be reached is exit code 1."""
        path = self.record(session(1))
        for where in ("127.0.0.1:1", f"unix:{self.socket_path}"):
            code, out, err = self.run_main("replay", path, "--to", where)
            self.assertEqual((code, out), (1, ""))
            self.assertIn(f"portfwd replay: {where}: ", err)


class ListenTests(ReplayTestCase):
    """Being the server."""

    def converse(
        self, family: socket.AddressFamily, where: Any, question: bytes, answers: list[bytes]
    ) -> None:
        """Connect when the command listens, send bytes, and store the answer."""
        deadline = time.monotonic() + LONG
        while time.monotonic() < deadline:
            sock = socket.socket(family)
            sock.settimeout(LONG)
            with sock:
                if sock.connect_ex(where):
                    continue
                sock.sendall(question)
                sock.shutdown(socket.SHUT_WR)
                while data := sock.recv(100):
                    answers.append(data)
                return

    def test_unix(self) -> None:
        """A client gets the answers that were recorded, and is compared with the one that was."""
        answers: list[bytes] = []
        client = self.in_thread(self.converse, socket.AF_UNIX, self.socket_path, b"one", answers)
        path = self.record(session(1))
        where = f"unix:{self.socket_path}"
        code, out, _ = self.run_main("replay", path, "--listen", where, "--no-wait", "--patience", "30s")
        self.assertEqual(code, 0, out)
        self.assertEqual(out, f"listening on {where}\nsession 1: the same: 3 bytes sent, 3 received\n")
        self.assertFalse(os.path.exists(self.socket_path))
        client.join(LONG)
        self.assertEqual(b"".join(answers), b"ONE")

    def test_tcp(self) -> None:
        """It listens on either family of TCP too; another client is a difference."""
        for host, family in (("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)):
            with socket.socket(family) as free:
                try:
                    free.bind((host, 0))
                except OSError:
                    continue  # this machine has no IPv6
                port = free.getsockname()[1]
            self.in_thread(self.converse, family, (host, port), b"won", [])
            where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            code, out, _ = self.run_main("replay", self.record(session(1)), "--listen", where, "--no-wait")
            self.assertEqual(code, 1, out)
            self.assertIn("the client differs: byte 0 has another value", out)

    def test_cannot_listen(self) -> None:
        """An address that is taken is exit code 1."""
        listener = socket.socket(socket.AF_UNIX)
        self.addCleanup(listener.close)
        listener.bind(self.socket_path)
        code, _, err = self.run_main(
            "replay", self.record(session(1)), "--listen", f"unix:{self.socket_path}", "--side", "client"
        )
        self.assertEqual(code, 1)
        self.assertIn("already in use", err)

    def test_interrupted(self) -> None:
        """Ctrl-C ends the wait for a client without a traceback."""
        with mock.patch.object(socket.socket, "accept", side_effect=KeyboardInterrupt):
            code, _, err = self.run_main(
                "replay", self.record(session(1)), "--listen", f"unix:{self.socket_path}"
            )
        self.assertEqual((code, err), (1, "portfwd replay: interrupted\n"))
