# -*- test-case-name: tests.relay.test_filtered -*-
"""
The part of a session whose client may be announced by a PROXY header.

An announced client is judged by the announced address. A client that is not announced is judged by its own
address, as soon as no filter can announce it any more.
"""

from __future__ import annotations

from typing import Final

from portfwd.limits.source_counts import source_of
from portfwd.relay.containment import contained
from portfwd.relay.session import Session
from portfwd.relay.states import State
from portfwd.streams.stream import Stream
from portfwd.values import Address, CloseReason, as_inet, as_unix

#: The text that access lists get for a client that was announced without an address. ``*`` matches it.
_NO_ADDRESS: Final = "unknown"


class AnnouncedSession(Session):
    """See the module."""

    def _is_welcome(self) -> bool:
        """Whether access lists admit a client that was not announced. If not, it is refused."""
        if not self._rule.learns_sources or self._announced is not None:
            return True
        client = self._client.stream
        return self._comes_from(None if client is None else client.address)

    def _comes_from(self, address: Address | None) -> bool:
        slots, stream = self._slots, self._client.stream
        if as_inet(address) is None and stream is not None:
            address = stream.address  # limits per source apply to clients without an address too
        return slots is None or self._is_within(slots.come_from(address, self._clock.seconds()))

    @contained
    def announced(self, stream: Stream, client: Address, local: Address | None) -> None:
        """A PROXY header before TLS announced the client: judge it before the handshake."""
        if self.state is State.HANDSHAKING and self._admits(client, local):
            self._rule.handshakes.announced(self, source_of(client))

    def _admits(self, client: Address | None, local: Address | None) -> bool:
        """Whether access lists and limits admit an announced client. If not, it is refused."""
        self._announced, self._announced_local = client, local
        access = self._rule.access
        if not access.empty:
            inet = as_inet(client)
            if as_unix(client) is not None:
                decision = access.decide_unix(announced=True)
            else:
                decision = access.decide(_NO_ADDRESS if inet is None else inet.host)
            if not decision.allowed:
                self._access_step = decision.step
                self._refuse(CloseReason.ACCESS)
                return False
        return self._comes_from(client)
