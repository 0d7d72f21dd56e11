"""Tests of `portfwd.streams.datagrams.datagram_transport`."""

from __future__ import annotations

from twisted.internet.interfaces import IHalfCloseableDescriptor, ITransport
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from portfwd.rules.model import Framing
from portfwd.streams.datagrams.carrier import MOST_KEPT
from portfwd.streams.datagrams.datagram_transport import MOST_PAYLOAD, DatagramTransport
from portfwd.streams.stream import Loss
from portfwd.streams.transports.transport import TransportStream
from tests.streams.carriers import FakeCarrier, Owner


class TransportCase(SynchronousTestCase):
    """A stream with datagrams below it, joined to one that writes down what it gets."""

    framing = Framing.NONE
    answers: float | None = 5.0

    def setUp(self) -> None:
        self.clock = Clock()
        self.carrier, self.other = FakeCarrier(), FakeCarrier()
        self.stream, self.transport = self.make(self.carrier)
        # Of the other side only what is written to it matters: datagrams of unframed bytes are just that.
        self.peer = TransportStream(self.clock, 65536)
        DatagramTransport(self.other, self.peer, Framing.NONE, self.clock, None)
        self.owner = Owner()
        self.stream.own(self.owner)
        self.stream.join(self.peer)
        self.peer.join(self.stream)

    def make(self, carrier: FakeCarrier) -> tuple[TransportStream, DatagramTransport]:
        """A stream over `carrier`."""
        stream = TransportStream(self.clock, 65536)
        return stream, DatagramTransport(carrier, stream, self.framing, self.clock, self.answers)


class UnframedTests(TransportCase):
    """``framing=none``."""

    def test_interfaces(self) -> None:
        """It is a transport that knows half-close."""
        verifyObject(ITransport, self.transport)
        verifyObject(IHalfCloseableDescriptor, self.transport)
        self.assertIs(self.transport.getPeer(), self.carrier.address)
        self.assertIs(self.transport.getHost(), self.carrier.local)
        self.assertEqual((self.stream.address, self.stream.local), (self.carrier.address, self.carrier.local))

    def test_each_piece_is_a_datagram(self) -> None:
        """What is written goes out as it is; what comes in is bytes."""
        self.stream.start()
        self.stream.write(b"abc")
        self.transport.writeSequence([b"d", b"e"])
        self.carrier.brings(b"answer", b"", b"more")
        self.assertEqual(self.carrier.sent, [b"abc", b"de"])
        self.assertEqual(self.other.sent, [b"answer", b"more"])

    def test_too_much_for_one(self) -> None:
        """A piece beyond what IPv4 carries goes out as several."""
        self.stream.write(bytes(MOST_PAYLOAD + 1))
        self.assertEqual([len(one) for one in self.carrier.sent], [MOST_PAYLOAD, 1])

    def test_not_read(self) -> None:
        """While nobody reads, a few datagrams are kept in order, and the rest is dropped and counted."""
        self.carrier.brings(*(b"%d" % number for number in range(MOST_KEPT + 2)))
        self.stream.start()
        self.assertEqual(self.other.sent, [b"%d" % number for number in range(MOST_KEPT)])
        self.assertEqual(self.transport.drops()["queue"], 2)

    def test_not_sent(self) -> None:
        """A datagram that the kernel does not take is dropped and counted."""
        self.carrier.full = True
        self.stream.write(b"a")
        self.assertEqual(self.transport.dropped, 1)

    def test_end_behind_what_is_kept(self) -> None:
        """The end does not overtake the datagrams that are kept while the stream takes no more."""
        self.stream.start()
        self.stream.hold()
        self.carrier.brings(b"a", b"b")
        self.transport.loseWriteConnection()
        self.clock.advance(100)
        self.assertNotIn("ended", self.owner.told)
        self.stream.go_on()
        self.assertEqual((self.other.sent, self.owner.told[-1]), ([b"a", b"b"], "ended"))

    def test_end_of_the_upstream(self) -> None:
        """Asked to end, it waits for answers until it has been silent, and then it is at its own end."""
        self.stream.start()
        self.stream.end()
        self.assertEqual(self.owner.told, ["end sent"])
        self.clock.advance(4)
        self.carrier.brings(b"late answer")
        self.clock.advance(4)
        self.assertEqual(self.owner.told, ["end sent"])
        self.clock.advance(1)
        self.assertEqual(self.owner.told, ["end sent", "ended"])
        self.assertEqual(self.other.sent, [b"late answer"])
        self.transport.loseWriteConnection()

    def test_closed(self) -> None:
        """Closed, it tells the stream, and nothing is left to wait for."""
        self.stream.end()
        self.stream.close()
        self.stream.close()
        self.assertEqual(self.owner.told, ["end sent", (Loss.ORDERLY, "")])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.carrier.closed, 1)
        self.transport.write(b"no more")
        self.transport.loseWriteConnection()
        self.assertEqual(self.carrier.sent, [])

    def test_aborted(self) -> None:
        """So when it is aborted."""
        self.stream.abort()
        self.assertEqual([how for how, _ in self.owner.told], [Loss.ABORTED])  # type: ignore[misc]
        self.assertEqual(self.carrier.closed, 1)

    def test_unreachable(self) -> None:
        """A closed port is a reset, in the kernel's words."""
        self.carrier.breaks("Connection refused")
        ((how, detail),) = self.owner.told  # type: ignore[misc]
        self.assertEqual(how, Loss.RESET)
        self.assertIn("Connection refused", detail)

    def test_repr(self) -> None:
        """It says whether it is open."""
        self.assertIn(" open>", repr(self.transport))
        self.stream.abort()
        self.assertIn(" closed>", repr(self.transport))

    def test_interface_only(self) -> None:
        """What sockets do with these is nothing here."""
        for method in (self.transport.readConnectionLost, self.transport.writeConnectionLost):
            method(None)  # type: ignore[arg-type]
        self.assertEqual(self.owner.told, [])


class FramedTests(TransportCase):
    """``framing=length16``."""

    framing = Framing.LENGTH16

    def test_boundaries(self) -> None:
        """Messages come out as datagrams however the stream was cut, empty ones too; and go in framed."""
        self.stream.start()
        for piece in (b"\0", b"\3ab", b"c\0\0\0\2d", b"e"):
            self.stream.write(piece)
        self.carrier.brings(b"xyz", b"")
        self.assertEqual(self.carrier.sent, [b"abc", b"", b"de"])
        self.assertEqual(self.other.sent, [b"\0\3xyz", b"\0\0"])

    def test_closed_between_two(self) -> None:
        """Messages behind one that ends the session are not sent."""

        def send(data: bytes) -> bool:
            self.carrier.sent.append(data)
            self.carrier.breaks()
            return False

        self.carrier.send = send  # type: ignore[method-assign]
        self.stream.write(b"\0\1a\0\1b")
        self.assertEqual(self.carrier.sent, [b"a"])


class ClientTests(TransportCase):
    """The side of a client."""

    answers = None

    def test_end(self) -> None:
        """Datagrams know no end: the client's side is over when the upstream's is."""
        self.stream.start()
        self.stream.end()
        self.assertEqual(self.owner.told, ["end sent", "ended"])
