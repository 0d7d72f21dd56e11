"""Tests for making streams and flows of plain sockets: what is shared, what each rule has of its own."""

from __future__ import annotations

import errno
import os
import select
import socket
from typing import Any

from twisted.internet.task import Clock
from twisted.trial import unittest

from portfwd.kernel import socket_options
from portfwd.kernel.pipes import PipePool
from portfwd.limits.descriptors import DescriptorBudget
from portfwd.rules.model import Keepalive, Options, RelayKind
from portfwd.streams.sockets.socket_opening import SocketShare, SocketStreams
from portfwd.values import InetAddress
from tests.streams.far_ends import tcp_sockets

CLIENT = InetAddress("192.0.2.1", 4711)


class FakePoller:
    """Writes down what it is asked; may refuse."""

    now = 7.0

    def __init__(self) -> None:
        self.watched: list[int] = []
        self.handed_over: list[int] = []
        self.problem: OSError | None = None

    def watch(self, descriptor: int, events: int, watcher: object) -> None:
        if self.problem is not None:
            raise self.problem
        self.watched.append(descriptor)

    def hand_over(self, descriptor: int, watcher: object) -> None:
        self.handed_over.append(descriptor)


class Gone(socket.socket):
    """A client's socket that can be set up no more."""

    def setsockopt(self, *_: Any) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))


class OpeningTests(unittest.SynchronousTestCase):
    """`SocketStreams`."""

    def setUp(self) -> None:
        self.poller = FakePoller()
        poller: Any = self.poller
        self.pool = PipePool(1 << 20, DescriptorBudget(0, 0), Clock())
        self.share = SocketShare(poller, self.pool)
        self.near, self.far = tcp_sockets()
        self.addCleanup(self.near.close)
        self.addCleanup(self.far.close)

    def streams(self, **options: Any) -> SocketStreams:
        """A rule's."""
        return SocketStreams(self.share, Options(**options))

    def test_accepted(self) -> None:
        """A client's stream knows both addresses, is watched, and nothing is known of it yet."""
        stream = self.streams().accepted(self.near, CLIENT, Options())
        self.assertEqual((stream.address, stream.local), (CLIENT, InetAddress(*self.near.getsockname())))
        self.assertEqual(self.poller.watched, [self.near.fileno()])
        self.assertEqual((stream.readable, stream.moved_at), (False, 7.0))

    def test_clients_that_inherit_nothing(self) -> None:
        """Where a client's socket does not come with the listening one's options, it is given them."""
        self.patch(socket_options, "CLIENTS_INHERIT", False)
        self.streams(keepalive=Keepalive(idle=77)).accepted(self.near, CLIENT, Options())
        self.assertEqual(self.near.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE), 77)

    def test_client_gone(self) -> None:
        """A socket that cannot be set up is closed, and the caller hears why."""
        self.patch(socket_options, "CLIENTS_INHERIT", False)
        gone = Gone(fileno=os.dup(self.near.fileno()))
        self.assertRaises(OSError, self.streams().accepted, gone, CLIENT, Options())
        self.assertEqual((gone.fileno(), self.poller.watched), (-1, []))

    def test_kernel_refuses_to_watch(self) -> None:
        """Nor is one left open that cannot be watched."""
        self.poller.problem = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.assertRaises(OSError, self.streams().accepted, self.near, CLIENT, Options())
        self.assertEqual(self.near.fileno(), -1)

    def test_handed_over(self) -> None:
        """What the poller saw of a socket that it watches already is not lost."""
        for seen, expected in (
            (0, (False, False, False)),
            (select.EPOLLOUT | select.EPOLLIN, (True, False, False)),
            (select.EPOLLIN | select.EPOLLRDHUP, (True, True, False)),
            (select.EPOLLHUP, (True, True, False)),
            (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR, (True, True, True)),
        ):
            stream = self.streams().plain(self.near, CLIENT, 0, seen=seen)
            self.assertEqual((stream.readable, bool(stream.more), stream.dead), expected)
        self.assertEqual((self.poller.watched, set(self.poller.handed_over)), ([], {self.near.fileno()}))

    def test_kinds(self) -> None:
        """``relay=`` decides whether there are pipes; the log names what is at work."""
        for relay, kind, pool in (
            (RelayKind.AUTO, "splice", self.pool),
            (RelayKind.SPLICE, "splice", self.pool),
            (RelayKind.COPY, "copy", None),
        ):
            stream = self.streams(relay=relay).plain(self.near, None, 0)
            stream.join(stream)
            flow = stream.source
            assert flow is not None
            self.assertEqual((stream.kind, flow.pool), (kind, pool))
            self.assertEqual(flow.bulk, relay is RelayKind.SPLICE)

    def test_no_splice_here(self) -> None:
        """Where there is no splice every relay copies, and says so."""
        poller: Any = self.poller
        for relay in (RelayKind.AUTO, RelayKind.SPLICE):
            maker = SocketStreams(SocketShare(poller, None), Options(relay=relay))
            self.assertEqual(maker.plain(self.near, None, 0).kind, "copy")

    def test_one_buffer(self) -> None:
        """Rules with buffers of one size share one."""
        setups = []
        for options in ({}, {"pipe": 1 << 18}, {"buffer": 4096}):
            stream = self.streams(**options).plain(self.near, None, 0)
            stream.join(stream)
            assert stream.source is not None
            setups.append(stream.source.setup)
        self.assertIs(setups[0].buffer, setups[1].buffer)
        self.assertEqual([len(setup.buffer) for setup in setups], [65536, 65536, 4096])
        self.assertEqual([setup.pipe_size for setup in setups], [1 << 20, 1 << 18, 1 << 20])
        self.assertEqual(set(self.share.buffers), {65536, 4096})
