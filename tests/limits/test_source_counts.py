"""Tests of `portfwd.limits.source_counts`: what is known of the addresses that clients come from."""

from __future__ import annotations

import os
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from portfwd.limits.source_counts import LOOKS, MAX_SOURCES, SourceCounts, source_of
from portfwd.values import InetAddress, UnixAddress


class SourceOfTests(SynchronousTestCase):
    """Where a client comes from."""

    def test_sources(self) -> None:
        """IPv4 is the address however it is shown, IPv6 its /64, link-local its address; never a port."""
        for host, source in (
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("2001:db8:1:2::9", "2001:db8:1:2::"),
            ("2001:db8:1:3::9", "2001:db8:1:3::"),
            ("fe80::1%eth0", "fe80::1%eth0"),
            ("fe80::2%eth0", "fe80::2%eth0"),
            ("what:ever", "what:ever"),
        ):
            self.assertEqual(source_of(InetAddress(host, 4711)), source)

    def test_no_source(self) -> None:
        """A unix socket's client, and one the kernel does not name any more, come from nowhere."""
        self.assertEqual((source_of(UnixAddress("")), source_of(None)), ("", ""))


class TableTests(SynchronousTestCase):
    """The table is exact for who is there, and bounded for who is not."""

    def test_counts(self) -> None:
        """Each source at each door has a count of its own."""
        table = SourceCounts()
        for door, source in (("web", "a"), ("web", "a"), ("web", "b"), ("ssh", "a")):
            table.enter(door, source, None, 0.0)
        self.assertEqual([table.count("web", one) for one in "abc"], [2, 1, 0])
        self.assertEqual((table.count("ssh", "a"), len(table)), (1, 3))
        for door, source in (("web", "a"), ("web", "a"), ("web", "b"), ("ssh", "a")):
            table.leave(door, source, 0.0)
        self.assertEqual(repr(table), "<SourceCounts 0 known, 0 forgotten>")

    def test_rate(self) -> None:
        """A source that comes too fast is known for as long as that matters."""
        table = SourceCounts()
        for _ in range(2):
            self.assertEqual(table.delay("web", "a", 2.0, 10.0), 0.0)
            table.enter("web", "a", 2.0, 10.0)
            table.leave("web", "a", 10.0)
        self.assertAlmostEqual(table.delay("web", "a", 2.0, 10.0), 0.5)
        self.assertEqual(table.delay("web", "b", 2.0, 10.0), 0.0)
        self.assertEqual((len(table), table.count("web", "a")), (1, 0))
        self.assertEqual(table.delay("web", "a", 2.0, 10.5), 0.0)
        table.enter("web", "b", 2.0, 12.0)
        self.assertEqual(len(table), 1)  # a was as good as unknown

    def test_flood(self) -> None:
        """However many sources come and go, no more than the bound are known; who is there is remembered."""
        table = SourceCounts()
        table.enter("web", "here", 1.0, 0.0)
        sources = 1_000_000 if os.environ.get("PORTFWD_TESTS") == "deep" else 150_000
        for number in range(sources):
            source = str(number)
            table.enter("web", source, 0.001, 0.0)
            table.leave("web", source, 0.0)
        self.assertEqual(len(table), MAX_SOURCES)
        self.assertEqual(table.forgotten, sources + 1 - MAX_SOURCES)
        self.assertEqual(table.count("web", "here"), 1)
        # The most recent ones are those that are known.
        self.assertGreater(table.delay("web", str(sources - 1), 0.001, 0.0), 0.0)
        self.assertEqual(table.delay("web", "0", 0.001, 0.0), 0.0)

    def test_sessions_do_not_block(self) -> None:
        """Sources with sessions at the head of the table do not keep the others from being forgotten."""
        table = SourceCounts(10)
        for number in range(50):
            table.enter("web", f"here {number}", 0.001, 0.0)
        for number in range(200):
            table.enter("web", str(number), 0.001, 0.0)
            table.leave("web", str(number), 0.0)
        self.assertLess(len(table), 50 + 10 + 50 // LOOKS + LOOKS)
        for number in range(50):
            table.leave("web", f"here {number}", 0.0)
        for number in range(200):
            table.enter("web", f"new {number}", 0.001, 0.0)
            table.leave("web", f"new {number}", 0.0)
        self.assertEqual(len(table), 10)

    def test_it_shrinks(self) -> None:
        """When the flood is over and the rates have been forgiven, new clients clear the table."""
        table = SourceCounts(1000)
        for number in range(1000):
            table.enter("web", str(number), 1.0, 0.0)
            table.leave("web", str(number), 0.0)
        for number in range(1000 // (LOOKS - 1) + 1):
            table.enter("web", f"later {number}", None, 100.0)
            table.leave("web", f"later {number}", 100.0)
        self.assertLessEqual(len(table), 2)
        self.assertEqual(table.forgotten, 0)

    @settings(max_examples=50, deadline=None)
    @given(st.lists(st.tuples(st.sampled_from("abcdef"), st.booleans()), max_size=80), st.integers(1, 4))
    def test_exact(self, steps: list[tuple[str, bool]], most: int) -> None:
        """However small the table, the sessions of each source are counted exactly."""
        table, counts, now = SourceCounts(most), Counter[str](), 0.0
        for source, comes in steps:
            now += 0.1
            if comes:
                table.enter("web", source, 0.5, now)
                counts[source] += 1
            elif counts[source]:
                table.leave("web", source, now)
                counts[source] -= 1
            for one in "abcdef":
                self.assertEqual(table.count("web", one), counts[one])
