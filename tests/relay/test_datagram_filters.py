"""Filters between datagrams, in a forwarder with real sockets."""

from __future__ import annotations

from typing import Any, cast

from portfwd.filters.api import DROP, NEED_MORE, Close, Delay, Filter, Forward, Reply, Verdict
from portfwd.values import TO_UPSTREAM, CloseReason, Direction, InetAddress
from portfwd.wire.proxy_header import Header
from portfwd.wire.proxy_v2 import build_v2, read_v2
from tests.listen.post import PostCase


class Script(Filter):
    """Does with each datagram of the client what it says."""

    def received(self, direction: Direction, data: bytes) -> Verdict:
        """See `IFilter`."""
        if direction is not TO_UPSTREAM:
            return None
        verdicts: dict[bytes, Verdict] = {
            b"drop": DROP,
            b"empty": b"",
            b"twice": (Forward(b"one"), Forward(b"two")),
            b"reply": Reply(b"answer"),
            b"close": Close("asked to"),
            b"later": Delay(2.0, b"later"),
            b"hold": NEED_MORE,
        }
        return verdicts.get(data)


class DatagramFilterTests(PostCase):
    """The contract, for datagrams."""

    def filtered(self, *clauses: str) -> Any:
        """A client of a rule with these clauses."""
        lines = "".join(f"\n    {clause}" for clause in clauses)
        self.forward(f"r: 127.0.0.1:0/udp -> 127.0.0.1:UP/udp{lines}")
        return self.datagrams()

    def test_verdicts(self) -> None:
        """Whole datagrams are judged; ``b""`` is one, dropping is explicit."""
        client = self.filtered("filter python:tests.relay.test_datagram_filters.Script")
        self.ask(client, b"as it is")
        for data in (b"drop", b"empty", b"twice"):
            client.sendto(data, self.where())
        self.assertEqual([self.receive(self.upstream)[0] for _ in range(3)], [b"", b"one", b"two"])
        client.sendto(b"reply", self.where())
        self.assertEqual(self.receive(client)[0], b"answer")
        client.sendto(b"later", self.where())
        self.assert_quiet(self.upstream)
        self.advance(2.1)
        self.assertEqual(self.receive(self.upstream)[0], b"later")
        client.sendto(b"close", self.where())
        self.assert_quiet(self.upstream, client)
        (line,) = self.closed_lines
        self.assertEqual((line.reason, line.detail), (CloseReason.FILTER, "asked to"))
        self.assertEqual(line.dropped, (("python:tests.relay.test_datagram_filters.Script", 1),))
        self.ask(client)

    def test_holding_is_a_mistake(self) -> None:
        """Nothing is held of datagrams: a filter that wants more ends the session."""
        client = self.filtered("filter python:tests.relay.test_datagram_filters.Script")
        client.sendto(b"hold", self.where())
        self.assert_quiet(self.upstream)
        self.assertEqual([line.reason for line in self.closed_lines], [CloseReason.FILTER])
        self.flushLoggedErrors(ValueError, TypeError)

    def test_answers_too(self) -> None:
        """What the upstream sends goes through the filters as well."""
        client = self.filtered("filter faults loss fraction=100% direction=down")
        there = self.ask(client)
        self.upstream.sendto(b"lost", there)
        self.assert_quiet(client)
        self.ask(client)

    def test_faults(self) -> None:
        """Datagrams are doubled, overtaken, delayed and spoilt."""
        client = self.filtered("filter faults duplicate fraction=100% direction=up")
        self.ask(client, b"x")
        self.assertEqual(self.receive(self.upstream)[0], b"x")
        client = self.filtered("filter faults reorder fraction=100% direction=up")
        for data in (b"first", b"second"):
            client.sendto(data, self.where())
        self.assertEqual([self.receive(self.upstream)[0] for _ in range(2)], [b"second", b"first"])
        client = self.filtered("filter faults latency delay=3s")
        client.sendto(b"slow", self.where())
        self.assert_quiet(self.upstream)
        self.advance(3.1)
        self.assertEqual(self.receive(self.upstream)[0], b"slow")
        client = self.filtered("filter faults corrupt fraction=100%")
        client.sendto(b"\0\0", self.where())
        self.assertNotIn(b"\0", self.receive(self.upstream)[0])

    def test_stream_faults(self) -> None:
        """Those that are for datagrams close a session of TCP."""
        self.forward("r: 127.0.0.1:0/udp -> 127.0.0.1:UP/udp\n    filter faults timeout after=0")
        self.datagrams().sendto(b"never comes", self.where())
        self.assert_quiet(self.upstream)

    def test_proxy_out(self) -> None:
        """Each datagram has a header before it that names the client; answers have none."""
        client = self.filtered("filter proxy-out")
        for data in (b"question", b""):
            client.sendto(data, self.where())
            got, there = self.receive(self.upstream)
            read = cast(Any, read_v2(got))
            self.assertEqual(got[read.used :], data)
            self.assertEqual(read.value.source, InetAddress(*client.getsockname()))
            self.assertEqual(read.value.destination, InetAddress(*self.where()))
        self.upstream.sendto(b"answer", there)
        self.assertEqual(self.receive(client)[0], b"answer")

    def test_proxy_in(self) -> None:
        """A trusted peer's headers are taken off, and name the client; what has none is dropped."""
        client = self.filtered("filter proxy-in trust=127.0.0.0/8")
        real, place = InetAddress("203.0.113.9", 4711), InetAddress("198.51.100.1", 53)
        header = build_v2(Header(real, place, datagram=True))
        client.sendto(b"no header", self.where())
        self.assert_quiet(self.upstream)
        for data in (b"question", b""):
            client.sendto(header + data, self.where())
            self.assertEqual(self.receive(self.upstream)[0], data)
        self.forwarder.cut(CloseReason.KILLED)
        self.assertEqual(self.closed_lines[-1].client, real)

    def test_proxy_in_judged(self) -> None:
        """The access list judges whom the header names."""
        client = self.filtered("deny 203.0.113.9", "filter proxy-in trust=127.0.0.0/8")
        header = build_v2(
            Header(InetAddress("203.0.113.9", 4711), InetAddress("198.51.100.1", 53), datagram=True)
        )
        client.sendto(header + b"question", self.where())
        self.assert_quiet(self.upstream)
        self.assertEqual([line.reason for line in self.closed_lines], [CloseReason.ACCESS])

    def test_hexdump_passes(self) -> None:
        """A filter that only looks changes nothing."""
        client = self.filtered("filter hexdump")
        there = self.ask(client, b"look")
        self.upstream.sendto(b"", there)
        self.assertEqual(self.receive(client)[0], b"")
