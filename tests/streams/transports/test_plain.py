"""
Tests for the transport over a plain socket: what Twisted's own gets wrong, case by case.

The socket is a fake where the order of errors matters; what must hold on real
ones is in `tests.streams.conformance`.
"""

from __future__ import annotations

import errno
import os
import select
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet import error, main
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IReactorFDSet
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial import unittest
from zope.interface import implementer

from portfwd.streams.transports import plain
from portfwd.streams.transports.plain import IStreamProtocol, PlainTransport
from tests.streams.far_ends import tcp_sockets, unix_sockets

LOST = Failure(error.ConnectionLost())


class Script:
    """
    A socket that does what a test says.

    :ivar takes: what each `send` does: a number of bytes, or an errno; when it is used up, all is taken.
    :ivar gives: what each `recv` does: bytes, or an errno.
    """

    family = socket.AF_INET

    def __init__(self) -> None:
        self.takes: list[int] = []
        self.gives: list[bytes | int] = []
        self.sent = bytearray()
        self.did: list[str] = []
        self.shutdown_fails = 0

    def fileno(self) -> int:
        return 99

    def setblocking(self, flag: bool) -> None:
        """It never blocks."""

    def send(self, data: bytes) -> int:
        take = self.takes.pop(0) if self.takes else len(data)
        if take < 0:
            raise OSError(-take, os.strerror(-take))
        self.sent += data[:take]
        return min(take, len(data))

    def recv(self, count: int) -> bytes:
        given = self.gives.pop(0)
        if isinstance(given, int):
            raise OSError(given, os.strerror(given))
        return given

    def shutdown(self, how: int) -> None:
        self.did.append(f"shutdown {how}")
        if self.shutdown_fails:
            raise OSError(self.shutdown_fails, os.strerror(self.shutdown_fails))

    def setsockopt(self, level: int, option: int, value: bytes) -> None:
        if option == socket.SO_LINGER:
            self.did.append("reset")

    def close(self) -> None:
        self.did.append("close")


@implementer(IReactorFDSet)
class FakeReactor(Clock):
    """A clock that knows who wants to read and to write."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: set[Any] = set()
        self.writers: set[Any] = set()
        self.addReader = self.readers.add
        self.addWriter = self.writers.add
        self.removeReader = self.readers.discard
        self.removeWriter = self.writers.discard


class FakePoller:
    """Remembers who is watched."""

    def __init__(self) -> None:
        self.watched: dict[int, int] = {}

    def watch(self, descriptor: int, events: int, watcher: object) -> None:
        self.watched[descriptor] = events

    def forget(self, sock: Any) -> None:
        self.watched.pop(sock.fileno(), None)
        sock.close()


@implementer(IStreamProtocol)
class Told(Protocol):
    """A protocol that writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.on_data: Callable[[], object] = lambda: None

    def dataReceived(self, data: bytes) -> None:
        self.told.append(data.decode())
        self.on_data()

    def readConnectionLost(self) -> None:
        self.told.append("ended")

    def writeConnectionLost(self) -> None:
        self.told.append("end sent")

    def writing_failed(self) -> None:
        self.told.append("writing failed")

    def wrote(self) -> None:
        self.told.append("wrote")

    def connectionLost(self, reason: Failure = LOST) -> None:
        self.told.append(f"lost {reason.type.__name__}")  # type: ignore[union-attr]


class Deaf(Protocol):
    """A protocol that knows nothing of streams, as TLS."""

    def __init__(self) -> None:
        self.lost: list[str] = []

    def connectionLost(self, reason: Failure = LOST) -> None:
        self.lost.append(reason.type.__name__)  # type: ignore[union-attr]


class Producer:
    """What is paused and resumed."""

    def __init__(self) -> None:
        self.did: list[str] = []

    def pauseProducing(self) -> None:
        self.did.append("pause")

    def resumeProducing(self) -> None:
        self.did.append("resume")

    def stopProducing(self) -> None:
        self.did.append("stop")


