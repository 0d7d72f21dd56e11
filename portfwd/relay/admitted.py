# -*- test-case-name: tests.relay.test_session,tests.relay.test_slots -*-
"""
The part of a session that judges its client: by access lists, limits, and the duration of its TLS handshake.

It takes the slots of the limits and returns them once.
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
from portfwd.values import REFUSALS, Address, CloseReason, Side, as_inet, as_unix

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
        """Whether the access list admits the client. If not, the client is refused."""
        access = self._rule.access
        inet = as_inet(address)
        if inet is not None:
            decision = access.decide(inet.host)
        elif as_unix(address) is not None or self._rule.rule.listen.kind in DATAGRAM_KINDS:
            # Only a sender of unix datagrams may have no address.
            decision = access.decide_unix()
        else:
            return True  # an endpoint whose clients have other kinds of addresses
        if not decision.allowed:
            self._access_step = decision.step
            self._refuse(CloseReason.ACCESS)
        return decision.allowed

    def _shake_hands(self, client: Stream) -> None:
        """Wait for the TLS handshake of the client, for a limited time."""
        rule = self._rule
        self.state = follow(_ACCEPTED, _HANDSHAKING)
        limit = rule.rule.listen.options.handshake_timeout
        self._silence = self._clock.callLater(limit, self._did_not_shake_hands, client, limit)
        # The address of a proxy that announces clients is not that of the clients.
        rule.handshakes.arrived(self, "" if rule.learns_sources else source_of(client.address))

    @contained
    def began(self, stream: Stream) -> None:
        """The first TLS message of the client is complete."""
        if self.state is _HANDSHAKING:
            self._rule.handshakes.began(self)

    def announced(self, stream: Stream, client: Address, local: Address | None) -> None:
        """Do nothing: only sessions with filters have announced clients."""

    @contained
    def make_room(self, why: str) -> None:
        """Close a client that has not finished its TLS handshake, to make room for a newer one."""
        self._detail = why
        self._leave()
        # Reset it: a close with FIN would have to read for a while, and the descriptor is needed now.
        self._finish(CloseReason.LIMIT, client=Mode.RESET)

    @contained
    def _did_not_shake_hands(self, client: Stream, limit: float) -> None:
        self._silence = None
        self._detail = f"no TLS handshake within {limit:g} s: {client.handshaking}"
        self._ended_first = Side.CLIENT
        self._finish(CloseReason.CLIENT_TLS_TIMEOUT)

    def _admit(self, limits: Admission, address: Address | None) -> bool:
        """Whether the limits admit the client. If not, the client is refused."""
        slots = self._slots = SessionSlots(limits)
        reached = "" if self._rule.learns_sources else slots.come_from(address, self._accepted_at)
        if not reached and not slots.has_room:
            self._rule.handshakes.drop_silent("a limit of sessions was reached")
        return self._is_within(reached or slots.enter(self._accepted_at))

    def _is_within(self, reached: str) -> bool:
        """Whether no limit was `reached`. If one was, the client is refused."""
        if reached:
            self._detail = reached
            self._refuse(CloseReason.LIMIT)
        return not reached

    def count(self, limits: Admission | None, target: TargetOccupancy | None) -> None:
        """
        Count this session for the limits of a reload, whether it fits or not.

        :param limits: None if there are none any more; the slots are then returned.
        :param target: counts the sessions of the connected target; None if it has no limit.
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
        """Return all slots of this session."""
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
        # Now and not when the socket is closed: a flood of refused clients must not keep others out.
        self._leave()
        gentle = reason in REFUSALS and self._rule.options.on_deny is OnDeny.FIN
        self._finish(reason, client=Mode.REFUSE if gentle else Mode.RESET)

    def _proceed(self, client: Stream) -> None:
        """The client is admitted: continue."""
        raise NotImplementedError

    def _finish(self, reason: CloseReason, *, client: Mode = Mode.RESET, upstream: Mode = Mode.RESET) -> None:
        """Close the session with `reason`, each side in the given mode."""
        raise NotImplementedError
