# -*- test-case-name: tests.listen.test_datagram_listener -*-
"""
The datagram that began an association, and that may go to another target.

UDP has no handshake: that a port is closed is told by ICMP, when the first datagram has been sent there. A
dial over TCP would try the next target, and so does a resolver's client, but only after 5 seconds. So the
datagram is kept until there is an answer. If the target refuses it, it comes again, as if the client had sent
it again; if the target is a name with another address, it is sent there.
"""

from __future__ import annotations

from typing import Final

from attrs import evolve, frozen

#: Seconds after which a datagram that was refused goes nowhere else. A port that is closed tells within a
#: round trip, and a client that wants an answer asks again.
PASSED_WITHIN: Final = 1.0


@frozen
class FirstDatagram:
    """
    See the module.

    :ivar came: when it came, in seconds of the reactor.
    :ivar tries: how many targets have refused it.
    """

    data: bytes
    came: float
    tries: int = 0

    def refused(self, now: float, targets: int) -> FirstDatagram | None:
        """It, for another one of so many targets; None: it is too late, or each has had it."""
        if now - self.came >= PASSED_WITHIN or self.tries + 1 >= targets:
            return None
        return evolve(self, tries=self.tries + 1)
