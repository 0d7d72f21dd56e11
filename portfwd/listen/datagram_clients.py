# -*- test-case-name: tests.listen.test_datagram_listener -*-
"""
The common part of all datagram listeners: their clients and associations.

The first datagram of an address begins an association, if the client may have one. A bounded table holds the
associations. A listener that is stopped stays open while it has associations; as datagrams have no end, it
then ends those that are silent.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Final

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from portfwd.kernel.datagrams import RECEIVE_BUFFER, Ancillary
from portfwd.kernel.failures import log_failure, log_warning
from portfwd.kernel.reactor import Reactor
from portfwd.limits.descriptors import Descriptors
from portfwd.listen.datagram_client import DatagramClient, SocketAddress
from portfwd.listen.held_datagrams import HeldDatagram, HeldDatagrams
from portfwd.listen.last_associations import LastAssociations
from portfwd.listen.refused_clients import NOT_SERVED, RefusedClients
from portfwd.listen.unix_files import SocketFile
from portfwd.relay.associations import Associations
from portfwd.relay.first_datagram import FirstDatagram
from portfwd.relay.live import LiveRule
from portfwd.relay.states import State
from portfwd.rules.steps import Steps
from portfwd.values import Address, CloseReason, InetAddress

#: Descriptors of an association: that of its upstream. Its client shares the listening socket. If
#: associations share connections to upstreams, these take descriptors and the associations do not.
PER_ASSOCIATION: Final = 1

#: Seconds between two log lines about the same problem.
LOG_INTERVAL: Final = 10.0

#: Held datagrams that are served in one turn after a pause.
HELD_BATCH: Final = 64

#: Held datagrams that are served at once when the listener is stopped. They delay other sessions by some
#: hundredths of a second at most.
LAST_HELD: Final = 1024


class DatagramClients:
    """
    The clients of one listener, and its state: bound, accepting, held, stopping, stopped.

    :ivar name: name of the current rule.
    :ivar table: the associations.
    :ivar retired: called if it is stopped and still has associations.
    :ivar accepted: number of associations that have begun.
    :ivar waits: number of times that no descriptor was left for an association.
    :ivar refused: number of dropped datagrams of clients that had just been refused.
    :ivar too_long: number of dropped datagrams that were too long.
    :ivar unsent: number of dropped answers: the buffer of the socket was full, or the kernel refused them.
    """

    def __init__(self, name: str, reactor: Reactor, budget: Descriptors, live: LiveRule) -> None:
        self.name = name
        self._live = live
        self._reactor = reactor
        self._budget = budget
        self._log = Logger()
        self._state = "bound"
        self._held = False
        self._logged_at = -LOG_INTERVAL
        self._reserved: LiveRule | None = None
        self._heir: DatagramClients | None = None
        self._elders: dict[tuple[Address | None, Address | None], DatagramClient] = {}
        self.retired: Callable[[], None] | None = None
        self._refused = RefusedClients(reactor)
        self._waiting: HeldDatagrams[DatagramClients] = HeldDatagrams()
        self._serving: IDelayedCall | None = None
        self.table: Associations[DatagramClient] = Associations(live.options.max_assocs)
        self._last = LastAssociations(self.table, reactor)
        self.accepted = self.waits = self.refused = self.unsent = self.too_long = self._banked = 0

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} {self.name} {self.address} {self._state} {len(self.table)} associations"
            f" accepted={self.accepted} evicted={self.table.evicted} drops={self.drops}>"
        )

    # Implemented by the classes that read a socket

    @property
    def address(self) -> Address | None:
        """Its bound address; the wildcard is ``[::]`` or ``0.0.0.0``."""
        raise NotImplementedError

    @property
    def sock(self) -> socket.socket:
        """The listening socket."""
        raise NotImplementedError

    @property
    def file(self) -> SocketFile | None:
        """The file of a unix socket that was bound here."""
        return None

    @property
    def drops(self) -> int:
        """Number of datagrams that the kernel dropped because they were not read in time, if known."""
        return 0

    @property
    def not_held(self) -> int:
        """Number of datagrams of new clients that were dropped in a pause, or that were left at its end."""
        return self._waiting.dropped

    def send(self, data: bytes, to: DatagramClient) -> bool:
        """Send `data` to a client. False if it was dropped."""
        raise NotImplementedError

    def _begin(self) -> None:
        """Start to read."""
        raise NotImplementedError

    def _close(self) -> None:
        """Close the socket."""
        raise NotImplementedError

    # The interface of all listeners

    @property
    def state(self) -> str:
        """Its state as a word."""
        return self._state

    @property
    def held(self) -> bool:
        """Whether it is held: `hold` was called, and `release` was not."""
        return self._held

    def pauses_by_cause(self) -> dict[str, int]:
        """Number of times it could not accept a client, by cause, for metrics."""
        return {"limit": 0, "descriptors": self.waits, "kernel": 0}

    def dropped_by_cause(self) -> dict[str, int]:
        """Number of dropped datagrams by cause, for metrics."""
        return {
            "buffer": self.drops - self._banked + self.not_held,
            "refused": self.refused,
            "answer": self.unsent,
            "long": self.too_long,
        }

    def bank(self, pauses: Counter[str], dropped: Counter[str]) -> None:
        """Add its counts to `pauses` and `dropped`, and reset them."""
        pauses.update(self.pauses_by_cause())
        dropped.update(self.dropped_by_cause())
        self._banked = self.drops
        self._waiting.dropped = self.waits = self.refused = self.unsent = self.too_long = 0

    def start(self) -> None:
        """
        Start to accept datagrams.

        :raises OSError: the kernel refused.
        """
        self.open()
        self.begin()

    def open(self) -> None:
        """Prepare to read. Datagrams sent since the socket was bound are in its buffer."""

    def begin(self) -> None:
        """Accept datagrams."""
        live, self._reserved = self._reserved, None
        if live is not None:
            self._last.cancel()
            self._heir = None
            self.serve(live)
            try:
                self.resize(None)
            except OSError as problem:
                self._complain("{name}: its buffers stay as they were: {reason}", reason=problem.strerror)
        else:
            self._begin()  # if it is revived it is read already
        self._state = "held" if self._held else "accepting"
        self._serve_waiting()

    def hold(self) -> None:
        """
        Begin no association until `release`. Existing ones continue.

        Datagrams of new clients wait in a queue of the size of the socket's receive buffer.
        """
        self._held = True
        if self._state == "accepting":
            self._state = "held"

    def release(self) -> None:
        """Begin associations again, first for the waiting clients."""
        self._held = False
        if self._state == "held":
            self._state = "accepting"
            self._serve_waiting()

    def serve(self, live: LiveRule) -> None:
        """Serve further clients for the rule `live`. Existing associations stay with the old rule."""
        self.name, self._live = live.name, live
        self.table.most = live.options.max_assocs

    def resize(self, backlog: int | None) -> None:
        """There is no backlog. Resize the other buffers to the current options of the rule."""

    def take_waiting(self) -> None:
        """
        Read the waiting datagrams before the listener is stopped.

        Those of a paused rule are served too.
        """
        for _ in range(LAST_HELD):
            if not self._serve_one():
                break

    def stop(self, *, stays: bool = False) -> None:
        """
        Begin no association any more, and close when the existing ones have ended.

        :param stays: whether they end only at their own limits; if not, they also end after a short silence.
        """
        if self._state == "stopped":
            return
        if self._state == "stopping":
            if self._reserved is not None:
                self._reserved = None  # it is not to be revived after all
                if not len(self.table):
                    self._stopped()
                return
        else:
            self._state = "stopping"
            self._held = False
            self._waiting.clear()
            if self._serving is not None:
                self._serving.cancel()
                self._serving = None
            if not len(self.table):
                self._stopped()
                return
            if self.retired is not None:
                self.retired()
        if not stays:
            self._last.begin()

    # Waiting clients

    def _hold_back(self, datagram: HeldDatagram[DatagramClients]) -> None:
        if not self._waiting.add(datagram, self._live.options.rcvbuf or RECEIVE_BUFFER):
            self._complain(
                "{name}: new clients sent more during the pause than rcvbuf= holds; the rest is dropped"
            )

    def _serve_waiting(self) -> None:
        """Serve a part of the waiting clients, small enough not to delay other sessions."""
        self._serving = None
        for _ in range(HELD_BATCH):
            if self._state != "accepting" or not self._serve_one():
                return
        self._serving = self._reactor.callLater(0, self._serve_waiting)

    def _serve_one(self) -> bool:
        datagram = self._waiting.take()
        if datagram is None:
            return False
        if datagram.owner.state != "stopped":
            datagram.owner.take(datagram, self._live)
        return True

    def take(
        self,
        datagram: HeldDatagram[DatagramClients],
        live: LiveRule | None = None,
        first: FirstDatagram | None = None,
    ) -> None:
        """
        Accept a datagram that was not just read from the socket.

        :param live: the rule for a new client; None for the current rule.
        :param first: `datagram`, if targets have refused it.
        """
        key = datagram.key
        one = self.table.entries.get(key)
        if one is None and live is None:
            one = self._arrived(key, datagram.sockaddr, datagram.ancillary, datagram.data, first)
        elif one is None and live is not None:
            one = self._admitted(key, datagram.sockaddr, datagram.ancillary, live, datagram.data)
        if one is None:
            return
        try:
            one.received(datagram.data)
        except BaseException:
            self._failed(one)

    def hand_back(self, others: Sequence[DatagramClients]) -> Steps[None]:
        """
        Pass the datagrams received since this socket was bound to those of `others` that would have received
        them.

        For a listener that has not begun and will be stopped.
        """
        yield

    # After its rule was removed

    @property
    def is_reserved(self) -> bool:
        """Whether it is reserved: `reserve` was called, but neither `begin` nor `stop` since."""
        return self._reserved is not None

    def reserve(self, live: LiveRule) -> None:
        """Stay open for the rule `live`. `begin` then serves it; `stop` restores the previous state."""
        self._reserved = live

    def serve_for(self, heir: DatagramClients) -> None:
        """Serve new clients for the rule of `heir`, because the kernel delivers their datagrams here."""
        self._heir = heir

    def adopt(self, elder: DatagramClients) -> None:
        """Pass datagrams of clients of `elder` that arrive here to their associations."""
        self._elders.update({(one.address, one.local): one for one in elder.table})

    def _handed(self, key: Hashable, address: Address | None) -> DatagramClient | None:
        """The association of another listener whose datagrams arrive here."""
        one = self._elders.pop((address, self._local(key)), None)
        if one is None or not one.is_open:
            return None
        self.table.make_room()
        self.table.add(key, one)
        one.hand_over(lambda: self.table.forget(key, one))
        return one

    def _stopped(self) -> None:
        self._last.cancel()
        self._close()
        self._state = "stopped"
        self.retired = None  # it may know this listener, which is to be freed without the garbage collector

    # Clients

    def _arrived(
        self,
        key: Hashable,
        sockaddr: SocketAddress,
        ancillary: Ancillary,
        data: bytes,
        first: FirstDatagram | None = None,
    ) -> DatagramClient | None:
        """
        Begin an association for a client without one, if it may have one and need not wait.

        :param data: its datagram, which is queued if the client must wait.
        """
        if self._elders and (one := self._handed(key, self._address_of(sockaddr))) is not None:
            return one
        taker = self
        if self._state == "stopping" and self._heir is not None:
            taker = self._heir
        if taker.state in ("bound", "held") or (taker.state == "accepting" and taker._waiting):
            taker._hold_back(HeldDatagram(self, key, sockaddr, ancillary, data))
            return None
        if taker.state != "accepting":
            return None
        return self._admitted(key, sockaddr, ancillary, taker._live, data, first)

    def _admitted(
        self,
        key: Hashable,
        sockaddr: SocketAddress,
        ancillary: Ancillary,
        live: LiveRule,
        data: bytes,
        first: FirstDatagram | None = None,
    ) -> DatagramClient | None:
        """Make a new client, if it may have an association."""
        if key in self._refused:
            self.refused += 1
            return None
        address = self._address_of(sockaddr)
        if isinstance(address, InetAddress) and not address.port:
            return None  # nobody can be answered there
        self.table.make_room()
        count = live.descriptors_of_association(self._budget)
        if count and not self._has_descriptor():
            return None
        one = DatagramClient(self, key, sockaddr, ancillary, address, self._local(key))
        if live.passes_refused:
            one.first = first or FirstDatagram(data, self._reactor.seconds())
        self.table.add(key, one)
        self.accepted += 1
        give_back = partial(self._budget.give_back, count)
        one.session = session = live.arrive(one, give_back)
        if session.state is State.CLOSED:
            if session.reason in NOT_SERVED:
                self._refused.add(key)
            return None
        return one

    def _has_descriptor(self) -> bool:
        if self._budget.take(PER_ASSOCIATION):
            return True
        self.waits += 1
        self._complain("{name}: no descriptors for more associations ({budget!r}); the oldest go")
        return self.table.evict_oldest() and self._budget.take(PER_ASSOCIATION)

    def _address_of(self, sockaddr: SocketAddress) -> Address | None:
        """Convert the address of a client."""
        raise NotImplementedError

    def _local(self, key: Hashable) -> Address | None:
        """The local address that a client has used."""
        return self.address

    def left(self, who: DatagramClient, reason: CloseReason | None) -> None:
        """An association has ended."""
        self.table.forget(who.key, who)
        if reason in NOT_SERVED:
            self._refused.add(who.key)
        elif reason is CloseReason.UPSTREAM_RESET and who.first is not None:
            first = who.first.refused(self._reactor.seconds(), len(self._live.destinations))
            if first is not None:
                again = HeldDatagram(self, who.key, who.sockaddr, who.ancillary, first.data)
                self._live.clock.callLater(0, self.take, again, first=first)
        if self._state == "stopping" and not len(self.table) and self._reserved is None:
            self._stopped()

    def _failed(self, one: DatagramClient) -> None:
        """Log an exception caused by one client. The others are not affected."""
        log_failure(self._log, "{name}: a datagram of {client} failed", name=self.name, client=one.address)
        one.end(CloseReason.INTERNAL)

    def _complain(self, text: str, **values: object) -> None:
        now = self._reactor.seconds()
        if now - self._logged_at >= LOG_INTERVAL:
            self._logged_at = now
            log_warning(self._log, text, name=self.name, budget=self._budget, **values)
