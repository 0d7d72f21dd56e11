"""What transports still have for their peers, on every layer."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.tcp import Connection
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.trial.unittest import SynchronousTestCase

from portfwd.streams.transports.transport_queue import undelivered_bytes


class Told:
    """A transport of ours."""

    def __init__(self, count: int | None) -> None:
        self.count = count

    def undelivered(self) -> int | None:
        return self.count


def over(kind: type[ProtocolWrapper], transport: Any) -> ProtocolWrapper:
    """A wrapper around `transport`, without the factory that would have made it."""
    made = kind.__new__(kind)
    made.transport = transport
    return made


class QueueTests(SynchronousTestCase):
    """One transport each."""

    def test_ours(self) -> None:
        """Ours say so."""
        self.assertEqual([undelivered_bytes(Told(one)) for one in (0, 7, None)], [0, 7, None])

    def test_wrapped(self) -> None:
        """What is below a wrapper counts; so does what Twisted's TLS could not encrypt yet."""
        self.assertEqual(undelivered_bytes(over(ProtocolWrapper, Told(7))), 7)
        tls = over(TLSMemoryBIOProtocol, Told(7))
        tls._appSendBuffer = [b"abc", b"de"]
        self.assertEqual(undelivered_bytes(over(ProtocolWrapper, tls)), 12)
        self.assertTrue(issubclass(WrappingFactory.protocol, ProtocolWrapper))

    def test_twisteds(self) -> None:
        """Of a TCP transport of Twisted's: what it keeps, in both places, and the socket's queue."""
        near, far = socket.socketpair(socket.AF_UNIX)
        self.addCleanup(near.close)
        self.addCleanup(far.close)
        transport = Connection.__new__(Connection)
        transport.socket = near
        transport.connected = True
        self.assertEqual(undelivered_bytes(transport), 0)
        transport.dataBuffer, transport.offset = b"abcdef", 2
        transport._tempDataBuffer, transport._tempDataLen = [b"xyz"], 3
        self.assertEqual(undelivered_bytes(transport), 7)
        near.send(b"in the queue")
        self.assertGreater(undelivered_bytes(transport) or 0, 7)

    def test_cannot_tell(self) -> None:
        """A transport that is neither cannot tell."""
        self.assertIsNone(undelivered_bytes(object()))
