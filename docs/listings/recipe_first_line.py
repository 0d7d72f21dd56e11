"""Route by the first line that the client sends."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from portfwd.filters import (
    DONE,
    NEED_MORE,
    TO_UPSTREAM,
    Close,
    Direction,
    Filter,
    Route,
    RouteClause,
    Verdict,
)


class FirstLine(Filter):
    """Takes the first ``route`` whose pattern matches the line; without one, the rule's own target."""

    directions = frozenset({TO_UPSTREAM})
    routes = True
    max_hold = 1024

    def __init__(self, clauses: Sequence[RouteClause] = ()) -> None:
        self.clauses = clauses

    def received(self, direction: Direction, data: bytes) -> Verdict:
        """The client's first bytes."""
        line, end, _ = data.partition(b"\n")
        if not end:
            return NEED_MORE
        text = line.decode("ascii", "replace").strip()
        for clause in self.clauses:
            if any(fnmatchcase(text, pattern) for pattern in clause.patterns):
                return Close("no route") if clause.target is None else [Route(clause.target), DONE]
        return DONE
