"""Tests of `portfwd.logs.recording`: what is written can be read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from portfwd.logs.recording import (
    BadRecording,
    Chunk,
    RecordedSession,
    closed_line,
    data_line,
    ended_line,
    full_line,
    lost_line,
    opened_line,
    read_recording,
    record_line,
)
from portfwd.values import TO_CLIENT, TO_UPSTREAM, Direction

LISTINGS = Path(__file__).resolve().parents[2] / "docs" / "listings"
chunks = st.lists(
    st.tuples(st.integers(1, 3), st.sampled_from(Direction), st.binary(max_size=40)), max_size=20
)
notes = st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=3)


class RoundTripTests(SynchronousTestCase):
    """Writing and reading."""

    @settings(max_examples=100)
    @given(chunks, notes)
    def test_mixed(self, came: list[tuple[int, Direction, bytes]], who: dict[str, str]) -> None:
        """Sessions that were open at once are told apart, each with its bytes, ways and times."""
        lines = [record_line(1.0)]
        lines += [opened_line(2.0 + number, number, list(who.items())) for number in (1, 2, 3)]
        expected: dict[int, list[Chunk]] = {1: [], 2: [], 3: []}
        for index, (number, direction, data) in enumerate(came):
            at = 1_700_000_000.123456 + index
            lines.append(data_line(at, number, direction, data))
            expected[number].append(Chunk(at, direction, data))
        lines += [closed_line(9.0, 2), full_line(9.5)]
        self.assertEqual(
            read_recording(lines),
            [RecordedSession(n, 2.0 + n, who, expected[n], closed=n == 2) for n in (1, 2, 3)],
        )
        for line in lines:
            self.assertTrue(line.isascii() and line.endswith(b"\n") and line.count(b"\n") == 1)

    def test_the_form(self) -> None:
        """The lines are those that the documentation promises."""
        lines = [
            record_line(1.25),
            opened_line(2, 7, [("rule", "web")]),
            data_line(3, 7, TO_UPSTREAM, b"hello"),
            ended_line(4, 7, TO_CLIENT),
            lost_line(5, 7, 100),
            closed_line(6, 7),
            full_line(7),
        ]
        self.assertEqual(
            b"".join(lines).decode().splitlines(),
            [
                '{"at":1.25,"record":1}',
                '{"at":2,"session":7,"opened":{"rule":"web"}}',
                '{"at":3,"session":7,"to":"upstream","data":"aGVsbG8="}',
                '{"at":4,"session":7,"ended":"client"}',
                '{"at":5,"session":7,"lost":100}',
                '{"at":6,"session":7,"closed":true}',
                '{"at":7,"full":true}',
            ],
        )
        (session,) = read_recording(lines)
        self.assertEqual((session.lost, session.closed, session.size(TO_UPSTREAM)), (100, True, 5))
        self.assertEqual(session.chunks[1], Chunk(4.0, TO_CLIENT, b"", end=True))

    def test_the_page(self) -> None:
        """The lines that the reference shows are a record, and are what would be written."""
        shown = (LISTINGS / "record.log").read_bytes()
        (session,) = read_recording(shown.splitlines(keepends=True))
        written = [record_line(1767225600.25)]
        written.append(opened_line(session.opened_at, session.number, list(session.notes.items())))
        for chunk in session.chunks:
            if chunk.end:
                written.append(ended_line(chunk.at, session.number, chunk.direction))
            else:
                written.append(data_line(chunk.at, session.number, chunk.direction, chunk.data))
        written.append(closed_line(1767225661.013951, session.number))
        self.assertEqual(b"".join(written), shown)

    def test_numbers_again(self) -> None:
        """A number that is used again, by the next process or by a new opening, is another session."""
        data = data_line(2, 1, TO_CLIENT, b"x")
        lines = [record_line(1), data, record_line(3), data, opened_line(4, 1, []), data]
        self.assertEqual([session.size(TO_CLIENT) for session in read_recording(lines)], [1, 1, 1])


class DamageTests(SynchronousTestCase):
    """What is no record."""

    def test_torn(self) -> None:
        """A last line that was torn is passed over; nothing at all is an empty record."""
        lines = [record_line(1), data_line(2, 1, TO_CLIENT, b"x"), data_line(2, 1, TO_CLIENT, b"y")[:-5]]
        self.assertEqual([session.size(TO_CLIENT) for session in read_recording(lines)], [1])
        self.assertEqual(read_recording([]), [])

    def test_unknown_keys(self) -> None:
        """What a later version may add is passed over."""
        self.assertEqual(read_recording([record_line(1), b'{"at":1,"weather":"fine"}\n']), [])

    def test_not_a_record(self) -> None:
        """Another file is refused at its first line, a wrong line with its number."""
        for first in (
            b"hello\n",
            b"[]\n",
            b'{"at":1,"session":1}\n',
            b'{"at":1,"record":2}\n',
            b"\xff\n",
            b"1\n",
        ):
            error = self.assertRaises(BadRecording, read_recording, [first])
            self.assertEqual(str(error), "line 1: this is no record of portfwd")
        for line in (
            b"{}\n",
            b'{"at":"x","session":1}\n',
            b'{"at":1e300,"session":1}\n',
            b'{"at":NaN,"session":1}\n',
            b'{"at":-1,"session":1}\n',
            b'{"at":1,"session":[]}\n',
            b'{"at":1,"session":1,"to":"north","data":""}\n',
            b'{"at":1,"session":1,"to":"client","data":"*"}\n',
            b'{"at":1,"session":1,"to":"client","data":7}\n',
            b'{"at":1,"session":1,"opened":7}\n',
            b'{"at":1,"session":1,"lost":Infinity}\n',
            b"[" * 100_000 + b"\n",
        ):
            error = self.assertRaises(BadRecording, read_recording, [record_line(1), line])
            self.assertEqual((error.line, str(error)), (2, "line 2: this is no line of a record"))

    @settings(max_examples=100)
    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats(),
            lambda inner: st.dictionaries(
                st.sampled_from(
                    ["at", "session", "to", "data", "ended", "lost", "opened", "closed", "record"]
                ),
                inner,
                max_size=5,
            ),
            max_leaves=8,
        )
    )
    def test_fuzz(self, said: Any) -> None:
        """Nothing but `BadRecording` comes of a line, whatever it is."""
        try:
            read_recording([record_line(1), json.dumps(said).encode() + b"\n"])
        except BadRecording as error:
            self.assertEqual(error.line, 2)
