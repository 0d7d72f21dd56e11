"""Tests of what each client address has of its own."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from portfwd.limits.sources import Sources


class Own:
    """Something of one's own."""


class SourcesTests(SynchronousTestCase):
    """`Sources`."""

    def test_own(self) -> None:
        """Every address has its own, and always the same."""
        sources = Sources(Own)
        one = sources.of("192.0.2.1")
        self.assertIs(sources.of("192.0.2.1"), one)
        self.assertIsNot(sources.of("192.0.2.2"), one)
        self.assertIs(sources.of("::ffff:192.0.2.1"), one)
        self.assertEqual((len(sources), repr(sources)), (2, "<Sources 2 known>"))

    def test_idle_ones_go(self) -> None:
        """Of addresses that nobody uses the latest are kept; one that came back is late again."""
        sources = Sources(Own, most_idle=2)
        first = id(sources.of("a"))
        for host in "bac":
            sources.of(host)
        self.assertEqual((len(sources), id(sources.of("a"))), (2, first))

    def test_used_ones_stay(self) -> None:
        """What a session uses is there for the next of its address, however many came between."""
        sources = Sources(Own, most_idle=2)
        used = sources.of("192.0.2.1")
        for number in range(100):
            sources.of(f"10.0.0.{number}")
        self.assertIs(sources.of("192.0.2.1"), used)
        self.assertEqual(len(sources), 2)
        del used
        for number in range(2):
            sources.of(f"10.0.0.{number}")
        self.assertEqual(len(sources), 2)

    @given(st.lists(st.sampled_from("abcdefgh")), st.integers(1, 5))
    def test_bounded(self, hosts: list[str], most: int) -> None:
        """Whoever comes, no more are known than are in use or were just there."""
        sources, used = Sources(Own, most), dict[str, Own]()
        for number, host in enumerate(hosts):
            own = sources.of(host)
            if host in used:
                self.assertIs(own, used[host])
            if number % 3 == 0:
                used[host] = own
            del own
            self.assertLessEqual(len(sources), most + len(used))
