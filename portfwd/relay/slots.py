# -*- test-case-name: tests.relay.test_slots -*-
"""
The slots of limits that one session takes and returns.

Only sessions of rules with limits have this object; older sessions get it when a reload adds limits.
`portfwd.limits.admission` decides about admission.
"""

from __future__ import annotations

from portfwd.limits.admission import Admission
from portfwd.limits.source_counts import source_of
from portfwd.values import Address


class SessionSlots:
    """
    The slots of one session.

    Methods return the name of the limit that was reached, as in the rules file, and take nothing then; else
    an empty text.
    """

    __slots__ = ("_is_in", "_limits", "_source")

    def __init__(self, limits: Admission) -> None:
        self._limits = limits
        self._is_in = False
        self._source = ""

    def __repr__(self) -> str:
        return f"<SessionSlots {'in' if self._is_in else 'not in'} from {self._source or '-'}>"

    @property
    def has_room(self) -> bool:
        """Whether the number of sessions admits another one."""
        return self._limits.has_room

    def enter(self, now: float) -> str:
        """Take a slot among the rule's sessions."""
        reached = self._limits.admit(now)
        self._is_in = not reached
        return reached

    def come_from(self, address: Address | None, now: float) -> str:
        """Take a slot of the source `address`, and return the one of the previous source."""
        if not self._limits.by_source:
            return ""
        self._leave_source(now)
        source = source_of(address)
        reached = self._limits.admit_source(source, now) if source else ""
        if not reached:
            self._source = source
        return reached

    def count(self, limits: Admission, address: Address | None, now: float) -> None:
        """
        Count for `limits` from now on, even if no slot is left.

        Slots of the previous limits that are not slots of these are returned.
        """
        if not limits.is_as(self._limits):
            if self._is_in:
                limits.take_over(self._limits)
            if self._source:
                limits.take_over_source(self._limits, self._source, now)
        self._limits = limits
        if not self._is_in:
            self._is_in = True
            self._limits.count()
        if not self._source and limits.by_source:
            self._source = source_of(address)
            if self._source:
                self._limits.count_source(self._source, now)

    def _leave_source(self, now: float) -> None:
        source, self._source = self._source, ""
        if source:
            self._limits.left_source(source, now)

    def leave(self, now: float) -> None:
        """Return the slots that were not returned before."""
        self._leave_source(now)
        if self._is_in:
            self._is_in = False
            self._limits.left()
