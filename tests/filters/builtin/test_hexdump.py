"""Tests of `portfwd.filters.builtin.hexdump`."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from portfwd.filters.api import DONE, Connection, Filter
from portfwd.filters.builtin.hexdump import PLUGIN, HexdumpOptions, dump_lines
from portfwd.values import TO_CLIENT, TO_UPSTREAM
from tests.filters.asking import a_connection, lines_of


class LineTests(SynchronousTestCase):
    """The lines."""

    def test_as_hexdump(self) -> None:
        """They are those of ``hexdump -C``, byte for byte."""
        self.assertEqual(
            list(dump_lines(b"GET / HTTP/1.1\r\n\x00|\x7f\x80")),
            [
                "00000000  47 45 54 20 2f 20 48 54  54 50 2f 31 2e 31 0d 0a  |GET / HTTP/1.1..|",
                "00000010  00 7c 7f 80                                       |.|..|",
            ],
        )
        self.assertEqual(list(dump_lines(b"")), [])

    @settings(max_examples=50)
    @given(st.binary(max_size=100), st.integers(0, 2**32 - 200))
    def test_read_back(self, data: bytes, offset: int) -> None:
        """The bytes can be read back from the columns, and nothing but printable ASCII is in a line."""
        lines = list(dump_lines(data, offset))
        self.assertEqual(bytes.fromhex("".join(line[10:58] for line in lines)), data)
        self.assertEqual([int(line[:8], 16) for line in lines], list(range(offset, offset + len(data), 16)))
        for line in lines:
            self.assertTrue(line.isascii() and line.isprintable(), line)


class HexdumpTests(SynchronousTestCase):
    """The filter."""

    def a_filter(self, connection: Connection, options: HexdumpOptions) -> Filter:
        """A filter for `connection`."""
        made = PLUGIN.configure(options, ()).build(connection)
        assert isinstance(made, Filter)
        return made

    def test_both_ways(self) -> None:
        """Each direction has its sign and its own offsets; a chunk begins a line; the bytes are passed."""
        connection = a_connection()
        one = self.a_filter(connection, HexdumpOptions())
        for direction, chunk in ((TO_UPSTREAM, b"a{0}"), (TO_CLIENT, b"b"), (TO_UPSTREAM, b"c")):
            self.assertIsNone(one.received(direction, chunk))
        self.assertEqual(
            [" ".join(line.split()) for line in lines_of(connection)],
            ["> 00000000 61 7b 30 7d |a{0}|", "< 00000000 62 |b|", "> 00000004 63 |c|"],
        )

    def test_limit(self) -> None:
        """Behind the limit nothing is shown; one line says so, and the filter is done with that direction."""
        connection = a_connection()
        one = self.a_filter(connection, HexdumpOptions(limit=20))
        self.assertIsNone(one.received(TO_UPSTREAM, b"x" * 19))
        self.assertIs(one.received(TO_UPSTREAM, b"yz"), DONE)
        self.assertIs(one.received(TO_UPSTREAM, b"z"), DONE)
        lines = lines_of(connection)
        self.assertEqual(lines[-1], "> 00000014  limit=20 is reached")
        self.assertEqual("".join(line.partition("|")[2].strip("|") for line in lines), "x" * 19 + "y")
        self.assertIsNone(one.received(TO_CLIENT, b"z"))

    def test_one_direction(self) -> None:
        """A filter for one direction shows nothing of the other."""
        factory = PLUGIN.configure(HexdumpOptions(direction="down"), ())
        self.assertEqual(factory.directions, {TO_CLIENT})
        connection = a_connection()
        self.assertIs(factory.build(connection).received(TO_UPSTREAM, b"x"), DONE)
        self.assertEqual(lines_of(connection), [])

    def test_refused(self) -> None:
        """A limit of nothing is refused."""
        self.assertIn("limit=0", str(self.assertRaises(ValueError, HexdumpOptions, limit=0)))