class PlainCase(unittest.SynchronousTestCase):
    """A transport over a scripted socket."""

    def setUp(self) -> None:
        # The number of the scripted socket may be a real one's.
        self.patch(plain, "has_hung_up", lambda _: True)
        self.reactor = FakeReactor()
        self.poller = FakePoller()
        self.socket = Script()
        self.protocol = Told()
        self.producer = Producer()
        self.transport = self.over(self.protocol)

    def over(self, protocol: Any, **options: Any) -> PlainTransport:
        """A transport for `protocol`."""
        sock: Any = self.socket
        transport = PlainTransport(sock, protocol, self.reactor, 4096, self.poller, **options)  # type: ignore[arg-type]
        protocol.makeConnection(transport)
        return transport

    def keep(self, data: bytes = b"kept") -> None:
        """Write `data` to a socket that takes nothing now."""
        self.socket.takes.append(-errno.EAGAIN)
        self.transport.write(data)

    def read(self, given: bytes | int) -> None:
        """One turn of a reactor that finds the socket readable."""
        self.socket.gives.append(given)
        why = self.transport.doRead()
        if why is not None:
            self.reactor.removeReader(self.transport)
            if why is main.CONNECTION_DONE:
                self.transport.readConnectionLost(Failure(why))
            else:
                self.transport.connectionLost(Failure(why))


class WritingTests(PlainCase):
    """Writing through, keeping, and failing."""

    def test_write_through(self) -> None:
        """What is written goes to the kernel at once; nobody waits to write."""
        self.transport.write(b"now")
        self.transport.writeSequence([b" and", b" here"])
        self.assertEqual((bytes(self.socket.sent), self.reactor.writers), (b"now and here", set()))
        self.assertEqual((self.transport.sent, self.transport.writes, self.transport.unsent()), (12, 2, 0))

    def test_nothing_to_write(self) -> None:
        """Writing nothing does nothing."""
        self.transport.write(b"")
        self.assertEqual(self.transport.writes, 0)

    def test_what_is_refused_is_kept(self) -> None:
        """Only what the socket refuses is kept; the producer pauses, and goes on when all is out."""
        self.transport.registerProducer(self.producer, True)
        self.socket.takes = [2]
        self.transport.write(b"abcdef")
        self.assertEqual((self.transport.unsent(), self.producer.did), (4, ["pause"]))
        self.assertEqual(self.reactor.writers, {self.transport})
        self.transport.write(b"gh")
        self.assertEqual(bytes(self.socket.sent), b"ab")
        self.socket.takes = [3]
        self.transport.doWrite()
        self.assertEqual((self.transport.unsent(), self.producer.did), (3, ["pause", "pause"]))
        self.transport.doWrite()
        self.assertEqual((bytes(self.socket.sent), self.transport.unsent()), (b"abcdefgh", 0))
        self.assertEqual(self.producer.did[-1], "resume")
        self.assertEqual(self.protocol.told, ["wrote", "wrote"])

    def test_a_full_card_is_a_full_socket(self) -> None:
        """ENOBUFS of a send is a reason to wait, not to fail."""
        self.socket.takes = [-errno.ENOBUFS]
        self.transport.write(b"later")
        self.assertEqual((self.transport.unsent(), self.protocol.told), (5, []))

    def test_a_failed_write_ends_only_writing(self) -> None:
        """It is told, once; what is kept is dropped; reading goes on."""
        self.transport.startReading()
        self.keep()
        self.socket.takes = [-errno.EPIPE]
        self.transport.doWrite()
        self.transport.write(b"more")
        self.transport.writeSequence([b"more"])
        self.transport.loseWriteConnection()
        self.assertEqual((self.protocol.told, self.transport.unsent()), (["writing failed"], 0))
        self.assertEqual((self.transport.undelivered(), self.reactor.writers), (0, set()))
        self.read(b"answer")
        self.assertEqual(self.protocol.told, ["writing failed", "answer"])

    def test_an_empty_write_after_a_failed_one(self) -> None:
        """A reactor that calls once more after the failure finds nothing to do."""
        self.socket.takes = [-errno.EPIPE]
        self.transport.write(b"x")
        self.assertEqual((self.transport.writeSomeData(b"y"), bytes(self.socket.sent)), (1, b""))
        self.assertIsNone(self.transport.doWrite())

    def test_no_memory_to_write(self) -> None:
        """Any other error of a send is the end of writing."""
        self.socket.takes = [-errno.ENOMEM]
        self.transport.write(b"x")
        self.assertEqual((self.protocol.told, self.transport.gone), (["writing failed"], 0))

    def test_a_write_after_the_loss(self) -> None:
        """Nothing happens to a transport that is gone."""
        self.transport.startReading()
        self.read(errno.ECONNRESET)
        self.transport.write(b"x")
        self.transport.loseConnection()
        self.transport.loseWriteConnection()
        self.transport.peer_died()
        self.assertIsNone(self.transport.doWrite())
        self.assertEqual((self.protocol.told, self.transport.undelivered()), (["lost ConnectionLost"], 0))
        self.assertEqual(repr(self.transport), "<PlainTransport lost unsent=0>")


