"""Tests of `portfwd.filters.builtin.match`."""

from __future__ import annotations

import re
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from portfwd.filters.api import DONE, Close, Connection, Filter
from portfwd.filters.builtin.match import PLUGIN, SHOWN, MatchOptions
from portfwd.filters.builtin.replace import Replace
from portfwd.filters.clause_reading import read_options
from portfwd.filters.options import OptionFiles
from portfwd.values import TO_CLIENT, TO_UPSTREAM
from tests.filters.asking import a_connection, lines_of, passed


def a_filter(connection: Connection, **values: Any) -> Filter:
    """A filter as the clause with these options makes it."""
    made = PLUGIN.configure(MatchOptions(**values), ()).build(connection)
    assert isinstance(made, Filter)
    return made


class MatchTests(SynchronousTestCase):
    """What is done when something is seen."""

    def setUp(self) -> None:
        self.connection = a_connection()

    def test_log(self) -> None:
        """A match across chunks is one line, with its place and without its bytes; all is passed at once."""
        one = a_filter(self.connection, regex=re.compile(b"USER [a-z]+"))
        self.assertIsNone(one.received(TO_UPSTREAM, b"xx US"))
        self.assertIsNone(one.received(TO_UPSTREAM, b"ER root"))
        self.assertIsNone(one.received(TO_CLIENT, b"fine"))
        self.assertEqual(lines_of(self.connection), ["match: 9 bytes at 3 to-upstream"])

    def test_show(self) -> None:
        """With ``show=on`` the line has the bytes, escaped and not too many."""
        one = a_filter(self.connection, regex=re.compile(b"\x1b.+", re.DOTALL), show=True)
        one.received(TO_UPSTREAM, b"\x1b[1m{}\n")
        one.received(TO_UPSTREAM, b"\x1b" + b"x" * 500)
        short, long = lines_of(self.connection)
        self.assertEqual(short, r"match: 7 bytes at 0 to-upstream: \x1b[1m{}\x0a")
        self.assertEqual(long, rf"match: 501 bytes at 7 to-upstream: \x1b{'x' * (SHOWN - 1)}...")

    def test_close(self) -> None:
        """The session ends with the chunk that completes the match, which is not passed."""
        one = a_filter(self.connection, find=b"BitTorrent", action="close", reply=b"no\r\n", abort=True)
        self.assertIsNone(one.received(TO_UPSTREAM, b"\x13Bit"))
        verdict = one.received(TO_UPSTREAM, b"Torrent protocol")
        assert isinstance(verdict, Close)
        self.assertEqual((verdict.reply, verdict.abort), (b"no\r\n", True))
        self.assertNotIn("Torrent protocol", verdict.reason)

    def test_tag(self) -> None:
        """The tag counts the matches of both directions."""
        one = a_filter(self.connection, find=b"a", action="tag", tag="as")
        one.received(TO_UPSTREAM, b"banana")
        self.assertEqual(self.connection.tags, {"as": 3})
        one.received(TO_CLIENT, b"a")
        self.assertEqual((self.connection.tags, lines_of(self.connection)), ({"as": 4}, []))

    def test_count(self) -> None:
        """When as many as asked for were seen in a direction, it is done with it, not with the other."""
        one = a_filter(self.connection, find=b"a", action="tag", count=2)
        self.assertIs(one.received(TO_UPSTREAM, b"aaaa"), DONE)
        self.assertIs(one.received(TO_UPSTREAM, b"a"), DONE)
        self.assertEqual(self.connection.tags, {"match": 2})
        self.assertIsNone(one.received(TO_CLIENT, b"a"))

    def test_one_direction(self) -> None:
        """A filter for one direction is done with the other."""
        factory = PLUGIN.configure(MatchOptions(find=b"a", direction="up"), ())
        self.assertEqual(factory.directions, {TO_UPSTREAM})
        self.assertIs(factory.build(self.connection).received(TO_CLIENT, b"a"), DONE)

    def test_datagrams(self) -> None:
        """Nothing matches across datagrams."""
        connection = a_connection(network="udp")
        one = a_filter(connection, find=b"ab", action="tag")
        for datagram in (b"a", b"b", b"ab"):
            self.assertIsNone(one.received(TO_UPSTREAM, datagram))
        self.assertEqual(connection.tags, {"match": 1})

    def test_replace(self) -> None:
        """The action ``replace`` is the filter replace."""
        one = a_filter(self.connection, find=b"a", action="replace", new=b"b")
        self.assertIsInstance(one, Replace)
        self.assertEqual(passed(one.received(TO_UPSTREAM, b"xax")), b"xbx")


class OptionTests(SynchronousTestCase):
    """The clause."""

    def test_written(self) -> None:
        """What a rules file says is what is looked for."""
        pairs = (("find", r"\x16\x03"), ("action", "tag"), ("show", "on"))
        options = read_options(MatchOptions, (), pairs, OptionFiles(str, str))
        assert isinstance(options, MatchOptions)
        self.assertEqual((options.find, options.action, options.show), (b"\x16\x03", "tag", True))

    def test_refused(self) -> None:
        """A replacement with a group that is not there is refused, as by the filter replace."""
        error = self.assertRaises(ValueError, MatchOptions, regex=re.compile(b"a"), new=rb"\1")
        self.assertIn("new= does not fit", str(error))
