"""Tests for the stream over Twisted's transports: on sockets, TLS, and transports that cannot end."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import trustme
from OpenSSL import SSL
from service_identity import VerificationError
from service_identity.exceptions import DNSMismatch
from service_identity.hazmat import DNS_ID
from twisted.internet import error, reactor
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory
from twisted.internet.ssl import CertificateOptions, PrivateCertificate
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.trial import unittest
from zope.interface.verify import verifyObject

from portfwd.kernel.poller import Poller
from portfwd.rules.model import Options
from portfwd.service.tls.targets import ClientSide
from portfwd.streams.opening import StreamMaker
from portfwd.streams.sockets.bulk_reads import BulkReads, BulkSlots
from portfwd.streams.stream import Stream
from portfwd.streams.transports.plain import IStreamProtocol
from portfwd.streams.transports.transport import TransportStream
from tests.streams.conformance import TCP, Owner, StreamConformance, Unix, pattern
from tests.streams.far_ends import (
    FarEnd,
    Pair,
    open_descriptors,
    settled,
    tcp_sockets,
    turn,
    turns,
    unix_sockets,
    unread_bytes,
    until,
)


class _Pair(StreamConformance):
    """Two plain transports."""

    buffer = 8192
    #: Bytes of a larger read; None: there are none.
    bulk: int | None = None

    def setUp(self) -> None:
        self.poller = Poller(reactor)  # type: ignore[arg-type]
        self.poller.start()
        slots = BulkSlots()
        bulk = None if self.bulk is None else BulkReads(self.bulk, slots)
        self.maker = StreamMaker(reactor, self.poller, bulk=bulk)  # type: ignore[arg-type]
        self.addCleanup(self.poller.stop)
        self.addCleanup(lambda: self.assertEqual(slots.taken, 0))

    def streams(self, left: socket.socket, right: socket.socket) -> tuple[Stream, Stream]:
        """Made as for sessions."""
        return self.maker.plain(left, None, 8192), self.maker.plain(right, None, 8192)


class TCPPairTests(TCP, _Pair, unittest.TestCase):
    """The pair over TCP."""


class UnixPairTests(Unix, _Pair, unittest.TestCase):
    """The pair over unix sockets."""


class BulkPairTests(TCP, _Pair, unittest.TestCase):
    """The pair with larger reads, over TCP."""

    bulk = buffer = 65536


class BulkUnixPairTests(Unix, _Pair, unittest.TestCase):
    """The pair with larger reads, over unix sockets."""

    bulk = buffer = 65536


class UnwatchedPairTests(TCP, _Pair, unittest.TestCase):
    """The pair where there is no epoll: a dead peer is noticed when it is read or written to."""

    sees_the_dead = False

    def setUp(self) -> None:
        self.maker = StreamMaker(reactor, None)  # type: ignore[arg-type]


class Wire(StringTransport):
    """A transport in memory that can also be aborted, as Twisted's sockets can."""

    aborted = False
    bufferSize = 1

    def abortConnection(self) -> None:
        self.aborted = True

    def unregisterProducer(self) -> None:
        # As Twisted's sockets, and unlike its own fake, for which one must be there.
        self.producer = None


class Bare:
    """As little as a transport can be."""

    closed = False

    def pauseProducing(self) -> None:
        """It reads nothing anyway."""

    def loseConnection(self) -> None:
        self.closed = True


class Wrapped(ProtocolWrapper):
    """A wrapper that knows nothing of ends."""