class EndTests(PlainCase):
    """Ends, in either direction."""

    def test_end(self) -> None:
        """Where nothing is kept the end goes out at once, and only once."""
        self.transport.loseWriteConnection()
        self.transport.loseWriteConnection()
        self.transport.write(b"too late")
        self.assertEqual((self.socket.did, self.protocol.told), (["shutdown 1"], ["end sent"]))
        self.assertEqual(bytes(self.socket.sent), b"")

    def test_end_behind_what_is_kept(self) -> None:
        """Where something is kept the end goes out behind it."""
        self.keep()
        self.transport.loseWriteConnection()
        self.assertEqual(self.socket.did, [])
        self.transport.doWrite()
        self.assertEqual((bytes(self.socket.sent), self.socket.did), (b"kept", ["shutdown 1"]))
        self.assertEqual(self.protocol.told, ["end sent", "wrote"])

    def test_an_end_that_cannot_be_sent(self) -> None:
        """A peer that has reset meanwhile does not get our end, and that is no end sent."""
        self.socket.shutdown_fails = errno.ENOTCONN
        self.transport.loseWriteConnection()
        self.assertEqual(self.protocol.told, ["writing failed"])

    def test_an_end_for_who_does_not_ask(self) -> None:
        """A protocol that knows nothing of ends is not told of one."""
        deaf = Deaf()
        transport = self.over(deaf)
        transport.loseWriteConnection()
        self.assertEqual((self.socket.did, deaf.lost), (["shutdown 1"], []))

    def test_the_peer_ends(self) -> None:
        """After the end nothing is read again, whatever resumes."""
        self.transport.startReading()
        self.read(b"")
        self.transport.resumeProducing()
        self.assertEqual((self.protocol.told, self.reactor.readers), (["ended"], set()))

    def test_close_after_both_ends(self) -> None:
        """With both ends behind it a connection closes at once, in order."""
        self.transport.startReading()
        self.read(b"")
        self.transport.loseWriteConnection()
        self.transport.loseConnection()
        self.assertEqual(self.socket.did, ["shutdown 1", "shutdown 2", "close"])
        self.assertEqual(self.protocol.told, ["ended", "end sent", "lost ConnectionDone"])

    def test_close_behind_what_is_kept(self) -> None:
        """A close waits for what is kept; a producer that is registered does not keep it open (#6461)."""
        self.transport.registerProducer(self.producer, True)
        self.keep()
        self.transport.loseConnection()
        self.transport.loseConnection()
        self.assertIs(self.transport.doWrite(), main.CONNECTION_DONE)
        self.assertEqual((self.producer.did, bytes(self.socket.sent)), (["pause"], b"kept"))

    def test_a_close_that_cannot_write(self) -> None:
        """What was to be closed after bytes that cannot go out is lost, not left open."""
        self.keep()
        self.transport.loseConnection()
        self.socket.takes = [-errno.ECONNRESET]
        self.transport.doWrite()
        self.reactor.advance(0)
        self.assertEqual(self.protocol.told, ["writing failed", "lost ConnectionLost"])
        self.assertEqual(self.socket.did, ["reset", "close"])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_a_hang_up_while_closing(self) -> None:
        """The same when it is the reactor that sees the peer go."""
        self.keep()
        self.transport.loseConnection()
        self.transport.connectionLost(LOST)
        self.assertEqual(self.protocol.told, ["lost ConnectionLost"])

    def test_a_close_that_is_overdue(self) -> None:
        """With a limit, a close that waits without progress becomes a reset; progress gives it more time."""
        self.transport = self.over(self.protocol, linger=5.0)
        self.keep(b"abcdef")
        self.transport.loseConnection()
        self.reactor.advance(4)
        self.socket.takes = [2]
        self.transport.doWrite()
        self.reactor.advance(1)
        self.assertEqual(self.protocol.told, ["wrote"])
        self.reactor.pump([5, 0])
        self.assertEqual(self.protocol.told, ["wrote", "lost ConnectionAborted"])
        self.assertEqual((self.socket.did, self.reactor.getDelayedCalls()), (["reset", "close"], []))

    def test_a_close_in_time(self) -> None:
        """A close that comes about in time leaves no timer behind."""
        self.transport = self.over(self.protocol, linger=5.0)
        self.transport.loseConnection()
        self.assertIs(self.transport.doWrite(), main.CONNECTION_DONE)
        self.transport.connectionLost(Failure(main.CONNECTION_DONE))
        self.assertEqual(self.reactor.getDelayedCalls(), [])


