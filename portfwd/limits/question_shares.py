# -*- test-case-name: tests.limits.test_question_shares -*-
"""
Which client's question is sent next, and whose is not kept, so that no client takes the places of all.

Each source (`portfwd.limits.source_counts.source_of`) has at most as many questions as places are free, among
those that are kept and among those in flight. One source alone gets half of the places, the next one half of
the rest. Sources that wait take turns.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Iterator
from typing import Generic, Protocol, TypeVar


class Asked(Protocol):
    """A question. :ivar source: its client, as limits count it. :ivar size: in bytes."""

    @property
    def source(self) -> str:
        """See the class."""

    @property
    def size(self) -> int:
        """See the class."""


_Q = TypeVar("_Q", bound=Asked)


class QuestionShares(Generic[_Q]):
    """
    The questions of one rule's clients: those that wait, in turns, and counts of all that are kept.

    :ivar count: how many are kept: they wait, or are in flight.
    """

    def __init__(self, most: int, most_bytes: int) -> None:
        """
        :param most: questions that may be kept.
        :param most_bytes: bytes of them.
        """
        self.count = 0
        self._most = most
        self._most_bytes = most_bytes
        self._bytes = 0
        self._counts: Counter[str] = Counter()
        self._sizes: Counter[str] = Counter()
        self._flying: Counter[str] = Counter()
        self._in_flight = 0
        # The source whose turn it is stands first.
        self._waiting: OrderedDict[str, deque[_Q]] = OrderedDict()

    def __repr__(self) -> str:
        return f"<QuestionShares {self.count} of {self._most}, {len(self._waiting)} sources wait>"

    def __bool__(self) -> bool:
        """Whether any wait."""
        return bool(self._waiting)

    def add(self, question: _Q) -> bool:
        """Keep `question`, which waits now; False if its source has its share, or there is no place."""
        source, size = question.source, question.size
        if self._counts[source] >= self._most - self.count:
            return False
        if self._sizes[source] + size > self._most_bytes - self._bytes:
            return False
        self.count += 1
        self._bytes += size
        self._counts[source] += 1
        self._sizes[source] += size
        self._waiting.setdefault(source, deque()).append(question)
        return True

    def first(self, places: int) -> _Q | None:
        """
        The question whose turn it is; None if none waits, or those that wait have their share in flight.

        :param places: how many questions may be in flight.
        """
        free = places - self._in_flight
        if free <= 0:
            return None
        # Those that are passed over have `free` in flight each, so there are few of them.
        return next(
            (queue[0] for source, queue in self._waiting.items() if self._flying[source] < free), None
        )

    def send(self, question: _Q) -> None:
        """`question`, the first of its source, is in flight now; all other sources have their turns first."""
        source = question.source
        self._take(source)
        if source in self._waiting:
            self._waiting.move_to_end(source)
        self._flying[source] += 1
        self._in_flight += 1

    def landed(self, question: _Q) -> None:
        """`question` is in flight no more."""
        self._in_flight -= 1
        _lower(self._flying, question.source, 1)

    def wait_again(self, questions: Iterable[_Q]) -> None:
        """`questions` have landed without an answer, and wait before all others of their sources."""
        for question in reversed(tuple(questions)):
            self._waiting.setdefault(question.source, deque()).appendleft(question)

    def drop(self, question: _Q) -> None:
        """`question`, the first of its source, waits no more, and is forgotten."""
        self._take(question.source)
        self.forget(question)

    def forget(self, question: _Q) -> None:
        """`question`, which does not wait, is kept no more."""
        self.count -= 1
        self._bytes -= question.size
        _lower(self._counts, question.source, 1)
        _lower(self._sizes, question.source, question.size)

    def firsts(self) -> Iterator[_Q]:
        """The oldest question of each source; if it is dropped meanwhile, the next one follows."""
        for source, queue in tuple(self._waiting.items()):
            last: _Q | None = None
            while queue and queue[0] is not last and source in self._waiting:
                last = queue[0]
                yield last

    def _take(self, source: str) -> None:
        queue = self._waiting[source]
        queue.popleft()
        if not queue:
            del self._waiting[source]


def _lower(counts: Counter[str], source: str, by: int) -> None:
    counts[source] -= by
    if counts[source] <= 0:
        del counts[source]
