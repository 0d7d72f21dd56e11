"""Tests of the TLS layer, in memory: both its ends, in the middle of things."""

from __future__ import annotations

import ssl
from typing import Any
from unittest.mock import Mock

from hypothesis import given, settings
from hypothesis import strategies as st
from OpenSSL import SSL
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from portfwd.streams.transports.plain import IStreamProtocol, PlainTransport
from portfwd.streams.transports.tls import FED, MAX_UNREAD, TLSLayer
from portfwd.streams.transports.tls_failures import NotAdmitted, TLSBroken
from portfwd.streams.transports.tls_side import DECODE_ERROR, Before
from portfwd.values import InetAddress, TLSInfo
from portfwd.wire import WireError
from portfwd.wire.client_hello import ClientHello
from tests.streams.tls_peers import CA, Heard, Peer, Wire, client_context, exchange, lose, server_context


class Side:
    """A `TLSSide` over one context."""

    def __init__(self, context: ssl.SSLContext, name: str | None = None) -> None:
        self.speaks_first = name is not None
        self.accepts_eof = False
        self.left = self.started = 0
        self.unwanted = ""
        self._context = context
        self._name = name

    def start(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, hello: ClientHello) -> ssl.SSLObject:
        self.started += 1
        return self._context.wrap_bio(
            incoming, outgoing, server_side=self._name is None, server_hostname=self._name
        )

    def judge(self, tls: ssl.SSLObject, hello: ClientHello) -> TLSInfo:
        if self.unwanted:
            raise NotAdmitted(self.unwanted)
        return TLSInfo(hello.server_name, version=tls.version() or "")

    def leave(self, tls: ssl.SSLObject) -> None:
        self.left += 1


class Measured:
    """A memory of OpenSSL's that notes how much it is given, or gives, at once."""

    def __init__(self, memory: ssl.MemoryBIO, seen: list[int]) -> None:
        self._memory = memory
        self._seen = seen

    @property
    def pending(self) -> int:
        return self._memory.pending

    def write(self, data: bytes) -> int:
        self._seen.append(len(data))
        return self._memory.write(data)

    def read(self) -> bytes:
        data = self._memory.read()
        self._seen.append(len(data))
        return data


class LayerCase(SynchronousTestCase):
    """A layer as the server, its wire, its stream, and a client."""

    def setUp(self) -> None:
        """Nothing was said yet."""
        self.make()

    def make(self, preamble: Any = None) -> None:
        """A new layer."""
        self.side = Side(server_context())
        self.wire, self.heard = Wire(), Heard()
        stream: Any = self.heard
        self.layer = TLSLayer(self.side, stream, preamble)
        transport: Any = self.wire
        self.layer.makeConnection(transport)
        self.peer = Peer(client_context(), "upstream.test")

    def shake(self) -> None:
        """The whole handshake."""
        exchange(self.layer, self.wire, self.peer, self.peer.step(b""))

    def reason(self) -> str:
        """Why the stream was lost, which is a break."""
        assert self.heard.reason is not None
        self.assertIsInstance(self.heard.reason.value, TLSBroken)
        return str(self.heard.reason.value)


