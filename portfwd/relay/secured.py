# -*- test-case-name: tests.relay.test_secured -*-
"""
Sessions in which a filter begins TLS on a side (`portfwd.filters.api.StartTLS`).

The stream of that side gets a layer of TLS after the bytes written to it. During the handshake nothing is
read for the filters; after it, they see the decrypted bytes. Only rules whose factories have ``starts_tls``
have such sessions, on streams over Twisted's transports. Clients count among the rule's handshakes, as those
of a ``tls:`` listener do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.logger import Logger

from portfwd.filters.chain import effects
from portfwd.limits.source_counts import source_of
from portfwd.quantities import format_duration
from portfwd.relay.containment import contained
from portfwd.relay.ends import Mode
from portfwd.relay.filtered import FilteredSession
from portfwd.relay.half import Half
from portfwd.relay.rule import RelayRule
from portfwd.relay.tls_start import TLSStart
from portfwd.streams.stream import Loss, Stream
from portfwd.streams.transports.late_tls import start_tls
from portfwd.streams.transports.tls_side import TLSSide
from portfwd.streams.transports.transport import TransportStream
from portfwd.values import CloseReason, Side, as_inet

_REASONS: Final = {Side.CLIENT: CloseReason.CLIENT_TLS_FAILED, Side.UPSTREAM: CloseReason.TLS_FAILED}
_TOO_LATE: Final = {Side.CLIENT: CloseReason.CLIENT_TLS_TIMEOUT, Side.UPSTREAM: CloseReason.TLS_FAILED}
#: Keys of the timers of handshakes. Those of the chain are positive.
_KEYS: Final = {Side.CLIENT: -1, Side.UPSTREAM: -2}


class SecuredSession(FilteredSession):
    """A session of a rule with a filter that may start TLS."""

    _log = Logger()

    def __init__(self, number: int, rule: RelayRule, client: Stream, closed: Callable[[], None]) -> None:
        """As `FilteredSession`."""
        super().__init__(number, rule, client, closed)
        self._shaking: set[Side] = set()

    def _done_by(self, effect: effects.Effect) -> None:
        if type(effect) is effects.Secure:
            self._secure(effect)
        else:
            super()._done_by(effect)

    def _secure(self, effect: effects.Secure) -> None:
        half = self._client if effect.side is Side.CLIENT else self._upstream
        stream = half.stream
        if stream is None or half.lost:
            return
        start = self._rule.tls_starts.get((id(effect.factory), effect.side))
        try:
            if start is None or not isinstance(stream, TransportStream) or stream.tls is not None:
                raise ValueError(f"the {effect.side.value} speaks TLS already, or its connection cannot")
            side = start.side
            if effect.side is Side.UPSTREAM:
                side = self._named(start, effect.server_name)
            self._shaking.add(effect.side)
            if effect.side is Side.CLIENT:
                self._rule.handshakes.arrived(self, source_of(self._announced or stream.address))
            self._timers[_KEYS[effect.side]] = self._clock.callLater(
                start.limit, self._took_too_long, effect.side, start.limit
            )
            start_tls(stream, side, effect.rest)
        except ValueError as error:
            self._log_trouble(effects.Trouble(effect.filter, error, "StartTLS"))
            detail = f"filter {effect.filter} started TLS: {error}"
            self._finish_filtered(effects.Finish(detail, abort=True, filter=effect.filter))

    def _named(self, start: TLSStart, name: str | None) -> TLSSide:
        """The TLS side for the upstream, for the name expected in the certificate."""
        if name is None and not start.named:
            reached = None if self._reached is None else self._reached.address
            inet = as_inet(reached)
            if inet is None:
                raise ValueError("the upstream has no host: its name is to be given by server-name=")
            name = inet.host
        target = start.target
        if target is None:
            return start.side
        if name is not None:
            return target.for_name(name)
        client = self._client.stream
        return target.for_client(None if client is None else client.tls)

    @contained
    def began(self, stream: Stream) -> None:
        """The first TLS message of a client is complete."""
        if self._half(stream).side in self._shaking:
            self._rule.handshakes.began(self)

    @contained
    def opened(self, stream: Stream) -> None:
        """A handshake has succeeded."""
        side = self._half(stream).side
        if side not in self._shaking:
            super().opened(stream)
            return
        self._shaking.discard(side)
        if side is Side.CLIENT:
            self._rule.handshakes.left(self)
        timer = self._timers.pop(_KEYS[side], None)
        if timer is not None and timer.active():
            timer.cancel()
        if self.chain is not None:
            self._ask(self.chain.secured, side, stream.tls)

    @contained
    def _took_too_long(self, side: Side, limit: float) -> None:
        self._timers.pop(_KEYS[side], None)
        self._detail = f"no TLS handshake with the {side.value} within {format_duration(limit)}"
        self._ended_first = self._ended_first or side
        self._finish(_TOO_LATE[side], client=Mode.RESET, upstream=Mode.RESET)

    def _close_with(self, reason: CloseReason) -> None:
        super()._close_with(reason)
        if Side.CLIENT in self._shaking:
            self._rule.handshakes.left(self)

    def _lost(self, half: Half, how: Loss, detail: str) -> None:
        if half.closing is None and half.side in self._shaking:
            self._detail = detail
            self._ended_first = self._ended_first or half.side
            self._finish(_REASONS[half.side])
            return
        super()._lost(half, how, detail)
