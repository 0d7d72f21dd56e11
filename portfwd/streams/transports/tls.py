# -*- test-case-name: tests.streams.transports.test_tls -*-
"""
TLS for a stream: the protocol of a transport, and the transport of a `TransportStream`.

It uses the standard library's TLS in memory (`ssl.MemoryBIO`). Any transport can be below it, a PROXY header
may precede it, and reads of the socket are large. All records that a read completes are decrypted at once, so
at most one read is in flight, as without TLS.

Ends are distinguished (RFC 8446 section 6.1):

- ``close_notify`` is the end of the peer. Ours is sent with a FIN after it. The other direction continues in
  both versions of TLS.
- An end of the connection without it is a truncation and breaks the stream, unless our end was sent already,
  or the side accepts it as an end.
- A close does not wait for the peer's ``close_notify``.

The `TLSSide` judges certificates.
"""

from __future__ import annotations

import ssl
from typing import Any, Final

from twisted.internet import error, protocol
from twisted.internet.interfaces import IAddress, IPushProducer
from twisted.python.failure import Failure
from zope.interface import implementer

from portfwd.streams.transports.layers import ILayer, LayeredStream
from portfwd.streams.transports.plain import IStreamProtocol, PlainTransport
from portfwd.streams.transports.tls_failures import NotAdmitted, TLSBroken, explain, explain_open
from portfwd.streams.transports.tls_side import DECODE_ERROR, HandshakeRefused, Preamble, TLSSide
from portfwd.streams.transports.transport_kinds import send_end
from portfwd.streams.transports.transport_queue import undelivered_bytes
from portfwd.wire import Need, WireError
from portfwd.wire.client_hello import ClientHello, read_client_hello

#: Most bytes of data in one record (RFC 8446 section 5.1), and of one read of TLS.
RECORD: Final = 16384

#: Bytes that TLS 1.3 adds to a record with AES-GCM or ChaCha20-Poly1305: head, type, tag (RFC 8446 section
#: 5.2).
RECORD_OVERHEAD: Final = 5 + 1 + 16

#: Bytes of records passed to OpenSSL at once: a full record. Its memory BIOs never shrink; with a megabyte at
#: once, a session that has moved bulk data keeps 758 KiB.
FED: Final = RECORD + RECORD_OVERHEAD

#: Bytes passed to OpenSSL if they are not a ClientHello. It recognises HTTP by them.
RECOGNISED: Final = 8

#: Most unread bytes that TLS sends by itself. An answer to a key update has 30.
MAX_UNREAD: Final = 16384


