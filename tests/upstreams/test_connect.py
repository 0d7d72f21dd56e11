"""Tests for one attempt at one address, on real sockets, with a clock where time matters."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import struct
import tempfile
from collections.abc import Callable
from typing import Any, cast
from unittest import mock

from twisted.internet import error, reactor
from twisted.internet.interfaces import IWriteDescriptor
from twisted.python.failure import Failure
from twisted.trial import unittest
from zope.interface.verify import verifyObject

from portfwd import errors
from portfwd.kernel.poller import Poller
from portfwd.rules.model import Keepalive, Options
from portfwd.upstreams import connect
from portfwd.upstreams.connect import UNIX_RETRY, SocketAttempt, dial_error
from portfwd.values import Address, InetAddress, UnixAddress
from tests.streams.far_ends import open_descriptors, turn, turns, until
from tests.streams.transports.test_plain import FakeReactor


class Owner:
    """Writes the outcome down."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.on_connected: Callable[[], object] = lambda: None

    def connected(self, attempt: Any, result: Any) -> None:
        self.told.append(result)
        self.on_connected()

    def failed(self, attempt: Any, problem: errors.DialError) -> None:
        self.told.append(problem)

    async def outcome(self) -> Any:
        """Wait for it."""
        await until(lambda: self.told)
        return self.told[0]


class DialErrorTests(unittest.SynchronousTestCase):
    """What an `OSError` means for the dial."""

    def test_kinds(self) -> None:
        """Ours, theirs, the network's; only what is our own fault would fail for other targets too."""
        inet, unix = InetAddress("192.0.2.1", 80), UnixAddress("/run/x")
        for code, where, kind in (
            (errno.EMFILE, inet, errors.OutOfResources),
            (errno.ENFILE, inet, errors.OutOfResources),
            (errno.ENOBUFS, inet, errors.OutOfResources),
            (errno.ENOMEM, inet, errors.OutOfResources),
            (errno.EADDRNOTAVAIL, inet, errors.OutOfResources),
            (errno.ECONNREFUSED, inet, errors.ConnectRefused),
            (errno.ENOENT, unix, errors.ConnectRefused),
            (errno.ENOENT, inet, errors.ConnectFailed),
            (errno.ETIMEDOUT, inet, errors.ConnectTimedOut),
            (errno.ENETUNREACH, inet, errors.ConnectFailed),
            (errno.EACCES, unix, errors.ConnectFailed),
        ):
            problem = dial_error(OSError(code, os.strerror(code)), where)
            self.assertIs(type(problem), kind)
            self.assertEqual(str(problem), f"{where}: {os.strerror(code)}")
            self.assertEqual(problem.retry, kind is not errors.OutOfResources)

    def test_without_a_number(self) -> None:
        """An error that is the resolver's or Python's own keeps its text."""
        self.assertEqual(str(dial_error(OSError("AF_UNIX path too long"), "x")), "x: AF_UNIX path too long")
        resolver = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        self.assertEqual(str(dial_error(resolver, "x")), "x: Name or service not known")


class AttemptCase(unittest.TestCase):
    """One attempt, and what it leaves."""

    timeout = 20

    async def setUp(self) -> None:  # type: ignore[override]
        await turn()
        self.before = open_descriptors()
        self.owner = Owner()
        self.poller: Poller | None = None

    async def tearDown(self) -> None:  # type: ignore[override]
        for told in self.owner.told:
            if not isinstance(told, Exception):
                told.close()
        await turns()
        self.assertEqual(len(self.owner.told), self.expected, self.owner.told)

    expected = 1

    def attempt(self, address: Address, options: Options = Options(), timeout: float = 10) -> SocketAttempt:  # noqa: B008
        """An attempt that is not started."""
        return SocketAttempt(reactor, address, options, timeout, self.owner, self.poller)  # type: ignore[arg-type]

    def listening(self, host: str = "127.0.0.1", backlog: int = 5) -> tuple[socket.socket, InetAddress]:
        """A listening socket."""
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        self.addCleanup(sock.close)
        sock.bind((host, 0))
        sock.listen(backlog)
        return sock, InetAddress(*sock.getsockname()[:2])

    def assert_nothing_left(self) -> None:
        """No descriptor; a timer or a writer would be trial's to find."""
        self.assertEqual(open_descriptors(), self.before)


