"""Tests of `portfwd.wire.dns`."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from portfwd.wire.dns import HEADER, IDS, is_question, read_id, with_id

#: Number 4711, recursion desired, one question: example.com, A, IN.
QUESTION = bytes.fromhex("1267 0100 0001 0000 0000 0000 07") + b"example\3com\0" + bytes.fromhex("0001 0001")


class HeaderTests(SynchronousTestCase):
    """Headers of messages."""

    def test_question(self) -> None:
        """A standard query is one, with or without records of EDNS; nothing else is."""
        self.assertTrue(is_question(QUESTION))
        self.assertTrue(is_question(QUESTION[:10] + b"\0\1" + QUESTION[12:]))
        for place, byte in ((2, 0x81), (2, 0x29), (2, 0x20), (5, 0), (5, 2), (4, 1), (7, 1), (9, 1)):
            other = bytearray(QUESTION)
            other[place] = byte
            self.assertFalse(is_question(bytes(other)), (place, byte))
        self.assertFalse(is_question(QUESTION[:HEADER]))
        self.assertFalse(is_question(b""))

    @given(st.binary(max_size=40), st.integers(0, IDS - 1))
    def test_numbers(self, rest: bytes, number: int) -> None:
        """A number that was written is read, and the rest is untouched."""
        message = QUESTION + rest
        other = with_id(message, number)
        self.assertEqual((read_id(other), other[2:]), (number, message[2:]))
        self.assertIsNone(read_id(rest[: HEADER - 1]))
