# -*- test-case-name: tests.relay.test_direct -*-
"""
The dial of the most common kind of rule: one plain target with a literal address.

It needs no choice, no resolution and no TLS, so it is one attempt with one timer. `portfwd.relay.dial.Dial`
handles all other rules. Both have the same owner interface.
"""

from __future__ import annotations

import socket

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from portfwd.errors import DialError
from portfwd.kernel.failures import log_failure
from portfwd.relay.containment import contained
from portfwd.relay.context import Opener, RelayContext
from portfwd.relay.destination import Destination
from portfwd.relay.dial import DialOwner
from portfwd.relay.target_dial import no_stream
from portfwd.upstreams.connect import SocketAttempt, dial_error
from portfwd.upstreams.datagrams import connect_datagrams
from portfwd.upstreams.timeout_queue import TimeoutQueue
from portfwd.values import Address


class DirectDial(SocketAttempt):
    """
    One attempt that calls the owner of the dial.

    :ivar tried: the address.
    """

    _log = Logger()

    def __init__(
        self,
        context: RelayContext,
        destination: Destination,
        address: Address,
        timeouts: TimeoutQueue,
        owner: DialOwner,
        streams: Opener,
        *,
        will_send: bool = False,
        clock: IReactorTime | None = None,
    ) -> None:
        """
        Make the attempt.

        :param address: address of the destination, a literal or a unix name.
        :param timeouts: limits the time of the attempt.
        :param streams: makes the stream of the connected socket.
        :param will_send: whether bytes of the client are waiting.
        """
        super().__init__(
            context.reactor,
            address,
            destination.options,
            timeouts.seconds,
            None,
            streams.poller,
            destination.settings_for(will_send=will_send),
            timeouts,
            clock,
        )
        self.tried: Address | None = address
        self._destination = destination
        self._dial_owner = owner
        self._streams = streams

    def __repr__(self) -> str:
        return f"<DirectDial {self._destination.label} {'over' if self._socket is None else 'trying'}>"

    def failed(self, failure: Failure) -> None:
        """Handling the result raised an exception."""
        self.broke(failure)

    def broke(self, failure: Failure) -> None:
        """An exception of portfwd's code: end the dial and pass it to the owner."""
        try:
            self.cancel()
        except BaseException:
            log_failure(self._log, "{dial!r}: and it could not be cancelled", dial=self)
        self._dial_owner.broke(failure)

    @contained
    def _timed_out(self) -> None:
        super()._timed_out()

    @contained
    def _connect_again(self, sock: socket.socket) -> None:
        super()._connect_again(sock)

    def _succeed(self, sock: socket.socket) -> None:
        destination = self._destination
        try:
            stream = self._streams.plain(sock, self.tried, destination.options.buffer, seen=self.seen)
        except OSError as problem:
            self._dial_owner.dial_failed(no_stream(destination.label, problem), self.tried)
        else:
            self._dial_owner.dialled(stream, destination)

    def _fail(self, problem: DialError) -> None:
        self._destination.occupancy.failures += 1
        self._dial_owner.dial_failed(problem, self.tried)


class DirectDatagramDial:
    """
    The same for a datagram target: a socket that is connected at once.

    :ivar tried: the address.
    """

    def __init__(self, destination: Destination, address: Address, owner: DialOwner, streams: Opener) -> None:
        """:param address: address of the destination, a literal or a unix name."""
        self.tried: Address | None = address
        self._address = address
        self._destination = destination
        self._owner = owner
        self._streams = streams

    def __repr__(self) -> str:
        return f"<DirectDatagramDial {self._destination.label}>"

    def start(self) -> None:
        """Connect. The owner is called before this returns."""
        destination, address = self._destination, self._address
        try:
            sock = connect_datagrams(address, destination.options)
        except OSError as problem:
            destination.occupancy.failures += 1
            self._owner.dial_failed(dial_error(problem, address), address)
            return
        try:
            stream = self._streams.plain(sock, address, destination.options.buffer)
        except OSError as problem:
            self._owner.dial_failed(no_stream(destination.label, problem), address)
        else:
            self._owner.dialled(stream, destination)

    def cancel(self) -> None:
        """Do nothing: the dial has ended when `start` returns."""
