# -*- test-case-name: tests.relay.test_handshakes -*-
"""
Which clients of a rule have not finished their TLS handshake, and which of them makes room for a new one.

A client is silent until its first TLS message is complete; then its handshake has begun. A silent client
costs a socket and a few KiB, a handshake that has begun costs OpenSSL's state as well, so each kind has a
bound of its own. At a bound the client that has waited longest is dropped, and the new one is taken: a real
client speaks at once, so the oldest ones are those that never will. A source that has more than its share
drops only clients of its own.

It does not measure time; ``handshake-timeout`` is the session's.
"""

from __future__ import annotations

from typing import Final, Protocol

#: Silent clients of one rule at a time: 20 MiB with their sockets. At 1 000 new silent clients a second each
#: one has two seconds to speak, ten times the round trip of a slow network.
MAX_SILENT: Final = 2048

#: Handshakes of one rule under way at a time: OpenSSL keeps some 50 KiB for each, so these cost 100 MiB, and
#: a processor does a thousand a second.
MAX_BEGUN: Final = 2048

#: Part of a bound that one source may take from others.
SHARE: Final = 1 / 16


class Shaking(Protocol):
    """A client in its handshake: a session."""

    def make_room(self, why: str) -> None:
        """Close this client for a newer one, and call `Handshakes.left`."""


class _Waiting:
    """Clients in the order in which they came, with a bound."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._share = max(1, int(most * SHARE))
        self._sources: dict[Shaking, str] = {}
        self._by_source: dict[str, dict[Shaking, None]] = {}

    def __len__(self) -> int:
        return len(self._sources)

    def add(self, client: Shaking, source: str) -> Shaking | None:
        """Add `client`; return who has to go for it, who is still counted."""
        goes = None
        if len(self._sources) >= self._most:
            own = self._by_source.get(source, {}) if source else {}
            goes = next(iter(own)) if len(own) >= self._share else self.oldest()
        self._sources[client] = source
        if source:
            self._by_source.setdefault(source, {})[client] = None
        return goes

    def remove(self, client: Shaking) -> str | None:
        """Remove `client`; return its source, None if it is not here."""
        source = self._sources.pop(client, None)
        if source:
            own = self._by_source[source]
            del own[client]
            if not own:
                del self._by_source[source]
        return source

    def oldest(self) -> Shaking | None:
        """Who came first."""
        return next(iter(self._sources), None)


class Handshakes:
    """The clients of one rule that are in their handshakes."""

    def __init__(self, most_silent: int = MAX_SILENT, most_begun: int = MAX_BEGUN) -> None:
        """:param most_silent, most_begun: how many there may be of each kind."""
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
        """How many clients have not sent a whole first message."""
        return len(self._silent)

    @property
    def begun(self) -> int:
        """How many handshakes are under way."""
        return len(self._begun)

    def arrived(self, client: Shaking, source: str) -> None:
        """
        Count `client` as silent.

        :param source: see `portfwd.limits.source_counts.source_of`; empty where clients have none.
        """
        goes = self._silent.add(client, source)
        if goes is not None:
            goes.make_room(self._texts[0])

    def announced(self, client: Shaking, source: str) -> None:
        """`client`, which is silent still, comes from `source`: a PROXY header before TLS says so."""
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
        """`client` is through, or gone; nothing happens where it is not counted."""
        if self._silent.remove(client) is None:
            self._begun.remove(client)

    def drop_silent(self, why: str) -> bool:
        """Drop the client that has been silent longest; False if there is none."""
        oldest = self._silent.oldest()
        if oldest is not None:
            oldest.make_room(f"dropped for a newer client, without a TLS handshake: {why}")
        return oldest is not None
