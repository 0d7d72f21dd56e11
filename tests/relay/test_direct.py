"""The dial with nothing to choose: one attempt, and the same outcomes as any other dial's."""

from __future__ import annotations

import errno
import os
from typing import Any, cast

from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from portfwd.errors import ConnectFailed, ConnectRefused, ConnectTimedOut, DialError, OutOfResources
from portfwd.kernel.socket_options import WILL_SEND
from portfwd.relay.destination import Destination
from portfwd.relay.direct import DirectDatagramDial, DirectDial
from portfwd.rules.model import Options
from portfwd.upstreams import connect as connect_module
from portfwd.upstreams.connect import UNIX_RETRY
from portfwd.upstreams.timeout_queue import TimeoutQueue
from portfwd.values import Address, InetAddress, UnixAddress
from tests.relay.fakes import FakeStream, Fault

TARGET = InetAddress("10.0.0.1", 80)
UNIX = UnixAddress("/run/web.sock")

CONNECTED = 0x4  # EPOLLOUT
REFUSED = 0x1C  # EPOLLOUT | EPOLLERR | EPOLLHUP


class FakeSocket:
    """A socket whose connect ends as a test says."""

    def __init__(self, codes: list[int | Exception]) -> None:
        self.codes = codes
        self.closed = False
        self.error = 0
        self.fault: Exception | None = None
        self.options: list[tuple[int, int, object]] = []

    def connect_ex(self, address: object) -> int:
        code = self.codes.pop(0)
        if isinstance(code, Exception):
            raise code
        return code

    def fileno(self) -> int:
        return 7

    def setsockopt(self, level: int, name: int, value: object) -> None:
        self.options.append((level, name, value))

    def getsockopt(self, level: int, name: int) -> int:
        return self.error

    def close(self) -> None:
        if self.fault is not None:
            raise self.fault
        self.closed = True


class FakePoller:
    """Watches nothing."""

    def __init__(self) -> None:
        self.watched: dict[int, Any] = {}

    def watch(self, descriptor: int, events: int, watcher: Any) -> None:
        self.watched[descriptor] = watcher

    def forget(self, sock: FakeSocket) -> None:
        self.watched.pop(sock.fileno(), None)
        sock.close()


class Maker:
    """Makes streams, or cannot."""

    problem: Exception | None = None

    def __init__(self) -> None:
        self.poller = FakePoller()
        self.seen: int | None = None

    def plain(self, result: Any, address: Address, buffer: int, *, seen: int | None = None) -> FakeStream:
        if self.problem is not None:
            raise self.problem
        self.seen = seen
        return FakeStream(Clock(), address)