class StreamTests(unittest.SynchronousTestCase):
    """A stream over transports in memory."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.owner = Owner()

    def stream(self, transport: Any = None, **options: Any) -> TransportStream:
        """A connected stream that `self.owner` owns."""
        stream = TransportStream(self.clock, 4096, **options)
        stream.own(self.owner)
        if transport is not None:
            stream.makeConnection(transport)
        return stream

    def test_interfaces(self) -> None:
        """It is what Twisted asks for: a half-closeable protocol, and its flow a push producer."""
        stream = self.stream()
        verifyObject(IStreamProtocol, stream)
        stream.join(self.stream(Wire()))
        verifyObject(IPushProducer, stream.source)

    def test_reads_are_enlarged(self) -> None:
        """A transport of Twisted's reads as much at once as the rule says, and not before it is started."""
        wire = Wire()
        stream = self.stream(wire)
        self.assertEqual((wire.bufferSize, wire.producerState), (4096, "paused"))
        stream.join(self.stream(Wire()))
        stream.start()
        self.assertEqual(wire.producerState, "producing")

    def test_tap(self) -> None:
        """Who looks sees what is read from then on, until somebody else does, or nobody."""
        stream = self.stream(Wire())
        stream.start()
        one: list[bytes] = []
        two: list[bytes] = []
        stream.dataReceived(b"before")
        for saw, data in ((one.append, b"first"), (two.append, b"second"), (None, b"after")):
            stream.tap(saw)
            stream.dataReceived(data)
        self.assertEqual((one, two), ([b"first"], [b"second"]))

    def test_a_transport_without_a_buffer_size(self) -> None:
        """What has no such size is taken as it is."""
        stream = self.stream(StringTransport())
        self.assertEqual(repr(stream), "<TransportStream client None open>")

    def test_opened_after_the_handshake(self) -> None:
        """Where a handshake is expected the stream is open only behind it; else it means nothing."""
        opened: list[Stream] = []
        self.owner.opened = opened.append  # type: ignore[method-assign]
        waiting = self.stream(Wire(), handshake=True)
        self.assertEqual(opened, [])
        waiting.handshakeCompleted()
        plain = self.stream(Wire())
        plain.handshakeCompleted()
        self.assertEqual(opened, [waiting, plain])

    def test_early_bytes(self) -> None:
        """What a transport delivers before the start is written first, and its end is told after it."""
        wire, other = Wire(), Wire()
        stream, peer = self.stream(wire), TransportStream(self.clock, 4096)
        peer.makeConnection(other)
        stream.join(peer)
        stream.dataReceived(b"early ")
        stream.readConnectionLost()
        self.assertEqual((other.value(), self.owner.told), (b"", []))
        stream.start()
        stream.dataReceived(b"bird")
        self.assertEqual((other.value(), self.owner.told), (b"early bird", ["ended"]))

    def test_early_bytes_without_anybody(self) -> None:
        """Bytes for nobody go nowhere."""
        stream = self.stream(Wire())
        stream.dataReceived(b"early")
        stream.start()
        self.assertEqual(stream.summary(stream).bytes, 0)

    def test_nothing_is_written_after_the_loss(self) -> None:
        """What would be written to a lost stream is not counted as delivered."""
        stream = self.stream(Wire())
        stream.connectionLost()
        stream.write(b"too late")
        stream.end()
        stream.close()
        self.assertEqual(stream.summary(stream).bytes, 0)
        self.assertEqual(repr(stream), "<TransportStream client None lost>")

    def test_join_to_a_lost_stream(self) -> None:
        """A stream whose peer is gone already joins it all the same, and can be discarded."""
        wire = Wire()
        stream, peer = self.stream(wire), TransportStream(self.clock, 4096)
        peer.makeConnection(Wire())
        peer.connectionLost()
        stream.join(peer)
        stream.discard()
        self.assertEqual(wire.producerState, "producing")

    def test_time_of_a_pause(self) -> None:
        """A summary has the seconds of every pause, the present one included."""
        wire = Wire()
        stream = self.stream(wire)
        stream.join(self.stream(Wire()))
        stream.start()
        flow = stream.source
        assert flow is not None
        flow.pauseProducing()
        self.assertEqual((wire.producerState, repr(stream)[-7:-1]), ("paused", "paused"))
        self.assertEqual(repr(flow), "<TransportFlow from client paused>")
        self.clock.advance(2)
        flow.pauseProducing()
        self.clock.advance(1)
        self.assertEqual(stream.summary(stream).paused, 3.0)
        flow.resumeProducing()
        self.assertEqual(wire.producerState, "producing")
        self.clock.advance(5)
        self.assertEqual(stream.summary(stream).paused, 3.0)

    def test_a_flow_that_is_lost(self) -> None:
        """A flow whose source is gone is neither paused nor read on."""
        wire = Wire()
        stream = self.stream(wire)
        stream.join(self.stream(Wire()))
        flow = stream.source
        assert flow is not None
        self.assertEqual(repr(flow), "<TransportFlow from client not started>")
        stream.start()
        stream.connectionLost()
        wire.producerState = "untouched"
        flow.pauseProducing()
        flow.resumeProducing()
        flow.stopProducing()
        self.assertEqual(
            (wire.producerState, repr(flow)), ("untouched", "<TransportFlow from client moving>")
        )

    def test_counts_without_a_socket(self) -> None:
        """Over any transport bytes count as they are written, and calls as chunks."""
        stream, peer = self.stream(Wire()), TransportStream(self.clock, 4096)
        peer.makeConnection(Wire())
        stream.join(peer)
        stream.start()
        stream.dataReceived(b"123")
        stream.dataReceived(b"45")
        summary = peer.summary(stream)
        self.assertEqual((summary.bytes, summary.reads, summary.writes), (5, 2, 2))
        self.assertIsNone(peer.undelivered())

    def test_kept_bytes_are_a_sign_of_life(self) -> None:
        """When kept bytes go out, the side they came from is not silent."""
        stream, peer = self.stream(Wire()), TransportStream(self.clock, 4096)
        peer.makeConnection(Wire())
        peer.wrote()
        stream.join(peer)
        peer.join(stream)
        self.clock.advance(7)
        peer.wrote()
        self.assertEqual((stream.moved_at, peer.moved_at), (7.0, 0.0))

    def test_a_wrapper_holds_the_end(self) -> None:
        """Over a wrapper that cannot end one direction, the end waits for the other one."""
        wire = Wire()
        stream = TransportStream(self.clock, 4096)
        stream.own(self.owner)
        Wrapped(WrappingFactory(Factory()), stream).makeConnection(wire)
        self.assertEqual(wire.bufferSize, 4096)
        stream.end()
        self.assertEqual((self.owner.told, wire.disconnecting), (["end sent"], False))
        stream.close()
        self.assertTrue(wire.disconnecting)

    def test_an_end_for_nobody(self) -> None:
        """An end of a stream without an owner is nobody's news."""
        stream = TransportStream(self.clock, 4096)
        Wrapped(WrappingFactory(Factory()), stream).makeConnection(Wire())
        stream.end()
        stream.writeConnectionLost()
        stream.own(self.owner)
        self.assertEqual(self.owner.told, [])

    def test_failed_before_it_was_owned(self) -> None:
        """A failed write is told to the next owner, once."""
        stream = TransportStream(self.clock, 4096)
        stream.makeConnection(Wire())
        stream.writing_failed()
        stream.own(self.owner)
        stream.own(self.owner)
        self.assertEqual(self.owner.told, ["writing failed"])

    def test_abort(self) -> None:
        """An abort goes to the lowest transport, past every wrapper; what comes after it is dropped."""
        wire, other = Wire(), Wire()
        stream, peer = TransportStream(self.clock, 4096), TransportStream(self.clock, 4096)
        stream.own(self.owner)
        Wrapped(WrappingFactory(Factory()), stream).makeConnection(wire)
        peer.makeConnection(other)
        stream.join(peer)
        stream.start()
        stream.abort()
        stream.dataReceived(b"no more")
        self.assertTrue(wire.aborted)
        stream.connectionLost(Failure(error.ConnectionAborted()))
        self.assertEqual((self.owner.told, other.value()), (["lost aborted"], b""))

    def test_abort_where_there_is_none(self) -> None:
        """A transport that cannot abort is closed; a stream that never connected has nothing to abort."""
        wire = StringTransport()
        del_abort = type(
            "Bare",
            (),
            {
                "__getattr__": lambda _, name: (
                    getattr(wire, name) if name != "abortConnection" else object.__getattribute__(wire, "no")
                )
            },
        )()
        self.stream(del_abort).abort()
        self.assertTrue(wire.disconnecting)
        TransportStream(self.clock, 4096).abort()

    def test_how_it_was_lost(self) -> None:
        """The reason that Twisted gives becomes ours, with a line that says what happened."""
        mismatch = VerificationError(errors=[DNSMismatch(mismatched_id=DNS_ID("example.org"))])
        for problem, told, detail in (
            (error.ConnectionDone(), "lost orderly", ""),
            (error.ConnectionLost(), "lost reset", "Connection reset by peer"),
            (SSL.Error([("lib", "", "bad record mac")]), "lost reset", "TLS: bad record mac"),
            (SSL.Error(), "lost reset", "Error"),
            (mismatch, "lost failed", "the certificate is for another name: DNSMismatch"),
            (ZeroDivisionError("by zero"), "lost failed", "by zero"),
        ):
            self.owner = Owner()
            stream = self.stream(Wire())
            stream.connectionLost(Failure(problem))
            self.assertEqual(self.owner.told, [told])
            self.assertTrue(self.owner.detail.startswith(detail), self.owner.detail)


