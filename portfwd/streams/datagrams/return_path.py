# -*- test-case-name: tests.streams.datagrams.test_return_path -*-
"""
Limits the answers to a client whose address is not verified.

The source address of a datagram can be forged, and answers then go to a victim. A client that sends another
datagram after an answer is considered real, and its answers are not counted any more. Before that, it gets as
many answers as the rule allows, and further ones are dropped. A forger that sends twice is also considered
real; only the protocol itself could detect it (as QUIC does, RFC 9000 section 8.1).
"""

from __future__ import annotations

from collections.abc import Callable


class Proof:
    """
    The state of one client.

    :ivar pending: whether it has not sent a datagram after an answer yet.
    :ivar dropped: number of dropped answers.
    """

    __slots__ = ("_answered", "_asked", "_exceeded", "_limit", "dropped", "pending")

    def __init__(self, limit: int, exceeded: Callable[[], None]) -> None:
        """
        :param limit: most answers before it replies.
        :param exceeded: called at the first dropped answer.
        """
        self._limit = limit
        self._exceeded = exceeded
        self._answered = 0
        self._asked = 0
        self.pending = True
        self.dropped = 0

    def __repr__(self) -> str:
        return f"<Proof {'pending' if self.pending else 'given'} after {self._answered} answers>"

    def allows(self, asked: int) -> bool:
        """
        Whether another answer may be sent to the client.

        :param asked: number of its datagrams so far.
        """
        if not self._answered:
            self._asked = asked
        elif asked > self._asked:
            self.pending = False
            return True
        if self._answered >= self._limit:
            if not self.dropped:
                self._exceeded()
            self.dropped += 1
            return False
        self._answered += 1
        return True
