# -*- test-case-name: tests.filters.builtin.test_tee -*-
"""
``filter tee``: copies the bytes to a shadow upstream or to a file.

::

    filter tee to=10.0.0.7:8080 limit=1MiB
    filter tee file=/var/lib/portfwd/uploads.bin limit=1GiB

A shadow is connected with the first bytes to copy, once for each connection. Its answers are dropped. At most
``limit`` bytes wait for it; a slower shadow is reset, and the missed bytes are counted. Neither a shadow nor
a file slows the connection down or ends it.

A file gets the bytes of all connections in order of arrival, without separators; use `record` to distinguish
them. It grows to ``limit`` at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from attrs import frozen

from portfwd.filters.api import DONE, Connection, Copy, Factory, Filter, Plugin, RouteClause, Sink, Verdict
from portfwd.filters.builtin.direction_option import HELP, direction, directions_of
from portfwd.filters.options import OptionError, address, file_path, option, size
from portfwd.values import Address, Direction

#: Default of ``limit=``: bytes that wait for a shadow, or size of a file. Some reads of a busy connection.
LIMIT: Final = 4 * 1024 * 1024


class Tee(Filter):
    """Copies one connection."""

    def __init__(self, sink: Sink, directions: frozenset[Direction]) -> None:
        self._sink = sink
        self._directions = directions

    def received(self, direction: Direction, data: bytes) -> Verdict:
        """See `IFilter`."""
        if direction not in self._directions:
            return DONE
        return Copy(self._sink, data), None


@frozen
class TeeOptions:
    """The clause's options."""

    to: Address | None = option(
        address, default=None, help="The shadow: HOST:PORT or unix:PATH.", example="127.0.0.1:9000"
    )
    file: str | None = option(file_path, default=None, help="A file to append to, instead of to=.")
    limit: int = option(
        size, default=LIMIT, help="How many bytes may wait for the shadow, or how large the file may become."
    )
    direction: str = option(direction(), default="to-upstream", help=HELP)

    def __attrs_post_init__(self) -> None:
        """Refuse a clause without exactly one sink, and a limit of 0."""
        if (self.to is None) == (self.file is None):
            raise ValueError("say where the copy goes: either to=HOST:PORT or file=PATH")
        if not self.limit:
            raise OptionError("limit", "limit=0 copies nothing: delete the filter, or give it a size")


def make_factory(options: TeeOptions, clauses: Sequence[RouteClause]) -> Factory:
    """A factory for one clause."""
    directions = directions_of(options.direction)
    if options.file is not None:
        sink = Sink("file", options.file, options.limit)
    else:
        sink = Sink("stream", str(options.to), options.limit, address=options.to)

    def build(connection: Connection) -> Tee:
        return Tee(sink, directions)

    return Factory(build, directions=directions)


PLUGIN = Plugin("tee", "a copy of the bytes for a shadow upstream, or a file", TeeOptions, make_factory)
