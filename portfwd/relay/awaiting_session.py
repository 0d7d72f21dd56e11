# -*- test-case-name: tests.relay.test_filtered -*-
"""
The part of a session whose filters wait for results, checks of secrets, and wakes.

These events are passed to the chain in order, in turns of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from portfwd.filters.chain import effects
from portfwd.filters.chain.chain import Chain
from portfwd.kernel.failures import log_failure
from portfwd.relay.announced import AnnouncedSession
from portfwd.relay.awaiting import Waiting
from portfwd.relay.containment import contained
from portfwd.relay.rule import RelayRule
from portfwd.relay.silence import LOOKS
from portfwd.relay.states import State
from portfwd.streams.stream import Stream
from portfwd.values import Address, CloseReason, Side

#: States in which events are passed to a chain.
ACTIVE: Final = (State.PEEKING, State.DIALING, State.RELAYING)


class AwaitingSession(AnnouncedSession):
    """
    Waits for filters. `portfwd.relay.filtered` performs the other effects of a chain.

    :ivar chain: None if no filter was made for the client.
    """

    def __init__(self, number: int, rule: RelayRule, client: Stream, closed: Callable[[], None]) -> None:
        """As `Session`."""
        super().__init__(number, rule, client, closed)
        self.chain: Chain | None = None
        self._awaited: dict[int, Waiting] = {}
        # Events to be passed to the chain in later turns, in order.
        self._later: list[Callable[[], None]] = []
        self._ended_looks = 0
        self._checks: list[Deferred[bool]] = []

    def _ask(self, event: Callable[..., Sequence[effects.Effect]], *arguments: Any) -> None:
        """Call `event`, a method of the chain, and perform its effects."""
        raise NotImplementedError

    def _verify(
        self, whose: Address | None, quick: Callable[[], bool], slow: Callable[[], bool]
    ) -> Deferred[bool]:
        """See `Connection.verify`. A check that has not begun when the session ends is cancelled."""
        check = self._rule.context.verifier.verify(whose, quick, slow)
        self._checks.append(check)
        return check

    def _woken(self, call: object) -> None:
        """Wake a filter because of an event outside of the session."""
        if self.chain is not None:
            self._tell_later(partial(self._ask, self.chain.woken, call))

    def _tell_later(self, tell: Callable[[], None]) -> None:
        if self.state in ACTIVE:
            self._later.append(tell)
            if self not in self._rule.telling:
                self._rule.telling.wait(self, self._tell_now)

    @contained
    def _tell_now(self) -> None:
        later, self._later = self._later, []
        for tell in later:
            if self.state in ACTIVE:
                tell()

    def _await(self, effect: effects.Begin) -> None:
        if not self._awaited:
            self._rule.half_closed.wait(self._look_after_client, self._look_after_client)
        self._awaited[effect.key] = self._rule.results.wait(effect.awaitable, partial(self._came, effect.key))

    @contained
    def _look_after_client(self) -> None:
        """Apply ``half-close`` to a client that has ended and is not read while filters wait for results."""
        client, limit = self._client.stream, self._rule.options.half_close
        if client is not None and client.hung_up:
            self._ended_looks += 1
        if self._ended_looks > LOOKS:
            self._ended_first = Side.CLIENT
            self._detail = f"half-close={limit:g}s: the client had ended, and a filter waited for a result"
            self._finish(CloseReason.FILTER)
        else:
            self._rule.half_closed.wait(self._look_after_client, self._look_after_client)

    def _came(self, key: int, result: object, error: BaseException | None) -> None:
        """Pass a result to the chain in a turn of its own."""
        self._tell_later(partial(self._take_outcome, key, result, error))

    def _take_outcome(self, key: int, result: object, error: BaseException | None) -> None:
        waiting = self._awaited.pop(key, None)
        if waiting is None or self.chain is None:
            return
        waiting.handled()
        if not self._awaited:
            self._ended_looks = 0
            self._rule.half_closed.forget(self._look_after_client)
        if error is None:
            self._ask(self.chain.settled, key, result)
        else:
            self._ask(self.chain.failed, key, error)

    def _abandon(self, effect: effects.Abandon) -> None:
        """A result has timed out."""
        self._forget(self._awaited.pop(effect.key, None))
        if not self._awaited:
            self._ended_looks = 0
            self._rule.half_closed.forget(self._look_after_client)

    def _forget(self, waiting: Waiting | None) -> None:
        if waiting is not None:
            try:
                waiting.forget()
            except BaseException:
                log_failure(self._log, "{session!r}: a coroutine of a filter cannot be closed", session=self)

    def _tell_nothing(self) -> None:
        """The session is closing: stop waiting."""
        self._later.clear()
        self._rule.telling.forget(self)
        self._rule.half_closed.forget(self._look_after_client)
        awaited, self._awaited = self._awaited, {}
        for waiting in awaited.values():
            self._forget(waiting)
        while self._checks:
            check = self._checks.pop()
            check.addErrback(_nobody_asks)
            check.cancel()


def _nobody_asks(failure: Failure) -> None:
    """Ignore the result of a check, because the session has ended."""
