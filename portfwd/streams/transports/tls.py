# -*- test-case-name: tests.streams.transports.test_tls -*-
"""
TLS around a stream: the protocol of a transport, and the transport of a `TransportStream`.

The standard library's TLS works in memory (`ssl.MemoryBIO`), so that it does not
matter what is below, a PROXY header may come before it, and a read of the
socket is a large one. All records that a read completes are decrypted at once: at most
one read is in flight, as without TLS.

Ends are told apart (RFC 8446 section 6.1):

- ``close_notify`` is the peer's end, and ours is one with a FIN behind it; the other direction goes on
  in both versions of TLS;
- an end of the connection without it is a truncation, and breaks the stream, unless
  ours was out already: then nothing more was to be said; or unless the side takes it for an end;
- nobody waits for the peer's ``close_notify``: a close that is asked for is done.

It refuses to judge certificates: the `TLSSide` does.
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

#: Plain bytes of one record at most (RFC 8446 section 5.1): a read of TLS gives no more.
RECORD: Final = 16384

#: What TLS 1.3 adds to a record with AES-GCM or ChaCha20-Poly1305: head, type, tag (RFC 8446 section 5.2).
RECORD_OVERHEAD: Final = 5 + 1 + 16

#: Bytes of records given to OpenSSL at once, a full record. Its memory BIOs grow to the largest piece that
#: they ever held and never shrink: with a megabyte at once, a session that has moved bulk keeps 758 KiB.
FED: Final = RECORD + RECORD_OVERHEAD

#: Bytes of what is no ClientHello that OpenSSL is shown: it recognises HTTP by these.
RECOGNISED: Final = 8

#: Bytes that TLS has to say by itself and the peer does not read. An answer to a key update has 30.
MAX_UNREAD: Final = 16384


@implementer(IStreamProtocol, ILayer)
class TLSLayer(protocol.Protocol):
    """
    TLS of one connection.

    :ivar progress: how far the handshake is, in words; empty once it is through.
    """

    def __init__(
        self, side: TLSSide, stream: LayeredStream, preamble: Preamble | None = None, first: bytes = b""
    ) -> None:
        """
        :param first: sent before TLS, as soon as there is a connection.
        :param stream: is told all that a protocol is told; of the handshake by ``handshakeCompleted``.
        :param preamble: looks for bytes that stand before TLS. They are given to the stream
            before all others, once the handshake is through.
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
        # Of one that begins over a stream that reads already: who stops it must not stop the handshake.
        self._late = False
        self.progress = "the peer said nothing"

    def __repr__(self) -> str:
        state = "broken" if self._broken is not None else self.progress or "open"
        return f"<TLSLayer {state}>"

    @property
    def below(self) -> Any:
        """The transport beneath."""
        return self.transport

    def connectionMade(self) -> None:
        """The transport is there."""
        self._stream.makeConnection(self)
        if self._first:
            first, self._first = self._first, b""
            self.below.write(first)
        if self._side.speaks_first:
            self._start()
            self._shake()

    def begin_late(self, transport: Any, rest: bytes) -> None:
        """Begin over a `transport` that the stream has used so far; of its bytes `rest` was read already."""
        self._late = True
        self.makeConnection(transport)
        transport.resumeProducing()
        if rest:
            self.dataReceived(rest)

    # From below

    def dataReceived(self, data: bytes) -> None:
        """Records, or what stands before them."""
        if self._broken is not None or self._peer_ended:
            return  # RFC 8446 section 6.1: what comes behind a close_notify is ignored
        if not self._open:
            if self._end_sent:
                return  # refused before it could say who it is
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
        """`data` without what stands before TLS, which is kept."""
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
        All that a client of TLS said, once its first message is complete; nothing before.

        It is read here for the name that it asks for. OpenSSL's own way to tell it raises an
        exception nobody can catch where the name is none.
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
            # OpenSSL may know better what it is, and has the alert. If it takes it, we do not: what it would
            # show is the certificate of a name that was never read.
            self._refusal = str(problem)
        else:
            if isinstance(answer, Need):
                self._wanted = answer.total
                return b""
            self._said = answer.value
        data, self._hello = self._hello, b""
        return data

    def _shake_with(self, data: bytes) -> bytes:
        """Go on with the handshake; return what of `data` is behind it."""
        while data and not self._open and self._broken is None and not self._end_sent:
            piece, data = data[:FED], data[FED:]
            if self._tls is None:
                self._start()
            self.incoming.write(piece)
            self._shake()
        return data

    def _start(self) -> None:
        """Make the TLS of this connection: OpenSSL's memory for it is taken here."""
        if not self._side.speaks_first:
            self._stream.handshake_began()
        if self._refusal:
            # OpenSSL only says what is wrong: without a certificate it does none of the costly work.
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
        if tls is None:  # lost meanwhile
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
        self._flush()  # also the alert, which says to the peer what is wrong
        if problem is not None:
            self._break(f"TLS handshake: {explain(problem)}")

    @property
    def _version(self) -> str:
        """Of TLS, as the handshake settled it: after an error OpenSSL does not say."""
        info = self._stream.tls
        return "" if info is None else info.version

    def _decrypt(self, data: bytes) -> None:
        """Give the stream all that can be decrypted with `data`, in one piece."""
        tls, incoming = self._tls, self.incoming
        if tls is None:  # lost while it was opened
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
        """Append to `pieces` what can be decrypted now."""
        try:
            while incoming.pending or tls.pending():
                piece = tls.read(RECORD)
                if not piece:
                    self._peer_ended = True
                    return
                pieces.append(piece)
        except ssl.SSLWantReadError:
            pass  # the rest is part of a record, or what came was not for us
        except ssl.SSLZeroReturnError:
            self._peer_ended = True

    def _answer(self) -> None:
        """
        Send what TLS has to say by itself: new keys, a refusal of renegotiation.

        A peer that asks for such answers and reads none must not fill our memory.
        """
        unsent = self.below.unsent() if isinstance(self.below, PlainTransport) else 0
        self._unread = self._unread + self.outgoing.pending if unsent else 0
        self._flush()
        if self._unread > MAX_UNREAD:
            self._break("TLS: the peer asks for new keys and does not read the answers")

    def _flush(self) -> None:
        data = self.outgoing.read()
        if data:
            self.below.write(data)

    def _break(self, text: str) -> None:
        """End the connection; the stream hears `text` when it is gone."""
        if self._broken is not None:
            return
        self._broken = Failure(TLSBroken(text))
        if self._open and hasattr(self.below, "abortConnection"):
            self.below.abortConnection()
        else:
            # Nothing was said yet that could be taken for all, and an alert is to arrive.
            self.below.loseConnection()

    def readConnectionLost(self) -> None:
        """The connection has no more to read."""
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
        """Our end is out."""
        self._stream.writeConnectionLost()

    def writing_failed(self) -> None:
        """
        See `IStreamProtocol`.

        A peer that has said close_notify and closed resets the connection when it hears ours: all was said.
        """
        if self._parting:
            self._stream.writeConnectionLost()
        else:
            self._stream.writing_failed()

    def wrote(self) -> None:
        """See `IStreamProtocol`."""
        self._stream.wrote()

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        """The transport is gone."""
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
        tls = self._tls
        if not self._end_sent and self._open and tls is not None and self._broken is None:
            try:
                tls.unwrap()
            except ssl.SSLError:
                pass  # it asks for the peer's close_notify, too; ours is written
            self._flush()
        self._end_sent = True

    def loseWriteConnection(self) -> None:
        """End this direction: ``close_notify``, and a FIN where what is below can send one alone."""
        self._say_goodbye()
        self._parting = self._peer_ended
        goes_out_alone = send_end(self.below)
        self._parting = False
        if not goes_out_alone:
            self._stream.writeConnectionLost()

    def loseConnection(self) -> None:
        """Close when what is kept is written."""
        self._say_goodbye()
        self.below.loseConnection()

    @property
    def hung_up(self) -> bool:
        """Whether the connection below has an end that may not be read yet."""
        return bool(getattr(self.below, "hung_up", False))

    def undelivered(self) -> int | None:
        """What waits for the handshake, and what is below, where bytes of records count."""
        below = undelivered_bytes(self.below)
        return None if below is None else below + sum(map(len, self._waiting))

    def abortConnection(self) -> None:
        """Reset, without a ``close_notify``."""
        self.below.abortConnection()

    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None:
        """Tell `producer` when to stop and when to go on."""
        self.below.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        """Tell it no more."""
        self.below.unregisterProducer()

    def pauseProducing(self) -> None:
        """Read no more for now."""
        if self._open or not self._late:
            self.below.pauseProducing()

    def resumeProducing(self) -> None:
        """Read again."""
        self.below.resumeProducing()

    def getHost(self) -> IAddress:
        """Our own address, as Twisted has it."""
        return self.below.getHost()  # type: ignore[no-any-return]

    def getPeer(self) -> IAddress:
        """The peer's address, as Twisted has it."""
        return self.below.getPeer()  # type: ignore[no-any-return]
