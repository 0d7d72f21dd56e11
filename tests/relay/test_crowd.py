"""
Many sessions over few pipes: nothing leaks, and no session gets another's bytes.

Every session has a pattern of its own. Most are in bulk at once, more than there are pipes or the
descriptors for them; some are reset in the middle, with bytes in their pipes.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import socket
from typing import Any, cast

from twisted.trial.unittest import SynchronousTestCase

from portfwd.kernel.pipes import PipePool
from portfwd.kernel.platform import Platform
from portfwd.kernel.poller import Poller
from portfwd.limits.descriptors import PER_SESSION, RESERVE, DescriptorBudget
from portfwd.relay.context import RelayContext
from portfwd.relay.destination import Destination
from portfwd.relay.live import LiveRule
from portfwd.rules.access import AccessList
from portfwd.rules.model import Options, RelayKind
from portfwd.streams.sockets.socket_opening import SocketShare, SocketStreams
from portfwd.values import CloseReason, UnixAddress
from tests.relay.fakes import SessionLines, a_rule
from tests.relay.stage import TurnedReactor
from tests.streams.far_ends import open_descriptors, unix_sockets

SESSIONS = 2000
#: Sessions at a time.
WAVE = 40
#: Bytes of a session's pattern, each way: bulk, and more than sockets and pipe hold.
SIZE = 300_000
PIPE = 65536
#: Every so many sessions are reset in the middle.
CUT = 5
#: Turns before anybody reads: pipes are full by then.
SLOW = 4


def pattern(number: int, way: str) -> bytes:
    """The bytes of one session's one direction: a block of its own, repeated."""
    block = hashlib.shake_128(f"{number} {way}".encode()).digest(997)
    return (block * (SIZE // len(block) + 1))[:SIZE]


class Talker:
    """One end: sends its own pattern, takes what comes."""

    def __init__(self, sock: socket.socket, data: bytes) -> None:
        self.socket = sock
        self.received = bytearray()
        self.over = False
        self._left = memoryview(data)
        self._ended = False

    def act(self, turn: int) -> None:
        """Write what goes, and read a little, later on."""
        if self.over:
            return
        try:
            while self._left:
                self._left = self._left[self.socket.send(self._left) :]
            if not self._ended:
                self._ended = True
                self.socket.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            pass
        except OSError:
            self._left = memoryview(b"")
        if turn < SLOW:
            return
        try:
            data = self.socket.recv(50_000)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self.received += data
        self.over = not data

    def cut(self) -> None:
        """Go, with input unread."""
        self.over = True
        self.socket.close()


class CrowdTests(SynchronousTestCase):
    """Two thousand sessions over the splice relay."""

    def setUp(self) -> None:
        self.reactor = TurnedReactor()
        self.addCleanup(self.reactor.dispose)
        self.poller = Poller(cast(Any, self.reactor))
        self.poller.start()
        self.addCleanup(self.poller.stop)
        # Room for the sessions of a wave and a few pipes; the allowance is for fewer still.
        self.budget = DescriptorBudget(RESERVE + PER_SESSION * WAVE + 40, 0)
        self.pool = PipePool(12 * PIPE, self.budget, self.reactor)
        self.addCleanup(self.pool.close)
        options = Options(relay=RelayKind.SPLICE, pipe=PIPE, buffer=16384, linger=1000.0, half_close=1000.0)
        streams = SocketStreams(SocketShare(self.poller, self.pool), options)
        name = f"portfwd-crowd-{os.getpid()}"
        self.listening = socket.socket(socket.AF_UNIX)
        self.addCleanup(self.listening.close)
        self.listening.bind(f"\0{name}")
        self.listening.listen(WAVE)
        context = RelayContext(
            reactor=cast(Any, self.reactor),
            platform=Platform(own_sockets=True, epoll=True, splice=True),
            names=cast(Any, None),
            streams=cast(Any, None),
        )
        self.lines = SessionLines()
        self.lines.wants_opened = False
        self.live = LiveRule(
            a_rule(options),
            "crowd",
            [Destination(name, options, address=UnixAddress(f"@{name}"))],
            AccessList(()),
            context,
            self.lines,
            lambda: 0.0,
            itertools.count(1),
            streams=streams,
        )
        self.streams = streams
        self.options = options

    def session(self, number: int) -> tuple[Talker, Talker]:
        """Start one; its two ends."""
        near, far = unix_sockets()
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
        self.assertTrue(self.budget.take(PER_SESSION))
        stream = self.streams.accepted(near, None, self.options)
        self.live.accept(stream, lambda: self.budget.give_back(PER_SESSION))
        upstream, _ = self.listening.accept()
        upstream.setblocking(False)
        return Talker(far, pattern(number, "there")), Talker(upstream, pattern(number, "back"))

    def test_two_thousand_sessions(self) -> None:
        """Each session gets its own bytes and no others; descriptors, pipes and the budget come back."""
        self.reactor.iterate(0)
        before, numbers = open_descriptors(), itertools.count()
        for wave in range(SESSIONS // WAVE):
            talkers = {number: self.session(number) for number in itertools.islice(numbers, WAVE)}
            self.relay(talkers)
            for number, (client, upstream) in talkers.items():
                for talker, data in ((client, pattern(number, "back")), (upstream, pattern(number, "there"))):
                    if number % CUT:
                        self.assertEqual(len(talker.received), SIZE)
                    self.assertTrue(data.startswith(bytes(talker.received)), f"session {number}")
                    talker.socket.close()
            self.assertEqual((len(self.live.sessions), self.pool.lent), (0, 0), f"after wave {wave}")
        # Idle pipes are closed when nobody has borrowed them for a while.
        for _ in range(4):
            self.reactor.now += 1.0
            self.reactor.iterate(0)
        self.assertEqual((open_descriptors(), self.pool.total_bytes, self.budget.spent), (before, 0, 0))
        reasons = self.lines.reasons
        self.assertEqual(len(reasons), SESSIONS)
        self.assertEqual(reasons.count(CloseReason.NORMAL), SESSIONS - SESSIONS // CUT)
        flows = [flow for line in self.lines.closed_lines for flow in (line.to_upstream, line.to_client)]
        # There were too few pipes for all: many a flow was spliced for a part of its bytes only.
        self.assertGreater(self.pool.refused, SESSIONS)
        self.assertGreater(sum(1 for flow in flows if 0 < flow.spliced < flow.bytes), SESSIONS // 10)
        self.assertGreater(sum(flow.spliced for flow in flows), 0.1 * sum(flow.bytes for flow in flows))

    def relay(self, talkers: dict[int, tuple[Talker, Talker]]) -> None:
        """Turn everybody until all are through."""
        for turn in range(1000):
            if all(talker.over for pair in talkers.values() for talker in pair) and not self.live.sessions:
                return
            self.reactor.iterate(0)
            self.reactor.now += 0.01
            for number, (client, upstream) in talkers.items():
                if number % CUT == 0 and turn >= SLOW:
                    client.cut()
                client.act(turn)
                upstream.act(turn)
        raise AssertionError(f"they do not come to an end: {self.live} {self.pool}")