class Certified:
    """A server's certificate, its authority, and both sides' Twisted options."""

    def __init__(self) -> None:
        authority = trustme.CA()
        leaf = authority.issue_cert("upstream.test")
        chain = b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
        certificate = PrivateCertificate.loadPEM(chain + leaf.private_key_pem.bytes())
        self.server: CertificateOptions = certificate.options()
        self.authority = authority.cert_pem.bytes()

    def client(self, name: str = "upstream.test") -> Any:
        """What makes a client's TLS connection to `name`."""
        return ClientSide(name, Options(ca="ca.pem"), lambda _: self.authority)


class SecureEnd:
    """
    A scripted TLS server: OpenSSL over memory, over a `FarEnd`.

    Ends are sent by hand, so that a test can leave the ``close_notify`` out.
    """

    def __init__(self, sock: socket.socket, context: SSL.Context) -> None:
        self.wire = FarEnd(sock)
        self.tls = SSL.Connection(context, None)
        self.tls.set_accept_state()
        self.received = bytearray()
        self.notified = False

    async def flush(self) -> None:
        """Give the wire what TLS has for it."""
        try:
            await self.wire.send(self.tls.bio_read(1 << 20))
        except SSL.WantReadError:
            pass  # it has nothing

    async def step(self) -> None:
        """That, and give TLS what the wire has."""
        await self.flush()
        have = len(self.wire.received)
        await self.wire.read(have + max(1, unread_bytes(self.wire.socket)))
        self.tls.bio_write(bytes(self.wire.received[have:]))

    async def shake(self) -> None:
        """Do the handshake, or as much of it as the other side does."""
        while self.wire.incoming == "open":
            try:
                self.tls.do_handshake()
                await self.flush()
                return
            except SSL.WantReadError:
                await self.step()

    async def read(self, count: int) -> None:
        """Read until `count` bytes have come, or a ``close_notify``."""
        while len(self.received) < count and not self.notified:
            try:
                self.received += self.tls.recv(65536)
            except SSL.WantReadError:
                await self.step()
            except SSL.ZeroReturnError:
                self.notified = True

    async def send(self, data: bytes) -> None:
        """Send `data`."""
        for start in range(0, len(data), 16384):
            self.tls.send(data[start : start + 16384])
        await self.wire.send(self.tls.bio_read(1 << 24))

    async def notify(self) -> None:
        """Send a ``close_notify``."""
        self.tls.shutdown()
        await self.wire.send(self.tls.bio_read(1 << 16))


