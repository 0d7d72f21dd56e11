"""The built-in filters that parse no protocol, in sessions without sockets."""

from __future__ import annotations

import re
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from portfwd.filters import Factory
from portfwd.filters.builtin import hexdump, match, record, replace, tee
from portfwd.filters.builtin.fault_kinds import TICK
from portfwd.testing import Pipe, check_filter, every_split
from portfwd.values import TO_CLIENT, TO_UPSTREAM
from tests.filters.builtin.test_faults import CLAUSES, a_factory

#: Conversations in which there is something to be found, and almost.
SAMPLES: list[Any] = [
    b"GET / HTTP/1.1\r\nHost: secret.example\r\nX: aab aaab secrets\r\n\r\n",
    [(TO_UPSTREAM, b"aaaab secret"), (TO_CLIENT, b"BitTorrent secre"), (TO_UPSTREAM, b"t aab")],
]
MIB = 1024 * 1024


def held_short(clause: str) -> Factory:
    """A fault for which nothing is held, so that little has to be sent to see that it is bounded."""
    factory = a_factory(clause)
    return Factory(factory.build, factory.directions, max_hold=0)


class ContractTests(SynchronousTestCase):
    """Each of them keeps the contract, whatever the network does."""

    def check(self, plugin: Any, options: Any) -> None:
        """Check a clause, for streams and for datagrams."""
        for datagrams in (False, True):
            check_filter(lambda: plugin.configure(options, ()), SAMPLES, datagrams=datagrams)

    def test_replace(self) -> None:
        """``replace`` does, with bytes and with a pattern."""
        self.check(replace.PLUGIN, replace.ReplaceOptions(find=b"aab", new=b"x", count=2))
        pattern = re.compile(b"a+(b)")
        self.check(replace.PLUGIN, replace.ReplaceOptions(regex=pattern, new=rb"<\1>", max_match=8))

    def test_match(self) -> None:
        """``match`` does, whatever it does."""
        for action in ("log", "close", "tag", "replace"):
            self.check(match.PLUGIN, match.MatchOptions(find=b"secret", action=action))

    def test_copies(self) -> None:
        """Those that look do."""
        self.check(hexdump.PLUGIN, hexdump.HexdumpOptions(limit=20))
        self.check(tee.PLUGIN, tee.TeeOptions(file="/x"))
        self.check(record.PLUGIN, record.RecordOptions(file="/x"))

    def test_faults(self) -> None:
        """Faults do, those that are quick enough to be checked: pieces of ten bytes are not."""
        for clause in (*CLAUSES, "slicer size=200 variation=50 delay=1ms"):
            if "size=10 " not in clause:
                # What latency keeps is checked with less, so that there need not be more than that.
                check_filter(lambda clause=clause: held_short(clause), SAMPLES)  # type: ignore[misc]


class FaultTests(SynchronousTestCase):
    """What faults do to a whole session."""

    def piped(self, *clauses: str) -> Pipe:
        """A session with these faults."""
        return Pipe(*map(a_factory, clauses))

    def test_bandwidth(self) -> None:
        """A stream has its rate, however fast it comes, and its end comes behind it."""
        pipe = self.piped("bandwidth rate=1MiB/s")
        data = bytes(range(256)) * (5 * MIB // 256)
        pipe.send(TO_CLIENT, *(data[start : start + 65536] for start in range(0, len(data), 65536)))
        pipe.end(TO_CLIENT)
        for second in range(1, 5):
            pipe.advance(1.0)
            self.assertTrue(0 <= second * MIB - len(pipe.to_client) <= 3 * TICK * MIB, second)
        self.assertNotIn(TO_CLIENT, pipe.ended)
        pipe.advance(1.001)
        self.assertTrue(pipe.to_client == data)
        self.assertIn(TO_CLIENT, pipe.ended)

    def test_slow(self) -> None:
        """A rate so low that a read takes minutes is kept too."""
        pipe = self.piped("bandwidth rate=100/s")
        pipe.send(TO_CLIENT, bytes(5000), bytes(1000))
        pipe.advance(30.0)
        self.assertTrue(2990 <= len(pipe.to_client) <= 3000)
        pipe.advance(30.001)
        self.assertEqual(len(pipe.to_client), 6000)

    def test_combined(self) -> None:
        """A slow line that is long: the rate of the one and the delay of the other."""
        pipe = self.piped("latency delay=500ms", "bandwidth rate=1MiB/s")
        data = bytes(65536)
        pipe.send(TO_CLIENT, *[data] * 16)
        pipe.advance(0.5)
        self.assertEqual(pipe.to_client, b"")
        pipe.advance(0.5)
        self.assertTrue(0.45 * MIB < len(pipe.to_client) <= 0.5 * MIB)
        pipe.advance(0.501)
        self.assertEqual(len(pipe.to_client), MIB)

    def test_latency(self) -> None:
        """Bytes that come at different times keep their distance."""
        pipe = self.piped("latency delay=100ms")
        pipe.send(TO_UPSTREAM, b"one")
        pipe.advance(0.06)
        pipe.send(TO_UPSTREAM, b"two")
        pipe.advance(0.05)
        self.assertEqual(pipe.to_upstream, b"one")
        pipe.advance(0.05)
        self.assertEqual(pipe.to_upstream, b"onetwo")

    def test_timeout(self) -> None:
        """Of a session that times out nothing comes through, and it ends in time, in order."""
        pipe = self.piped("timeout after=2s")
        pipe.send(TO_UPSTREAM, b"question")
        pipe.advance(1.9)
        self.assertIsNone(pipe.finished)
        pipe.advance(0.2)
        assert pipe.finished is not None
        self.assertEqual((pipe.to_upstream, pipe.finished.abort), (b"", False))


class ReplaceTests(SynchronousTestCase):
    """What replacing does to a whole session."""

    def test_every_split(self) -> None:
        """However a header is cut, it is replaced."""
        server = re.compile(rb"Server: [^\r]{1,20}")
        options = replace.ReplaceOptions(regex=server, new=b"Server: x", max_match=30)

        def run(pieces: Any) -> bytes:
            pipe = Pipe(replace.PLUGIN.configure(options, ()))
            pipe.send(TO_CLIENT, *pieces)
            pipe.end()
            return pipe.to_client

        answer = b"HTTP/1.1 200 OK\r\nServer: Apache/2.4\r\nContent-Length: 2\r\n\r\nok"
        self.assertEqual(every_split(run, answer), answer.replace(b"Apache/2.4", b"x"))

    def test_dialogue(self) -> None:
        """Who waits for an answer need not end first: what is kept goes on after a moment."""
        pipe = Pipe(replace.PLUGIN.configure(replace.ReplaceOptions(find=b"\r\nX", wait=0.1), ()))
        pipe.send(TO_UPSTREAM, b"GET /\r\n\r\n")
        self.assertEqual(pipe.to_upstream, b"GET /\r\n")
        pipe.advance(0.25)
        self.assertEqual(pipe.to_upstream, b"GET /\r\n\r\n")
