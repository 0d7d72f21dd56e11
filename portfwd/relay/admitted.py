# -*- test-case-name: tests.relay.test_session,tests.relay.test_slots -*-
"""
A session whose client is judged: by access lists, by limits, and by the time that its TLS handshake takes.

What the session takes up of the limits is counted here, and given back once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from portfwd.limits.source_counts import source_of
from portfwd.relay.containment import contained
from portfwd.relay.destination import Destination
from portfwd.relay.ends import Mode
from portfwd.relay.slots import SessionSlots
from portfwd.relay.states import State, follow
from portfwd.relay.timed import TimedSession
from portfwd.rules.model import DATAGRAM_KINDS, OnDeny
from portfwd.streams.stream import Stream
from portfwd.values import (
    REFUSALS,
    Address,
    CloseReason,
    InetAddress,
    Side,
    UnixAddress,
)

if TYPE_CHECKING:
    from portfwd.limits.admission import Admission
    from portfwd.limits.occupancy import TargetOccupancy

_ACCEPTED: Final = State.ACCEPTED
_HANDSHAKING: Final = State.HANDSHAKING
_CLOSING: Final = State.CLOSING
_CLOSED: Final = State.CLOSED


class AdmittedSession(TimedSession):
    """See the module."""

    def _has_access(self, address: Address | None) -> bool:
        """Whether the access list lets in a client of a socket of ours; else it is refused."""
        access = self._rule.access
        if isinstance(address, InetAddress):
            decision = access.decide(address.host)
        elif isinstance(address, UnixAddress) or self._rule.rule.listen.kind in DATAGRAM_KINDS:
            # Only a sender of datagrams by a unix socket may have no address at all.
            decision = access.decide_unix()
        else:
            return True  # an endpoint whose clients have no address of these kinds
        if not decision.allowed:
            self._access_step = decision.step
            self._refuse(CloseReason.ACCESS)
        return decision.allowed

    def _shake_hands(self, client: Stream) -> None:
        """The client may come in when it has said who it is, in time."""
        rule = self._rule
        self.state = follow(_ACCEPTED, _HANDSHAKING)
        limit = rule.rule.listen.options.handshake_timeout
        self._silence = self._clock.callLater(limit, self._did_not_shake_hands, client, limit)
        # Behind a proxy that announces clients, its address is not theirs.
        rule.handshakes.arrived(self, "" if rule.learns_sources else source_of(client.address))

    @contained
    def began(self, stream: Stream) -> None:
        """The client's first TLS message is complete."""
        if self.state is _HANDSHAKING:
            self._rule.handshakes.began(self)

    def announced(self, stream: Stream, client: Address, local: Address | None) -> None:
        """Only sessions with filters have clients whose address a header says."""

    @contained
    def make_room(self, why: str) -> None:
        """The client has not finished its TLS handshake, and a newer one takes its place."""
        self._detail = why
        self._leave()
        # Not with FIN, for which it would have to be read for a while: its descriptor is wanted now.
        self._finish(CloseReason.LIMIT, client=Mode.RESET)

    @contained
    def _did_not_shake_hands(self, client: Stream, limit: float) -> None:
        self._silence = None
        self._detail = f"no TLS handshake within {limit:g} s: {client.handshaking}"
        self._ended_first = Side.CLIENT
        self._finish(CloseReason.CLIENT_TLS_TIMEOUT)

    def _admit(self, limits: Admission, address: Address | None) -> bool:
        """Whether the limits let a client in; else it is refused."""
        slots = self._slots = SessionSlots(limits)
        reached = "" if self._rule.learns_sources else slots.come_from(address, self._accepted_at)
        if not reached and not slots.has_room:
            self._rule.handshakes.drop_silent("a limit of sessions was reached")
        return self._is_within(reached or slots.enter(self._accepted_at))

    def _is_within(self, reached: str) -> bool:
        """Whether no limit was `reached`; else the client is refused."""
        if reached:
            self._detail = reached
            self._refuse(CloseReason.LIMIT)
        return not reached

    def count(self, limits: Admission | None, target: TargetOccupancy | None) -> None:
        """
        Count for limits that a reload has brought: this session is there, whatever they are.

        :param limits: None where none are left: what was counted is given back.
        :param target: what counts the sessions of the target that was reached; None for one without a limit.
        """
        client = self._client.stream
        if self.state in (_CLOSING, _CLOSED) or client is None:
            return
        if limits is not None:
            if self._slots is None:
                self._slots = SessionSlots(limits)
            self._slots.count(limits, self._announced or client.address, self._clock.seconds())
        elif self._slots is not None:
            self._slots.leave(self._clock.seconds())
            self._slots = None
        if target is not None and self._reached is not None:
            self._count_at(target, self._reached)

    def _count_at(self, target: TargetOccupancy, reached: Destination) -> None:
        before = self._counted_at
        if before is None and self._has_target and reached.is_counted:
            before = reached.occupancy
        if before is not target:
            if before is not None:
                self._has_target = False
                before.give_back()
            self._counted_at = target
            target.take()

    def _leave(self) -> None:
        """Let others have the places that this session took; it has none from here on."""
        slots, destination = self._slots, self._reached
        self._slots = None
        if slots is not None:
            slots.leave(self._clock.seconds())
        counted, self._counted_at = self._counted_at, None
        if counted is not None:
            counted.give_back()
        if destination is not None and self._has_target and self._rule.counts_targets:
            self._has_target = False
            destination.give_back()

    def _refuse(self, reason: CloseReason) -> None:
        # Now, and not when it is gone: a flood of those who are refused must not keep others out.
        self._leave()
        gentle = reason in REFUSALS and self._rule.options.on_deny is OnDeny.FIN
        self._finish(reason, client=Mode.REFUSE if gentle else Mode.RESET)

    def _proceed(self, client: Stream) -> None:
        """The client may come in: go on."""
        raise NotImplementedError

    def _finish(self, reason: CloseReason, *, client: Mode = Mode.RESET, upstream: Mode = Mode.RESET) -> None:
        """Close the session with `reason`, each side as said."""
        raise NotImplementedError
