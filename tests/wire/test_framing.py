"""Tests of `portfwd.wire.framing`."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from portfwd.testing.splits import every_split
from portfwd.wire.framing import MAX_MESSAGE, Unframer, frame


def unframe(pieces: Sequence[bytes]) -> tuple[list[bytes], int]:
    """The messages in `pieces`, and how many bytes are left over."""
    unframer = Unframer()
    return [message for piece in pieces for message in unframer.feed(piece)], unframer.kept


class FramingTests(SynchronousTestCase):
    """RFC 1035 section 4.2.2."""

    def test_the_length_excludes_itself(self) -> None:
        """A message of three bytes has 3 before it."""
        self.assertEqual(frame(b"abc"), b"\x00\x03abc")

    def test_an_empty_message_is_one(self) -> None:
        """A datagram of no bytes stays a datagram."""
        self.assertEqual(frame(b""), b"\x00\x00")
        self.assertEqual(unframe([b"\x00\x00\x00\x00"]), ([b"", b""], 0))

    def test_the_longest(self) -> None:
        """65 535 bytes can be said, one more cannot."""
        self.assertEqual(unframe([frame(bytes(MAX_MESSAGE))]), ([bytes(MAX_MESSAGE)], 0))
        with self.assertRaises(ValueError):
            frame(bytes(MAX_MESSAGE + 1))

    def test_wherever_it_is_cut(self) -> None:
        """A stream gives the same messages however it is cut, and keeps the unfinished one."""
        stream = frame(b"first") + frame(b"") + frame(b"x" * 300) + frame(b"unfinished")[:-1]
        messages, kept = every_split(unframe, stream)
        self.assertEqual(messages, [b"first", b"", b"x" * 300])
        self.assertEqual(kept, 11)

    @given(st.lists(st.binary(max_size=600), max_size=8))
    @settings(max_examples=40, deadline=None)
    def test_what_goes_in_comes_out(self, messages: list[bytes]) -> None:
        """Any messages survive."""
        self.assertEqual(unframe([b"".join(map(frame, messages))]), (messages, 0))

    def test_it_says_what_it_keeps(self) -> None:
        """Its repr has the number of bytes."""
        unframer = Unframer()
        unframer.feed(b"\x00")
        self.assertEqual(repr(unframer), "<Unframer keeps 1 bytes>")
