# -*- test-case-name: tests.limits.test_question_shares -*-
"""
Fair shares of DNS questions among clients.

A source (`portfwd.limits.source_counts.source_of`) may have at most as many questions as there are free
places, both among the kept ones and among those in flight. A single source thus gets half of the places, the
next one half of the rest. Waiting sources are served in turn.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Iterator
from typing import Generic, Protocol, TypeVar


class Asked(Protocol):
    """A question. :ivar source: its client as limits count it. :ivar size: its bytes."""

    @property
    def source(self) -> str:
        """See the class."""

    @property
    def size(self) -> int:
        """See the class."""


_Q = TypeVar("_Q", bound=Asked)


class QuestionShares(Generic[_Q]):
    """
    The kept questions of one rule's clients.

    :ivar count: number of kept questions, waiting or in flight.
    """

    def __init__(self, most: int, most_bytes: int) -> None:
        """
        :param most: number of questions to keep.
        :param most_bytes: bytes of all kept questions.
        """
        self.count = 0
        self._most = most
        self._most_bytes = most_bytes
        self.bytes = 0
        self.counts: Counter[str] = Counter()
        self.sizes: Counter[str] = Counter()
        self._flying: Counter[str] = Counter()
        self._in_flight = 0
        # The source whose turn is next comes first.
        self._waiting: OrderedDict[str, deque[_Q]] = OrderedDict()

    def __repr__(self) -> str:
        return f"<QuestionShares {self.count} of {self._most}, {len(self._waiting)} sources wait>"

    def __bool__(self) -> bool:
        """Whether any question is waiting."""
        return bool(self._waiting)

    def add(self, question: _Q) -> bool:
        """Queue `question`. False if its source has its share already, or no place is free."""
        source, size = question.source, question.size
        if self.counts[source] >= self._most - self.count:
            return False
        if self.sizes[source] + size > self._most_bytes - self.bytes:
            return False
        self.count += 1
        self.bytes += size
        self.counts[source] += 1
        self.sizes[source] += size
        self._waiting.setdefault(source, deque()).append(question)
        return True

    def first(self, places: int) -> _Q | None:
        """
        The next question. None if none is waiting, or if all waiting sources have their share in flight.

        :param places: number of questions that may be in flight.
        """
        free = places - self._in_flight
        if free <= 0:
            return None
        # Each source that is passed over has `free` questions in flight, so there are few of them.
        return next(
            (queue[0] for source, queue in self._waiting.items() if self._flying[source] < free), None
        )

    def send(self, question: _Q) -> None:
        """`question`, the first of its source, is in flight now. Its source goes to the end of the queue."""
        source = question.source
        self._take(source)
        if source in self._waiting:
            self._waiting.move_to_end(source)
        self._flying[source] += 1
        self._in_flight += 1

    def landed(self, question: _Q) -> None:
        """`question` is not in flight any more."""
        self._in_flight -= 1
        _lower(self._flying, question.source, 1)

    def wait_again(self, questions: Iterable[_Q]) -> None:
        """`questions` got no answer. They wait again, before all others of their sources."""
        for question in reversed(tuple(questions)):
            self._waiting.setdefault(question.source, deque()).appendleft(question)

    def drop(self, question: _Q) -> None:
        """Drop `question`, the first waiting one of its source."""
        self._take(question.source)
        self.forget(question)

    def forget(self, question: _Q) -> None:
        """Drop `question`, which is not waiting."""
        self.count -= 1
        self.bytes -= question.size
        _lower(self.counts, question.source, 1)
        _lower(self.sizes, question.source, question.size)

    def firsts(self) -> Iterator[_Q]:
        """
        Iterate over the oldest question of each source.

        If one is dropped meanwhile, the next one follows.
        """
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
