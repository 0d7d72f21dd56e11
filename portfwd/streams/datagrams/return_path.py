# -*- test-case-name: tests.streams.datagrams.test_return_path -*-
"""
How many answers a client gets that has not shown yet that it is where it says.

The source address of a datagram can be forged, and then each answer goes to somebody who never asked. A
client that sends another datagram after an answer is taken for real: from then on nothing is counted.
Before, it gets so many answers as the rule allows, and the others are dropped. A forger who sends twice,
blindly, is taken for real too: without knowing the protocol nobody can tell more (RFC 9000 section 8.1 can,
for QUIC).
"""

from __future__ import annotations

from collections.abc import Callable


class Proof:
    """
    What is known of one client.

    :ivar pending: it has not replied yet.
    :ivar dropped: answers that it did not get.
    """

    __slots__ = ("_answered", "_asked", "_exceeded", "_limit", "dropped", "pending")

    def __init__(self, limit: int, exceeded: Callable[[], None]) -> None:
        """
        :param limit: answers that it gets before it replies.
        :param exceeded: called at the first answer beyond.
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
        Whether another answer may go to the client.

        :param asked: datagrams that came from it so far.
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
