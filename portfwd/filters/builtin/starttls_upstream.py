# -*- test-case-name: tests.filters.builtin.test_starttls_postgres -*-
"""Asking an upstream for TLS, in whatever protocol; what clients send meanwhile waits."""

from __future__ import annotations

from typing import ClassVar, Final

from portfwd.filters.api import DONE, Close, Filter, Forward, Reply, StartTLS, Verdict, Wake
from portfwd.values import TO_CLIENT, Address, Direction, Side

#: Bytes of a client that wait until the upstream has agreed to TLS: a first message, whatever the protocol.
MAX_WAITING: Final = 16 * 1024

#: Seconds that an upstream gets to agree.
LIMIT: Final = 10.0


class AskingUpstream(Filter):
    """
    Asks the upstream for TLS before it gets anything of the client's. TLS begins here, or is the client's.

    :cvar request: the first words to the upstream.
    :cvar refusal: what the client is told if the upstream has no TLS.
    """

    request: ClassVar[bytes] = b""
    refusal: ClassVar[bytes] = b""

    def __init__(self, *, originates: bool) -> None:
        """:param originates: TLS begins here."""
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
        """The upstream has said this."""
        raise NotImplementedError

    def wait(self, data: bytes) -> Verdict:
        """Let bytes of the client wait."""
        # They are kept here and not delayed: what is delayed goes out when the session closes, in plain.
        self._waiting += data
        return (
            b""
            if len(self._waiting) <= MAX_WAITING
            else Close("the client does not wait for TLS", abort=True)
        )

    def agree(self, rest: bytes, greeting: bytes = b"") -> Verdict:
        """TLS begins; `rest` came behind the upstream's consent, and `greeting` is for the client."""
        self._agreed = True
        if self._originates:
            return [StartTLS(Side.UPSTREAM, rest=rest), Forward(greeting), Reply(self._waiting), DONE]
        if rest:
            return Close("the upstream sends plain bytes before TLS", abort=True)
        return [Reply(self._waiting), DONE]

    def refuse(self) -> Verdict:
        """The upstream has no TLS; a client in a handshake of its own could not read that."""
        return [Forward(self.refusal if self._originates else b""), Close("the upstream has no TLS")]

    def ended(self, direction: Direction, held: bytes) -> Verdict:
        """See `IFilter`."""
        return None if self._agreed else Close("closed before TLS began")

    def woken(self, token: object) -> Verdict:
        """See `IFilter`."""
        return None if self._agreed else Close("the upstream does not agree to TLS in time", abort=True)
