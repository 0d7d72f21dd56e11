# -*- test-case-name: tests.relay.test_handshakes -*-
"""
Limits the clients of a rule that have not finished their TLS handshake.

A client is silent until its first TLS message is complete; then its handshake has begun. A silent client
takes a socket and a few KiB; a handshake also takes OpenSSL's state. Each kind therefore has a bound of its
own. At a bound, the client that has waited longest is closed for the new one: real clients send at once, so
the oldest ones probably never will. A source with more than its share loses only its own clients.

This module does not measure time; the session applies ``handshake-timeout``.
"""

from __future__ import annotations

from typing import Final, Protocol

#: Most silent clients of one rule, 20 MiB with their sockets. At 1 000 new silent clients a second, each has
#: two seconds to send, ten times the round trip of a slow network.
MAX_SILENT: Final = 2048

#: Most handshakes of one rule. OpenSSL takes about 50 KiB for each, so 100 MiB in all; a core does a thousand
#: a second.
MAX_BEGUN: Final = 2048

#: The share of one source in a bound.
SHARE: Final = 1 / 16


class Shaking(Protocol):
    """A session whose client is in its handshake."""

    def make_room(self, why: str) -> None:
        """Close this client for a newer one. Must call `Handshakes.left`."""


class _Waiting:
    """A bounded list of clients in order of arrival."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._share = max(1, int(most * SHARE))
        self._sources: dict[Shaking, str] = {}
        self._by_source: dict[str, dict[Shaking, None]] = {}

    def __len__(self) -> int:
        return len(self._sources)

    def add(self, client: Shaking, source: str) -> Shaking | None:
        """Add `client`; return the client to close for it, which is still counted."""
        goes = None
        if len(self._sources) >= self._most:
            own = self._by_source.get(source, {}) if source else {}
            goes = next(iter(own)) if len(own) >= self._share else self.oldest()
        self._sources[client] = source
        if source:
            self._by_source.setdefault(source, {})[client] = None
        return goes

    def remove(self, client: Shaking) -> str | None:
        """Remove `client`; return its source, or None if it is not here."""
        source = self._sources.pop(client, None)
        if source:
            own = self._by_source[source]
            del own[client]
            if not own:
                del self._by_source[source]
        return source

    def oldest(self) -> Shaking | None:
        """The oldest client."""
        return next(iter(self._sources), None)


class Handshakes:
    """The clients of one rule that are in their handshakes."""

    def __init__(self, most_silent: int = MAX_SILENT, most_begun: int = MAX_BEGUN) -> None:
        """:param most_silent, most_begun: bounds of each kind."""
        self._silent = _Waiting(most_silent)
        self._begun = _Waiting(most_begun)
        self._texts = (
            f"dropped for a newer client: {most_silent} clients had not begun their TLS handshakes",
            f"dropped for a newer client: {most_begun} clients were in their TLS handshakes",
        )

    def __repr__(self) -> str:
        return f"<Handshakes silent={self.silent} begun={self.begun}>"

    @property
    def silent(self) -> int:
        """Number of clients without a complete first message."""
        return len(self._silent)

    @property
    def begun(self) -> int:
        """Number of handshakes that have begun."""
        return len(self._begun)

    def arrived(self, client: Shaking, source: str) -> None:
        """
        Count `client` as silent.

        :param source: see `portfwd.limits.source_counts.source_of`; empty if there is none.
        """
        goes = self._silent.add(client, source)
        if goes is not None:
            goes.make_room(self._texts[0])

    def announced(self, client: Shaking, source: str) -> None:
        """A PROXY header before TLS announced `source` for the silent `client`."""
        if self._silent.remove(client) is not None:
            self.arrived(client, source)

    def began(self, client: Shaking) -> None:
        """The first message of `client` is complete."""
        source = self._silent.remove(client)
        if source is None:
            return
        goes = self._begun.add(client, source)
        if goes is not None:
            goes.make_room(self._texts[1])

    def left(self, client: Shaking) -> None:
        """Remove `client`, if it is counted, because its handshake has ended."""
        if self._silent.remove(client) is None:
            self._begun.remove(client)

    def drop_silent(self, why: str) -> bool:
        """Close the longest silent client. False if there is none."""
        oldest = self._silent.oldest()
        if oldest is not None:
            oldest.make_room(f"dropped for a newer client, without a TLS handshake: {why}")
        return oldest is not None
