# -*- test-case-name: tests.streams.sockets.test_socket_opening -*-
"""Makes socket streams of connected sockets, for rules with plain sockets on both sides."""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial

from attrs import field, frozen

from portfwd.kernel.pipes import PipePool
from portfwd.kernel.poller import Poller
from portfwd.kernel.polling import Polling
from portfwd.kernel.socket_addresses import local_address
from portfwd.kernel.socket_options import apply_settings, client_settings
from portfwd.rules.model import Options, RelayKind
from portfwd.streams.allowance import Allowance
from portfwd.streams.rate_limiters import RateLimiters
from portfwd.streams.sockets.bulk_reads import BulkReads, BulkSlots
from portfwd.streams.sockets.flow_setup import FlowSetup
from portfwd.streams.sockets.socket_end import SocketEnd
from portfwd.streams.sockets.socket_flow import SocketFlow
from portfwd.streams.sockets.socket_stream import SocketStream
from portfwd.values import Address, Side


@frozen(eq=False)
class SocketShare:
    """
    The common part of the socket streams of all rules.

    :ivar slots: the slots for larger reads.
    :ivar buffers: read buffers by size. Flows leave no bytes in them.
    :ivar pool: the pool of pipes; None without splice.
    """

    poller: Poller
    pool: PipePool | None
    slots: BulkSlots = field(factory=BulkSlots)
    buffers: dict[int, memoryview] = field(factory=dict)


class SocketStreams:
    """
    Makes the streams and flows of one rule.

    :ivar poller: watches them.
    :ivar kind: name of the relay in the log.
    :ivar limiters: the rate limiters of the rule, if its bandwidth is limited.
    :ivar paced: whether there are any.
    :ivar join: makes the flow between two streams.
    """

    join: Callable[[SocketEnd, SocketEnd], SocketFlow]

    def __init__(
        self,
        share: SocketShare,
        options: Options,
        *,
        limiters: RateLimiters | None = None,
        group: Polling | None = None,
    ) -> None:
        """
        :param options: options of the rule; ``buffer``, ``pipe`` and ``relay`` are used.
        :param limiters: the rate limiters of the rule, if its bandwidth is limited.
        :param group: the rule's group of the poller; None for the common one.
        """
        self.limiters = limiters
        self.paced = limiters is not None
        self.poller = share.poller if group is None else group
        self._client_settings = client_settings(options)
        if options.buffer not in share.buffers:
            share.buffers[options.buffer] = memoryview(bytearray(options.buffer))
        pool = None if options.relay is RelayKind.COPY else share.pool
        larger = options.bulk_buffer > options.buffer
        setup = FlowSetup(
            share.poller,
            share.buffers[options.buffer],
            pool,
            options.pipe,
            splice_first=options.relay is RelayKind.SPLICE,
            bulk=BulkReads(options.bulk_buffer, share.slots) if larger else None,
            turns=self.poller,
        )
        self.kind = "copy" if pool is None else "splice"
        # No methods of this object, which would be reference cycles.
        self.join = partial(SocketFlow, setup=setup)
        if limiters is not None:
            self.join = partial(_paced_flow, setup=setup, limiters=limiters)

    def accepted(
        self, sock: socket.socket, address: Address | None, options: Options, local: Address | None = None
    ) -> SocketStream:
        """
        Make a stream of a client's socket with the settings of `options`.

        :param local: local address, if it is known.
        :raises OSError: the client is gone already, or the kernel refused; the socket is closed.
        """
        if self._client_settings:
            try:
                apply_settings(sock, self._client_settings)
            except OSError:
                sock.close()
                raise
        if local is None:
            local = local_address(sock)
        return SocketStream(sock, address, self, local)

    def plain(
        self, sock: socket.socket, address: Address | None, buffer: int, *, seen: int | None = None
    ) -> SocketStream:
        """
        Make a stream of `sock`, which it owns from now on. Nothing is read before `start`.

        :param seen: the events so far, if the poller watches `sock` already.
        :raises OSError: the kernel refused to watch the socket; it is closed.
        """
        return SocketStream(sock, address, self, None, seen)


def _paced_flow(
    source: SocketEnd, destination: SocketEnd, *, setup: FlowSetup, limiters: RateLimiters
) -> SocketFlow:
    client = source if source.side is Side.CLIENT else destination
    ticket = limiters.ticket(source.side, client.address)
    return SocketFlow(source, destination, setup, None if ticket is None else Allowance(grants=ticket))
