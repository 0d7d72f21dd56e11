"""Tests of `portfwd.filters.builtin.matching`: the same is found however the stream is cut."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from portfwd.filters.builtin.matching import (
    LARGEST_MATCH,
    STEP,
    Found,
    LiteralScanner,
    Lookout,
    PatternScanner,
    Pieces,
    Scanner,
    Search,
)

#: Few letters, so that beginnings of matches are everywhere.
streams = st.text("ab-", max_size=60).map(str.encode)
needles = st.text("ab", min_size=1, max_size=4).map(str.encode)
patterns = st.sampled_from([rb"a+b", rb"a{2,3}", rb"\bab\b", rb"(?<=a)b", rb"^a", rb"a|ab|abb", rb"(a)(b+)"])


@st.composite
def cut(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    """A stream, and the same in chunks."""
    stream = draw(streams)
    places = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    edges = [0, *places, len(stream)]
    return stream, [stream[start:end] for start, end in pairwise(edges)]


def taken_apart(scanner: Scanner, chunks: list[bytes]) -> tuple[bytes, list[tuple[int, bytes]]]:
    """The stream with every match in brackets, and where the matches were."""
    pieces: Pieces = []
    for chunk in chunks:
        pieces += scanner.feed(chunk)
    pieces += scanner.finish()
    found = [(piece.offset, piece.text) for piece in pieces if isinstance(piece, Found)]
    return b"".join(b"[%s]" % piece.text if isinstance(piece, Found) else piece for piece in pieces), found


class LiteralScannerTests(SynchronousTestCase):
    """Bytes in a stream."""

    @settings(max_examples=200)
    @given(cut(), needles)
    def test_any_cut(self, stream: tuple[bytes, list[bytes]], needle: bytes) -> None:
        """However the stream is cut, the result is that of `bytes.replace` for the whole."""
        whole, chunks = stream
        text, found = taken_apart(LiteralScanner(needle), chunks)
        self.assertEqual(text, whole.replace(needle, b"[%s]" % needle))
        for offset, match in found:
            self.assertEqual(whole[offset : offset + len(needle)], match)

    def test_keeps_little(self) -> None:
        """It keeps only what the bytes looked for begin with, and lets go of it when told to."""
        scanner = LiteralScanner(b"aab")
        self.assertEqual(scanner.feed(b"xaxaa"), [b"xax"])
        self.assertEqual(scanner.held, 2)
        self.assertEqual(scanner.feed(b"a"), [b"a"])
        self.assertEqual(scanner.give_up(), b"aa")
        self.assertEqual((scanner.held, scanner.finish()), (0, []))
        self.assertEqual(scanner.feed(b"aab"), [Found(6, b"aab")])


class PatternScannerTests(SynchronousTestCase):
    """A regular expression in a stream."""

    @settings(max_examples=200)
    @given(cut(), patterns, st.integers(3, 9))
    def test_any_cut(self, stream: tuple[bytes, list[bytes]], pattern: bytes, max_match: int) -> None:
        """However the stream is cut, the same is found, and nothing is lost."""
        whole, chunks = stream
        compiled = re.compile(pattern)
        once = taken_apart(PatternScanner(compiled, max_match), [whole])
        self.assertEqual(taken_apart(PatternScanner(compiled, max_match), chunks), once)
        self.assertEqual(once[0].replace(b"[", b"").replace(b"]", b""), whole)

    @settings(max_examples=100)
    @given(cut(), st.sampled_from([rb"a{2,3}", rb"\bab\b", rb"(?<=a)b", rb"^a", rb"a|ab|abb", rb"\w{1,3}"]))
    def test_as_in_the_whole(self, stream: tuple[bytes, list[bytes]], pattern: bytes) -> None:
        """What has at most ``max_match`` bytes is found as it would be in the whole."""
        whole, chunks = stream
        text, _ = taken_apart(PatternScanner(re.compile(pattern), 3), chunks)
        self.assertEqual(text, re.sub(pattern, rb"[\g<0>]", whole))

    def test_bounded(self) -> None:
        """Fewer than twice ``max_match`` bytes are kept."""
        scanner = PatternScanner(re.compile(b"x+"), 10)
        for _ in range(100):
            scanner.feed(b"abcdefg")
            self.assertLess(scanner.held, 20)
        self.assertEqual(len(scanner.give_up()), 10 + 700 % 10)
        self.assertEqual(scanner.held, 0)

    def test_offsets(self) -> None:
        """A match knows where in the stream it was, also behind what was let go."""
        scanner = PatternScanner(re.compile(rb"b(\d)"), 2)
        scanner.feed(b"aaa")
        scanner.give_up()
        (found,) = (piece for piece in scanner.feed(b"ab7aaaaa") if isinstance(piece, Found))
        self.assertEqual((found.offset, found.text, found.expand(rb"<\1>")), (4, b"b7", b"<7>"))
        self.assertEqual(Found(0, b"x").expand(rb"<\1>"), rb"<\1>")

    def test_empty_matches(self) -> None:
        """Places where a pattern matches nothing at all are passed over."""
        text, found = taken_apart(PatternScanner(re.compile(rb"\b|a"), 4), [b"-a-", b"b"])
        self.assertEqual((text, found), (b"-[a]-b", [(1, b"a")]))


class LookoutTests(SynchronousTestCase):
    """Seeing without keeping back."""

    @settings(max_examples=100)
    @given(cut(), needles)
    def test_any_cut(self, stream: tuple[bytes, list[bytes]], needle: bytes) -> None:
        """Bytes are found once each, where they are, as soon as they are there."""
        whole, chunks = stream
        lookout = Search(find=needle).lookout()
        seen = 0
        found: list[tuple[int, bytes]] = []
        for chunk in chunks:
            new = lookout.feed(chunk)
            self.assertTrue(all(one.offset + len(needle) > seen for one in new))
            seen += len(chunk)
            found += [(one.offset, one.text) for one in new]
        expected = [(match.start(), match[0]) for match in re.finditer(needle, whole)]
        self.assertEqual(found, expected)

    def test_beginning(self) -> None:
        """What must stand at the beginning of the stream is found there only."""
        lookout = Lookout(re.compile(rb"\Aab"), 2)
        self.assertEqual(lookout.feed(b"a"), [])
        self.assertEqual([one.offset for one in lookout.feed(b"bab")], [0])
        self.assertEqual(lookout.feed(b"ab" * 100), [])
        self.assertEqual(lookout.feed(b"ab"), [])

    def test_bounded(self) -> None:
        """It remembers ``max_match`` bytes and a little more, not the stream."""
        lookout = Lookout(re.compile(rb"x.{0,20}y"), 8)
        self.assertEqual(lookout.feed(b"x" + b"." * 7), [])
        self.assertEqual(lookout.feed(b"y"), [])
        self.assertEqual([one.text for one in lookout.feed(b"x..") + lookout.feed(b"..y")], [b"x....y"])

    def test_bounded_work(self) -> None:
        """However much comes at once, the expression gets little at a time: its work may be the square."""
        spans = []

        class Pattern:
            def finditer(self, buffer: bytes, start: int, end: int) -> list[Any]:
                spans.append(end - start)
                return []

        lookout = Lookout(cast("re.Pattern[bytes]", Pattern()), 100)
        self.assertEqual(lookout.feed(bytes(64 * 1024)), [])
        self.assertLessEqual(max(spans), STEP + 100)
        self.assertLess(sum(spans), 2 * 64 * 1024)

    def test_between_two_steps(self) -> None:
        """What stands on the border of two such pieces is found once, where it is."""
        for border in range(-3, 4):
            lookout = Lookout(re.compile(rb"ab+c"), 3)
            found = lookout.feed(bytes(STEP + border) + b"abc" + bytes(STEP))
            self.assertEqual([(one.offset, one.text) for one in found], [(STEP + border, b"abc")])


class SearchTests(SynchronousTestCase):
    """What may be looked for."""

    def test_one_of_two(self) -> None:
        """Bytes or a pattern: the one that is given says how."""
        self.assertIsInstance(Search(find=b"a").scanner(), LiteralScanner)
        pattern = Search(regex=re.compile(b"a+"), max_match=4)
        self.assertIsInstance(pattern.scanner(), PatternScanner)
        self.assertEqual([one.text for one in pattern.lookout().feed(b"baab")], [b"aa"])
        self.assertEqual([one.text for one in Search(find=b"a+").lookout().feed(b"aa+")], [b"a+"])

    def test_refused(self) -> None:
        """What cannot be looked for is an error that says what can."""
        anything = re.compile(b"a*")
        for arguments, text in (
            ({}, "either find=BYTES or regex=PATTERN"),
            ({"find": b"a", "regex": re.compile(b"a")}, "either find=BYTES or regex=PATTERN"),
            ({"find": b""}, f"1 to {LARGEST_MATCH} bytes"),
            ({"find": b"a", "max_match": 0}, "max-match= is 1 to"),
            ({"find": b"a", "max_match": LARGEST_MATCH + 1}, "max-match= is 1 to"),
            ({"regex": anything}, "use + for *"),
        ):
            error = self.assertRaises(ValueError, Search, **arguments)
            self.assertIn(text, str(error))
