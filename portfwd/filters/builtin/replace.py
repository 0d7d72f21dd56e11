# -*- test-case-name: tests.filters.builtin.test_replace -*-
r"""
``filter replace``: replaces matching bytes, also across chunks.

::

    filter replace find=secret new=xxxxxx
    filter replace regex="Server: [^\r]{1,80}" new="Server: none" direction=to-client count=1

Bytes that may be the beginning of a match wait at most ``wait`` for the following bytes, because a client
that waits for an answer sends no more. A match across a longer pause is not found.
`portfwd.filters.builtin.matching` has the other limits of regular expressions.

The filter knows no protocols. Lengths in a protocol (such as HTTP's ``Content-Length``) become wrong if
``new`` has another length than the match.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from attrs import define, field, frozen

from portfwd.filters.api import DONE, Connection, Factory, Filter, Forward, Plugin, RouteClause, Verdict, Wake
from portfwd.filters.builtin.direction_option import HELP, direction, directions_of
from portfwd.filters.builtin.matching import MAX_MATCH, Found, Pieces, Scanner, Search
from portfwd.filters.options import OptionError, data, duration, number, option, regex, size
from portfwd.values import Direction

#: Default of ``wait=``: seconds that the beginning of a match waits for the rest. Longer than the gaps within
#: one write in most networks, and too short to be noticed.
WAIT: Final = 0.1


@define
class _DirectionState:
    """
    One direction of one connection.

    :ivar left: number of further replacements; None for no limit.
    :ivar fed: whether bytes have arrived since the last `Wake` was requested.
    """

    scanner: Scanner
    left: int | None
    is_awaited: bool = False
    fed: bool = False


class Replace(Filter):
    """Replaces in one connection."""

    def __init__(
        self,
        search: Search,
        new: bytes,
        directions: frozenset[Direction],
        *,
        count: int = 0,
        wait: float = WAIT,
        datagrams: bool = False,
    ) -> None:
        r"""
        :param new: may contain groups of a regular expression: ``\1``, ``\g<name>``.
        :param count: most replacements in each direction; 0 for no limit.
        :param wait: seconds.
        :param datagrams: whether each chunk is a complete datagram.
        """
        self._search = search
        self._new = new
        self._wait = wait
        self._count = count or None
        self._datagrams = datagrams
        self._states = {state: _DirectionState(search.scanner(), self._count) for state in directions}

    def received(self, direction: Direction, data: bytes) -> Verdict:
        """See `IFilter`."""
        state = self._states.get(direction)
        if state is None or state.left == 0:
            return DONE
        held = state.scanner.held
        pieces = state.scanner.feed(data)
        if self._datagrams:
            pieces += state.scanner.finish()
            state.scanner = self._search.scanner()
        passed = self._written(state, pieces)
        if state.left == 0:
            passed += state.scanner.give_up()
        state.fed = True
        if not held and not state.scanner.held and passed == data:
            return None
        if not state.scanner.held or state.is_awaited:
            return passed
        state.is_awaited, state.fed = True, False
        return (
            (Forward(passed), Wake(self._wait, direction)) if passed else (b"", Wake(self._wait, direction))
        )

    def _written(self, state: _DirectionState, pieces: Pieces) -> bytes:
        """The bytes of the pieces after replacement, within the limit of replacements."""
        written = []
        for piece in pieces:
            if not isinstance(piece, Found):
                written.append(piece)
            elif state.left == 0:
                written.append(piece.text)
            else:
                written.append(piece.expand(self._new))
                if state.left is not None:
                    state.left -= 1
        return b"".join(written)

    def woken(self, token: object) -> Verdict:
        """Pass the kept bytes, unless more bytes have arrived since."""
        assert isinstance(token, Direction)
        state = self._states[token]
        state.is_awaited = False
        if not state.scanner.held:
            return None
        if state.fed:
            state.is_awaited, state.fed = True, False
            return Wake(self._wait, token)
        return Forward(self._written(state, state.scanner.finish()))

    def ended(self, direction: Direction, held: bytes) -> Verdict:
        """See `IFilter`."""
        state = self._states.get(direction)
        rest = b"" if state is None else self._written(state, state.scanner.finish())
        return Forward(rest) if rest else None


@frozen
class ReplaceOptions:
    """The clause's options."""

    find: bytes | None = option(data, default=None, help="The bytes to look for.", example="secret")
    regex: re.Pattern[bytes] | None = option(
        regex, default=None, help="A regular expression to look for, instead of find=."
    )
    new: bytes = option(
        data,
        default=b"",
        help=r"What stands there instead, nothing unless said; \\1 is the expression's first group.",
        example="xxxxxx",
    )
    direction: str = option(direction(), default="both", help=HELP)
    count: int = option(number, default=0, help="How many are replaced in each direction; 0: all.")
    max_match: int = option(
        size, default=MAX_MATCH, help="Longest match of the regular expression; twice as much is kept back."
    )
    wait: float = option(
        duration, default=WAIT, help="How long bytes that may begin a match wait for the rest of it."
    )
    search: Search = field(init=False)

    @search.default
    def _search(self) -> Search:
        return Search(self.find, self.regex, self.max_match)

    def __attrs_post_init__(self) -> None:
        """Refuse groups that the regular expression does not have."""
        if self.regex is not None:
            check_template(self.regex, self.new)


def check_template(pattern: re.Pattern[bytes], template: bytes) -> None:
    """
    Check whether `template` can be expanded with matches of `pattern`.

    :raises ValueError: it names a group that does not exist, or is not a template.
    """
    try:
        pattern.sub(template, b"")
    except (re.error, IndexError) as error:
        raise OptionError("new", f"new= does not fit regex=: {error}") from None


def make_factory(options: ReplaceOptions, clauses: Sequence[RouteClause]) -> Factory:
    """A factory for one clause."""
    directions = directions_of(options.direction)

    def build(connection: Connection) -> Replace:
        return Replace(
            options.search,
            options.new,
            directions,
            count=options.count,
            wait=options.wait,
            datagrams=connection.network == "udp",
        )

    return Factory(build, directions=directions)


PLUGIN = Plugin("replace", "other bytes instead of those that match", ReplaceOptions, make_factory)
