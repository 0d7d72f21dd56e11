"""Tests of `portfwd.filters.builtin.replace`."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from portfwd.filters.api import DONE, Filter, Forward, Wake
from portfwd.filters.builtin.replace import PLUGIN, ReplaceOptions
from portfwd.filters.clause_reading import read_options
from portfwd.filters.options import OptionFiles
from portfwd.values import TO_CLIENT, TO_UPSTREAM, Direction
from tests.filters.asking import a_connection, passed, the


def a_filter(network: str = "tcp", **values: Any) -> Filter:
    """A filter as the clause with these options makes it."""
    made = PLUGIN.configure(ReplaceOptions(**values), ()).build(a_connection(network=network))
    assert isinstance(made, Filter)
    return made


def run(one: Filter, chunks: list[bytes], direction: Direction = TO_UPSTREAM) -> bytes:
    """What becomes of a direction's bytes, its end behind them."""
    out = b"".join(passed(one.received(direction, chunk), chunk) for chunk in chunks)
    return out + passed(one.ended(direction, b""))


class ReplaceTests(SynchronousTestCase):
    """Bytes instead of others."""

    @settings(max_examples=100)
    @given(st.lists(st.text("ab", min_size=1, max_size=5).map(str.encode), max_size=8), st.integers(0, 3))
    def test_any_cut(self, chunks: list[bytes], count: int) -> None:
        """However the bytes are cut, it is what `bytes.replace` and `re.sub` do; the other way likewise."""
        whole = b"".join(chunks)
        one = a_filter(find=b"aab", new=b"-", count=count)
        expected = whole.replace(b"aab", b"-", count or -1)
        self.assertEqual(run(one, chunks), expected)
        self.assertEqual(run(one, chunks, TO_CLIENT), expected)
        one = a_filter(regex=re.compile(b"a(a|b)b"), new=rb"<\1>", count=count, max_match=3)
        self.assertEqual(run(one, chunks), re.sub(b"a(a|b)b", rb"<\1>", whole, count=count))

    def test_untouched(self) -> None:
        """Bytes in which nothing is found are passed as they are; nothing is kept, nothing waited for."""
        one = a_filter(find=b"secret", new=b"x")
        self.assertIsNone(one.received(TO_UPSTREAM, b"hello"))
        self.assertIsNone(one.ended(TO_UPSTREAM, b""))

    def test_one_direction(self) -> None:
        """A filter for one direction neither asks for the other nor touches it."""
        factory = PLUGIN.configure(ReplaceOptions(find=b"a", direction="down"), ())
        self.assertEqual(factory.directions, {TO_CLIENT})
        one = factory.build(a_connection())
        self.assertIs(one.received(TO_UPSTREAM, b"a"), DONE)
        self.assertIsNone(one.ended(TO_UPSTREAM, b""))
        self.assertEqual(run(one, [b"bab"], TO_CLIENT), b"bb")

    def test_count(self) -> None:
        """When enough is replaced the rest is passed, kept bytes first, and the filter is done."""
        one = a_filter(find=b"aab", new=b"-", count=1)
        self.assertEqual(passed(one.received(TO_UPSTREAM, b"aabaabaa")), b"-aabaa")
        self.assertIs(one.received(TO_UPSTREAM, b"aab"), DONE)
        self.assertIsNone(one.ended(TO_UPSTREAM, b""))

    def test_wait(self) -> None:
        """The beginning of a match goes on when nothing came behind it in time."""
        one = a_filter(find=b"aab", new=b"-", wait=0.5)
        verdict = one.received(TO_UPSTREAM, b"xaa")
        self.assertEqual(passed(verdict), b"x")
        wake = the(Wake, verdict)
        self.assertEqual(wake.seconds, 0.5)
        self.assertEqual(one.woken(wake.token), Forward(b"aa"))
        self.assertIsNone(one.received(TO_UPSTREAM, b"b"))

    def test_wait_again(self) -> None:
        """What came meanwhile has its own time to wait, and there is one wait at a time."""
        one = a_filter(find=b"aab", new=b"-")
        wake = the(Wake, one.received(TO_UPSTREAM, b"aa"))
        self.assertEqual(one.received(TO_UPSTREAM, b"a"), b"a")
        again = one.woken(wake.token)
        assert isinstance(again, Wake)
        self.assertEqual(passed(one.received(TO_UPSTREAM, b"b")), b"-")
        self.assertIsNone(one.woken(again.token))
        self.assertEqual(the(Wake, one.received(TO_UPSTREAM, b"a")).token, TO_UPSTREAM)

    def test_datagrams(self) -> None:
        """A datagram is judged by itself and whole; what it ends with does not wait for the next."""
        one = a_filter("udp", find=b"aab", new=b"-")
        for datagram in (b"aabaa", b"b", b""):
            verdict = one.received(TO_UPSTREAM, datagram)
            self.assertEqual(passed(verdict, datagram), datagram.replace(b"aab", b"-"))


class OptionTests(SynchronousTestCase):
    """The clause."""

    def read(self, *pairs: tuple[str, str]) -> Any:
        """The options, or what is wrong with them."""
        return read_options(ReplaceOptions, (), pairs, OptionFiles(str, str))

    def test_written(self) -> None:
        """What a rules file says is what is done."""
        options = self.read(("regex", r"id=(\d+)"), ("new", r"id=<\\1>"), ("max-match", "20"), ("wait", "1s"))
        one = PLUGIN.configure(options, ()).build(a_connection())
        self.assertEqual(run(one, [b"a id=", b"42 b"]), b"a id=<42> b")
        self.assertEqual((options.max_match, options.wait, options.direction), (20, 1.0, "both"))

    def test_refused(self) -> None:
        """Options that do not go together are one problem that says why."""
        for pairs, text in (
            ((), "find=BYTES or regex=PATTERN"),
            ((("regex", "a*"),), "use + for *"),
            ((("regex", "a"), ("new", r"\\1")), "new= does not fit regex="),
            ((("regex", "a"), ("new", r"\\g<x>")), "new= does not fit regex="),
        ):
            (problem,) = self.read(*pairs)
            self.assertIn(text, problem.message)
