"""Tests of `portfwd.streams.datagrams.datagram_opening`."""

from __future__ import annotations

import socket
from typing import Any, cast

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from portfwd.kernel.datagrams import datagram_socket
from portfwd.rules.model import Options
from portfwd.streams.datagrams.datagram_opening import DatagramStreams, carrier_of
from portfwd.streams.datagrams.datagram_stream import DatagramStream
from portfwd.streams.transports.transport import TransportStream
from tests.streams.carriers import FakeCarrier
from tests.streams.datagrams.test_datagram_socket import FakePoller


class Streams:
    """Makes the streams of other sockets."""

    poller = None

    def accepted(self, *arguments: object) -> str:
        return "accepted"

    def plain(self, *arguments: object, seen: int | None = None) -> str:
        return "plain"


class Targets:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def refused(self, carrier: object, detail: str) -> None:
        self.told.append((carrier, detail))


class DatagramStreamsTests(SynchronousTestCase):
    """Which stream is made of what."""

    def make(self, *, mixed: bool, poller: bool = True) -> DatagramStreams:
        """The streams of a rule."""
        watcher: Any = FakePoller() if poller else None
        return DatagramStreams(
            Clock(), Options(), watcher, cast(Any, Streams()), cast(Any, Targets()), mixed=mixed
        )

    def connected(self) -> socket.socket:
        """A connected datagram socket."""
        sock = datagram_socket(socket.AF_INET)
        self.addCleanup(sock.close)
        sock.connect(("127.0.0.1", 9))
        return sock

    def test_datagrams_on_both_sides(self) -> None:
        """Streams of datagrams."""
        made = self.make(mixed=False)
        self.assertIsInstance(made.arrived(FakeCarrier()), DatagramStream)
        self.assertIsInstance(made.plain(self.connected(), None, 65536), DatagramStream)

    def test_on_one(self) -> None:
        """Streams of bytes; other sockets are what they are in any other rule."""
        made: Any = self.make(mixed=True)
        self.assertIsInstance(made.arrived(FakeCarrier()), TransportStream)
        self.assertIsInstance(made.plain(self.connected(), None, 65536), TransportStream)
        with socket.socket() as sock:
            self.assertEqual(made.plain(sock, None, 65536), "plain")
            self.assertEqual(made.accepted(sock, None, Options()), "accepted")

    def test_carriers(self) -> None:
        """Below each upstream's stream is its carrier, which tells `targets` of refusals."""
        for mixed in (False, True):
            made: Any = self.make(mixed=mixed)
            carrier: Any = carrier_of(made.plain(self.connected(), None, 65536))
            carrier.refused(carrier, "no")
            self.assertEqual(made.targets.told, [(carrier, "no")])

    def test_nobody_watches(self) -> None:
        """Without somebody who watches it, a datagram socket is closed."""
        sock = self.connected()
        with self.assertRaises(OSError):
            self.make(mixed=False, poller=False).plain(sock, None, 65536)
        self.assertEqual(sock.fileno(), -1)