class BytesTests(LayerCase):
    """Bytes through an open layer."""

    def test_interface(self) -> None:
        """It is what a plain transport tells of writing."""
        verifyObject(IStreamProtocol, self.layer)

    def test_both_ways(self) -> None:
        """What one writes the other reads; the stream hears of the handshake first."""
        self.shake()
        self.assertEqual(self.heard.told, ["made", "began", "opened"])
        self.assertEqual(self.heard.tls.version, "TLSv1.3")
        exchange(self.layer, self.wire, self.peer, self.peer.say(b"question"))
        self.layer.write(b"answer")
        exchange(self.layer, self.wire, self.peer)
        self.assertEqual((self.heard.data, self.peer.received), (b"question", b"answer"))

    def test_as_client(self) -> None:
        """A layer that speaks first says hello when it is connected."""
        wire, heard = Wire(), Heard()
        stream: Any = heard
        layer = TLSLayer(Side(client_context(), "upstream.test"), stream)
        transport: Any = wire
        layer.makeConnection(transport)
        self.assertEqual(wire.sent[:1], b"\x16", "a handshake record, RFC 8446 section 5.1")
        peer = Peer(server_context())
        exchange(layer, wire, peer)
        exchange(layer, wire, peer, peer.say(b"x" * 100_000))
        self.assertEqual((heard.told, len(heard.data)), (["made", "opened"], 100_000))

    @settings(max_examples=20, deadline=None)
    @given(st.lists(st.integers(1, 40_000), min_size=1, max_size=4), st.integers(1, 30_000))
    def test_any_pieces(self, sizes: list[int], cut: int) -> None:
        """However records are cut, the bytes are the same."""
        self.make()
        self.shake()
        said = bytes(index % 251 for index in range(sum(sizes)))
        wire, start = b"", 0
        for size in sizes:
            wire += self.peer.say(said[start : start + size])
            start += size
        for at in range(0, len(wire), cut):
            self.layer.dataReceived(wire[at : at + cut])
        self.assertEqual(self.heard.data, said)

    def test_with_the_last_handshake_record(self) -> None:
        """Bytes that come together with the end of the handshake are not left behind."""
        hello = self.peer.step(b"")
        self.layer.dataReceived(hello)
        finished = self.peer.step(self.wire.take())
        self.layer.dataReceived(finished + self.peer.say(b"early"))
        self.assertEqual((self.heard.told, self.heard.data), (["made", "began", "opened"], b"early"))

    def test_small_pieces(self) -> None:
        """OpenSSL's memory holds one record at a time, however much is read or written."""
        self.shake()
        said = bytes(range(256)) * 4096
        records = self.peer.say(said)
        seen: list[int] = []
        layer: Any = self.layer
        layer.incoming = Measured(layer.incoming, seen)
        layer.outgoing = Measured(layer.outgoing, seen)
        for start in range(0, len(records), 300_000):
            self.layer.dataReceived(records[start : start + 300_000])
        self.assertEqual(self.heard.data, said)
        self.layer.write(said)
        self.peer.step(self.wire.take())
        self.assertEqual(self.peer.received, said)
        self.assertGreater(len(seen), 120)
        self.assertLessEqual(max(seen), FED)

    def test_began(self) -> None:
        """The stream hears of a handshake when the first message is complete, and not before."""
        hello = self.peer.step(b"")
        self.layer.dataReceived(hello[:-1])
        self.assertEqual(self.heard.told, ["made"])
        self.layer.dataReceived(hello[-1:])
        self.assertEqual(self.heard.told, ["made", "began"])

    def test_written_before(self) -> None:
        """What is written before the handshake is sent after it."""
        self.layer.write(b"at once")
        self.shake()
        self.assertEqual(self.peer.received, b"at once")

    def test_before_the_handshake(self) -> None:
        """What is to come first is sent before the handshake, and once."""
        side, wire, heard = Side(client_context(), "upstream.test"), Wire(), Heard()
        stream: Any = heard
        layer = TLSLayer(side, stream, first=b"PROXY UNKNOWN\r\n")
        transport: Any = wire
        layer.makeConnection(transport)
        said = wire.take()
        self.assertEqual(said[:15], b"PROXY UNKNOWN\r\n")
        exchange(layer, wire, server := Peer(server_context()), server.step(said[15:]))
        self.assertEqual(heard.told, ["made", "opened"])

    def test_passed_on(self) -> None:
        """What the transport offers is passed through, and what it tells too."""
        producer: Any = None
        self.layer.registerProducer(producer, True)
        self.layer.pauseProducing()
        self.layer.resumeProducing()
        self.layer.unregisterProducer()
        self.layer.getHost()
        self.layer.getPeer()
        self.layer.abortConnection()
        self.assertEqual(
            self.wire.calls,
            [
                "registerProducer", "pauseProducing", "resumeProducing", "unregisterProducer",
                "getHost", "getPeer", "abortConnection",
            ],
        )  # fmt: skip
        self.layer.writing_failed()
        self.layer.wrote()
        self.layer.writeConnectionLost()
        self.assertEqual(self.heard.told, ["made", "writing failed", "wrote", "end sent"])

    def test_repr(self) -> None:
        """Its state is in its name."""
        self.assertIn("said nothing", repr(self.layer))
        self.shake()
        self.assertIn("open", repr(self.layer))


