"""Tests for the rows of the lab: the readers of other programs' reports."""

import json
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from bench.loads.bulk import Transfer, parse_iperf
from bench.loads.connections import Visits, parse_ab
from bench.loads.datagrams import Shower, parse_datagrams
from bench.loads.fairness import figures as shares
from bench.loads.filters import Filtered
from bench.loads.programme import rows
from bench.loads.quiet import each
from bench.loads.reload import parse_worst, said_since
from bench.loads.requests import Answered, parse_interrupted, parse_redis
from bench.measure import participants
from bench.peers.field import contestants
from bench.processes import LabError, Memory

IPERF = {"end": {"sum_sent": {"bytes": 9}, "sum_received": {"bytes": 1250, "bits_per_second": 2e9}}}
REDIS = (
    '"test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms","p95_latency_ms","p99_latency_ms",'
    '"max_latency_ms"\n"PING_MBULK","41237.11","0.6","0.1","0.591","0.9","1.031","2.0"\n'
)
AB = """Concurrency Level:      50
Complete requests:      1000
Failed requests:        3
   (Connect: 0, Receive: 1, Length: 2, Exceptions: 0)
Non-2xx responses:      2
Requests per second:    7512.30 [#/sec] (mean)
Time per request:       6.656 [ms] (mean)
"""


class ReaderTests(SynchronousTestCase):
    """What other programs say."""

    def test_iperf(self) -> None:
        """The receiver's bytes and rate are taken, not the sender's."""
        self.assertEqual(parse_iperf(json.dumps(IPERF)), Transfer(1250, 2e9))

    def test_iperf_failed(self) -> None:
        """An error, no JSON, and a test in which nothing arrived are all failures."""
        nothing = {"end": {"sum_received": {"bytes": 0, "bits_per_second": 0}}}
        for text in ('{"error": "unable to connect"}', "iperf3: what?", json.dumps(nothing)):
            self.assertRaises(LabError, parse_iperf, text)

    def test_datagrams(self) -> None:
        """What the server got of what was sent, by bytes; failures are told."""
        sums = {
            "sum_sent": {"packets": 10, "bytes": 1000},
            "sum_received": {"packets": 9, "bytes": 700, "seconds": 2.0},
        }
        self.assertEqual(parse_datagrams(json.dumps({"end": sums})), Shower(7, 3, 2.0))
        nothing = {**sums, "sum_received": {"packets": 0, "bytes": 0, "seconds": 2.0}}
        for text in ('{"error": "unable to connect"}', "iperf3: what?", json.dumps({"end": nothing})):
            self.assertRaises(LabError, parse_datagrams, text)

    def test_iperf_interrupted(self) -> None:
        """A test that was ended by a signal says so, and its rate counts all the same."""
        text = "noise\n" + json.dumps({**IPERF, "error": "interrupt - the client has terminated"}) + "\n"
        self.assertEqual(parse_interrupted(text), 2.0)
        self.assertRaises(LabError, parse_interrupted, "")

    def test_redis(self) -> None:
        """Columns are found by their headings."""
        self.assertEqual(parse_redis(REDIS), Answered(41237.11, 0.591, 1.031))
        self.assertRaises(LabError, parse_redis, "Could not connect\n")

    def test_ab(self) -> None:
        """Answers that are not 2xx count as failures, for somebody else gave them."""
        self.assertEqual(parse_ab(AB), Visits(1000, 7512.3, 5))
        self.assertRaises(LabError, parse_ab, "apr_socket_recv: Connection reset by peer (104)\n")

    def test_worst(self) -> None:
        """Milliseconds and failures; an answer without traffic is no measure."""
        self.assertEqual(parse_worst("worst 12.500 40 0"), (12.5, 0))
        for text in ("worst 0.000 0 7", "unknown worst 1 1"):
            self.assertRaises(LabError, parse_worst, text)

    def test_since(self) -> None:
        """Of a log only what is new is read."""
        log = Path(self.mktemp())
        log.write_bytes(b"old\nnew \xff\n")
        self.assertEqual(said_since(log, 4), "new \ufffd\n")


class RowTests(SynchronousTestCase):
    """The list of rows."""

    def test_names(self) -> None:
        """Names are unique, and every row says its group and title."""
        names = [row.name for row in rows()]
        self.assertEqual(len(names), len(set(names)))
        self.assertTrue(all(row.group and row.title for row in rows()))

    def test_quick_has_every_group(self) -> None:
        """The short run leaves out rows, not kinds of work."""
        groups = {row.group for row in rows()}
        self.assertEqual({row.group for row in rows() if row.in_quick}, groups)

    def test_who_has_filters(self) -> None:
        """They take part in the rows about filters only, beside those whom they are measured by."""
        peers = contestants(Path())
        with_filters = {peer.name for peer in peers if peer.only_group == "filters"}
        for row in rows():
            asked = {peer.name for peer in participants(row, peers)}
            if isinstance(row, Filtered):
                self.assertEqual(asked - with_filters, {"portfwd-auto", "portfwd-copy", "nginx-64k"})
                self.assertEqual(asked & with_filters, with_filters)
            elif row.group != "filters":
                self.assertEqual(asked & with_filters, set())

    def test_who_is_fair(self) -> None:
        """Whoever has rules of every kind takes part in that row only, beside those without."""
        asked = {
            row.name: {peer.name for peer in participants(row, contestants(Path()))}
            for row in rows()
            if row.group == "fairness"
        }
        self.assertLess({"portfwd-auto", "nginx-64k"}, asked["flooded"])
        self.assertEqual(asked["mixed"], {"portfwd-mixed", "haproxy-splice", "nginx-64k"})

    def test_share_kept(self) -> None:
        """What is left beside others is told as a share of what there was alone."""
        self.assertEqual(shares(8.0, 2.0), {"gbit_s": 2.0, "alone_gbit_s": 8.0, "kept_share": 0.25})

    def test_each(self) -> None:
        """Memory is what the crowd added, a connection; what lies in pipes is part of it."""
        figures = each(Memory(1000 * 1024, 0, 0), Memory(1200 * 1024, 50 * 1024, 4096 * 1024), 100)
        self.assertEqual(figures["kib_each"], 2.5)
        self.assertEqual(figures["rss_kib_each"], 2.0)
        self.assertEqual(figures["pipe_room_kib_each"], 40.96)
