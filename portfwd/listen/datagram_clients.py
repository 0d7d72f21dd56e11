# -*- test-case-name: tests.listen.test_datagram_listener -*-
"""
Where clients that send datagrams arrive: who of them gets an association, and for how long.

What all datagram listeners have in common, whoever reads their socket: the first datagram of an address makes
an association, unless the client may not have one; a bounded table keeps them; a listener
that is stopped lasts for as long as it has any. As there is nobody who ends them, those end then that are
silent.
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
from portfwd.kernel.turn_clock import AT_ONCE
from portfwd.limits.descriptors import Descriptors
from portfwd.listen.datagram_client import DatagramClient, SocketAddress
from portfwd.listen.held_datagrams import HeldDatagram, HeldDatagrams
from portfwd.listen.unix_files import SocketFile
from portfwd.relay.associations import Associations
from portfwd.relay.live import LiveRule
from portfwd.relay.states import State
from portfwd.rules.steps import Steps
from portfwd.values import REFUSALS, Address, CloseReason, InetAddress

#: An association takes one descriptor: its upstream's. Its client has a share of the listening one. Where
#: associations share their upstreams' connections, it takes none, and the connections take theirs.
PER_ASSOCIATION: Final = 1

#: Seconds for which a client that was refused, or for whom no upstream could be reached, has no other
#: association: a datagram is no connection, and one that floods would have a log line for each.
REFUSED_FOR: Final = 1.0

#: Refused clients that are remembered.
MOST_REFUSED: Final = 1024

#: Seconds of silence after which an association ends when its listener is stopped: longer than
#: an answer of a resolver takes that has to ask others.
LAST_SILENCE: Final = 2.0

#: Seconds between looks at who is silent then.
LAST_LOOK: Final = 0.25

#: Seconds between two log lines about the same trouble.
LOG_INTERVAL: Final = 10.0

#: Datagrams of clients that have waited for the end of a pause, served before others get their turn.
HELD_BATCH: Final = 64

#: The same when the listener is stopped: all of them at once, but no more than keep others waiting for some
#: hundredths of a second.
LAST_HELD: Final = 1024

_NOT_SERVED: Final = REFUSALS | {
    CloseReason.CONNECT_REFUSED,
    CloseReason.CONNECT_TIMEOUT,
    CloseReason.NAME_NOT_RESOLVED,
    CloseReason.TLS_FAILED,
    CloseReason.RESOURCES,
}


class DatagramClients:
    """
    One listener's clients, and its state: bound, accepting, held, stopping, stopped.

    :ivar name: the rule's, as it serves now.
    :ivar table: the associations.
    :ivar retired: called when it is stopped and has associations still.
    :ivar accepted: associations that were begun.
    :ivar waits: how often there was no descriptor for another association.
    :ivar refused: datagrams of clients that had just been refused.
    :ivar too_long: datagrams that were longer than any that are passed on.
    :ivar unsent: answers that were dropped: the socket's buffer was full, or the kernel did not take them.
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
        self._look: IDelayedCall | None = None
        self._reserved: LiveRule | None = None
        self._heir: DatagramClients | None = None
        self._elders: dict[tuple[Address | None, Address | None], DatagramClient] = {}
        self.retired: Callable[[], None] | None = None
        self._refused: dict[Hashable, float] = {}
        self._waiting: HeldDatagrams[DatagramClients] = HeldDatagrams()
        self._serving: IDelayedCall | None = None
        self.table: Associations[DatagramClient] = Associations(live.options.max_assocs)
        self.accepted = self.waits = self.refused = self.unsent = self.too_long = self._banked = 0

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} {self.name} {self.address} {self._state} {len(self.table)} associations"
            f" accepted={self.accepted} evicted={self.table.evicted} drops={self.drops}>"
        )

    # What those who read a socket know

    @property
    def address(self) -> Address | None:
        """Where it is bound; the wildcard as ``[::]`` or ``0.0.0.0``."""
        raise NotImplementedError

    @property
    def sock(self) -> socket.socket:
        """What listens."""
        raise NotImplementedError

    @property
    def file(self) -> SocketFile | None:
        """The file of a unix socket that was bound here."""
        return None

    @property
    def drops(self) -> int:
        """Datagrams that the kernel dropped because they were not read in time, where it tells."""
        return 0

    @property
    def not_held(self) -> int:
        """Datagrams of new clients that were dropped during a pause for want of room, or left at its end."""
        return self._waiting.dropped

    def send(self, data: bytes, to: DatagramClient) -> bool:
        """Send `data` to a client; False where it was dropped."""
        raise NotImplementedError

    def _begin(self) -> None:
        """Read."""
        raise NotImplementedError

    def _close(self) -> None:
        """Give the socket up."""
        raise NotImplementedError

    # As any listener

    @property
    def state(self) -> str:
        """What it does, in a word."""
        return self._state

    @property
    def held(self) -> bool:
        """Whether `hold` was called, and `release` was not."""
        return self._held

    def pauses_by_cause(self) -> dict[str, int]:
        """How often it could not take a client, as metrics tell it."""
        return {"limit": 0, "descriptors": self.waits, "kernel": 0}

    def dropped_by_cause(self) -> dict[str, int]:
        """Datagrams that were dropped here, as metrics tell it."""
        return {
            "buffer": self.drops - self._banked + self.not_held,
            "refused": self.refused,
            "answer": self.unsent,
            "long": self.too_long,
        }

    def bank(self, pauses: Counter[str], dropped: Counter[str]) -> None:
        """Add to `pauses` and `dropped` what was counted here, and count from 0 again."""
        pauses.update(self.pauses_by_cause())
        dropped.update(self.dropped_by_cause())
        self._banked = self.drops
        self._waiting.dropped = self.waits = self.refused = self.unsent = self.too_long = 0

    def start(self) -> None:
        """
        Take datagrams.

        :raises OSError: the kernel does not let it.
        """
        self.open()
        self.begin()

    def open(self) -> None:
        """Be ready: what was sent since the socket was bound waits in its buffer already."""

    def begin(self) -> None:
        """Take datagrams."""
        live, self._reserved = self._reserved, None
        if live is not None:
            if self._look is not None:
                self._look.cancel()
                self._look = None
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
        Begin no association until `release`; those that are there go on.

        What new clients send waits, as much of it as the receive buffer of the socket could hold.
        """
        self._held = True
        if self._state == "accepting":
            self._state = "held"

    def release(self) -> None:
        """Begin associations again; those that wait come first."""
        self._held = False
        if self._state == "held":
            self._state = "accepting"
            self._serve_waiting()

    def serve(self, live: LiveRule) -> None:
        """Give the next clients to `live`; associations that are there stay where they are."""
        self.name, self._live = live.name, live
        self.table.most = live.options.max_assocs

    def resize(self, backlog: int | None) -> None:
        """Nobody waits in a backlog here; what else has a size is made as large as the rule wants it now."""

    def change_mode(self, mode: int | None) -> None:
        """Here is no file whose permission bits could be changed."""

    def take_waiting(self) -> None:
        """Take what waits before the listener is stopped; that of a paused rule is served, too."""
        for _ in range(LAST_HELD):
            if not self._serve_one():
                break

    def stop(self, *, stays: bool = False) -> None:
        """
        Begin no association any more; close when those that are there are over.

        :param stays: they last until their own limits end them, and not until they are silent for a moment.
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
        if not stays and self._look is None:
            self._look = self._reactor.callLater(LAST_LOOK, self._end_silent)

    # Clients that wait

    def _hold_back(self, datagram: HeldDatagram[DatagramClients]) -> None:
        if not self._waiting.add(datagram, self._live.options.rcvbuf or RECEIVE_BUFFER):
            self._complain(
                "{name}: new clients sent more during the pause than rcvbuf= holds; the rest is dropped"
            )

    def _serve_waiting(self) -> None:
        """Serve those who have waited, so many of them at once that nobody else waits for long."""
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

    def take(self, datagram: HeldDatagram[DatagramClients], live: LiveRule | None = None) -> None:
        """
        Take a datagram that came some other way than by the socket now.

        :param live: the rule of a new client; None to see to it that new clients are served now.
        """
        key = datagram.key
        one = self.table.entries.get(key)
        if one is None and live is None:
            one = self._arrived(key, datagram.sockaddr, datagram.ancillary, datagram.data)
        elif one is None and live is not None:
            one = self._admitted(key, datagram.sockaddr, datagram.ancillary, live)
        if one is None:
            return
        try:
            one.received(datagram.data)
        except BaseException:
            self._failed(one)

    def hand_back(self, others: Sequence[DatagramClients]) -> Steps[None]:
        """
        Give what came here, since this was bound, to those of `others` that would have got it.

        For a listener that has not begun, and is to be stopped.
        """
        yield

    # After its rule is gone

    @property
    def is_reserved(self) -> bool:
        """Whether `reserve` was called, and neither `begin` nor `stop` since."""
        return self._reserved is not None

    def reserve(self, live: LiveRule) -> None:
        """Stay open for `live`: `begin` serves it, `stop` lets this go on as before."""
        self._reserved = live

    def serve_for(self, heir: DatagramClients) -> None:
        """Serve new clients, which the kernel sends here rather than to `heir`, for the rule of `heir`."""
        self._heir = heir

    def adopt(self, elder: DatagramClients) -> None:
        """Pass on to the associations of `elder` what comes here from their clients."""
        self._elders.update({(one.address, one.local): one for one in elder.table})

    def _handed(self, key: Hashable, address: Address | None) -> DatagramClient | None:
        """The association of another listener whose datagrams come here now."""
        one = self._elders.pop((address, self._local(key)), None)
        if one is None or not one.is_open:
            return None
        self.table.make_room()
        self.table.add(key, one)
        one.hand_over(lambda: self.table.forget(key, one))
        return one

    def _end_silent(self) -> None:
        """End those who are silent, `AT_ONCE` of them before others have their turn."""
        self._look = None
        silent = [
            one for one in self.table if one.session is None or one.session.silent_for() >= LAST_SILENCE
        ]
        for one in silent[:AT_ONCE]:
            one.end(CloseReason.DRAIN)
        if len(self.table):
            wait = LAST_LOOK if len(silent) <= AT_ONCE else 0
            self._look = self._reactor.callLater(wait, self._end_silent)

    def _stopped(self) -> None:
        if self._look is not None:
            self._look.cancel()
            self._look = None
        self._close()
        self._state = "stopped"
        self.retired = None  # it may know this listener, which is to be freed without the garbage collector

    # Clients

    def _arrived(
        self, key: Hashable, sockaddr: SocketAddress, ancillary: Ancillary, data: bytes
    ) -> DatagramClient | None:
        """
        A client that has no association: a new one's, unless it may not have one or has to wait.

        :param data: its datagram, which is kept if it has to wait.
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
        return self._admitted(key, sockaddr, ancillary, taker._live)

    def _admitted(
        self, key: Hashable, sockaddr: SocketAddress, ancillary: Ancillary, live: LiveRule
    ) -> DatagramClient | None:
        """A new client, unless it may not have an association."""
        if self._refused and self._is_refused(key):
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
        self.table.add(key, one)
        self.accepted += 1
        give_back = partial(self._budget.give_back, count)
        one.session = session = live.arrive(one, give_back)
        if session.state is State.CLOSED:
            if session.reason in _NOT_SERVED:
                self._refuse(key)
            return None
        return one

    def _has_descriptor(self) -> bool:
        if self._budget.take(PER_ASSOCIATION):
            return True
        self.waits += 1
        self._complain("{name}: no descriptors for more associations ({budget!r}); the oldest go")
        return self.table.evict_oldest() and self._budget.take(PER_ASSOCIATION)

    def _refuse(self, key: Hashable) -> None:
        if len(self._refused) >= MOST_REFUSED:
            del self._refused[next(iter(self._refused))]
        self._refused[key] = self._reactor.seconds() + REFUSED_FOR

    def _is_refused(self, key: Hashable) -> bool:
        until = self._refused.get(key)
        if until is None:
            return False
        if until > self._reactor.seconds():
            return True
        del self._refused[key]
        return False

    def _address_of(self, sockaddr: SocketAddress) -> Address | None:
        """A client's address as ours."""
        raise NotImplementedError

    def _local(self, key: Hashable) -> Address | None:
        """Which address of ours a client sends to."""
        return self.address

    def left(self, who: DatagramClient) -> None:
        """An association is over."""
        self.table.forget(who.key, who)
        if who.session is not None and who.session.reason in _NOT_SERVED:
            self._refuse(who.key)
        if self._state == "stopping" and not len(self.table) and self._reserved is None:
            self._stopped()

    def _failed(self, one: DatagramClient) -> None:
        """One client's accident; it is not the others'."""
        log_failure(self._log, "{name}: a datagram of {client} failed", name=self.name, client=one.address)
        one.end(CloseReason.INTERNAL)

    def _complain(self, text: str, **values: object) -> None:
        now = self._reactor.seconds()
        if now - self._logged_at >= LOG_INTERVAL:
            self._logged_at = now
            log_warning(self._log, text, name=self.name, budget=self._budget, **values)
