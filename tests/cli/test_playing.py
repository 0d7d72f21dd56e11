"""Tests of `portfwd.cli.playing`: one side of a conversation again, and the other compared."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from portfwd.cli.playing import SHOWN, Play, ReplayOutcome
from portfwd.logs.recording import Chunk, RecordedSession
from portfwd.values import TO_CLIENT, TO_UPSTREAM, Side

Peer = Callable[[socket.socket], None]
#: Far more than any wait of these tests takes on a busy machine.
LONG = 30.0


def conversation(*said: tuple[float, str, bytes]) -> RecordedSession:
    """A session: when, ``>`` from the client or ``<`` to it, and what; nothing is the end."""
    session = RecordedSession(1, 0.0, closed=True)
    for at, arrow, data in said:
        way = TO_UPSTREAM if arrow == ">" else TO_CLIENT
        session.chunks.append(Chunk(at, way, data, end=not data))
    return session


def hear(sock: socket.socket, count: int) -> bytes:
    """So many bytes."""
    data = b""
    while len(data) < count and (piece := sock.recv(count - len(data))):
        data += piece
    return data


ECHO = conversation(
    (0, ">", b"one"), (1, "<", b"ONE"), (2, ">", b"two"), (3, "<", b"TWO"), (4, ">", b""), (5, "<", b"")
)


def shout(sock: socket.socket) -> None:
    """A server that repeats everything in capitals."""
    while data := sock.recv(100):
        sock.sendall(data.upper())


class PlayTests(SynchronousTestCase):
    """Playing to a peer in a thread."""

    def play(
        self,
        session: RecordedSession,
        peer: Peer,
        side: Side = Side.CLIENT,
        speed: float | None = None,
        patience: float = LONG,
    ) -> ReplayOutcome:
        """Play; the peer closes its socket when it returns."""
        near, far = socket.socketpair()

        def serve() -> None:
            with far:
                far.settimeout(LONG)
                peer(far)

        thread = threading.Thread(target=serve)
        thread.start()
        with near:
            outcome = Play(near, session, side, speed=speed, patience=patience).run()
        thread.join(LONG)
        self.assertFalse(thread.is_alive())
        return outcome

    def differs(self, session: RecordedSession, peer: Peer, patience: float = LONG) -> str:
        """What the difference is."""
        outcome = self.play(session, peer, patience=patience)
        assert outcome.difference is not None
        return outcome.difference.what

    def test_same(self) -> None:
        """A server that says the same is found to, question by question, up to its end."""
        self.assertEqual(self.play(ECHO, shout), ReplayOutcome(6, 6, None))

    def test_other_side(self) -> None:
        """The upstream's side can be played too: then it is the client that speaks first."""

        def client(sock: socket.socket) -> None:
            for text in (b"one", b"two"):
                sock.sendall(text)
                self.assertEqual(hear(sock, 3), text.upper())
            sock.shutdown(socket.SHUT_WR)
            self.assertEqual(sock.recv(1), b"")

        self.assertEqual(self.play(ECHO, client, Side.UPSTREAM), ReplayOutcome(6, 6, None))

    def test_large(self) -> None:
        """Both may speak at once, more than their sockets hold."""
        data = bytes(range(256)) * 8000
        session = conversation((0, ">", data), (1, "<", data.upper()), (2, ">", b""), (3, "<", b""))
        self.assertEqual(self.play(session, shout), ReplayOutcome(len(data), len(data), None))

    def test_speed(self) -> None:
        """With a speed the chunks keep their times."""
        now = [0.0]
        asked: list[float] = []

        class Timed(Play):
            def _wait(self, timeout: float, *, writing: bool = False) -> None:
                if not writing and timeout != LONG:
                    asked.append(timeout)
                    now[0] += timeout
                    return
                super()._wait(timeout, writing=writing)

        near, far = socket.socketpair()
        with near, far:
            session = conversation((10, ">", b"a"), (14, ">", b"b"), (20, ">", b"c"))
            outcome = Timed(near, session, Side.CLIENT, speed=2.0, patience=LONG, clock=lambda: now[0]).run()
            self.assertEqual(hear(far, 3), b"abc")
        self.assertEqual((outcome.sent, asked), (3, [2.0, 3.0]))

    def test_speed_in_truth(self) -> None:
        """Bytes that arrive during a pause are received."""
        self.assertIsNone(self.play(ECHO, shout, speed=100.0).difference)

    def test_very_slow(self) -> None:
        """A month at a thousandth of the speed is no number that is too large to wait for."""
        session = conversation((0, "<", b"hello"), (30 * 86400, ">", b"x"))
        now = 0.0

        class Hurried(Play):
            def _wait(self, timeout: float, *, writing: bool = False) -> None:
                nonlocal now
                if timeout > 1e9:
                    now = 1e12
                    far.sendall(b"?")
                super()._wait(timeout, writing=writing)

        near, far = socket.socketpair()
        with near, far:
            far.sendall(b"hello")
            outcome = Hurried(near, session, Side.CLIENT, speed=0.001, clock=lambda: now).run()
        self.assertEqual((outcome.received, now), (6, 1e12))

    def test_another_byte(self) -> None:
        """The first different byte ends the replay; both texts are shown from shortly before it."""

        def peer(sock: socket.socket) -> None:
            sock.sendall(b"0123456789" * 5)
            hear(sock, 1)
            sock.sendall(b"x" * 100)
            hear(sock, 1)

        then = b"0123456789" * 15
        session = conversation((0, "<", then[:50]), (1, ">", b"?"), (2, "<", then[50:]), (3, ">", b"!"))
        difference = self.play(session, peer).difference
        assert difference is not None
        self.assertEqual((difference.what, difference.offset), ("byte 50 has another value", 32))
        self.assertEqual(difference.then, then[32 : 32 + SHOWN])
        self.assertEqual(difference.now, (then[32:50] + b"x" * 100)[:SHOWN])

    def test_another_byte_later(self) -> None:
        """So is one in the middle of what came at once."""
        then = b"a" * 100
        session = conversation((0, "<", then), (1, ">", b"?"))
        difference = self.play(session, lambda sock: sock.sendall(b"a" * 70 + b"b" * 30)).difference
        assert difference is not None
        self.assertEqual((difference.what, difference.offset), ("byte 70 has another value", 48))
        self.assertEqual(difference.now, b"a" * 22 + b"b" * 30)

    def test_more(self) -> None:
        """More than there was is a difference."""
        session = conversation((0, ">", b"?"), (1, "<", b"yes"), (2, "<", b""))
        self.assertEqual(
            self.differs(session, lambda sock: sock.sendall(b"yes!")),
            "it sent more than 3 bytes",
        )

    def test_less(self) -> None:
        """So is an end that comes too early."""
        session = conversation((0, "<", b"yes"), (1, ">", b"?"))
        self.assertEqual(
            self.differs(session, lambda sock: sock.sendall(b"ye")),
            "it ended after 2 bytes, not 3",
        )

    def test_silence(self) -> None:
        """So is nothing where there was something, or no end where there was one."""
        session = conversation((0, "<", b"yes"), (1, ">", b"?"))
        self.assertIn(
            "more bytes did not come within 0.05", self.differs(session, lambda s: hear(s, 1) and None, 0.05)
        )
        session = conversation((0, ">", b"?"), (1, "<", b""))
        self.assertIn(
            "its end did not come within 0.05", self.differs(session, lambda s: hear(s, 2) and None, 0.05)
        )

    def test_takes_nothing(self) -> None:
        """A peer that takes no more bytes is given up."""
        session = conversation((0, ">", bytes(10**7)), (1, "<", b"x"))
        near, far = socket.socketpair()
        with near, far:
            outcome = Play(near, session, Side.CLIENT, speed=None, patience=0.05).run()
        assert outcome.difference is not None
        self.assertIn("it takes no more bytes within 0.05", outcome.difference.what)

    def test_gone(self) -> None:
        """A peer that ends while it is spoken to may still have said the same."""
        session = conversation((0, "<", b"no"), (1, "<", b""), (2, ">", bytes(10**7)), (3, ">", b""))
        outcome = self.play(session, lambda sock: sock.sendall(b"no"))
        self.assertIsNone(outcome.difference)
        self.assertLess(outcome.sent, 10**7)

    def play_to_reset(self, session: RecordedSession) -> ReplayOutcome:
        """Play to a peer that resets the connection at once."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            near = socket.create_connection(listener.getsockname())
            far, _ = listener.accept()
            far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            far.close()
        with near:
            return Play(near, session, Side.CLIENT, speed=10.0, patience=LONG).run()

    def test_reset(self) -> None:
        """A reset is a difference where bytes or an end are missing, and none where there was no end."""
        for missing in (b"x", b""):
            difference = self.play_to_reset(conversation((0, "<", missing))).difference
            assert difference is not None
            self.assertIn("it broke the connection after 0 bytes", difference.what)
        session = conversation((0, ">", b"?"), (0.2, ">", b"?"), (0.3, ">", b""))
        self.assertIsNone(self.play_to_reset(session).difference)

    def test_not_recorded(self) -> None:
        """Where the peer's bytes were not recorded, nothing is compared or waited for."""
        session = conversation((0, ">", b"?"), (1, ">", b""))
        session.notes["only"] = "to-upstream"

        def talk(sock: socket.socket) -> None:
            with contextlib.suppress(BrokenPipeError):  # the player may be through before
                sock.sendall(b"whatever")

        self.assertIsNone(self.play(session, talk).difference)