class AttemptCases:
    """What holds for both ways to wait."""

    # From `AttemptCase`.
    owner: Owner
    expected: int
    before: int
    attempt: Any
    listening: Any
    addCleanup: Any  # noqa: N815
    assertEqual: Any  # noqa: N815
    assertIn: Any  # noqa: N815
    assertIsInstance: Any  # noqa: N815
    assertRaises: Any  # noqa: N815
    assert_nothing_left: Any

    async def test_connected(self) -> None:
        """The result is a connected, non-blocking socket with the rule's options."""
        for host in ("127.0.0.1", "::1"):
            self.owner.told.clear()
            listening, address = self.listening(host)
            options = Options(keepalive=Keepalive(idle=61), sndbuf=40960)
            attempt = self.attempt(address, options)
            verifyObject(IWriteDescriptor, attempt)
            attempt.start()
            sock = await self.owner.outcome()
            self.assertEqual(sock.getpeername()[:2], (address.host, address.port))
            self.assertEqual(sock.gettimeout(), 0.0)
            self.assertEqual(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE), 61)
            self.assertEqual(sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF), 81920)
            self.assertEqual(repr(attempt), f"<SocketAttempt {address} over>")
            sock.close()
            listening.close()
            attempt.doWrite()
            attempt.cancel()
        self.assert_nothing_left()

    async def test_source(self) -> None:
        """With ``src=`` the upstream sees that address."""
        listening, address = self.listening()
        self.attempt(address, Options(src="127.0.0.9")).start()
        await self.owner.outcome()
        accepted, peer = listening.accept()
        accepted.close()
        self.assertEqual(peer[0], "127.0.0.9")

    async def test_a_source_that_is_not_ours(self) -> None:
        """A source address that this machine does not have fails at once."""
        self.attempt(InetAddress("127.0.0.1", 9), Options(src="192.0.2.1")).start()
        self.assertIsInstance(self.owner.told[0], errors.OutOfResources)
        self.assert_nothing_left()

    async def test_refused(self) -> None:
        """A port where nobody listens refuses."""
        listening, address = self.listening()
        listening.close()
        self.attempt(address).start()
        problem = await self.owner.outcome()
        self.assertIsInstance(problem, errors.ConnectRefused)
        self.assertIn(str(address), str(problem))
        self.assert_nothing_left()

    async def test_timed_out(self) -> None:
        """A listener that answers nobody (its queue is full) is given its time, and no more."""
        listening, address = self.listening(backlog=0)
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(listening.getsockname())
            fillers.append(filler)
        before = open_descriptors()
        self.attempt(address, timeout=0.05).start()
        problem = await self.owner.outcome()
        self.assertIsInstance(problem, errors.ConnectTimedOut)
        self.assertEqual(str(problem), f"{address}: no answer within 0.05 s")
        self.assertEqual(open_descriptors(), before)
        for filler in fillers:
            filler.close()

    async def test_cancelled(self) -> None:
        """An attempt that is cancelled is silent, and leaves nothing."""
        self.expected = 0
        listening, address = self.listening()
        attempt = self.attempt(address)
        before = open_descriptors()
        attempt.cancel()
        attempt.start()
        self.assertEqual(repr(attempt), f"<SocketAttempt {address} waiting>")
        attempt.cancel()
        attempt.cancel()
        await turns()
        self.assertEqual(open_descriptors(), before)
        listening.close()
        self.assert_nothing_left()

    async def test_cancelled_too_late(self) -> None:
        """A connection that the kernel has made by then is reset: an end would look complete."""
        self.expected = 0
        listening, address = self.listening()
        attempt = self.attempt(address)
        attempt.start()
        attempt.cancel()
        accepted, _ = listening.accept()
        self.assertRaises(ConnectionResetError, accepted.recv, 1)
        accepted.close()
        listening.close()
        self.assert_nothing_left()

    async def test_reset_at_once(self) -> None:
        """A listener that accepts and resets gives a connection or a failure, and nothing is left."""
        listening, address = self.listening()
        self.attempt(address).start()
        accepted, _ = listening.accept()
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        accepted.close()
        outcome = await self.owner.outcome()
        if isinstance(outcome, Exception):
            self.assertIsInstance(outcome, errors.ConnectFailed)
        else:
            outcome.close()
        listening.close()
        self.assert_nothing_left()

    async def test_unix(self) -> None:
        """A unix listener is connected at once, by path or abstract name."""
        directory = tempfile.mkdtemp()  # trial's own are too deep for a unix socket's name
        self.addCleanup(shutil.rmtree, directory)
        for name in (f"@portfwd-test-{os.getpid()}", f"{directory}/socket"):
            self.owner.told.clear()
            address = UnixAddress(name)
            listening = socket.socket(socket.AF_UNIX)
            self.addCleanup(listening.close)
            listening.bind(address.sockaddr)
            listening.listen()
            self.attempt(address, Options(src="127.0.0.1", sndbuf=4096)).start()
            self.assertEqual(len(self.owner.told), 1)
            self.owner.told[0].close()

    async def test_no_such_unix_listener(self) -> None:
        """A path where nothing is refuses, as one where nobody listens; one too long is an error as well."""
        for path, kind in (
            ("/nonexistent/portfwd.sock", errors.ConnectRefused),
            ("/" + "x" * 200, errors.ConnectFailed),
        ):
            self.owner.told.clear()
            self.attempt(UnixAddress(path)).start()
            self.assertIsInstance(self.owner.told[0], kind)
        self.assert_nothing_left()

    async def test_no_descriptor(self) -> None:
        """Where no socket can be made the failure is our own, and told at once."""
        attempt = self.attempt(InetAddress("127.0.0.1", 9))
        exhausted = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        with mock.patch.object(connect, "bare_socket", side_effect=exhausted):
            attempt.start()
        self.assertIsInstance(self.owner.told[0], errors.OutOfResources)
        self.assert_nothing_left()


