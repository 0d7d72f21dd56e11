# -*- test-case-name: tests.listen.test_last_associations -*-
"""
Ends the associations of a listener that was stopped.

A listener stays open while it has associations. Datagrams have no end, so an association that is silent for a
short time is ended.
"""

from __future__ import annotations

from typing import Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from portfwd.kernel.turn_clock import AT_ONCE
from portfwd.listen.datagram_client import DatagramClient
from portfwd.relay.associations import Associations
from portfwd.values import CloseReason

#: Seconds of silence after which an association of a stopped listener ends. A recursive DNS resolver answers
#: sooner.
LAST_SILENCE: Final = 2.0

#: Seconds between the checks for silence.
LAST_LOOK: Final = 0.25


class LastAssociations:
    """Checks the associations of one listener for silence, from `begin` to `cancel`."""

    def __init__(self, table: Associations[DatagramClient], clock: IReactorTime) -> None:
        self._table = table
        self._clock = clock
        self._look: IDelayedCall | None = None

    def __repr__(self) -> str:
        state = "idle" if self._look is None else "checked"
        return f"<LastAssociations {len(self._table)} {state}>"

    def begin(self) -> None:
        """Check from now on. Further calls do nothing."""
        if self._look is None:
            self._look = self._clock.callLater(LAST_LOOK, self._end_silent)

    def cancel(self) -> None:
        """Check no more."""
        if self._look is not None:
            self._look.cancel()
            self._look = None

    def _end_silent(self) -> None:
        """End silent associations, at most `AT_ONCE` in one turn."""
        self._look = None
        silent = [
            one for one in self._table if one.session is None or one.session.silent_for() >= LAST_SILENCE
        ]
        for one in silent[:AT_ONCE]:
            one.end(CloseReason.DRAIN)
        if len(self._table):
            wait = LAST_LOOK if len(silent) <= AT_ONCE else 0
            self._look = self._clock.callLater(wait, self._end_silent)
