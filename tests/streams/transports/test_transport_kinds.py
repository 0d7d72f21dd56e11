"""Tests of `portfwd.streams.transports.transport_kinds`: what kinds of transports do differently."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.interfaces import IHalfCloseableDescriptor
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import StringTransport
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from portfwd.streams.transports.layers import ILayer
from portfwd.streams.transports.transport_kinds import bottom_of, send_end, socket_of


class Ended:
    """Notes that its end was asked for."""

    def __init__(self, handle: object = None) -> None:
        self.ended = False
        self._handle = handle

    def loseWriteConnection(self) -> None:
        self.ended = True

    def getHandle(self) -> object:
        return self._handle


@implementer(IHalfCloseableDescriptor)
class HalfCloseable(Ended):
    """A transport whose end goes out alone."""


@implementer(ILayer)
class Layer(Ended):
    """A layer, as TLS of ours is."""

    progress = ""

    def __init__(self, below: object) -> None:
        super().__init__()
        self.below = below


def wrapped(transport: Any) -> ProtocolWrapper:
    """`transport` below a wrapper of Twisted's."""
    wrapper = ProtocolWrapper(WrappingFactory(Factory()), Protocol())
    wrapper.makeConnection(transport)
    return wrapper


class KindsTests(SynchronousTestCase):
    """Wrappers, layers and descriptors."""

    def test_bottom(self) -> None:
        """Wrappers and layers are looked through, in any order; nothing has nothing below."""
        plain = StringTransport()
        for transport in (plain, wrapped(plain), Layer(plain), Layer(wrapped(plain))):
            self.assertIs(bottom_of(transport), plain)
        self.assertIsNone(bottom_of(None))

    def test_socket(self) -> None:
        """A handle that is a socket is one; any other, or none, is not."""
        with socket.socket() as sock:
            self.assertIs(socket_of(Ended(sock)), sock)
        self.assertIsNone(socket_of(Ended(object())))
        self.assertIsNone(socket_of(StringTransport()))

    def test_ends(self) -> None:
        """Only descriptors and layers send an end alone; through a wrapper none passes."""
        for transport, alone in ((HalfCloseable(), True), (Layer(None), True), (Ended(), False)):
            self.assertEqual((send_end(transport), transport.ended), (alone, alone))
        below = HalfCloseable()
        self.assertEqual((send_end(wrapped(below)), below.ended), (False, False))
