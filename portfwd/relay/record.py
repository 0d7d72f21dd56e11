# -*- test-case-name: tests.relay.test_session -*-
"""
The state of one session, and its reports: the summary, the line in the log, the metrics.

`portfwd.relay.session` changes the state.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from portfwd.kernel.failures import log_failure
from portfwd.relay.destination import Destination
from portfwd.relay.dial import Dial
from portfwd.relay.direct import DirectDatagramDial, DirectDial
from portfwd.relay.ends import Ends
from portfwd.relay.half import Half
from portfwd.relay.loops import PassedSession
from portfwd.relay.rule import RelayRule
from portfwd.relay.shared_dial import SharedDial
from portfwd.relay.slots import SessionSlots
from portfwd.relay.states import State
from portfwd.streams.datagrams.datagram_opening import drops
from portfwd.streams.stream import Stream, moved_by
from portfwd.values import (
    Address,
    CloseReason,
    FailedAttempt,
    FlowSummary,
    SessionSummary,
    Side,
)

if TYPE_CHECKING:
    from portfwd.limits.occupancy import TargetOccupancy

_ACCEPTED: Final = State.ACCEPTED
_CLIENT: Final = Side.CLIENT
_UPSTREAM: Final = Side.UPSTREAM


#: Characters of a detail. A filter or an exception may have more to say.
MOST_DETAIL: Final = 1024


class SessionRecord:
    """
    The state of one session.

    :ivar id: its number in this process.
    :ivar state: see `portfwd.relay.states`.
    :ivar reason: the close reason after it is fixed.
    :ivar passages: see `portfwd.relay.loops`.
    :ivar attempts: failed attempts to connect to an upstream.
    """

    _log = Logger()
    # Class attributes, because most sessions have no limits.
    _slots: SessionSlots | None = None
    _reached: Destination | None = None
    _has_target = True
    _counted_at: TargetOccupancy | None = None
    _left: tuple[int, int] | None = None
    _tcp_info: tuple[bytes, bytes] | None = None
    _acknowledged_at = float("-inf")
    _waits_delivered = False
    passages: Sequence[PassedSession] = ()
    attempts: Sequence[FailedAttempt] = ()

    def __init__(self, number: int, rule: RelayRule, client: Stream, closed: Callable[[], None]) -> None:
        """:param closed: called once, when all its sockets are closed."""
        now = rule.clock.seconds()
        self.id = number
        self.state = _ACCEPTED
        self.reason: CloseReason | None = None
        self._rule = rule
        self._clock = rule.clock
        self._closed = closed
        self._client = Half(_CLIENT)
        self._upstream = Half(_UPSTREAM)
        self._client.stream = client
        self._accepted_at = now
        self._opened_at = rule.wall_clock()
        self._dialled_at = now
        self._connected_at: float | None = None
        self._touched = now
        self._ended_first: Side | None = None
        self._address: Address | None = None
        self._detail = ""
        self._access_step = 0
        self._dial: Dial | DirectDial | DirectDatagramDial | SharedDial | None = None
        self._silence: IDelayedCall | None = None
        self._waits_half_closed = False
        self._announced: Address | None = None
        self._announced_local: Address | None = None

    def __repr__(self) -> str:
        client = self._client.stream
        path = f"{client.address if client else '-'} -> {self._address or '-'}"
        reason = f" {self.reason}" if self.reason is not None else ""
        return f"<Session {self.id} {self._rule.name} {path} {self.state.value}{reason}>"

    @property
    def streams(self) -> tuple[Stream | None, Stream | None]:
        """The streams of the client and of the upstream; None for none."""
        return self._client.stream, self._upstream.stream

    def _half(self, stream: Stream) -> Half:
        return self._client if stream is self._client.stream else self._upstream

    def _other(self, half: Half) -> Half:
        return self._upstream if half is self._client else self._client

    @property
    def client_address(self) -> Address | None:
        """The address of the client, if known."""
        stream = self._client.stream
        return self._announced or (None if stream is None else stream.address)

    @property
    def reached(self) -> bool:
        """Whether an upstream is or was connected."""
        return self._connected_at is not None

    @property
    def ends(self) -> Ends:
        """The states of both flows."""
        return Ends(self._client.flow, self._upstream.flow)

    def _tell_closed(self) -> None:
        """The session has ended, and its counts are final."""
        rule = self._rule
        if rule.options.tcp_info and self._connected_at is not None:
            self._tcp_info = self.tcp_info()
        if rule.tally is not None:
            self._write(self._count)
        elif rule.log.wants_closed:
            self._write(rule.log.closed)

    def _count(self, summary: SessionSummary) -> None:
        """Add it to the metrics, and write its line."""
        rule = self._rule
        if rule.tally is not None:
            rule.tally.closed(summary, self.target)
        if rule.log.wants_closed:
            rule.log.closed(summary)

    def _write(self, write: Callable[[SessionSummary], None]) -> None:
        """Pass a summary to the log. An exception of the log must not affect the session."""
        try:
            write(self.summary())
        except BaseException:
            log_failure(self._log, "a line of {session!r} could not be written", session=self)

    def _flow(self, source: Half, destination: Half) -> FlowSummary:
        if source.stream is None or destination.stream is None:
            return FlowSummary()
        try:
            return destination.stream.summary(source.stream)
        except BaseException:
            log_failure(self._log, "{session!r}: a flow could not be summed up", session=self)
            return FlowSummary()

    @property
    def target(self) -> str:
        """The connected target as written in the file; empty for none."""
        return "" if self._reached is None else self._reached.label

    def flows(self) -> tuple[FlowSummary, FlowSummary]:
        """Summaries of both flows so far, to the upstream and to the client."""
        return self._flow(self._client, self._upstream), self._flow(self._upstream, self._client)

    def tcp_info(self) -> tuple[bytes, bytes]:
        """
        What the kernel tells of the client's connection and the upstream's (`portfwd.wire.tcp_info`).

        Empty for what is no TCP, and for one that is closed and was not asked before.
        """
        client, upstream = self._client.stream, self._upstream.stream
        return (
            b"" if client is None else client.tcp_info(),
            b"" if upstream is None else upstream.tcp_info(),
        )

    def summary(self) -> SessionSummary:
        """The current contents of its closing line."""
        client, upstream = self._client.stream, self._upstream.stream
        connected = self._connected_at
        first = upstream.first_at if upstream is not None else None
        to_upstream, to_client = self.flows()
        # Positional arguments: keywords cost as much as the values, and this runs for every line.
        return SessionSummary(
            self.id,
            self._rule.name,
            self._rule.written,
            self._announced or (client.address if client is not None else None),
            self._announced_local or (client.local if client is not None else None),
            (upstream.address if upstream is not None else None) or self._address,  # it may have moved
            self._opened_at,
            None if connected is None else connected - self._dialled_at,
            None if first is None or connected is None else max(0.0, first - connected),
            self._clock.seconds() - self._accepted_at,
            to_upstream,
            to_client,
            self.reason,
            self._ended_first,
            moved_by(client.kind, to_upstream, to_client) if client is not None else "",
            self._detail if len(self._detail) <= MOST_DETAIL else self._detail[:MOST_DETAIL] + "…",
            self._access_step,
            tuple((+self.drops()).items()) if self._rule.has_datagrams else (),
            0,
            client.tls if client is not None else None,
            upstream.tls if upstream is not None else None,
            self.attempts,
            (),
            self._rule.plan,
            self._tcp_info,
        )

    def drops(self) -> Counter[str]:
        """Number of dropped datagrams so far, by cause; see `SessionSummary.dropped`."""
        return drops(self._client.stream, self._upstream.stream)

    def broke(self, failure: Failure) -> None:
        """A method raised an exception: see `portfwd.relay.session.Session`."""
        raise NotImplementedError
