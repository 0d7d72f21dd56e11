# -*- test-case-name: tests.filters.builtin.test_starttls_postgres -*-
"""Requests TLS from an upstream, for any protocol. Bytes of the client wait meanwhile."""

from __future__ import annotations

from typing import ClassVar, Final

from portfwd.filters.api import DONE, Close, Filter, Forward, Reply, StartTLS, Verdict, Wake
from portfwd.values import TO_CLIENT, Address, Direction, Side

#: Most bytes of a client that wait until the upstream accepts TLS: more than the first message of any
#: protocol.
MAX_WAITING: Final = 16 * 1024

#: Seconds that an upstream gets to accept.
LIMIT: Final = 10.0


class AskingUpstream(Filter):
    """
    Requests TLS from the upstream before it gets bytes of the client. TLS begins here, or is that of the
    client.

    :cvar request: the first bytes to the upstream.
    :cvar refusal: the reply to the client if the upstream has no TLS.
    """

    request: ClassVar[bytes] = b""
    refusal: ClassVar[bytes] = b""

    def __init__(self, *, originates: bool) -> None:
        """:param originates: whether TLS begins here."""
        self._originates = originates
        self._waiting = b""
        self._agreed = False

    def connected(self, upstream: Address | None) -> Verdict:
        """See `IFilter`."""
        return [Forward(self.request), Wake(LIMIT)]

    def received(self, direction: Direction, data: bytes) -> Verdict:
        """See `IFilter`."""
        if self._agreed:
            return DONE
        return self.answered(data) if direction is TO_CLIENT else self.wait(data)

    def answered(self, data: bytes) -> Verdict:
        """Handle bytes of the upstream."""
        raise NotImplementedError

    def wait(self, data: bytes) -> Verdict:
        """Keep bytes of the client."""
        # They are kept here and not delayed: delayed bytes would be sent in plain text when the session
        # closes.
        self._waiting += data
        return (
            b""
            if len(self._waiting) <= MAX_WAITING
            else Close("the client does not wait for TLS", abort=True)
        )

    def agree(self, rest: bytes, greeting: bytes = b"") -> Verdict:
        """Begin TLS. `rest` has arrived after the upstream's acceptance; `greeting` is for the client."""
        self._agreed = True
        if self._originates:
            return [StartTLS(Side.UPSTREAM, rest=rest), Forward(greeting), Reply(self._waiting), DONE]
        if rest:
            return Close("the upstream sends plain bytes before TLS", abort=True)
        return [Reply(self._waiting), DONE]

    def refuse(self) -> Verdict:
        """The upstream has no TLS. A client in its own handshake cannot be told."""
        return [Forward(self.refusal if self._originates else b""), Close("the upstream has no TLS")]

    def ended(self, direction: Direction, held: bytes) -> Verdict:
        """See `IFilter`."""
        return None if self._agreed else Close("closed before TLS began")

    def woken(self, token: object) -> Verdict:
        """See `IFilter`."""
        return None if self._agreed else Close("the upstream does not agree to TLS in time", abort=True)
