# -*- test-case-name: tests.relay.test_dial -*-
"""
Dials the upstream of a session: one target after the other, within ``dial-timeout``.

`portfwd.relay.target_order` chooses the next target, `portfwd.relay.target_dial` connects to one target. If
all addresses of a name have failed, the name is resolved again at once. If no other target works, the session
waits for the answer and tries new addresses. With ``retry=``, a session whose targets refuse waits and tries
them again, for servers that are starting.

It reads no bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from portfwd.errors import (
    ConnectFailed,
    ConnectTimedOut,
    DialError,
    NameNotResolved,
    TLSFailed,
)
from portfwd.kernel.failures import log_failure
from portfwd.relay.containment import contained
from portfwd.relay.destination import Destination
from portfwd.relay.loops import Passing
from portfwd.relay.stepwise import Stepwise
from portfwd.relay.target_dial import DialSettings, TargetDial
from portfwd.relay.target_order import TargetOrder, full
from portfwd.streams.datagrams.datagram_opening import carrier_of
from portfwd.streams.stream import Stream
from portfwd.values import Address, FailedAttempt, named_host

#: Most failed attempts in a session's line, because a name may have thousands of addresses.
MAX_FAILURES: Final = 16

#: Seconds before the targets are tried again with ``retry=``: the first wait, which doubles each time, and
#: the longest.
FIRST_WAIT: Final = 0.1
LONGEST_WAIT: Final = 1.0


class DialOwner(Protocol):
    """
    The owner of a dial. Exactly one of these methods is called, once, unless the dial was cancelled.

    :ivar attempts: the failed attempts; set before the call if there are any.
    """

    attempts: Sequence[FailedAttempt]

    def dialled(self, stream: Stream, destination: Destination) -> None:
        """
        The upstream is connected.

        Nothing was read from it. The owner calls `Destination.give_back` later.
        """

    def dial_failed(self, problem: DialError, address: Address | None) -> None:
        """All targets failed. `problem` and `address` are those of the last attempt."""

    def broke(self, failure: Failure) -> None:
        """An exception of portfwd's code ended the dial."""


class DiallingSession(DialOwner, Passing, Protocol):
    """A session as the owner of its dial."""

    @property
    def client_address(self) -> Address | None:
        """The address of the client, if known."""


