"""Tests of `portfwd.limits.question_shares`: no client takes the places of all."""

from __future__ import annotations

from attrs import frozen
from twisted.trial.unittest import SynchronousTestCase

from portfwd.limits.question_shares import QuestionShares


@frozen(eq=False)
class Asking:
    """A question of `source`."""

    source: str
    size: int = 1


class SharesTests(SynchronousTestCase):
    """`QuestionShares`."""

    def setUp(self) -> None:
        self.shares: QuestionShares[Asking] = QuestionShares(16, 1000)

    def add(self, source: str, count: int, size: int = 1) -> int:
        """How many of `count` questions are kept."""
        return sum(self.shares.add(Asking(source, size)) for _ in range(count))

    def sent(self, places: int) -> str:
        """The sources of what is sent, in order."""
        sources = ""
        while (question := self.shares.first(places)) is not None:
            self.shares.send(question)
            sources += question.source
        return sources

    def test_share_of_what_is_kept(self) -> None:
        """One source gets half of the places, the next one half of the rest, and the others something."""
        self.assertEqual([self.add(source, 20) for source in "abc"], [8, 4, 2])
        self.assertEqual(repr(self.shares), "<QuestionShares 14 of 16, 3 sources wait>")

    def test_share_of_bytes(self) -> None:
        """The same of bytes."""
        self.assertEqual([self.add(source, 20, 100) for source in "abc"], [5, 3, 1])

    def test_share_in_flight(self) -> None:
        """The same of those in flight; a place that is free again is for those that have fewer."""
        self.add("a", 8)
        first = self.shares.first(4)
        self.assertEqual(self.sent(4), "aa")
        self.add("b", 2)
        self.assertEqual(self.sent(4), "b")
        assert first is not None
        self.shares.landed(first)
        self.shares.forget(first)
        self.assertEqual(self.sent(4), "a")
        self.assertEqual(self.sent(5), "b")

    def test_turns(self) -> None:
        """Sources that wait take turns."""
        self.add("a", 3)
        self.add("b", 2)
        self.add("c", 1)
        self.assertEqual(self.sent(100), "abcaba")
        self.assertFalse(self.shares)

    def test_again(self) -> None:
        """Questions that wait again stand before all others of their source."""
        questions = [Asking("a") for _ in range(3)]
        for question in questions:
            self.shares.add(question)
        for question in questions[:2]:
            self.shares.send(question)
            self.shares.landed(question)
        self.shares.wait_again(questions[:2])
        self.assertIs(self.shares.first(9), questions[0])
        kept = []
        for question in self.shares.firsts():
            kept.append(question)
            if len(kept) < 3:
                self.shares.drop(question)
        self.assertEqual(kept, questions)
        self.assertEqual(self.shares.count, 1)
        self.shares.drop(questions[2])
        self.assertEqual((self.shares.counts, self.shares.sizes, self.shares.bytes), ({}, {}, 0))
