"""Tests for the checked streams of scripted peers."""

from __future__ import annotations

import hashlib

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial import unittest

from portfwd.testing.data import BLOCK, MAX_KEPT, Literal, Pattern, Received, Sent, WrongBytes


class PatternTests(unittest.SynchronousTestCase):
    """The endless stream."""

    @settings(max_examples=50, deadline=None)
    @given(st.integers(0, 5 * BLOCK), st.integers(0, 3 * BLOCK))
    def test_any_slice_is_a_part_of_the_whole(self, start: int, size: int) -> None:
        """A slice is the same bytes, however the stream is cut."""
        whole = Pattern(7).slice(0, 8 * BLOCK)
        self.assertEqual(Pattern(7).slice(start, size), whole[start : start + size])

    def test_streams_and_blocks_differ(self) -> None:
        """No block repeats within a stream, and another seed is another stream."""
        one, two = Pattern(1), Pattern(2)
        blocks = [pattern.slice(n * BLOCK, BLOCK) for pattern in (one, two) for n in range(4)]
        self.assertEqual(len(set(blocks)), 8)

    def test_repr_names_the_seed(self) -> None:
        """The seed is what one needs to see the stream again."""
        self.assertIn("seed=7", repr(Pattern(7)))


class SentTests(unittest.SynchronousTestCase):
    """The record of what was sent."""

    def test_literals_stand_where_they_were_sent(self) -> None:
        """Pattern and literal bytes follow each other as they were written."""
        sent = Sent(Pattern(3))
        whole = b""
        for piece in (10, b"hello", 20, b"x" * 5):
            data = sent.plan(piece) if isinstance(piece, int) else sent.plan_literal(piece)
            sent.confirm(data)
            whole += data
        self.assertEqual(sent.count, 40)
        self.assertEqual(sent.slice(0, 40), whole)
        self.assertEqual(sent.slice(12, 25), whole[12:37])
        self.assertEqual(sent.sha256, hashlib.sha256(whole).hexdigest())

    def test_nothing_beyond_the_plan(self) -> None:
        """Bytes nobody planned are not in the record, so receiving them is an error."""
        sent = Sent(Pattern(3))
        sent.plan(10)
        self.assertEqual(len(sent.slice(4, 100)), 6)
        self.assertEqual(sent.slice(50, 5), b"")

    def test_bytes_not_taken_are_planned_again(self) -> None:
        """A plan the kernel took in part goes on where it stopped."""
        sent = Sent(Pattern(3))
        first = sent.plan(100)
        sent.confirm(memoryview(first)[:30])
        second = sent.plan(70)
        self.assertEqual(first, first[:30] + second)
        self.assertIn("30 of 100", repr(sent))


class ReceivedTests(unittest.SynchronousTestCase):
    """The check of what came."""

    @settings(max_examples=30, deadline=None)
    @given(st.lists(st.integers(1, 2 * BLOCK), max_size=6))
    def test_a_prefix_passes_however_it_is_cut(self, sizes: list[int]) -> None:
        """Right bytes in any pieces are taken, counted and hashed."""
        sent, received = Sent(Pattern(1)), Received()
        received.source = sent
        sent.confirm(sent.plan(sum(sizes)))
        for size in sizes:
            received.add(Pattern(1).slice(received.count, size))
        self.assertEqual((received.count, received.sha256), (sent.count, sent.sha256))
        self.assertEqual(received.slice(0, received.count), Pattern(1).slice(0, received.count))

    def broken(self, make: bytes) -> str:
        """What the check says about `make` after 1000 good bytes."""
        sent = Sent(Pattern(1))
        sent.plan(10 * BLOCK)
        received = Received(sent)
        received.add(Pattern(1).slice(0, 1000))
        return str(self.assertRaises(WrongBytes, received.add, make))

    def test_missing_bytes(self) -> None:
        """A gap is named with its place and its size."""
        text = self.broken(Pattern(1).slice(1005, 100))
        self.assertIn("byte 1000 is wrong", text)
        self.assertIn("5 bytes missing here", text)

    def test_doubled_bytes(self) -> None:
        """So are bytes that come twice."""
        self.assertIn("200 bytes twice", self.broken(Pattern(1).slice(800, 300)))

    def test_foreign_bytes(self) -> None:
        """Bytes of another stream are told as such."""
        self.assertIn("nowhere near", self.broken(Pattern(2).slice(1000, 100)))

    def test_one_flipped_byte(self) -> None:
        """The position of a single wrong byte is exact."""
        data = bytearray(Pattern(1).slice(1000, 100))
        data[42] ^= 1
        self.assertIn("byte 1042 is wrong", self.broken(bytes(data)))

    def test_more_than_was_sent(self) -> None:
        """Bytes after the last one sent are wrong, even if the pattern would go on so."""
        sent = Sent(Pattern(1))
        sent.confirm(sent.plan(10))
        received = Received(sent)
        error = self.assertRaises(WrongBytes, received.add, Pattern(1).slice(0, 11))
        self.assertIn("only 10 bytes sent", str(error))

    def test_without_a_source_bytes_are_kept(self) -> None:
        """Nothing is known, so the bytes can be looked at."""
        received = Received()
        received.add(b"abc")
        received.add(b"def")
        self.assertEqual(received.slice(1, 4), b"bcde")
        self.assertIn("6 bytes", repr(received))

    def test_what_is_kept_is_bounded(self) -> None:
        """A flood that nobody knows anything about is an error."""
        received = Received()
        error = self.assertRaises(WrongBytes, received.add, bytes(MAX_KEPT + 1))
        self.assertIn("nothing says what they should be", str(error))

    def test_a_literal_as_source(self) -> None:
        """A filter's expected output can be given as bytes."""
        received = Received(Literal(b"HELLO"))
        received.add(b"HEL")
        error = self.assertRaises(WrongBytes, received.add, b"P!")
        self.assertIn("byte 3 is wrong", str(error))