@implementer(IStreamProtocol, ILayer)
class TLSLayer(protocol.Protocol):
    """
    TLS of one connection.

    :ivar progress: text about the progress of the handshake; empty after it.
    """

    def __init__(
        self, side: TLSSide, stream: LayeredStream, preamble: Preamble | None = None, first: bytes = b""
    ) -> None:
        """
        :param first: bytes to send before TLS, as soon as it is connected.
        :param stream: gets all calls of a protocol, and ``handshakeCompleted``.
        :param preamble: finds bytes before TLS. The stream gets them first, after the handshake.
        """
        self._side = side
        self._stream = stream
        self._preamble = preamble
        self._first = first
        self._head = b""
        self._hello = b""
        self._wanted = 0
        self._said = ClientHello()
        self._refusal = ""
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = None
        self._waiting: list[bytes] = []
        self._broken: Failure | None = None
        self._open = False
        self._end_sent = False
        self._peer_ended = False
        self._parting = False
        self._unread = 0
        # For TLS that begins later: pausing the stream must not pause the handshake.
        self._late = False
        self.progress = "the peer said nothing"

    def __repr__(self) -> str:
        state = "broken" if self._broken is not None else self.progress or "open"
        return f"<TLSLayer {state}>"

    @property
    def below(self) -> Any:
        """The transport below."""
        return self.transport

    def connectionMade(self) -> None:
        """The transport is connected."""
        self._stream.makeConnection(self)
        if self._first:
            first, self._first = self._first, b""
            self.below.write(first)
        if self._side.speaks_first:
            self._start()
            self._shake()

    def begin_late(self, transport: Any, rest: bytes) -> None:
        """Begin over a `transport` that the stream has used so far. `rest` was read from it already."""
        self._late = True
        self.makeConnection(transport)
        transport.resumeProducing()
        if rest:
            self.dataReceived(rest)

    # From below

    def dataReceived(self, data: bytes) -> None:
        """Handle records, or bytes before them."""
        if self._broken is not None or self._peer_ended:
            return  # RFC 8446 section 6.1: data after a close_notify is ignored
        if not self._open:
            if self._end_sent:
                return  # refused before its handshake
            data = self._behind_preamble(data)
            if self._tls is None:
                data = self._whole_hello(data)
            if not data:
                return
            data = self._shake_with(data)
            if not self._open or not (data or self.incoming.pending):
                return
        self._decrypt(data)

    def _behind_preamble(self, data: bytes) -> bytes:
        """`data` without the bytes before TLS, which are kept."""
        if self._preamble is None:
            return data
        self._head += data
        self.progress = "the PROXY header before the TLS handshake is not complete"
        try:
            before = self._preamble(self._head)
        except WireError as problem:
            self._break(f"before the TLS handshake: {problem}")
            return b""
        if before is None:
            return b""
        self._preamble = None
        self._head, data = self._head[: before.size], self._head[before.size :]
        self.progress = "the peer said nothing behind its PROXY header"
        if before.client is None:
            return data
        welcome = self._stream.announced(before.client, before.local) and not self._end_sent
        return data if welcome else b""

    def _whole_hello(self, data: bytes) -> bytes:
        """
        All bytes of a TLS client after its first message is complete; empty before.

        The message is parsed here for the server name. OpenSSL's own callback raises an exception that cannot
        be caught if the name is not valid.
        """
        if not data:
            return b""
        self._hello += data
        self.progress = "the peer stopped in the middle of the handshake"
        if len(self._hello) < self._wanted:
            return b""
        try:
            answer = read_client_hello(self._hello)
        except WireError as problem:
            if len(self._hello) < RECOGNISED:
                self._wanted = RECOGNISED
                return b""
            # OpenSSL may recognise it and has the alert. If OpenSSL accepts it, refuse it nevertheless: it
            # would send the certificate of a name that was never read.
            self._refusal = str(problem)
        else:
            if isinstance(answer, Need):
                self._wanted = answer.total
                return b""
            self._said = answer.value
        data, self._hello = self._hello, b""
        return data

    def _shake_with(self, data: bytes) -> bytes:
        """Continue the handshake; return the bytes of `data` after it."""
        while data and not self._open and self._broken is None and not self._end_sent:
            piece, data = data[:FED], data[FED:]
            if self._tls is None:
                self._start()
            self.incoming.write(piece)
            self._shake()
        return data

    def _start(self) -> None:
        """Make the TLS object of this connection, which allocates OpenSSL's memory."""
        if not self._side.speaks_first:
            self._stream.handshake_began()
        if self._refusal:
            # OpenSSL only reports the error. Without a certificate it does no costly work.
            nobody = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls = nobody.wrap_bio(self.incoming, self.outgoing, server_side=True)
            return
        try:
            self._tls = self._side.start(self.incoming, self.outgoing, self._said)
        except HandshakeRefused as problem:
            self.below.write(problem.alert)
            self._break(f"TLS handshake: {problem}")

    def _shake(self) -> None:
        tls = self._tls
        if tls is None:  # closed meanwhile
            return
        if self.incoming.pending:
            self.progress = "the peer stopped in the middle of the handshake"
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            self._not_shaken(None)
            return
        except ssl.SSLError as problem:
            self._not_shaken(problem)
            return
        self._flush()
        try:
            info = self._side.judge(tls, self._said)
        except NotAdmitted as problem:
            self._break(f"TLS handshake: {problem}")
            return
        self._open = True
        self.progress = ""
        self._stream.tls = info
        waiting, self._waiting = self._waiting, []
        for data in waiting:
            self.write(data)
        self._stream.handshakeCompleted()
        if self._head:
            head, self._head = self._head, b""
            self._stream.dataReceived(head)

    def _not_shaken(self, problem: ssl.SSLError | None) -> None:
        """The handshake is not through; None: it wants more bytes."""
        if self._refusal and (problem is None or problem.reason == "NO_SHARED_CIPHER"):
            self.outgoing.read()
            self.below.write(DECODE_ERROR)
            self._break(f"TLS handshake: {self._refusal}")
            return
        self._flush()  # including the alert, which tells the peer the cause
        if problem is not None:
            self._break(f"TLS handshake: {explain(problem)}")

    @property
    def _version(self) -> str:
        """The negotiated version of TLS, stored because OpenSSL does not tell it after an error."""
        info = self._stream.tls
        return "" if info is None else info.version

    def _decrypt(self, data: bytes) -> None:
        """Pass all bytes that can be decrypted with `data` to the stream, in one piece."""
        tls, incoming = self._tls, self.incoming
        if tls is None:  # closed while it was opened
            return
        pieces: list[bytes] = []
        problem: ssl.SSLError | None = None
        try:
            if len(data) <= FED:
                incoming.write(data)
                self._read_all(tls, incoming, pieces)
            else:
                whole = memoryview(data)
                for start in range(0, len(data), FED):
                    incoming.write(whole[start : start + FED])
                    self._read_all(tls, incoming, pieces)
                    if self._peer_ended:
                        break
        except ssl.SSLError as error_:
            problem = error_
        if self.outgoing.pending:
            self._answer()
        if pieces:
            self._stream.dataReceived(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if problem is not None:
            self._break(f"TLS: {explain_open(problem, self._version)}")
        elif self._peer_ended and self._broken is None:
            self._stream.readConnectionLost()

    def _read_all(self, tls: ssl.SSLObject, incoming: ssl.MemoryBIO, pieces: list[bytes]) -> None:
        """Append the bytes that can be decrypted now to `pieces`."""
        try:
            while incoming.pending or tls.pending():
                piece = tls.read(RECORD)
                if not piece:
                    self._peer_ended = True
                    return
                pieces.append(piece)
        except ssl.SSLWantReadError:
            pass  # the rest is an incomplete record, or there was no data
        except ssl.SSLZeroReturnError:
            self._peer_ended = True

    def _answer(self) -> None:
        """
        Send messages of TLS itself: new keys, a refusal of renegotiation.

        A peer that causes such messages and does not read must not use up memory.
        """
        self._unread = self._unread + self.outgoing.pending if self._unsent() else 0
        self._flush()
        if self._unread > MAX_UNREAD:
            self._break("TLS: the peer asks for new keys and does not read the answers")

    def _unsent(self) -> int:
        """Number of bytes that the transport below keeps."""
        return self.below.unsent() if isinstance(self.below, PlainTransport) else 0

    def _flush(self) -> None:
        data = self.outgoing.read()
        if data:
            self.below.write(data)

    def _break(self, text: str) -> None:
        """End the connection. The stream gets `text` when it is closed."""
        if self._broken is not None:
            return
        self._broken = Failure(TLSBroken(text))
        if self._open and hasattr(self.below, "abortConnection"):
            self.below.abortConnection()
        else:
            # No data was sent that could look complete, and the alert must arrive.
            self.below.loseConnection()

    def readConnectionLost(self) -> None:
        """The connection below has ended."""
        if self._peer_ended or self._broken is not None:
            return
        if self._end_sent or (self._open and self._side.accepts_eof):
            self._peer_ended = True
            self._stream.readConnectionLost()
        elif self._open:
            self._break("the connection ended without close_notify: what came before may be cut short")
        else:
            self._break(f"closed during the TLS handshake: {self.progress}")

    def writeConnectionLost(self) -> None:
        """Our end was sent."""
        self._parting = False
        self._stream.writeConnectionLost()

    def writing_failed(self) -> None:
        """
        See `IStreamProtocol`.

        A peer may close after its own close_notify, whether that was read or not, without waiting for ours.
        Ours then fails. That is not an error if all data were written before: the peer's end or its reset,
        which is read next, tells how it has ended.
        """
        if self._parting:
            self.writeConnectionLost()
        else:
            self._stream.writing_failed()

    def wrote(self) -> None:
        """See `IStreamProtocol`."""
        self._stream.wrote()

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        """The transport was closed."""
        tls, self._tls = self._tls, None
        if self._broken is not None:
            reason = self._broken
        elif (
            not self._open and not self._end_sent and reason.check(error.ConnectionDone, error.ConnectionLost)
        ):
            how = "closed" if reason.check(error.ConnectionDone) else "reset"
            reason = Failure(TLSBroken(f"{how} during the TLS handshake: {self.progress}"))
        elif tls is not None and self._open:
            self._side.leave(tls)
        self._stream.connectionLost(reason)

    # From above: the transport of the stream

    def write(self, data: bytes) -> None:
        """Encrypt and send."""
        if self._end_sent or self._broken is not None or not data:
            return
        if not self._open:
            self._waiting.append(data)
            return
        if self._tls is None:
            return  # lost
        tls, outgoing = self._tls, self.outgoing
        try:
            if len(data) <= RECORD:
                tls.write(data)
                data = outgoing.read()
            else:
                whole, records = memoryview(data), []
                for start in range(0, len(data), RECORD):
                    tls.write(whole[start : start + RECORD])
                    records.append(outgoing.read())
                data = b"".join(records)
        except ssl.SSLError as problem:
            self._break(f"TLS: {explain_open(problem, self._version)}")
            return
        self.below.write(data)

    def _say_goodbye(self) -> None:
        tls, end_sent = self._tls, self._end_sent
        self._end_sent = True
        if not end_sent and self._open and tls is not None and self._broken is None:
            try:
                tls.unwrap()
            except ssl.SSLError:
                pass  # it waits for the peer's close_notify, but ours is written
            self._flush()

    def loseWriteConnection(self) -> None:
        """End this direction with ``close_notify``, and a FIN if the transport below supports half-close."""
        self._parting = not self._unsent()
        self._say_goodbye()
        if not send_end(self.below):
            self.writeConnectionLost()

    def loseConnection(self) -> None:
        """Close after the kept bytes are written."""
        self._say_goodbye()
        self.below.loseConnection()

    @property
    def hung_up(self) -> bool:
        """Whether the connection below has ended, although its end may not be read yet."""
        return bool(getattr(self.below, "hung_up", False))

    def undelivered(self) -> int | None:
        """Number of undelivered bytes: those waiting for the handshake, and bytes of records below."""
        below = undelivered_bytes(self.below)
        return None if below is None else below + sum(map(len, self._waiting))

    def abortConnection(self) -> None:
        """Reset, without a ``close_notify``."""
        self.below.abortConnection()

    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None:
        """Pause and resume `producer`."""
        self.below.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        """Remove the producer."""
        self.below.unregisterProducer()

    def pauseProducing(self) -> None:
        """Stop reading."""
        if self._open or not self._late:
            self.below.pauseProducing()

    def resumeProducing(self) -> None:
        """Read again."""
        self.below.resumeProducing()

    def getHost(self) -> IAddress:
        """The local address for Twisted."""
        return self.below.getHost()  # type: ignore[no-any-return]

    def getPeer(self) -> IAddress:
        """The address of the peer for Twisted."""
        return self.below.getPeer()  # type: ignore[no-any-return]
