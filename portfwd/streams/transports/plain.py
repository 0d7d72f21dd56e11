# -*- test-case-name: tests.streams.transports.test_plain -*-
"""
A Twisted transport over a plain socket that reports ends correctly.

Twisted's TCP transport closes the socket at the first error of a write, which loses unread input. It reports
a dead peer only while it reads, and it sends in a later turn. `PlainTransport`, for TCP and unix sockets,
differs:

- **Write through.** `write` passes the bytes to the kernel at once and keeps only those that the socket does
  not accept. The producer is paused while bytes are kept, so at most one read is in flight.
- **Larger reads in bulk.** After a read that filled the buffer, `BulkReads` decides the size of the next one.
- **A failed write ends only writing.** Reading continues to its own end. `IStreamProtocol.writing_failed` is
  called.
- **A reset is stored.** Linux reports it once, to the next call. A later read that returns no bytes is not an
  end.
- **An end is final.** After end-of-file, `resumeProducing` does not read again.
- **A dead peer is detected without reading** (Linux): the descriptor is also in the `Poller`'s edge-triggered
  set.
- **A broken connection is reset.** A connection that does not end in order, for example because of an
  exception, is reset, so its peer does not see an end.
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
from portfwd.kernel.socket_options import keep_urgent
from portfwd.kernel.sockets import GONE, has_hung_up, reset_on_close, tcp_info, unsent_bytes
from portfwd.streams.sockets.bulk_reads import BulkReader, BulkReads

_UNIX: Final = getattr(socket, "AF_UNIX", None)


class IStreamProtocol(IHalfCloseableProtocol):
    """A protocol with additional events of a `PlainTransport`."""

    def writing_failed() -> None:
        """The peer accepts no more bytes. Reading continues; unsent bytes are dropped."""

    def wrote() -> None:
        """Some of the kept bytes were sent."""


def _twisted_address(family: int, sockaddr: Any) -> IAddress:
    if family == socket.AF_INET:
        return IPv4Address("TCP", *sockaddr)
    if family == socket.AF_INET6:
        return IPv6Address("TCP", *sockaddr)
    return UNIXAddress(sockaddr)


class PlainTransport(tcp.Connection):
    """
    The transport of one connected, non-blocking socket, which it owns.

    :ivar reads: number of system calls that read bytes.
    :ivar writes: number of system calls that wrote bytes.
    :ivar sent: number of bytes accepted by the kernel.
    :ivar hung_up: whether the kernel has reported an end or a broken connection, which may not be read yet.
    :ivar gone: errno of the error that the peer is gone, or 0.
    :ivar write_broken: whether a write failed.
    :ivar keeps_tcp_info: whether to read `tcp_info` before the socket is closed.
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
        :param skt: a connected socket, owned by the transport.
        :param buffer: bytes of one read.
        :param bulk: its larger reads; None for none.
        :param poller: detects a dead peer; None if there is no poller.
        :param linger: seconds without progress after which a close with kept bytes becomes a reset. None if
            the caller handles this.
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
        """Use another protocol from now on."""
        self.protocol = protocol
        self._stream_protocol = IStreamProtocol(protocol, None)

    def __repr__(self) -> str:
        state = "lost" if not self.connected else "paused" if self._paused else "reading"
        return f"<PlainTransport {state} unsent={self.unsent() if self.connected else 0}>"

    def getHost(self) -> IAddress:
        """The local address for Twisted."""
        return _twisted_address(self.socket.family, self.socket.getsockname())

    def getPeer(self) -> IAddress:
        """The address of the peer for Twisted."""
        return _twisted_address(self.socket.family, self.socket.getpeername())

    # Reading

    def doRead(self, *_: object) -> Any:
        """Read once, and pass the bytes, the end or the loss to the protocol."""
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
            # After a write has got a reset, reads return the remaining bytes and then none.
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
        """Make the next read one of usual size, because bytes of the last one, or their answers, are kept."""
        if self._larger is not None:
            self._larger.filled = False

    def _return_slot(self) -> None:
        """Return the slot: no bytes of the last read wait to be written, or none will be accepted."""
        if self._larger is not None:
            self._larger.release()

    def readConnectionLost(self, reason: Failure) -> None:
        """The reactor reports the end of the peer, after a read or a hang-up."""
        if not self._saw_end and not has_hung_up(self.socket):
            self.startReading()
            return
        self._read_ended = True
        super().readConnectionLost(reason)
        if self._dead and self.connected and not self.write_broken:
            # The reset followed the end. Reads do not report it, and there may be no writes.
            self._clock.callLater(0, self.peer_died)

    def startReading(self) -> None:
        """Start to read, unless the peer has ended."""
        self._return_slot()
        if not self._read_ended:
            self._paused = False
            super().startReading()

    def stopReading(self) -> None:
        """Stop reading."""
        self._paused = True
        super().stopReading()
        if self._dead and self.connected and not self.write_broken:
            # Not now, because the caller is in the middle of an operation.
            self._clock.callLater(0, self.peer_died)

    # Writing

    def write(self, data: bytes) -> None:
        """Send `data` now, and keep bytes that the socket does not accept."""
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
        """Write the pieces together."""
        self.write(b"".join(iovec))

    def writeSomeData(self, data: bytes) -> int:
        """
        Call ``send`` once.

        :returns: number of accepted bytes, or of all bytes if writing has failed.
        """
        if self.write_broken or not data:
            return len(data)
        try:
            sent = self.socket.send(data)
        except BlockingIOError:
            return 0
        except OSError as problem:
            if problem.errno == errno.ENOBUFS:  # the queue of the network card is full: treat it as EAGAIN
                return 0
            self._break_writing(problem.errno or errno.EPIPE)
            return len(data)
        self.writes += 1
        self.sent += sent
        return sent

    def doWrite(self, *_: object) -> Any:
        """The socket accepts bytes again."""
        if not self.connected:  # closed because of bytes read in the same turn
            return None
        before = self.sent
        result = super().doWrite()
        if self.write_broken:
            self.offset = 0  # Twisted counts dropped bytes as sent
        elif self.sent != before and self._stream_protocol is not None and self.connected:
            self._stream_protocol.wrote()
        return result

    def _isSendBufferFull(self) -> bool:
        # At most one read in flight: pause the producer while bytes are kept.
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
            # It must close after bytes that cannot be sent any more.
            self._clock.callLater(0, self.connectionLost, Failure(error.ConnectionLost()))
        if self._stream_protocol is not None:
            self._stream_protocol.writing_failed()

    def loseWriteConnection(self) -> None:
        """End writing after the kept bytes, or now if there are none."""
        if self.write_broken or not self.connected or self._writeDisconnected:
            return
        if self._tempDataLen or self.dataBuffer:
            super().loseWriteConnection()
        else:
            self._writeDisconnecting = True
            self._writeDisconnected = True
            self._closeWriteConnection()

    def _closeWriteConnection(self) -> None:
        # Twisted treats an end that cannot be sent as sent.
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError as problem:
            self._break_writing(problem.errno or errno.EPIPE)
            return
        if self._stream_protocol is not None:
            self._stream_protocol.writeConnectionLost()

    def loseConnection(self) -> None:
        """Close after the kept bytes are written."""
        if not self.connected or self.disconnecting:
            return
        # Twisted would resume a paused producer and not close (#6461).
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
        The poller reports a hang-up.

        RDHUP is an end, which reading will find. So is HUP without ERR: it occurs after both ends, and when
        the peer of a unix socket has closed in order.
        """
        self.hung_up = True
        if events & ERROR and has_hung_up(self.socket):
            self._dead = True
            if self._paused or self._read_ended:
                self.peer_died()

    def failed(self, failure: Failure) -> None:
        """The handling of a hang-up raised `failure`: end this connection with it."""
        self.connectionLost(failure)

    def peer_died(self) -> None:
        """
        The peer accepts no more bytes.

        Its earlier bytes can still be read; then a read tells whether it has ended or was reset.
        """
        through = self._read_ended and self._writeDisconnected
        if self.connected and not self._aborting and not through:
            self._break_writing(errno.EPIPE)

    def connectionLost(self, reason: Failure) -> None:
        """
        Close the socket and call the protocol.

        Reactors also call this for a hang-up while they only wait for writing. Then input may be left, and
        only writing has ended. They may also report a hang-up of another socket (`has_hung_up`), which is
        ignored.
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
        """Register with the reactor again after it has removed the descriptor."""
        if not self._paused:
            self.startReading()
        if self.unsent() or self.disconnecting or self._writeDisconnecting:
            self.startWriting()

    def _closeSocket(self, orderly: bool) -> None:  # noqa: N802 - Twisted's
        if self.keeps_tcp_info:
            self._last_tcp_info = tcp_info(self.socket)
        # Twisted resets only aborted connections. For other failures an end would make a broken stream look
        # complete.
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
        Number of written bytes that the peer has not acknowledged.

        0 after writing has failed. None if the platform cannot tell.
        """
        if not self.connected or self.write_broken:
            return 0
        queued = unsent_bytes(self.socket)
        return None if queued is None else queued + self.unsent()

    def tcp_info(self) -> bytes:
        """See `portfwd.streams.stream.Stream`."""
        return tcp_info(self.socket) if self.connected else self._last_tcp_info

    def unsent(self) -> int:
        """Number of written bytes that are still in this process."""
        return len(self.dataBuffer) - self.offset + self._tempDataLen