class Dial(Stepwise):
    """
    The dial of one session.

    :ivar failures: the failed attempts so far, at most `MAX_FAILURES`.
    """

    _log = Logger()

    def __init__(
        self,
        settings: DialSettings,
        order: TargetOrder,
        time_limit: float,
        owner: DialOwner,
        retry: float | None = None,
    ) -> None:
        """
        :param order: chooses the targets. It has at least one.
        :param time_limit: seconds for all of them together.
        :param retry: seconds for which refusing targets are tried again, beyond `time_limit`; None for never.
        """
        self.failures: list[FailedAttempt] = []
        self._settings = settings
        self._order = order
        self._time_limit = time_limit + (retry or 0.0)
        self._retry = retry
        self._retry_until = 0.0
        self._next_wait = FIRST_WAIT
        self._waiting: IDelayedCall | None = None
        self._owner = owner
        self._target: TargetDial | None = None
        self._to_ask: list[TargetDial] = []
        self._deadline: IDelayedCall | None = None
        self._problem: DialError = ConnectFailed("no target")
        self._label = ""
        self._tried: Address | None = None
        self._over = False

    def __repr__(self) -> str:
        attempts = 0 if self._target is None else self._target.attempts
        return f"<Dial {self._label} attempts={attempts} {'over' if self._over else 'trying'}>"

    @property
    def tried(self) -> Address | None:
        """The address tried last, or the one whose name was resolved."""
        return self._tried if self._target is None else self._target.tried or self._tried

    def start(self) -> None:
        """Start. The owner may be called before this returns."""
        clock = self._settings.clock
        self._deadline = clock.callLater(self._time_limit, self._out_of_time)
        if self._retry is not None:
            self._retry_until = clock.seconds() + self._retry
        self._go_on()

    def cancel(self) -> None:
        """Stop without calling the owner, and close all sockets."""
        self._finish()

    def broke(self, failure: Failure) -> None:
        """An exception of portfwd's code: end the dial and pass it to the owner."""
        if not self._over:
            try:
                self._finish()
            except BaseException:
                log_failure(self._log, "{dial!r}: and it could not be cancelled", dial=self)
        self._owner.broke(failure)

    # Targets

    def _step(self) -> None:
        if self._over or self._target is not None or self._waiting is not None:
            return
        chosen = self._order.next() if self._problem.retry else None
        if isinstance(chosen, DialError):
            self._problem = chosen
            self._go_on()
        elif chosen is not None:
            self._target = target = TargetDial(self._settings, chosen, self)
            self._label = chosen.label
            chosen.occupancy.dials += 1
            target.start()
        elif self._to_ask and self._problem.retry:
            self._ask_again(self._to_ask.pop(0))
        elif not self._waits():
            self._fail()

    def _waits(self) -> bool:
        """Wait until refusing targets may be tried again, if ``retry=`` allows it."""
        if self._retry is None or not self._problem.is_refusal:
            return False
        clock, wait = self._settings.clock, self._next_wait
        if clock.seconds() + wait > self._retry_until:
            return False
        self._next_wait = min(2 * wait, LONGEST_WAIT)
        self._waiting = clock.callLater(wait, self._try_again)
        return True

    @contained
    def _try_again(self) -> None:
        self._waiting = None
        self._order.renew()
        self._go_on()

    def _ask_again(self, target: TargetDial) -> None:
        destination = target.destination
        if not destination.take():
            self._problem = full(destination)
            self._go_on()
            return
        self._target = target
        self._label = destination.label
        target.start_again()

    def attempt_failed(self, target: TargetDial, address: Address | None, problem: DialError) -> None:
        """One address could not be reached."""
        self._tried = address or self._tried
        self._problem = problem
        if len(self.failures) < MAX_FAILURES:
            self.failures.append(FailedAttempt(target.destination.label, address, str(problem)))

    def target_failed(self, target: TargetDial) -> None:
        """No address of a target is left."""
        destination = target.destination
        if not target.asked_again:
            destination.occupancy.failures += 1
            self._order.failed(destination, self._problem)
        self._leave_target()
        named = named_host(destination.address)
        if target.can_ask_again and named is not None and not target.asked_again:
            context = self._settings.context
            (context.client_names if destination.is_chosen else context.names).doubt(named.host)
            self._to_ask.append(target)
        self._go_on()

    def target_reached(self, target: TargetDial, stream: Stream) -> None:
        """One target is connected."""
        self._tried = target.tried or self._tried
        self._target = None  # its slot belongs to the owner from now on
        destination, settings = target.destination, self._settings
        if destination.datagrams:
            settings.datagram_targets.follow(carrier_of(stream), destination, self._order, settings.permits)
        self._order.reached(destination)
        self._note_failovers(destination.label)
        self._finish()
        self._owner.dialled(stream, destination)

    # Result

    @contained
    def _out_of_time(self) -> None:
        target, within = self._target, f"within {self._time_limit:g} s"
        if target is not None and target.asking and not target.asked_again:
            self._problem = NameNotResolved(f"{self._label}: the resolver did not answer {within}")
        elif target is not None and target.handshaking:
            self._problem = TLSFailed(f"{self._label}: no TLS handshake {within}")
        elif type(self._problem) is not ConnectTimedOut:
            self._problem = ConnectTimedOut(f"{self._label}: no target answered {within}")
        if target is not None:
            target.destination.occupancy.failures += 1
            self._order.failed(target.destination, self._problem)
        self._fail()

    def _fail(self) -> None:
        self._note_failovers(self.failures[-1].target if self.failures else "")
        self._finish()
        self._owner.dial_failed(self._problem, self._tried)

    def _note_failovers(self, last: str) -> None:
        if self.failures and self._settings.failovers is not None:
            self._settings.failovers.note(self.failures, last)

    def _leave_target(self) -> None:
        target, self._target = self._target, None
        if target is not None:
            target.destination.give_back()
            target.cancel()

    def _finish(self) -> None:
        self._over = True
        self._tried = self.tried
        if self.failures:
            self._owner.attempts = tuple(self.failures)
        self._to_ask.clear()
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        if self._waiting is not None and self._waiting.active():
            self._waiting.cancel()
        self._leave_target()
