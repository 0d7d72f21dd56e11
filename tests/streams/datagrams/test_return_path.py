"""Tests of `portfwd.streams.datagrams.return_path`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from portfwd.streams.datagrams.return_path import Proof


class ProofTests(SynchronousTestCase):
    """How many answers there may be."""

    def setUp(self) -> None:
        self.told = 0
        self.proof = Proof(3, self.exceeded)

    def exceeded(self) -> None:
        self.told += 1

    def test_bound(self) -> None:
        """So many and no more, however many datagrams came before the first answer; it is told once."""
        self.assertEqual([self.proof.allows(5) for _ in range(6)], [True] * 3 + [False] * 3)
        self.assertEqual((self.told, self.proof.dropped, self.proof.pending), (1, 3, True))
        self.assertIn("pending", repr(self.proof))

    def test_reply(self) -> None:
        """A datagram that comes after an answer is the proof, also after answers were dropped."""
        for asked in (1, 1, 1, 1):
            self.proof.allows(asked)
        self.assertTrue(self.proof.allows(2))
        self.assertFalse(self.proof.pending)
