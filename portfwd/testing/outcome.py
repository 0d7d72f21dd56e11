# -*- test-case-name: tests.testing.test_pipe -*-
"""The outcome of a session of a `Pipe`, and the log for its filters."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from portfwd.filters.api import Sink
from portfwd.filters.chain.effects import Finish
from portfwd.values import Direction, Side


class Notes:
    """
    A log for filters that keeps its events.

    :ivar lines: for each event ``info`` or ``warn``, and the text.
    """

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def info(self, text: str, **values: object) -> None:
        """See `portfwd.filters.api.Log`."""
        self.lines.append(("info", text.format(**values)))

    def warn(self, text: str, **values: object) -> None:
        """See `portfwd.filters.api.Log`."""
        self.lines.append(("warn", text.format(**values)))


@attrs.frozen
class Outcome:
    """
    The outcome of a session, which can be compared with another one.

    :ivar to_upstream: all bytes that were written to the upstream.
    :ivar to_client: all bytes that were written to the client.
    :ivar ended: the directions whose end was passed on.
    :ivar finished: how a filter or the dial ended the session; None if it did not.
    :ivar dialled: whether there was a dial.
    :ivar target: the target that was dialled; None: none, or the rule's own.
    :ivar copies: the bytes that were written to each sink.
    :ivar secured: the sides on which TLS began, in order.
    """

    to_upstream: bytes
    to_client: bytes
    ended: frozenset[Direction]
    finished: Finish | None
    dialled: bool
    target: object
    copies: Mapping[Sink, bytes]
    secured: tuple[Side, ...] = ()