class SocketAttemptTests(AttemptCases, AttemptCase):
    """`SocketAttempt`, waiting by the reactor."""

    async def test_unix_queue_full(self) -> None:
        """A unix listener whose queue is full is tried again until it has room, or time is up."""
        address = UnixAddress(f"@portfwd-full-{os.getpid()}")
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(address.sockaddr)
            listening.listen(0)
            with socket.socket(socket.AF_UNIX) as filler:
                filler.connect(address.sockaddr)
                clock: Any = FakeReactor()
                attempt = SocketAttempt(clock, address, Options(), 0.05, self.owner)
                attempt.start()
                clock.pump([UNIX_RETRY] * 3)
                self.assertEqual(self.owner.told, [])
                listening.accept()[0].close()
                clock.advance(UNIX_RETRY)
                self.assertEqual(len(self.owner.told), 1)
                self.assertEqual(clock.getDelayedCalls(), [])
                late = SocketAttempt(clock, address, Options(), 0.05, self.owner)
                late.start()
                clock.pump([UNIX_RETRY] * 6)
                self.assertIsInstance(self.owner.told.pop(), errors.ConnectTimedOut)
                self.assertEqual(clock.getDelayedCalls(), [])

    async def test_given_up_by_the_reactor(self) -> None:
        """A reactor that gives up all it has tells of no connection."""
        clock: Any = FakeReactor()
        # A TCP listener with a full queue never answers.
        listening, address = self.listening(backlog=0)
        for _ in range(4):
            filler = socket.socket()
            self.addCleanup(filler.close)
            filler.setblocking(False)
            filler.connect_ex(listening.getsockname())
        attempt = SocketAttempt(clock, address, Options(), 5, self.owner)
        attempt.start()
        self.assertEqual((clock.writers, attempt.logPrefix()), ({attempt}, "portfwd"))
        self.assertGreater(attempt.fileno(), 0)
        # A hang-up that another socket had, whose number this one has now, is none.
        clock.removeWriter(attempt)
        attempt.connectionLost(Failure(error.ConnectionLost()))
        self.assertEqual((clock.writers, self.owner.told), ({attempt}, []))
        self.patch(connect, "has_hung_up", lambda _: True)
        attempt.connectionLost(Failure(error.ConnectionLost()))
        self.assertIsInstance(self.owner.told[0], errors.ConnectFailed)
        self.assertEqual((clock.writers, clock.getDelayedCalls(), attempt.fileno()), (set(), [], -1))


class PolledAttemptTests(AttemptCases, AttemptCase):
    """The same, waiting by our own epoll set."""

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.poller = Poller(reactor)  # type: ignore[arg-type]
        self.poller.start()
        self.before += 1
        self.addCleanup(self.poller.stop)

    async def test_handed_over(self) -> None:
        """A connected socket goes on being watched, and the attempt knows what was seen of it."""
        _, address = self.listening()
        attempt = self.attempt(address)
        attempt.start()
        sock = await self.owner.outcome()
        self.assertTrue(attempt.seen)
        self.assertEqual(repr(self.poller), "<Poller watching 1>")
        assert self.poller is not None
        self.poller.forget(sock)

    async def test_not_watched(self) -> None:
        """Where the kernel does not watch the socket the attempt fails."""
        listening, address = self.listening()

        class Full:
            def watch(self, *_: object) -> None:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

            def forget(self, sock: socket.socket) -> None:
                sock.close()

        self.poller = cast(Any, Full())
        self.attempt(address).start()
        self.assertIsInstance(self.owner.told[0], errors.ConnectFailed)
        listening.close()

    async def test_edges_that_are_no_outcome(self) -> None:
        """An edge that says nothing of the outcome is remembered and waited on."""
        self.expected = 0
        attempt = self.attempt(InetAddress("127.0.0.1", 9))
        attempt.ready(1)
        attempt.ready(0)
        self.assertEqual(attempt.seen, 1)

    async def test_our_own_mistake(self) -> None:
        """An accident of ours while waiting is a failed attempt."""
        listening, address = self.listening()
        attempt = self.attempt(address)
        attempt.start()
        attempt.failed(Failure(ZeroDivisionError("by zero")))
        self.assertEqual(str(self.owner.told[0]), f"{address}: by zero")
        listening.close()
        self.assert_nothing_left()
