"""The stream over sockets of ours: the suite of all streams, copied, spliced in bulk, and always spliced."""

from __future__ import annotations

import socket

from attrs import evolve
from twisted.internet import reactor
from twisted.trial import unittest

from portfwd.kernel.poller import Poller
from portfwd.limits.descriptors import DescriptorBudget
from portfwd.rules.model import Options, RelayKind
from portfwd.streams.sockets.socket_opening import SocketShare, SocketStreams
from portfwd.streams.stream import Stream
from tests.streams.conformance import TCP, StreamConformance, Unix
from tests.streams.workbench import NothingIdle


class _Sockets(StreamConformance):
    """Two sockets of ours."""

    relay: RelayKind
    #: A slot of a pipe pins a page, and may hold more than one page's bytes (a fragment of 32 KiB
    #: on the loopback): what is in flight is bounded by slots, not by the pipe's size.
    buffer = 65536 // 4096 * 32768

    def setUp(self) -> None:
        self.poller = Poller(reactor)  # type: ignore[arg-type]
        self.poller.start()
        self.addCleanup(self.poller.stop)
        self.pool = NothingIdle(4 * 65536, DescriptorBudget(0, 0), reactor)
        self.addCleanup(self.pool.close)
        options = evolve(Options(), relay=self.relay, buffer=8192, pipe=65536)
        self.maker = SocketStreams(SocketShare(self.poller, self.pool), options)

    def streams(self, left: socket.socket, right: socket.socket) -> tuple[Stream, Stream]:
        """Made as for sessions."""
        return self.maker.plain(left, None, 0), self.maker.plain(right, None, 0)


class _Copied(_Sockets):
    """Every byte passes the one buffer."""

    relay = RelayKind.COPY
    buffer = 8192


class _Adaptive(_Sockets):
    """Bulk is spliced, little is copied."""

    relay = RelayKind.AUTO


class _Spliced(_Sockets):
    """Every byte stays in the kernel."""

    relay = RelayKind.SPLICE


class TCPCopyTests(TCP, _Copied, unittest.TestCase):
    """Copied over TCP."""


class UnixCopyTests(Unix, _Copied, unittest.TestCase):
    """Copied over unix sockets."""


class TCPAdaptiveTests(TCP, _Adaptive, unittest.TestCase):
    """Adaptive over TCP."""


class UnixAdaptiveTests(Unix, _Adaptive, unittest.TestCase):
    """Adaptive over unix sockets."""


class TCPSpliceTests(TCP, _Spliced, unittest.TestCase):
    """Spliced over TCP."""


class UnixSpliceTests(Unix, _Spliced, unittest.TestCase):
    """Spliced over unix sockets."""
