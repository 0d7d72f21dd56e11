# -*- test-case-name: tests.relay.test_verifier -*-
"""
Checks secrets for filters (`portfwd.filters.api.Connection.verify`) in threads, so other sessions do not
wait.

`portfwd.limits.guesses` decides when a check may start. This module starts the threads and returns their
results to the reactor. Each check has its own daemon thread, so a process that stops does not wait for it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Final

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from portfwd.kernel.reactor import Reactor
from portfwd.limits.guesses import Guesses
from portfwd.limits.source_counts import source_of
from portfwd.values import Address

Check = Callable[[], bool]
Start = Callable[[Callable[[], None]], None]


def in_thread(call: Callable[[], None]) -> None:
    """Run `call` in a daemon thread of its own."""
    threading.Thread(target=call, name="portfwd-check", daemon=True).start()


@define(eq=False)
class _Asked:
    """A pending check."""

    slow: Check
    result: Deferred[bool] = field(init=False)


class Verifier:
    """Checks the secrets of all rules."""

    def __init__(self, reactor: Reactor, start: Start = in_thread) -> None:
        """:param start: runs a function in a thread."""
        self._reactor = reactor
        self._start: Final = start
        self._guesses: Guesses[_Asked] = Guesses()
        self._timer: IDelayedCall | None = None

    def __repr__(self) -> str:
        return f"<Verifier {self._guesses!r}>"

    def verify(self, whose: Address | None, quick: Check, slow: Check) -> Deferred[bool]:
        """
        Check a secret.

        :param whose: the source of the client.
        :param quick: a cheap check; False does not mean that the secret is wrong. It is not used for a
            delayed source, which could otherwise avoid the delay.
        :param slow: the check that decides; called in a thread.
        """
        source = source_of(whose)
        if self._guesses.is_free(source, self._reactor.seconds()) and quick():
            return succeed(True)
        asked = _Asked(slow)
        asked.result = Deferred(lambda _: self._guesses.withdraw(source, asked))
        if not self._guesses.add(source, asked):
            return succeed(False)
        self._next()
        return asked.result

    def _next(self) -> None:
        """Start the checks that may start now."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        while True:
            found = self._guesses.next(self._reactor.seconds())
            if not isinstance(found, tuple):
                break
            source, asked = found
            try:
                self._start(partial(self._check, source, asked))
            except RuntimeError:  # the system cannot start a thread
                self._guesses.done(source, False, self._reactor.seconds())
                asked.result.errback()
        if found is not None:
            self._timer = self._reactor.callLater(found, self._next)

    def _check(self, source: str, asked: _Asked) -> None:
        """Run a check. Called in the thread."""
        right: bool | Failure
        try:
            right = asked.slow()
        except BaseException:
            right = Failure()
        self._reactor.callFromThread(self._done, source, asked, right)

    def _done(self, source: str, asked: _Asked, right: bool | Failure) -> None:
        # A client that did not wait for the result has made an attempt nevertheless.
        self._guesses.done(source, right is True, self._reactor.seconds())
        if not asked.result.called:
            # A Failure is passed to the errbacks.
            asked.result.callback(right)
        self._next()