class TLSTests(unittest.TestCase):
    """The stream over TLS over a plain transport: ``client`` is plain, ``upstream`` speaks TLS."""

    timeout = 20
    #: Makes the sockets that TLS is over.
    sockets: Callable[..., Pair] = staticmethod(tcp_sockets)

    async def make(self, name: str = "upstream.test", linger: float = 5.0) -> None:
        """A plain stream and a TLS stream, joined, with the handshake behind them if `name` is right."""
        await turn()
        self.before = open_descriptors()
        certified = Certified()
        poller = Poller(reactor)  # type: ignore[arg-type]
        poller.start()
        maker = StreamMaker(reactor, poller)  # type: ignore[arg-type]
        near, far = tcp_sockets(size=65536)
        self.client = FarEnd(far)
        self.of_left, self.of_right = Owner(), Owner()
        self.opened: list[Stream] = []
        self.of_right.opened = self.opened.append  # type: ignore[method-assign]
        self.left = maker.plain(near, None, 16384)
        self.left.own(self.of_left)
        near, far = self.sockets(size=65536)
        self.upstream = SecureEnd(far, certified.server.getContext())
        self.right = maker.tls_client(near, None, 16384, certified.client(name), self.of_right, linger)
        self.addCleanup(self._finish, poller)

    async def _finish(self, poller: Poller) -> None:
        self.left.abort()
        self.right.abort()
        await self.of_left.hears("lost")
        await self.of_right.hears("lost")
        self.client.close()
        self.upstream.wire.close()
        poller.stop()
        await turns()
        self.assertEqual(self.of_left.too_late + self.of_right.too_late, [])
        await until(lambda: open_descriptors() <= self.before)

    async def relaying(self, **options: Any) -> None:
        """Joined and started."""
        await self.make(**options)
        await self.upstream.shake()
        await until(lambda: self.opened)
        self.left.join(self.right)
        self.right.join(self.left)
        self.left.start()
        self.right.start()

    async def test_bytes_both_ways(self) -> None:
        """Bytes pass through TLS both ways, more than the sockets hold."""
        await self.relaying()
        there, back = pattern(300_000, 1), pattern(200_000, 2)
        reading = self.client.read(len(back))
        sending = self.client.send(there)
        await self.upstream.read(len(there))
        await self.upstream.send(back)
        await sending
        await reading
        self.assertEqual((bytes(self.upstream.received), bytes(self.client.received)), (there, back))
        summary = self.right.summary(self.left)
        self.assertEqual(summary.bytes, len(there))
        self.assertGreater(summary.writes, 0)

    async def test_our_end_is_a_close_notify(self) -> None:
        """Our end is a ``close_notify``; what the peer still sends is delivered (RFC 8446 section 6.1)."""
        await self.relaying()
        await self.client.send(b"question")
        await self.upstream.read(8)
        self.right.end()
        self.assertEqual(self.of_right.told, ["end sent"])
        await self.upstream.read(9)
        self.assertTrue(self.upstream.notified)
        await self.upstream.send(b"answer")
        await self.client.read(6)
        await self.upstream.notify()
        await self.of_right.hears("ended")
        self.assertEqual(bytes(self.client.received), b"answer")

    async def test_their_close_notify_is_an_end(self) -> None:
        """A ``close_notify`` of the peer is its end; what it is still sent arrives (RFC 8446 section 6.1)."""
        await self.relaying()
        await self.upstream.send(b"bye")
        await self.upstream.notify()
        await self.of_right.hears("ended")
        await self.client.read(3)
        await self.client.send(b"and you?")
        await self.upstream.read(8)
        self.assertEqual(bytes(self.upstream.received), b"and you?")
        self.assertEqual(self.of_right.told, ["ended"])

    async def test_an_end_behind_ours(self) -> None:
        """Once our ``close_notify`` is out, the peer's FIN alone is an end: nothing was to follow."""
        await self.relaying()
        self.right.end()
        await self.upstream.read(1)
        self.assertTrue(self.upstream.notified)
        self.upstream.wire.end()
        await self.of_right.hears("ended")

    async def test_our_end_to_one_who_is_gone(self) -> None:
        """A peer that has said ``close_notify`` and closed answers ours with a reset; all was said."""
        await self.relaying()
        await self.upstream.notify()
        self.upstream.wire.close()
        await self.of_right.hears("ended")
        self.right.end()
        await self.of_right.hears("end sent")
        self.assertEqual(self.of_right.told, ["ended", "end sent"])

    async def leave(self, *, unread: bool, notify: bool = True) -> None:
        """The peer closes at once, and its end or reset was not read yet."""
        if unread:
            await self.client.send(b"unread")
            await until(lambda: unread_bytes(self.upstream.wire.socket) > 0)
        if notify:
            self.upstream.tls.shutdown()
            self.upstream.wire.socket.send(self.upstream.tls.bio_read(1 << 16))
        self.upstream.wire.close()

    async def test_our_end_crosses_theirs(self) -> None:
        """A peer says ``close_notify`` and closes before ours is out. Ours fails, and theirs is read next."""
        await self.relaying()
        await self.leave(unread=False)
        self.right.end()
        await self.of_right.hears("ended")
        self.assertEqual(self.of_right.told[:2], ["end sent", "ended"])

    async def test_our_end_crosses_theirs_and_a_reset(self) -> None:
        """It left bytes unread, so its kernel resets the connection: with TCP, and with unix sockets too."""
        await self.relaying()
        await self.leave(unread=True)
        self.right.end()
        await self.of_right.hears("ended")
        self.assertEqual(self.of_right.told[:2], ["end sent", "ended"])

    async def test_our_end_crosses_a_reset(self) -> None:
        """A peer that closes with unread bytes and without ``close_notify`` has reset the connection."""
        await self.relaying()
        await self.leave(unread=True, notify=False)
        self.right.end()
        await self.of_right.hears("lost")
        self.assertEqual(self.of_right.told, ["end sent", "lost reset"])

    async def test_data_to_one_who_is_gone(self) -> None:
        """Data that cannot be written are an error, although the peer has ended in order."""
        await self.relaying()
        await self.leave(unread=True)
        self.right.write(b"more")
        self.right.write(b"and more")
        self.right.end()
        await self.of_right.hears("ended")
        self.assertIn("writing failed", self.of_right.told)
        self.assertNotIn("end sent", self.of_right.told)

    async def test_behind_a_close_notify(self) -> None:
        """What comes behind the peer's ``close_notify`` is ignored (RFC 8446 section 6.1)."""
        await self.relaying()
        await self.upstream.notify()
        await self.of_right.hears("ended")
        await self.upstream.wire.send(b"rubbish")
        self.upstream.wire.end()
        self.right.end()
        await self.upstream.read(1)
        self.assertEqual(self.of_right.told, ["ended", "end sent"])

    async def test_truncation_is_a_reset(self) -> None:
        """An end of the connection without a ``close_notify`` is a broken stream, not a complete one."""
        await self.relaying()
        await self.upstream.send(b"half of the sto")
        self.upstream.wire.end()
        await self.of_right.hears("lost")
        self.assertEqual(self.of_right.told, ["lost reset"])
        await self.client.read(15)
        self.assertEqual(bytes(self.client.received), b"half of the sto")

    async def test_reset(self) -> None:
        """A reset of the connection below is told as one, with the system's word for it."""
        await self.relaying()
        await self.client.send(b"unread")  # without it a unix socket cannot reset
        await until(lambda: unread_bytes(self.upstream.wire.socket) > 0)
        self.upstream.wire.reset()
        await self.of_right.hears("lost")
        self.assertEqual(self.of_right.told[-1], "lost reset")

    async def test_abort_sends_no_close_notify(self) -> None:
        """An abort looks like one: the peer sees a reset, and no ``close_notify`` before it."""
        await self.relaying()
        have = len(self.upstream.wire.received)
        self.right.abort()
        await self.upstream.wire.read_to_end()
        self.assertEqual((self.upstream.wire.incoming, len(self.upstream.wire.received)), ("reset", have))
        await self.of_right.hears("lost aborted")

    async def test_written_at_once(self) -> None:
        """What is written is in the send queue at once: an abort that waits for the queue loses nothing."""
        await self.relaying()
        self.right.write(b"x" * 1000)
        self.assertGreaterEqual(self.right.undelivered(), 1000)

    async def test_backpressure(self) -> None:
        """A TLS peer that reads no more stops the client; then everything arrives."""
        await self.relaying()
        data = pattern(1 << 20)
        sending = self.client.send(data)
        await settled(lambda: (self.client.sent, self.right.summary(self.left).bytes))
        self.assertLess(self.client.sent, len(data))
        await self.upstream.read(len(data))
        await sending
        self.assertEqual(bytes(self.upstream.received), data)

    async def test_a_peer_that_ends_and_reads_no_more(self) -> None:
        """A peer that reads no more is given `linger` to take what is kept at a close, then reset."""
        await self.relaying(linger=0.05)
        self.client.send(pattern(1 << 20))
        await settled(lambda: (self.client.sent, self.right.summary(self.left).bytes))
        await self.upstream.notify()
        self.right.close()
        await self.of_right.hears("lost")
        await self.upstream.wire.read_to_end()
        self.assertEqual(self.upstream.wire.incoming, "reset")

    async def test_a_failed_write_is_told(self) -> None:
        """A peer that closes during an upload: writing has failed, and its answer is delivered."""
        await self.relaying()
        await self.client.send(b"unread")
        await until(lambda: unread_bytes(self.upstream.wire.socket))
        self.right.source.pauseProducing()
        await self.upstream.send(b"answer")
        await self.upstream.wire.arrived()
        self.upstream.wire.reset()
        await self.of_right.hears("writing failed")
        self.right.source.resumeProducing()
        await self.client.read(6)
        await self.of_right.hears("lost reset")
        self.assertEqual(bytes(self.client.received), b"answer")

    async def test_wrong_name(self) -> None:
        """A certificate for another name fails the handshake, and the reason says so."""
        await self.make(name="other.test")
        try:
            await self.upstream.shake()
        except SSL.Error:
            pass
        await self.of_right.hears("lost")
        self.assertEqual((self.of_right.told, self.opened), (["lost reset"], []))
        self.assertIn("another name", self.of_right.detail)

    async def test_no_tls_at_all(self) -> None:
        """A peer that does not speak TLS fails the handshake."""
        await self.make()
        await self.upstream.wire.send(b"SSH-2.0-OpenSSH_9.2 what is this?\r\n")
        await self.of_right.hears("lost")
        self.assertIn("TLS handshake: the peer does not speak TLS", self.of_right.detail)


class UnixTLSTests(TLSTests):
    """The same over unix sockets."""

    sockets = staticmethod(unix_sockets)
