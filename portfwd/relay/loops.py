# -*- test-case-name: tests.relay.test_loops -*-
"""
Connections of this process to its own listeners, and the loops that they make.

Rules may be chained: the target of one may be the listener of another. A connection that comes back to a rule
that it has come through already goes on for ever, and takes every descriptor within a second. So each
connection to a listener of this process is remembered under the address it leaves from. A client that comes
from that address is the same connection; it has come through the rules of the session that dialled, and
through those that this one had come through.

It decides by that evidence alone: whatever the text of the rules or the answers of name servers suggest, a
session is refused only when it has been in the same rule before.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final, NamedTuple, Protocol

from portfwd.kernel.sockets import is_own_address, local_address
from portfwd.values import Address, CloseReason, InetAddress, UnixAddress, unmapped

#: How often a connection may come through one rule if clients chose where it went: a client of a proxy may
#: name the proxy itself as its target, and go on from there. Eight are more than anybody needs.
MAX_PASSES: Final = 8

#: Hosts of which it is remembered whether they are this machine's.
MAX_HOSTS: Final = 1024

#: Seconds for which that holds.
HOST_HOLDS: Final = 30.0

_EVERY: Final = "*"


class Passing(Protocol):
    """A session. :ivar passages: the sessions that its client's connection has come through before."""

    passages: Sequence[PassedSession]

    def kill(self, reason: CloseReason) -> None:
        """End it now."""


class PassedSession(NamedTuple):
    """
    A session that a connection has come through.

    :ivar rule: the session's rule.
    :ivar is_chosen: the client chose where it went from there.
    :ivar is_copy: it is a shadow of a session (`portfwd.relay.shadows`), and not the session.
    """

    session: Passing
    rule: str
    is_chosen: bool
    is_copy: bool = False


def is_loop(passages: Sequence[PassedSession], rule: str) -> bool:
    """Whether a connection that has come through `passages` must not enter `rule`."""
    before = [passage.is_copy for passage in passages if passage.rule == rule]
    return bool(before) and (
        len(before) >= MAX_PASSES or any(before) or not any(passage.is_chosen for passage in passages)
    )


class Loops:
    """
    What is known of connections to ourselves.

    :ivar open: whether there is any; if not, nobody need ask.
    """

    def __init__(
        self,
        now: Callable[[], float],
        is_own: Callable[[str], bool] = is_own_address,
        real: Callable[[str], str] = os.path.realpath,
    ) -> None:
        """
        :param now: seconds, of a clock that does not jump.
        :param is_own: whether a literal is an address of this machine.
        :param real: a path without symbolic links.
        """
        self._now = now
        self._real = real
        self._is_own = is_own
        self._ports: dict[int, set[str]] = {}
        self._paths: set[str] = set()
        self._hosts: dict[str, tuple[bool, float]] = {}
        self._passages: dict[tuple[Address, int], PassedSession] = {}
        self._keys: dict[Passing, list[tuple[Address, int]]] = {}

    def __repr__(self) -> str:
        return f"<Loops {len(self._passages)} connections to ourselves>"

    @property
    def open(self) -> bool:
        """See the class."""
        return bool(self._passages)

    def listens(self, address: Address) -> None:
        """
        Note that this process listens there.

        It need not be told of an end: connections to an address that is not listened on any more are
        remembered for nothing.
        """
        if isinstance(address, UnixAddress):
            self._paths.add(self._path(address))
        else:
            literal = _literal(address.host)
            every = literal is not None and literal.is_unspecified
            self._ports.setdefault(address.port, set()).add(
                _EVERY if every or literal is None else literal.text
            )

    def may_reach(self, address: Address) -> bool:
        """Whether a connection to `address` may end at a listener of this process."""
        if isinstance(address, UnixAddress):
            return bool(self._paths) and self._path(address) in self._paths
        hosts = self._ports.get(address.port)
        return hosts is not None and self._is_among(address.host, hosts)

    def _path(self, address: UnixAddress) -> str:
        return address.path if address.path.startswith("@") else self._real(address.path)

    def _is_among(self, host: str, hosts: set[str]) -> bool:
        literal = _literal(host)
        if literal is None:
            return False
        if literal.text in hosts or literal.is_unspecified:
            return True
        return _EVERY in hosts and (literal.is_loopback or self._is_ours(host))

    def _is_ours(self, host: str) -> bool:
        now = self._now()
        known = self._hosts.get(host)
        if known is None or known[1] <= now:
            if len(self._hosts) >= MAX_HOSTS:
                self._hosts.clear()
            self._hosts[host] = known = (self._is_own(host), now + HOST_HOLDS)
        return known[0]

    def begun(self, passage: PassedSession, address: Address, sock: socket.socket) -> None:
        """`sock`, which `passage.session` connects to `address`, has an address of its own now."""
        local = local_address(sock)
        if local is not None:
            self.connected(passage, address, local)

    def connected(self, passage: PassedSession, address: Address, local: Address) -> None:
        """The session of `passage` connects from `local` to `address`."""
        key = (local, _port(address))
        self._passages[key] = passage
        self._keys.setdefault(passage.session, []).append(key)

    def passages_of(self, client: Address | None, local: Address | None) -> Sequence[PassedSession]:
        """What a connection from `client` to `local` has come through; nothing for one from elsewhere."""
        if client is None or local is None:
            return ()
        passage = self._passages.get((client, _port(local)))
        return () if passage is None else (*passage.session.passages, passage)

    def left(self, session: Passing) -> None:
        """`session` is over."""
        for key in self._keys.pop(session, ()):
            passage = self._passages.get(key)
            if passage is not None and passage.session is session:
                del self._passages[key]


def _port(address: Address) -> int:
    return address.port if isinstance(address, InetAddress) else 0


class _Literal(NamedTuple):
    """An address, as it is compared. :ivar text: in its usual form; IPv4-mapped ones as IPv4."""

    text: str
    is_unspecified: bool
    is_loopback: bool


def _read_literal(host: str) -> _Literal | None:
    try:
        address = ipaddress.ip_address(unmapped(host))
    except ValueError:
        return None
    return _Literal(str(address), address.is_unspecified, address.is_loopback)


# Asked for each session of a rule whose target's port is listened on here, as in :80 -> 10.0.0.5:80.
_literal: Final = lru_cache(maxsize=MAX_HOSTS)(_read_literal)
