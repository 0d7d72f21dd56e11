# -*- test-case-name: tests.filters.builtin.test_match -*-
r"""
``filter match``: acts on bytes that occur in a stream.

::

    filter match find=BitTorrent action=close
    filter match regex="USER [a-z]{1,32}" action=log direction=to-upstream count=1
    filter match find="\x16\x03" action=tag tag=tls

``log`` writes an event with the pattern and the position; the bytes are included only with ``show=on``.
``tag`` counts the matches in `Connection.tags`, for filters behind it. ``close`` ends the session before the
last byte of the match has passed. To replace bytes, see `portfwd.filters.builtin.replace`. This filter holds
no bytes, so it adds no delay. `portfwd.filters.builtin.matching` has the limits of regular expressions.

This is not a protection against an attacker who knows the pattern.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from attrs import field, frozen

from portfwd.filters.api import DONE, Close, Connection, Factory, Filter, Plugin, RouteClause, Verdict
from portfwd.filters.builtin.direction_option import HELP, direction, directions_of
from portfwd.filters.builtin.matching import MAX_MATCH, Found, Lookout, Search
from portfwd.filters.builtin.replace import WAIT, Replace, check_template
from portfwd.filters.options import choice, data, duration, number, option, regex, size, switch, text
from portfwd.values import Direction, counted, printable

#: Most bytes of a match in a log line.
SHOWN: Final = 200


@frozen
class MatchOptions:
    """The clause's options."""

    find: bytes | None = option(data, default=None, help="The bytes to look for.", example="BitTorrent")
    regex: re.Pattern[bytes] | None = option(
        regex, default=None, help="A regular expression to look for, instead of find=."
    )
    action: str = option(
        choice("log", "close", "tag", "replace"), default="log", help="What is done.", example="close"
    )
    direction: str = option(direction(), default="both", help=HELP)
    count: int = option(number, default=0, help="How many matches count in each direction; 0: all.")
    show: bool = option(switch, default=False, help="With action=log: the bytes are in the line, escaped.")
    tag: str = option(text, default="match", help="With action=tag: the tag's name.")
    reply: bytes = option(data, default=b"", help="With action=close: sent to the sender first.")
    abort: bool = option(switch, default=False, help="With action=close: reset, instead of an end in order.")
    new: bytes = option(data, default=b"", help="With action=replace: what stands there instead.")
    wait: float = option(duration, default=WAIT, help="With action=replace: as of the filter replace.")
    max_match: int = option(size, default=MAX_MATCH, help="Longest match of the regular expression.")
    search: Search = field(init=False)

    @search.default
    def _search(self) -> Search:
        return Search(self.find, self.regex, self.max_match)

    def __attrs_post_init__(self) -> None:
        """Refuse options that do not fit together."""
        if self.regex is not None:
            check_template(self.regex, self.new)


class Match(Filter):
    """Searches the bytes of one connection."""

    def __init__(
        self, options: MatchOptions, directions: frozenset[Direction], connection: Connection
    ) -> None:
        self._options = options
        self._connection = connection
        self._datagrams = connection.network == "udp"
        self._lookouts: dict[Direction, Lookout] = {
            direction: options.search.lookout() for direction in directions
        }
        self._seen = dict.fromkeys(directions, 0)

    def received(self, direction: Direction, data: bytes) -> Verdict:
        """See `IFilter`."""
        lookout = self._lookouts.get(direction)
        options = self._options
        if lookout is None or (options.count and self._seen[direction] >= options.count):
            return DONE
        if self._datagrams:
            lookout = options.search.lookout()
        for found in lookout.feed(data):
            if options.action == "close":
                return Close("match: what was looked for was seen", options.reply, options.abort)
            self._note(direction, found)
            if options.count and self._seen[direction] >= options.count:
                return DONE
        return None

    def _note(self, direction: Direction, found: Found) -> None:
        self._seen[direction] += 1
        if self._options.action == "tag":
            self._connection.tags[self._options.tag] = sum(self._seen.values())
            return
        shown = ""
        if self._options.show:
            more = "..." if len(found.text) > SHOWN else ""
            shown = f": {printable(found.text[:SHOWN].decode('latin-1'))}{more}"
        self._connection.log.info(
            "match: {length} at {offset} {direction}{shown}",
            length=counted(len(found.text), "byte"),
            offset=found.offset,
            direction=direction.value,
            shown=shown,
        )


def make_factory(options: MatchOptions, clauses: Sequence[RouteClause]) -> Factory:
    """A factory for one clause."""
    directions = directions_of(options.direction)

    def build(connection: Connection) -> Filter:
        if options.action == "replace":
            return Replace(
                options.search,
                options.new,
                directions,
                count=options.count,
                wait=options.wait,
                datagrams=connection.network == "udp",
            )
        return Match(options, directions, connection)

    return Factory(build, directions=directions)


PLUGIN = Plugin("match", "log, tag or close when bytes are seen", MatchOptions, make_factory)
