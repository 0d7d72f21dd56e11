# -*- test-case-name: tests.streams.transports.test_plain -*-
"""
A Twisted transport over a plain socket that tells the truth about ends.

Twisted's own TCP transport closes the socket at the first error of a write,
and unread input goes with it; it reports a dead peer only while it reads; and
it sends in a later turn what the socket would take now. `PlainTransport` is the same
transport, for TCP and unix sockets, with these differences:

- **Write through.** `write` gives the bytes to the kernel at once and keeps
  only what the socket refuses. While anything is kept the producer is paused,
  so at most one read is in flight.
- **Larger reads in bulk.** After a read that filled the buffer the next is as large as `BulkReads` says.
- **A failed write ends only writing.** Reading goes on to its own end; the
  protocol is told by `IStreamProtocol.writing_failed`.
- **A reset is remembered.** Linux reports it once, by whichever call comes
  first. After it, a read that returns nothing is no orderly end.
- **An end is an end.** After end-of-file, `resumeProducing` does not read again.
- **A dead peer is seen while nothing is read** (Linux): the descriptor stands in the
  `Poller`'s edge-triggered set as well.

- **What breaks is reset.** A connection that ends otherwise than in order, by an
  exception for instance, is reset: its peer must not take it for an end.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterable
from typing import Any, Final

from twisted.internet import error, main, tcp
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHalfCloseableProtocol,
    IProtocol,
    IReactorFDSet,
    IReactorTime,
)
from twisted.python.failure import Failure

from portfwd.kernel.poller import DEATH, ERROR
from portfwd.kernel.polling import Polling
from portfwd.kernel.sockets import (
    GONE,
    has_hung_up,
    keep_urgent,
    reset_on_close,
    tcp_info,
    unsent_bytes,
)
from portfwd.streams.sockets.bulk_reads import BulkReader, BulkReads

_UNIX: Final = getattr(socket, "AF_UNIX", None)


class IStreamProtocol(IHalfCloseableProtocol):
    """A protocol that wants to know more of its `PlainTransport`."""

    def writing_failed() -> None:
        """The peer takes no more bytes. Reading goes on; what was not sent is dropped."""

    def wrote() -> None:
        """Some bytes that the socket had refused before went out."""


def _twisted_address(family: int, sockaddr: Any) -> IAddress:
    if family == socket.AF_INET:
        return IPv4Address("TCP", *sockaddr)
    if family == socket.AF_INET6:
        return IPv6Address("TCP", *sockaddr)
    return UNIXAddress(sockaddr)


class PlainTransport(tcp.Connection):
    """
    The transport of one connected, non-blocking socket, which it owns.

    :ivar reads: system calls that took bytes from the socket.
    :ivar writes: system calls that gave it bytes.
    :ivar sent: bytes that the kernel took.
    :ivar hung_up: the kernel has told of an end or a death, though it may not be read yet.
    :ivar gone: errno that said the peer is gone, or 0.
    :ivar write_broken: whether a write failed.
    :ivar keeps_tcp_info: whether the kernel is asked once more before the socket is closed, for `tcp_info`.
    """

    _read_ended = False
    _saw_end = False
    _paused = True
    _in_order = False
    _overdue: IDelayedCall | None = None
    _left = 0
    # Made by the first read that fills the buffer.
    _larger: BulkReader | None = None
    keeps_tcp_info = False
    _last_tcp_info = b""

    def __init__(
        self,
        skt: socket.socket,
        protocol: IProtocol,
        reactor: IReactorFDSet,
        buffer: int,
        poller: Polling | None = None,
        *,
        linger: float | None = None,
        bulk: BulkReads | None = None,
    ) -> None:
        """
        :param skt: connected, and nobody else's.
        :param buffer: bytes of one read.
        :param bulk: its larger reads; None: it has none.
        :param poller: watches for the peer's death, where there is one.
        :param linger: seconds without progress after which a close that waits for kept
            bytes becomes a reset; None: whoever asks for the close sees to it.
        """
        super().__init__(skt, protocol, reactor)
        if skt.family == _UNIX:
            keep_urgent(skt)
        self.bufferSize = buffer
        self.connected = 1
        self.reads = 0
        self.writes = 0
        self.sent = 0
        self.gone = 0
        self.write_broken = False
        self._stream_protocol: IStreamProtocol | None = IStreamProtocol(protocol, None)
        self._clock = IReactorTime(reactor)
        self._linger = linger
        self._bulk = bulk
        self._dead = False
        self.hung_up = False
        self._poller = poller
        if poller is not None:
            poller.watch(skt.fileno(), DEATH, self)

    def put_above(self, protocol: IProtocol) -> None:
        """Give everything to `protocol` from here on."""
        self.protocol = protocol
        self._stream_protocol = IStreamProtocol(protocol, None)

    def __repr__(self) -> str:
        state = "lost" if not self.connected else "paused" if self._paused else "reading"
        return f"<PlainTransport {state} unsent={self.unsent() if self.connected else 0}>"

    def getHost(self) -> IAddress:
        """Our own address, as Twisted has it."""
        return _twisted_address(self.socket.family, self.socket.getsockname())

    def getPeer(self) -> IAddress:
        """The peer's address, as Twisted has it."""
        return _twisted_address(self.socket.family, self.socket.getpeername())

    # Reading

    def doRead(self, *_: object) -> Any:
        """Give the protocol one read's bytes, or the end, or the loss."""
        if self._paused:  # by an earlier event of the same turn
            return None
        larger, size = self._larger, self.bufferSize
        try:
            data = self.socket.recv(size if larger is None else larger.next_size(size))
        except BlockingIOError:
            self._return_slot()
            return None
        except OSError as problem:
            self._return_slot()
            self.gone = problem.errno or errno.ECONNRESET
            return main.CONNECTION_LOST
        if not data:
            self._return_slot()
            self._saw_end = True
            # A reset that a write was told of leaves reads to drain and return nothing.
            return main.CONNECTION_LOST if self.gone else main.CONNECTION_DONE
        self.reads += 1
        if larger is not None:
            larger.filled = len(data) >= size
        elif self._bulk is not None and len(data) >= size:
            self._larger = BulkReader(self._bulk)
        self.protocol.dataReceived(data)
        if not self._paused:
            self._return_slot()
        return None

    def read_little(self) -> None:
        """The next read is a usual one: what the last one brought is held, or its answer not taken."""
        if self._larger is not None:
            self._larger.filled = False

    def _return_slot(self) -> None:
        """Give the slot back: nothing of the last read waits to be written, or nobody will take it."""
        if self._larger is not None:
            self._larger.release()

    def readConnectionLost(self, reason: Failure) -> None:
        """The reactor says that the peer ended: because we read so, or because it saw a hang-up."""
        if not self._saw_end and not has_hung_up(self.socket):
            self.startReading()
            return
        self._read_ended = True
        super().readConnectionLost(reason)
        if self._dead and self.connected and not self.write_broken:
            # The reset came behind the end. Reads do not find it, and perhaps nobody writes.
            self._clock.callLater(0, self.peer_died)

    def startReading(self) -> None:
        """Read, unless there is nothing more to come."""
        self._return_slot()
        if not self._read_ended:
            self._paused = False
            super().startReading()

    def stopReading(self) -> None:
        """Read no more for now."""
        self._paused = True
        super().stopReading()
        if self._dead and self.connected and not self.write_broken:
            # Not now: who stops reading is in the middle of something.
            self._clock.callLater(0, self.peer_died)

    # Writing

    def write(self, data: bytes) -> None:
        """Send `data` now, keep what the socket does not take."""
        if not self.connected or self.write_broken or self._writeDisconnected or self._aborting or not data:
            return
        if not self._tempDataLen and not self.dataBuffer:
            sent = self.writeSomeData(data)
            if sent == len(data) or self.write_broken:
                return
            if sent:
                data = data[sent:]
        super().write(data)

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        """Write the pieces as one."""
        self.write(b"".join(iovec))

    def writeSomeData(self, data: bytes) -> int:
        """
        One ``send``.

        :returns: how many bytes are done with: those the kernel took, or all where writing has failed.
        """
        if self.write_broken or not data:
            return len(data)
        try:
            sent = self.socket.send(data)
        except BlockingIOError:
            return 0
        except OSError as problem:
            if problem.errno == errno.ENOBUFS:  # the card's queue is full: as good as EAGAIN
                return 0
            self._break_writing(problem.errno or errno.EPIPE)
            return len(data)
        self.writes += 1
        self.sent += sent
        return sent

    def doWrite(self, *_: object) -> Any:
        """The socket takes bytes again."""
        if not self.connected:  # closed by what was read in the same turn
            return None
        before = self.sent
        result = super().doWrite()
        if self.write_broken:
            self.offset = 0  # Twisted counts what was dropped as sent
        elif self.sent != before and self._stream_protocol is not None and self.connected:
            self._stream_protocol.wrote()
        return result

    def _isSendBufferFull(self) -> bool:
        # One read in flight, no more: whatever is kept stops the producer.
        return True

    def _break_writing(self, code: int) -> None:
        if code in GONE:
            self.gone = code
        if self.write_broken:
            return
        self.write_broken = True
        self._tempDataBuffer.clear()
        self._tempDataLen = 0
        self.dataBuffer = b""
        self.offset = 0
        self.stopWriting()
        if self.disconnecting:
            # It was to be closed after bytes that cannot go out any more.
            self._clock.callLater(0, self.connectionLost, Failure(error.ConnectionLost()))
        if self._stream_protocol is not None:
            self._stream_protocol.writing_failed()

    def loseWriteConnection(self) -> None:
        """End writing after what is kept: now, where nothing is."""
        if self.write_broken or not self.connected or self._writeDisconnected:
            return
        if self._tempDataLen or self.dataBuffer:
            super().loseWriteConnection()
        else:
            self._writeDisconnecting = True
            self._writeDisconnected = True
            self._closeWriteConnection()

    def _closeWriteConnection(self) -> None:
        # Twisted takes an end that cannot be sent for one that was.
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError as problem:
            self._break_writing(problem.errno or errno.EPIPE)
            return
        if self._stream_protocol is not None:
            self._stream_protocol.writeConnectionLost()

    def loseConnection(self) -> None:
        """Close after what is kept is written."""
        if not self.connected or self.disconnecting:
            return
        # A paused producer would be resumed where the connection should be closed (#6461).
        self.unregisterProducer()
        if self._linger is not None:
            self._left = self.unsent() + (unsent_bytes(self.socket) or 0)
            self._overdue = self._clock.callLater(self._linger, self._is_overdue)
        super().loseConnection()

    def _is_overdue(self) -> None:
        left = self.unsent() + (unsent_bytes(self.socket) or 0)
        if left == self._left:
            self.abortConnection()
        else:
            self._left = left
            self._overdue = self._clock.callLater(self._linger or 0.0, self._is_overdue)

    # The end

    def ready(self, events: int) -> None:
        """
        The poller saw a hang-up.

        RDHUP is an end that reading will find, and so is HUP without ERR: that is how a
        connection looks whose two ends crossed, and a unix socket whose peer closed in order.
        """
        self.hung_up = True
        if events & ERROR and has_hung_up(self.socket):
            self._dead = True
            if self._paused or self._read_ended:
                self.peer_died()

    def failed(self, failure: Failure) -> None:
        """Our own code failed at a hang-up: this connection ends, with `failure` as its reason."""
        self.connectionLost(failure)

    def peer_died(self) -> None:
        """
        The peer takes no more bytes.

        What it sent before is still there to be read, and says whether it
        ended or was reset.
        """
        through = self._read_ended and self._writeDisconnected
        if self.connected and not self._aborting and not through:
            self._break_writing(errno.EPIPE)

    def connectionLost(self, reason: Failure) -> None:
        """
        Close the socket and tell the protocol.

        Reactors also call this for a hang-up that they see while only writes
        are waited for; then input may be left, and only writing is over. Or they take
        another socket's hang-up for ours (`has_hung_up`), and nothing is over.
        """
        if self.connected and reason.type is error.ConnectionLost and self._is_mistaken():
            self._go_on()
            return
        if (
            self._stream_protocol is not None
            and self.connected
            and self._paused
            and not self._read_ended
            and not self.disconnecting
            and reason.type is error.ConnectionLost
        ):
            self._break_writing(errno.EPIPE)
            return
        if self.connected:
            self._return_slot()
            self._in_order = reason.type is error.ConnectionDone
            if self._overdue is not None and self._overdue.active():
                self._overdue.cancel()
            self._overdue = self._stream_protocol = None
        super().connectionLost(reason)

    def _is_mistaken(self) -> bool:
        return not (self.gone or self.write_broken or has_hung_up(self.socket))

    def _go_on(self) -> None:
        """The reactor has let go of us: stand there again."""
        if not self._paused:
            self.startReading()
        if self.unsent() or self.disconnecting or self._writeDisconnecting:
            self.startWriting()

    def _closeSocket(self, orderly: bool) -> None:  # noqa: N802 - Twisted's
        if self.keeps_tcp_info:
            self._last_tcp_info = tcp_info(self.socket)
        # Twisted resets what was aborted only. An end in slot of anything else that
        # went wrong would make a broken stream look complete.
        if self._poller is None:
            super()._closeSocket(self._in_order)
            return
        with contextlib.suppress(OSError):
            if self._in_order:
                self.socket.shutdown(socket.SHUT_RDWR)
            else:
                reset_on_close(self.socket)
        self._poller.forget(self.socket)

    def undelivered(self) -> int | None:
        """
        Bytes written that the peer has not acknowledged.

        0 once writing has failed: none will be. None where the platform cannot tell.
        """
        if not self.connected or self.write_broken:
            return 0
        queued = unsent_bytes(self.socket)
        return None if queued is None else queued + self.unsent()

    def tcp_info(self) -> bytes:
        """See `portfwd.streams.stream.Stream`."""
        return tcp_info(self.socket) if self.connected else self._last_tcp_info

    def unsent(self) -> int:
        """Bytes written that are still in this process."""
        return len(self.dataBuffer) - self.offset + self._tempDataLen
