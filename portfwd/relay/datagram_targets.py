# -*- test-case-name: tests.relay.test_datagram_targets -*-
"""
Detects unreachable addresses of a rule's datagram targets, and moves associations to others.

UDP has no handshake, so a dead address is detected only while an association uses it:

- The address answers with ICMP port unreachable. For `UNREACHABLE_FOR` seconds it is tried after the others.
  If the target is a name with another address, the association moves there. If the rule has another target,
  the association ends, and the client's next datagram begins one to that target. Otherwise the association
  stays until the client has been refused and silent for `KEPT_FOR`, so a client that retries in a loop has
  one association and not one per datagram.
- The address does not answer although the client sends. After `UNANSWERED` seconds the name is resolved
  again. If its addresses have changed and the one in use is not among them, the association moves.

An association that moves keeps its client, filters and counts, and gets a new socket.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

from attrs import define
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from portfwd.errors import ConnectRefused, DialError, reason_of
from portfwd.kernel.socket_addresses import local_address
from portfwd.relay.destination import Destination
from portfwd.relay.first_datagram import PASSED_WITHIN
from portfwd.streams.datagrams.carrier import UpstreamCarrier
from portfwd.streams.datagrams.datagram_socket import ConnectedSocket
from portfwd.upstreams.datagrams import connect_datagrams
from portfwd.values import Address, InetAddress, as_inet, named_host

#: Seconds for which an unreachable address is tried after the others. Resolvers and WireGuard repeat after 5
#: seconds, so their second datagram goes to another address.
UNREACHABLE_FOR: Final = 30.0

#: Seconds without a new refusal or an answer after which an association to a closed port ends. Programs that
#: log or retry in a loop send more often.
KEPT_FOR: Final = 5.0

#: Seconds without an answer to a sending client after which a name is resolved again: two attempts of
#: WireGuard's handshake (REKEY_TIMEOUT is 5 seconds).
UNANSWERED: Final = 10.0

#: Seconds between two checks of the associations.
LOOK: Final = 2.5

#: Most addresses that are remembered as unreachable.
MOST_UNREACHABLE: Final = 1024


class Addresses(Protocol):
    """The used part of `portfwd.upstreams.names.Names`."""

    def known(self, host: str) -> Sequence[str]:
        """The last known literals of `host`; empty if there are none."""

    def doubt(self, host: str) -> None:
        """Make the next `ask` resolve `host` again."""

    def ask(self, host: str, refresh: float, who: object, answer: Callable[[Sequence[str]], None]) -> object:
        """See `portfwd.upstreams.names.Names.ask`."""


class DatagramOrder(Protocol):
    """The used part of `portfwd.relay.target_order.TargetOrder`."""

    @property
    def targets(self) -> Sequence[Destination]:
        """All targets that may be chosen."""

    def failed(self, destination: Destination, problem: DialError) -> None:
        """The port of `destination` is unreachable."""

    def answered(self, destination: Destination) -> None:
        """`destination` has answered."""


@define(eq=False)
class _Followed:
    """
    The alternatives of an association.

    :ivar destination: its current target.
    :ivar order: called when that answers or is unreachable.
    :ivar since: time of its begin.
    :ivar heard_at: time of the last answer at the last check.
    :ivar others: addresses of the rule's other targets, as written in the file.
    :ivar permits: called with every address before it is used; None permits all.
    """

    destination: Destination
    order: DatagramOrder
    others: tuple[Address | None, ...]
    permits: Callable[[Address], bool] | None
    since: float
    heard_at: float


class DatagramTargets:
    """Watches the upstream sockets of one rule."""

    _log = Logger()

    def __init__(self, clock: IReactorTime, names: Addresses) -> None:
        """:param names: resolves names of targets."""
        self._clock = clock
        self._names = names
        self._unreachable: dict[Address | None, float] = {}
        self._followed: dict[UpstreamCarrier, _Followed] = {}
        self._refused: dict[UpstreamCarrier, float] = {}
        self._timer: IDelayedCall | None = None

    def __repr__(self) -> str:
        return f"<DatagramTargets {len(self._followed)} followed, {len(self._refused)} refused>"

    # Order of addresses

    def was_unreachable(self, address: Address | None) -> bool:
        """Whether the port at `address` was unreachable in the last `UNREACHABLE_FOR` seconds."""
        since = self._unreachable.get(address)
        return since is not None and self._clock.seconds() - since < UNREACHABLE_FOR

    def has_failed(self, destination: Destination) -> bool:
        """Whether the port of `destination` was unreachable recently."""
        return self.was_unreachable(destination.address)

    def in_order(self, addresses: Iterable[Address]) -> list[Address]:
        """`addresses` in order, with unreachable ones after the others."""
        return sorted(addresses, key=self.was_unreachable)

    def _mark(self, address: Address | None) -> None:
        self._unreachable.pop(address, None)
        if len(self._unreachable) >= MOST_UNREACHABLE:
            del self._unreachable[next(iter(self._unreachable))]
        self._unreachable[address] = self._clock.seconds()

    # Watching

    def follow(
        self,
        carrier: UpstreamCarrier,
        destination: Destination,
        order: DatagramOrder,
        permits: Callable[[Address], bool] | None,
    ) -> None:
        """
        Watch `carrier`, which is connected to `destination`.

        :param order: the targets that the rule tries, including `destination`.
        """
        others = tuple(one.address for one in order.targets if one is not destination)
        if others or destination.is_named:
            now = self._clock.seconds()
            self._followed[carrier] = _Followed(destination, order, others, permits, now, now)
            movable = _movable(carrier)
            if destination.is_named and movable is not None:
                movable.keep_first(keep=True)
            self._look_later()

    def refused(self, carrier: UpstreamCarrier, detail: str) -> None:
        """The peer of `carrier` has answered with ICMP port unreachable."""
        self._mark(carrier.address)
        now = self._clock.seconds()
        followed, movable = self._followed.get(carrier), _movable(carrier)
        if followed is not None:
            if self._move(carrier, followed, self._known(followed)):
                if movable is not None and now - followed.since < PASSED_WITHIN:
                    movable.send_first()
                return
            self._mark(followed.destination.address)
            followed.order.failed(followed.destination, ConnectRefused(f"{carrier.address}: {detail}"))
            if not all(map(self.was_unreachable, followed.others)):
                self._end(carrier, detail)
                return
        if movable is not None:
            self._refused[movable] = now
            self._look_later()
        else:
            self._end(carrier, detail)  # a port of Twisted may be closed already

    def _end(self, carrier: UpstreamCarrier, detail: str) -> None:
        if carrier.taker is not None:
            carrier.taker.broken(detail)

    def _look_later(self) -> None:
        if self._timer is None:
            self._timer = self._clock.callLater(LOOK, self._look)

    def _look(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        for carrier, since in tuple(self._refused.items()):
            taker = carrier.taker
            if not carrier.is_open or taker is None or taker.heard_at > since:
                del self._refused[carrier]
            elif now - since >= KEPT_FOR:
                del self._refused[carrier]
                taker.broken("Connection refused")
        asked: dict[str, list[tuple[UpstreamCarrier, _Followed]]] = {}
        for carrier, followed in tuple(self._followed.items()):
            taker, address = carrier.taker, followed.destination.address
            if not carrier.is_open or taker is None:
                del self._followed[carrier]
                continue
            movable = _movable(carrier)
            if movable is not None:
                movable.keep_first(keep=False)
            if taker.heard_at > followed.heard_at:
                followed.heard_at = taker.heard_at
                followed.order.answered(followed.destination)
            inet = as_inet(address)
            if inet is not None and followed.destination.is_named:
                heard = taker.heard_at
                if now - heard >= UNANSWERED and taker.asked_at > max(heard, now - UNANSWERED):
                    asked.setdefault(inet.host, []).append((carrier, followed))
        for host, unanswered in asked.items():
            self._ask(host, unanswered)
        if self._refused or self._followed:
            self._look_later()

    # Moving

    def _ask(self, host: str, unanswered: list[tuple[UpstreamCarrier, _Followed]]) -> None:
        """Resolve `host` again, and move associations whose address it does not have any more."""

        def answered(hosts: Sequence[str]) -> None:
            for carrier, followed in unanswered:
                inet = as_inet(carrier.address)
                # The answer may come from the cache. The next check gets the new answer.
                if hosts and inet is not None and inet.host not in hosts:
                    self._move(carrier, followed, hosts)

        self._names.doubt(host)
        # A new asker each time, so a late answer applies only to these associations.
        self._names.ask(host, unanswered[0][1].destination.options.dns_refresh, object(), answered)

    def _known(self, followed: _Followed) -> Sequence[str]:
        named = named_host(followed.destination.address)
        return () if named is None else self._names.known(named.host)

    def _move(self, carrier: UpstreamCarrier, followed: _Followed, hosts: Sequence[str]) -> bool:
        """Move `carrier` to the first usable one of `hosts`. False if there is none."""
        destination = followed.destination
        target, permits = as_inet(destination.address), followed.permits
        movable = _movable(carrier)
        if movable is None or target is None or not carrier.is_open:
            return False
        for host in usable_hosts(hosts, destination.options.src):
            address = InetAddress(host, target.port)
            if address == carrier.address or self.was_unreachable(address):
                continue
            if permits is not None and not permits(address):
                continue
            try:
                sock = connect_datagrams(address, destination.options)
                movable.move(sock, address)
            except OSError as problem:
                self._log.info(
                    "{target}: {address} cannot be used: {problem}",
                    target=destination.label,
                    address=str(address),
                    problem=reason_of(problem),
                )
                continue
            if carrier.taker is not None:
                carrier.taker.moved(address, local_address(sock))
            return True
        return False


def usable_hosts(hosts: Sequence[str], source: str | None) -> list[str]:
    """Those of `hosts` that have the address family of `source`."""
    return [host for host in hosts if source is None or (":" in host) == (":" in source)]


def _movable(carrier: UpstreamCarrier) -> ConnectedSocket | None:
    """`carrier`, if its socket is ours and can be put in the place of another."""
    return carrier if isinstance(carrier, ConnectedSocket) else None