class DirectDialTests(SynchronousTestCase):
    """Its owner is the test."""

    def setUp(self) -> None:
        """One attempt that waits for its outcome."""
        self.reached: list[tuple[FakeStream, Destination]] = []
        self.failures: list[tuple[DialError, Address | None]] = []
        self.mistakes: list[Failure] = []
        self.maker = Maker()
        self.clock = Clock()
        self.make(errno.EINPROGRESS)

    def make(
        self,
        *codes: int | Exception,
        address: Address = TARGET,
        limit: float = 15.0,
        will_send: bool = False,
    ) -> None:
        """A dial of `address`, whose connects end with `codes`."""
        self.socket = FakeSocket(list(codes))
        self.patch(connect_module, "bare_socket", lambda family: self.socket)
        self.destination = Destination(str(address), Options(), address=address)
        context: Any = type("Context", (), {"reactor": self.clock})
        timeouts = TimeoutQueue(self.clock, limit)
        self.dial = DirectDial(
            context, self.destination, address, timeouts, self, cast(Any, self.maker), will_send=will_send
        )

    def dialled(self, stream: Any, destination: Destination) -> None:
        self.reached.append((stream, destination))

    def dial_failed(self, problem: DialError, address: Address | None) -> None:
        self.failures.append((problem, address))

    def broke(self, failure: Failure) -> None:
        self.mistakes.append(failure)

    def test_reached(self) -> None:
        """The owner gets the stream, with what the poller has told so far, and its destination."""
        self.dial.start()
        self.assertEqual(repr(self.dial), "<DirectDial 10.0.0.1:80 trying>")
        self.dial.ready(CONNECTED)
        ((stream, destination),) = self.reached
        self.assertEqual((stream.address, destination), (TARGET, self.destination))
        self.assertEqual(self.maker.seen, CONNECTED)
        self.assertEqual(repr(self.dial), "<DirectDial 10.0.0.1:80 over>")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_first_words_wait(self) -> None:
        """Where something is to be sent at once, the handshake's last acknowledgement waits for it."""
        self.dial.start()
        usual = self.socket.options
        self.make(errno.EINPROGRESS, will_send=True)
        self.dial.start()
        self.assertEqual(self.socket.options, [*usual, *WILL_SEND])

    def test_reached_at_once(self) -> None:
        """A unix socket is connected when the call returns."""
        self.make(0, address=UNIX)
        self.dial.start()
        self.assertEqual(len(self.reached), 1)

    def test_queue_of_a_unix_listener_is_full(self) -> None:
        """It is tried again."""
        self.make(errno.EAGAIN, errno.EAGAIN, 0, address=UNIX)
        self.dial.start()
        self.assertEqual(self.reached, [])
        self.clock.pump([UNIX_RETRY, UNIX_RETRY])
        self.assertEqual(len(self.reached), 1)

    def test_failed(self) -> None:
        """The problem, and where; also when it comes within the start."""
        for at_once in (True, False):
            self.failures.clear()
            self.make(errno.ECONNREFUSED if at_once else errno.EINPROGRESS)
            self.dial.start()
            if not at_once:
                self.socket.error = errno.ECONNREFUSED
                self.dial.ready(REFUSED)
            ((problem, address),) = self.failures
            self.assertIsInstance(problem, ConnectRefused)
            self.assertEqual(address, TARGET)
            self.assertTrue(self.socket.closed)

    def test_timed_out(self) -> None:
        """The wait that the rule's dials share bounds the attempt."""
        self.make(errno.EINPROGRESS, limit=4.0)
        self.dial.start()
        self.clock.advance(4.0)
        ((problem, _),) = self.failures
        self.assertIsInstance(problem, ConnectTimedOut)
        self.assertEqual(str(problem), "10.0.0.1:80: no answer within 4 s")

    def test_cancel(self) -> None:
        """Silent."""
        self.dial.start()
        self.dial.cancel()
        self.assertTrue(self.socket.closed)
        self.dial.ready(CONNECTED)
        self.assertEqual((self.reached, self.failures, self.mistakes), ([], [], []))

    def test_kernel_refuses_to_watch(self) -> None:
        """Our own exhaustion is told from other errors, as in any dial."""
        for code, kind in (
            (errno.ENOMEM, OutOfResources),
            (errno.ENOSPC, OutOfResources),
            (errno.ENOTCONN, ConnectFailed),
        ):
            self.failures.clear()
            self.make(errno.EINPROGRESS)
            self.maker.problem = OSError(code, os.strerror(code))
            self.dial.start()
            self.dial.ready(CONNECTED)
            ((problem, address),) = self.failures
            self.assertIs(type(problem), kind)
            self.assertEqual((str(problem), address), (f"10.0.0.1:80: {os.strerror(code)}", TARGET))

    def test_mistake(self) -> None:
        """The poller's word that our own code failed goes to the owner."""
        self.dial.start()
        self.dial.failed(Failure(Fault("plain")))
        self.assertEqual([failure.type for failure in self.mistakes], [Fault])
        self.assertTrue(self.socket.closed)

    def test_mistake_in_a_timer(self) -> None:
        """An exception in a retry is contained here: nobody else would tell the owner."""
        self.make(errno.EAGAIN, Fault("connect"), address=UNIX)
        self.dial.start()
        self.clock.advance(UNIX_RETRY)
        self.assertEqual([failure.type for failure in self.mistakes], [Fault])

    def test_mistake_that_cannot_be_cancelled(self) -> None:
        """It is logged, and the owner is told all the same."""
        self.dial.start()
        self.socket.fault = Fault("close")
        self.dial.broke(Failure(Fault("first")))
        self.assertEqual(len(self.flushLoggedErrors(Fault)), 1)
        self.assertEqual([str(failure.value) for failure in self.mistakes], ["first"])


class DatagramOwner:
    """Writes down the outcome."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def dialled(self, stream: Any, destination: Destination) -> None:
        self.told.append(stream)

    def dial_failed(self, problem: DialError, address: Address | None) -> None:
        self.told.append((type(problem), address))

    def broke(self, failure: Failure) -> None:
        raise AssertionError(failure)


class DatagramStreamsOf:
    """Makes streams of sockets, or fails to."""

    def __init__(self, problem: OSError | None = None) -> None:
        self.problem = problem

    def plain(self, sock: Any, address: Address, buffer: int) -> str:
        sock.close()
        if self.problem is not None:
            raise self.problem
        return f"a stream to {address}"


class DirectDatagramDialTests(SynchronousTestCase):
    """One target of datagrams."""

    def dial(self, address: Address, problem: OSError | None = None) -> tuple[list[Any], Destination]:
        """What the owner is told."""
        destination, owner = (
            Destination("target", Options(), address=address, datagrams=True),
            DatagramOwner(),
        )
        dial = DirectDatagramDial(
            destination, address, cast(Any, owner), cast(Any, DatagramStreamsOf(problem))
        )
        self.assertEqual((dial.tried, repr(dial)), (address, "<DirectDatagramDial target>"))
        dial.start()
        dial.cancel()
        return owner.told, destination

    def test_reached(self) -> None:
        """The stream comes at once."""
        self.assertEqual(self.dial(InetAddress("127.0.0.1", 9))[0], ["a stream to 127.0.0.1:9"])

    def test_no_way(self) -> None:
        """Where there is none, the owner hears why, and it counts as the target's failure."""
        nowhere = InetAddress("255.255.255.255", 9)
        told, destination = self.dial(nowhere)
        self.assertEqual(told, [(ConnectFailed, nowhere)])
        self.assertEqual(destination.occupancy.failures, 1)

    def test_not_watched(self) -> None:
        """A socket that the kernel does not watch is ours to explain."""
        here = InetAddress("127.0.0.1", 9)
        told, _ = self.dial(here, OSError(errno.ENOSPC, "no room"))
        self.assertEqual(told, [(OutOfResources, here)])
