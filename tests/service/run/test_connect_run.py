"""Tests of `portfwd.service.run.connect_run`, with real sockets and a poller that the test plays."""

from __future__ import annotations

import select
import socket
import sys

from twisted.python.failure import Failure
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from portfwd.kernel.polling import EDGE, Turn
from portfwd.kernel.reactor import Watcher
from portfwd.service.run.check_results import RaisedVerdict
from portfwd.service.run.connect_run import ConnectRun
from portfwd.upstreams.health import Verdict
from portfwd.values import InetAddress


class PlayedPoller:
    """Remembers what is watched; the test tells the events."""

    now = 0.0

    def __init__(self) -> None:
        self.watched: dict[int, Watcher] = {}
        self.problem: OSError | None = None

    def look_at_clock(self) -> None:
        """Nothing."""

    def watch(self, descriptor: int, events: int, watcher: Watcher, *, edge: int = EDGE) -> None:
        """See `Polling`."""
        if self.problem is not None:
            raise self.problem
        self.watched[descriptor] = watcher

    def hand_over(self, descriptor: int, watcher: Watcher) -> None:
        """Nobody does."""

    def forget(self, sock: socket.socket, *, inherited: bool = False) -> None:
        """See `Polling`."""
        self.watched.pop(sock.fileno(), None)
        sock.close()

    def take_turn(self, turn: Turn) -> None:
        """Nobody does."""

    def tell(self) -> None:
        """Tell the one watcher what the kernel says of its socket."""
        ((descriptor, watcher),) = self.watched.items()
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        ((_, events),) = poll.poll(30_000)
        watcher.ready(events)


class ConnectRunTests(SynchronousTestCase):
    """A connect and a reset."""

    def setUp(self) -> None:
        self.poller = PlayedPoller()
        self.told: list[Verdict | str | None] = []
        self.server = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(self.server.close)
        self.address = InetAddress("127.0.0.1", self.server.getsockname()[1])

    def run_of(self, address: InetAddress | None = None, source: str | None = None) -> ConnectRun:
        """A run that says what came of it."""
        return ConnectRun(
            address or self.address, source, self.poller, lambda: self.told.append("passed"), self.told.append
        )

    def test_passed(self) -> None:
        """It passes, again and again, and leaves nothing."""
        run = self.run_of(source="127.0.0.1")
        for _ in range(3):
            run.start()
            self.assertIn("waiting", repr(run))
            self.poller.tell()
        self.assertEqual((self.told, self.poller.watched), (["passed"] * 3, {}))
        self.assertIn("over", repr(run))

    def test_unseen(self) -> None:
        """On Linux the server has no connection of it."""
        if sys.platform != "linux":
            raise SkipTest("the handshake is completed on other systems")
        self.run_of().start()
        self.poller.tell()
        self.server.settimeout(0.05)
        self.assertRaises(TimeoutError, self.server.accept)

    def test_refused(self) -> None:
        """A refusal is a verdict, with the kernel's words."""
        self.server.close()
        run = self.run_of()
        run.start()
        self.poller.tell()
        self.assertEqual(self.told, [Verdict(False, f"{self.address}: Connection refused")])

    def test_at_once(self) -> None:
        """What ``connect`` itself refuses is a verdict too."""
        self.run_of(InetAddress("255.255.255.255", 9)).start()
        (verdict,) = self.told
        assert isinstance(verdict, Verdict)
        self.assertFalse(verdict.passed)

    def test_our_own_trouble(self) -> None:
        """A source that is not ours, and a poller that has no room, say nothing of the target."""
        self.run_of(source="192.0.2.1").start()
        self.poller.problem = OSError(12, "Cannot allocate memory")
        self.run_of().start()
        self.assertEqual((self.told, self.poller.watched), ([None, None], {}))

    def test_registering(self) -> None:
        """An edge without an outcome is none; one that comes after the end is not heard."""
        run = self.run_of()
        run.start()
        run.ready(0)
        self.assertEqual(self.told, [])
        run.cancel()
        run.ready(select.POLLOUT)
        run.cancel()
        self.assertEqual((self.told, self.poller.watched), ([], {}))

    def test_mistake(self) -> None:
        """A failure of our own code ends it, and says nothing of the target."""
        run = self.run_of()
        run.start()
        run.failed(Failure(ZeroDivisionError()))
        (told,) = self.told
        assert isinstance(told, RaisedVerdict)
        self.assertEqual((told.passed, told.cause), (False, "the check raised ZeroDivisionError"))
        self.assertEqual(self.poller.watched, {})