class ResetTests(PlainCase):
    """Resets, deaths and accidents."""

    def test_reset(self) -> None:
        """A reset that a read is told of is a loss."""
        self.transport.startReading()
        self.read(errno.ECONNRESET)
        self.assertEqual(
            (self.protocol.told, self.transport.gone), (["lost ConnectionLost"], errno.ECONNRESET)
        )
        self.assertEqual(self.poller.watched, {})

    def test_a_reset_is_remembered(self) -> None:
        """A reset that a write was told of makes the end that is read afterwards a loss."""
        self.transport.startReading()
        self.socket.takes = [-errno.ECONNRESET]
        self.transport.write(b"x")
        self.read(b"drained")
        self.read(b"")
        self.assertEqual(self.protocol.told, ["writing failed", "drained", "lost ConnectionLost"])

    def test_a_broken_pipe_is_no_reset(self) -> None:
        """EPIPE alone does not: what was read to its end ended in order."""
        self.transport.startReading()
        self.socket.takes = [-errno.EPIPE]
        self.transport.write(b"x")
        self.read(b"")
        self.assertEqual(self.protocol.told, ["writing failed", "ended"])

    def test_an_error_without_a_number(self) -> None:
        """Whatever cannot be read is gone."""
        self.transport.startReading()
        self.read(0)
        self.assertEqual(self.transport.gone, errno.ECONNRESET)

    def test_nothing_there(self) -> None:
        """A read that would block is nothing."""
        self.transport.startReading()
        self.read(errno.EAGAIN)
        self.assertEqual((self.protocol.told, self.transport.reads), ([], 0))

    def test_paused_in_the_same_turn(self) -> None:
        """What was paused by an earlier event of a turn does not read in it."""
        self.assertIsNone(self.transport.doRead())

    def test_a_dead_peer_while_paused(self) -> None:
        """An error that the poller sees while nothing is read: the peer takes no more; its input stays."""
        self.assertEqual(self.poller.watched, {99: select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR})
        self.transport.ready(select.EPOLLRDHUP)
        self.transport.ready(select.EPOLLHUP)
        self.assertEqual(self.protocol.told, [])
        self.transport.ready(select.EPOLLERR | select.EPOLLHUP)
        self.transport.startReading()
        self.read(b"last words")
        self.read(errno.ECONNRESET)
        self.assertEqual(self.protocol.told, ["writing failed", "last words", "lost ConnectionLost"])

    def test_a_dead_peer_while_reading(self) -> None:
        """While it is read, reading finds out; when it stops before, it is told then."""
        self.transport.startReading()
        self.transport.ready(select.EPOLLERR)
        self.assertEqual(self.protocol.told, [])
        self.transport.stopReading()
        self.assertEqual(self.protocol.told, [])
        self.reactor.advance(0)
        self.transport.startReading()
        self.transport.stopReading()
        self.assertEqual((self.protocol.told, self.reactor.getDelayedCalls()), (["writing failed"], []))

    def test_a_peer_that_ended_and_died(self) -> None:
        """A death after the peer's end is told too, though nothing is read any more."""
        self.transport.startReading()
        self.read(b"")
        self.transport.ready(select.EPOLLERR)
        self.assertEqual(self.protocol.told, ["ended", "writing failed"])

    def test_a_death_that_is_nobodys_news(self) -> None:
        """After both ends, or an abort, it is none."""
        self.transport.startReading()
        self.read(b"")
        self.transport.loseWriteConnection()
        self.transport.ready(select.EPOLLERR)
        self.assertEqual(self.protocol.told, ["ended", "end sent"])
        self.transport.abortConnection()
        self.transport.peer_died()
        self.assertEqual(self.protocol.told, ["ended", "end sent"])

    def test_a_hang_up_while_writing(self) -> None:
        """A reactor that sees a hang-up while only writes are waited for ends only those."""
        self.keep()
        self.transport.connectionLost(LOST)
        self.assertEqual(self.protocol.told, ["writing failed"])
        self.assertEqual(self.poller.watched.keys(), {99})

    def test_the_hang_up_of_another(self) -> None:
        """A hang-up of a socket that had the same number before is not ours: nothing is over."""
        self.patch(plain, "has_hung_up", lambda _: False)
        self.transport.startReading()
        self.keep()
        for why in (self.transport.connectionLost, self.transport.readConnectionLost):
            self.reactor.removeReader(self.transport)
            self.reactor.removeWriter(self.transport)
            why(LOST)
            self.assertEqual(self.reactor.readers, {self.transport})
        self.transport.stopReading()
        self.transport.connectionLost(LOST)
        self.assertEqual((self.reactor.readers, self.reactor.writers), (set(), {self.transport}))
        self.assertEqual(self.protocol.told, [])
        self.socket.takes = [100]
        self.transport.doWrite()
        self.reactor.removeWriter(self.transport)
        self.transport.connectionLost(LOST)
        self.assertEqual((self.protocol.told, self.reactor.writers), (["wrote"], set()))

    def test_a_hang_up_without_the_poller(self) -> None:
        """The same without a poller, and a loss needs none either."""
        transport = PlainTransport(self.socket, self.protocol, self.reactor, 4096)  # type: ignore[arg-type]
        transport.connectionLost(LOST)
        transport.startReading()
        transport.connectionLost(LOST)
        self.assertEqual(self.protocol.told, ["writing failed", "lost ConnectionLost"])

    def test_abort(self) -> None:
        """An abort resets and drops what is kept; it is told in a later turn, and once."""
        self.keep()
        self.transport.abortConnection()
        self.transport.write(b"no")
        self.assertEqual(self.protocol.told, [])
        self.reactor.advance(0)
        self.transport.connectionLost(LOST)
        self.assertEqual(self.protocol.told, ["lost ConnectionAborted"])
        self.assertEqual((self.socket.did, bytes(self.socket.sent)), (["reset", "close"], b""))

    def test_our_own_mistake(self) -> None:
        """A connection that ends by an exception is reset: its peer must not take it for an end."""
        self.transport.failed(Failure(ZeroDivisionError()))
        self.assertEqual(
            (self.protocol.told, self.socket.did), (["lost ZeroDivisionError"], ["reset", "close"])
        )

    def test_closed_by_what_was_read(self) -> None:
        """A turn that reads and writes does not write to what the reading closed."""
        self.transport.loseWriteConnection()
        self.protocol.on_data = self.transport.loseConnection
        self.transport.startReading()
        self.read(b"bye")
        self.assertIsNone(self.transport.doWrite())
        self.assertEqual(self.protocol.told, ["end sent", "bye", "lost ConnectionDone"])

    def test_told_to_nobody(self) -> None:
        """Where the protocol knows nothing of streams, reading finds out."""
        deaf = Deaf()
        transport = self.over(deaf)
        self.socket.takes = [-errno.EAGAIN]
        transport.write(b"1")
        transport.doWrite()
        self.socket.takes = [-errno.EPIPE]
        transport.write(b"2")
        self.assertEqual((deaf.lost, transport.write_broken), ([], True))
        transport.connectionLost(LOST)
        self.assertEqual(deaf.lost, ["ConnectionLost"])


class AddressTests(PlainCase):
    """What Twisted's protocols ask."""

    def test_addresses(self) -> None:
        """Both addresses, in Twisted's own classes."""
        for (near, far), kind in (
            (tcp_sockets(), IPv4Address),
            (tcp_sockets(family=socket.AF_INET6), IPv6Address),
            (unix_sockets(), UNIXAddress),
        ):
            self.addCleanup(near.close)
            self.addCleanup(far.close)
            transport = PlainTransport(near, Told(), self.reactor, 4096)
            self.assertIsInstance(transport.getHost(), kind)
            self.assertIsInstance(transport.getPeer(), kind)
            if kind is not UNIXAddress:
                peer: Any = transport.getPeer()
                self.assertEqual((peer.host, peer.port), far.getsockname()[:2])

    def test_repr(self) -> None:
        """One line with the state."""
        self.assertEqual(repr(self.transport), "<PlainTransport paused unsent=0>")
        self.transport.startReading()
        self.keep()
        self.assertEqual(repr(self.transport), "<PlainTransport reading unsent=4>")
