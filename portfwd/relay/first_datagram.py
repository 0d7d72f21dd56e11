# -*- test-case-name: tests.listen.test_datagram_listener -*-
"""
Keeps the first datagram of an association, to send it to another target if the first one refuses it.

UDP has no handshake: a closed port is reported by ICMP after the first datagram was sent. Over TCP the dial
would try the next target; a DNS client repeats its question only after 5 seconds. The first datagram is
therefore kept until there is an answer. If the target refuses it, it is handled as if the client had repeated
it; if the target is a name with another address, it is sent there.
"""

from __future__ import annotations

from typing import Final

from attrs import evolve, frozen

#: Seconds after which a refused datagram is not sent again. A closed port answers within a round trip, and
#: clients repeat their questions themselves.
PASSED_WITHIN: Final = 1.0


@frozen
class FirstDatagram:
    """
    See the module.

    :ivar came: time of its arrival, in seconds of the reactor.
    :ivar tries: number of targets that have refused it.
    """

    data: bytes
    came: float
    tries: int = 0

    def refused(self, now: float, targets: int) -> FirstDatagram | None:
        """The datagram for another target; None if it is too late, or if all targets have refused it."""
        if now - self.came >= PASSED_WITHIN or self.tries + 1 >= targets:
            return None
        return evolve(self, tries=self.tries + 1)
