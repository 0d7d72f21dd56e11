"""Tests of `portfwd.wire.dns`."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from portfwd.wire.dns import HEADER, IDS, MIN_PAYLOAD_SIZE, is_question, read_id, truncate_for_udp, with_id

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


def with_edns(question: bytes, size: int) -> bytes:
    """`question` with an OPT record for answers of `size` bytes, with DO."""
    opt = b"\0\0\x29" + size.to_bytes(2, "big") + bytes.fromhex("0000 8000 0000")
    return question[:10] + b"\0\1" + question[12:] + opt


def answer_of(size: int, *, edns: bool = False) -> bytes:
    """An answer of `size` bytes to `QUESTION`: records with compressed names, and OPT with an option."""
    records = []
    option = bytes.fromhex("0000 29 04d0 00008000 000c 000c 0008") + bytes(8) if edns else b""
    left = size - len(QUESTION) - len(option)
    while left:
        data = min(left, 200) - 12
        if 0 < left - 12 - data < 12:
            data -= 12
        records.append(bytes.fromhex("c00c 0010 0001 0000 003c") + data.to_bytes(2, "big") + b"t" * data)
        left -= 12 + data
    counts = b"\0\1" + len(records).to_bytes(2, "big") + bytes((0, 0, 0, edns))
    return QUESTION[:2] + b"\x81\x80" + counts + QUESTION[HEADER:] + b"".join(records) + option


class FittedTests(SynchronousTestCase):
    """Answers that came over a stream, for clients over UDP."""

    def test_what_fits(self) -> None:
        """What the client accepts is passed on as it is: 512 bytes, or the size that its EDNS says."""
        for question, room in (
            (QUESTION, 512),
            (with_edns(QUESTION, 100), 512),
            (with_edns(QUESTION, 1232), 1232),
            (with_edns(QUESTION, 65535), 65535),
        ):
            for size in {100, MIN_PAYLOAD_SIZE, room}:
                answer = answer_of(size, edns=question != QUESTION)
                self.assertEqual(len(answer), size)
                self.assertEqual(truncate_for_udp(answer, question), answer)
            if room < 65535:
                longer = truncate_for_udp(answer_of(room + 1), question)
                self.assertLess(len(longer), MIN_PAYLOAD_SIZE)

    def test_truncated(self) -> None:
        """A longer one has TC, the question, and no records. The client asks again over TCP."""
        header = QUESTION[:2] + b"\x83\x80" + b"\0\1" + bytes(6)
        self.assertEqual(truncate_for_udp(answer_of(600), QUESTION), header + QUESTION[HEADER:])

    def test_truncated_with_edns(self) -> None:
        """Its OPT record stays, without the options (RFC 6891 section 7)."""
        header = QUESTION[:2] + b"\x83\x80" + b"\0\1" + bytes(5) + b"\1"
        opt = bytes.fromhex("0000 29 04d0 00008000 0000")
        answer = answer_of(1300, edns=True)
        self.assertEqual(
            truncate_for_udp(answer, with_edns(QUESTION, 1232)), header + QUESTION[HEADER:] + opt
        )

    def test_signed(self) -> None:
        """A client that signs would refuse an answer without a signature: its answers stay whole."""
        signed = QUESTION[:10] + b"\0\1" + QUESTION[12:] + b"\3key\0\0\xfa\0\xff" + bytes(6)
        self.assertEqual(truncate_for_udp(answer_of(600), signed), answer_of(600))
        both = with_edns(QUESTION, 512)
        both = both[:10] + b"\0\2" + both[12:] + b"\3key\0\0\xfa\0\xff" + bytes(6)
        self.assertEqual(truncate_for_udp(answer_of(600), both), answer_of(600))

    @given(st.binary(max_size=60), st.binary(min_size=590, max_size=700), st.booleans())
    def test_anything(self, rest: bytes, answer: bytes, edns: bool) -> None:
        """Nothing makes it raise, and what it makes is a short answer, or the answer."""
        question = QUESTION[:10] + bytes((0, edns)) + rest
        for one in (answer, answer_of(600)[:HEADER] + answer):
            made = truncate_for_udp(one, question)
            self.assertTrue(made == one or len(made) < MIN_PAYLOAD_SIZE)
            self.assertEqual(made[:2], one[:2])