class EndTests(LayerCase):
    """``close_notify``, a bare end, and a loss."""

    def setUp(self) -> None:
        """An open layer."""
        super().setUp()
        self.shake()

    def test_close_notify(self) -> None:
        """The peer's is its end, told once; what comes behind it is ignored, and a FIN says nothing new."""
        self.layer.dataReceived(self.peer.say(b"last") + self.peer.notify())
        self.layer.dataReceived(b"rubbish")
        self.layer.readConnectionLost()
        self.assertEqual((self.heard.told, self.heard.data), (["made", "began", "opened", "ended"], b"last"))

    def test_our_end(self) -> None:
        """Ours goes out before the FIN; nothing is written after it."""
        self.layer.loseWriteConnection()
        self.layer.write(b"late")
        self.peer.step(self.wire.take())
        self.assertTrue(self.peer.notified)
        self.assertEqual(self.peer.received, b"")
        # This transport knows no end of one direction.
        self.assertEqual(self.heard.told[-1], "end sent")

    def test_behind_our_end(self) -> None:
        """What the peer says behind our end is delivered, and its FIN is an end."""
        self.layer.loseWriteConnection()
        self.layer.dataReceived(self.peer.say(b"answer"))
        self.layer.readConnectionLost()
        self.assertEqual((self.heard.data, self.heard.told[-1]), (b"answer", "ended"))

    def test_both_ends(self) -> None:
        """The peer's close_notify behind ours is an end, too."""
        self.layer.loseWriteConnection()
        self.peer.step(self.wire.take())
        self.layer.dataReceived(self.peer.notify())
        self.assertEqual(self.heard.told[-1], "ended")

    def test_truncation(self) -> None:
        """A FIN without close_notify breaks the stream; it is reset, and says why."""
        self.layer.dataReceived(self.peer.say(b"half"))
        self.layer.readConnectionLost()
        self.assertEqual(self.wire.calls, ["abortConnection"])
        lose(self.layer, self.wire)
        self.assertIn("without close_notify", self.reason())
        self.assertEqual(self.heard.data, b"half")

    def test_close(self) -> None:
        """A close says close_notify and waits for nobody; the session is kept once."""
        self.layer.loseConnection()
        self.peer.step(self.wire.take())
        self.assertTrue(self.peer.notified)
        lose(self.layer, self.wire)
        self.assertEqual((self.heard.told[-1], self.side.left), ("lost", 1))

    def test_close_after_end(self) -> None:
        """A close behind an end says nothing more."""
        self.layer.loseWriteConnection()
        self.wire.take()
        self.layer.loseConnection()
        self.assertEqual(self.wire.take(), b"")

    def test_changed_record(self) -> None:
        """A record that was changed on its way breaks the stream; what came before is delivered."""
        good, bad = self.peer.say(b"good"), bytearray(self.peer.say(b"evil"))
        bad[-1] ^= 1
        self.layer.dataReceived(good + bytes(bad))
        lose(self.layer, self.wire)
        self.assertEqual((self.heard.data, self.wire.calls), (b"good", ["abortConnection"]))
        self.assertIn("record", self.reason())
        self.layer.write(b"nobody reads this")
        self.layer.dataReceived(b"nor this")

    def test_answers_that_nobody_reads(self) -> None:
        """A peer that asks TLS for answers and reads none is reset before they fill the memory."""
        layer: Any = self.layer
        below = Mock(spec=PlainTransport, unsent=Mock(return_value=0))
        layer.transport = below
        asked = self.peer.say(b"?")
        for kept, wanted in ((0, False), (100, False), (100, True)):
            below.unsent.return_value = kept
            layer.outgoing.write(b"x" * (MAX_UNREAD // 2 + 1))
            layer.dataReceived(asked)
            self.assertEqual(below.abortConnection.called, wanted)
            asked = self.peer.say(b"?")
        self.layer.connectionLost(Failure(ConnectionLost()))
        self.assertIn("does not read the answers", self.reason())

    def test_lost_below(self) -> None:
        """A loss of the connection is told as it is."""
        self.layer.connectionLost(Failure(ConnectionLost()))
        assert self.heard.reason is not None
        self.assertIs(self.heard.reason.type, ConnectionLost)
        self.layer.write(b"too late")
        self.layer.dataReceived(b"too late")
        self.assertEqual(self.wire.sent, b"")


class HandshakeTests(LayerCase):
    """Handshakes that come to nothing."""

    def broken(self) -> str:
        """The reason; the connection was closed, with room for an alert, and not reset."""
        self.assertEqual(self.wire.calls, ["loseConnection"])
        if self.heard.reason is None:
            lose(self.layer, self.wire)
        self.assertNotIn("opened", self.heard.told)
        return self.reason()

    def test_no_tls(self) -> None:
        """Whoever speaks another protocol is told so in the log."""
        for said, wanted in (
            (b"GET / HTTP/1.1\r\n\r\n", "speaks HTTP"),
            (b"SSH-2.0-x\r\n" * 3, "not speak TLS"),
        ):
            self.make()
            self.layer.dataReceived(said)
            self.assertIn(wanted, self.broken())

    def test_hello_that_only_openssl_takes(self) -> None:
        """A first message that only OpenSSL could read is refused, and no certificate is shown."""
        hello = self.peer.step(b"")
        message = hello[5:]

        def records(size: int) -> bytes:
            pieces = [message[start : start + size] for start in range(0, len(message), size)]
            return b"".join(b"\x16\x03\x01" + len(one).to_bytes(2) + one for one in pieces)

        self.assertGreater(len(message), 65)
        for said, wanted in (
            (records(1), "at most 64 records"),
            (b"\x16\x03\x01\x00\x00" + hello, "1 to 16384 bytes"),
            (hello.replace(b"upstream.test", b"upstream/test"), "server name that is no host name"),
        ):
            self.make()
            for start in range(0, len(said), 100):
                self.layer.dataReceived(said[start : start + 100])
            self.assertEqual(self.wire.take(), DECODE_ERROR)
            self.assertIn(wanted, self.broken())
            self.assertEqual(self.side.started, 0)  # the costly work of a handshake is not done

    def test_few_bytes_of_something_else(self) -> None:
        """HTTP is recognised also if it comes byte by byte."""
        for byte in b"GET / HTTP/1.1\r\n":
            self.layer.dataReceived(bytes([byte]))
        self.assertIn("speaks HTTP", self.broken())

    @settings(max_examples=50, deadline=None)
    @given(st.lists(st.binary(min_size=1, max_size=200), max_size=4), st.integers(0, 600), st.booleans())
    def test_anything(self, pieces: list[bytes], kept: int, opened: bool) -> None:
        """Whatever is said, before the handshake or behind it, nothing raises, and rubbish opens nothing."""
        self.make()
        if opened:
            self.shake()
        else:
            self.layer.dataReceived(self.peer.step(b"")[:kept])
        for piece in pieces:
            self.layer.dataReceived(piece)
        self.layer.readConnectionLost()
        lose(self.layer, self.wire)
        self.assertEqual(self.heard.data, b"")
        self.assertEqual("opened" in self.heard.told, opened)

    def test_nothing_said(self) -> None:
        """A client that closes at once said nothing."""
        self.layer.readConnectionLost()
        self.assertEqual(self.broken(), "closed during the TLS handshake: the peer said nothing")
        self.layer.readConnectionLost()

    def test_half_said(self) -> None:
        """One that stops in the middle is known by it."""
        self.layer.dataReceived(self.peer.step(b"")[:100])
        self.assertEqual(self.layer.progress, "the peer stopped in the middle of the handshake")
        self.layer.connectionLost(Failure(ConnectionLost()))
        self.assertIn("reset during the TLS handshake: the peer stopped", self.reason())

    def test_hello_in_pieces(self) -> None:
        """A ClientHello is read for its name however it is cut."""
        for name, wanted in ((b"upstream.test", "upstream.test"), (b"127.0.0.1", "127.0.0.1")):
            self.make()
            client = SSL.Connection(SSL.Context(SSL.TLS_METHOD), None)
            client.set_tlsext_host_name(name)
            client.set_connect_state()
            self.assertRaises(SSL.WantReadError, client.do_handshake)
            hello = client.bio_read(65536)
            for at in range(len(hello)):
                self.assertEqual(self.wire.sent, b"")
                self.layer.dataReceived(hello[at : at + 1])
            client.bio_write(self.wire.take())
            client.do_handshake()
            self.layer.dataReceived(client.bio_read(65536))
            self.assertEqual((self.heard.told[-1], self.heard.tls.server_name), ("opened", wanted))

    def test_lost(self) -> None:
        """A connection that the kernel closes is told of as well."""
        self.layer.connectionLost(Failure(ConnectionDone()))
        self.assertIn("closed during", self.reason())

    def test_refused_by_the_client(self) -> None:
        """A client that does not trust us says so in an alert."""
        import trustme

        self.peer = Peer(client_context(trusts=trustme.CA()), "upstream.test")
        self.shake()
        self.assertIn("does not trust the authority of our certificate", self.broken())
        self.assertIsNotNone(self.peer.problem)

    def test_wrong_name(self) -> None:
        """The client's side names what is wrong with a certificate."""
        wire, heard = Wire(), Heard()
        stream: Any = heard
        layer = TLSLayer(Side(client_context(), "other.test"), stream)
        transport: Any = wire
        layer.makeConnection(transport)
        exchange(layer, wire, Peer(server_context()))
        assert heard.reason is not None
        self.assertIn("for another name", str(heard.reason.value))

    def test_not_admitted(self) -> None:
        """Who is not wanted is closed, although the handshake was good."""
        self.side.unwanted = "not you"
        self.shake()
        self.assertEqual(self.broken(), "TLS handshake: not you")

    def test_ended_before(self) -> None:
        """A client that is refused before its handshake gets an end without one, and is not answered."""
        self.layer.loseWriteConnection()
        self.layer.dataReceived(self.peer.step(b""))
        self.layer.readConnectionLost()
        self.assertEqual((self.wire.sent, self.heard.told[-1]), (b"", "ended"))
        self.layer.connectionLost(Failure(ConnectionDone()))
        assert self.heard.reason is not None
        self.assertIs(self.heard.reason.type, ConnectionDone)

    def test_authority(self) -> None:
        """The authority of these tests is one."""
        self.assertIn(b"BEGIN CERTIFICATE", CA.cert_pem.bytes())


WHO = InetAddress("192.0.2.9", 1)


def ten_bytes(data: bytes) -> Before | None:
    """A preamble of ten bytes that begins with a P."""
    if not data.startswith(b"P"):
        raise WireError("no preamble")
    return None if len(data) < 10 else Before(10, WHO if data[1:2] == b"!" else None)


class PreambleTests(LayerCase):
    """What stands before TLS."""

    def setUp(self) -> None:
        """A layer that wants one."""
        self.make(ten_bytes)

    def test_passed(self) -> None:
        """It is the stream's first bytes, once the handshake is through, however it is cut."""
        hello = self.peer.step(b"")
        self.layer.dataReceived(b"P1234")
        self.assertIn("PROXY header", self.layer.progress)
        self.layer.dataReceived(b"56789")
        self.assertIn("behind its PROXY header", self.layer.progress)
        exchange(self.layer, self.wire, self.peer, hello)
        exchange(self.layer, self.wire, self.peer, self.peer.say(b"hello"))
        self.assertEqual(
            (self.heard.told, self.heard.data), (["made", "began", "opened"], b"P123456789hello")
        )

    def test_in_one(self) -> None:
        """It may come in one piece with the handshake."""
        exchange(self.layer, self.wire, self.peer, b"P123456789" + self.peer.step(b""))
        self.assertEqual(self.heard.told, ["made", "began", "opened"])

    def test_announced(self) -> None:
        """Who it names is told before the handshake begins, and may be refused there."""
        exchange(self.layer, self.wire, self.peer, b"P!23456789" + self.peer.step(b""))
        self.assertEqual(self.heard.told, ["made", f"announced {WHO}", "began", "opened"])
        self.make(ten_bytes)
        self.heard.refuses = True
        self.layer.dataReceived(b"P!23456789" + self.peer.step(b""))
        self.assertEqual((self.heard.told, self.wire.take()), (["made", f"announced {WHO}"], b""))

    def test_missing(self) -> None:
        """Without it there is no handshake."""
        self.shake()
        self.assertEqual(self.reason(), "before the TLS handshake: no preamble")
