# -*- test-case-name: tests.testing.test_pipe -*-
"""What a session of a `Pipe` leaves behind: what became of it, and what its filters logged."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from portfwd.filters.api import Sink
from portfwd.filters.chain.effects import Finish
from portfwd.values import Direction, Side


class Notes:
    """
    A filter's log that is kept.

    :ivar lines: ``info`` or ``warn``, and the text.
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
    What became of a session, to be compared with another.

    :ivar target: what was dialled; None: nothing, or the rule's own.
    :ivar ended: the directions whose end went out.
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
