# -*- test-case-name: tests.relay.test_session -*-
"""Which close reason says what a dial failed of."""

from __future__ import annotations

from portfwd.errors import (
    ConnectTimedOut,
    DialError,
    NameNotResolved,
    NotPermitted,
    OutOfResources,
    TargetsDown,
    TargetsFull,
    TLSFailed,
)
from portfwd.values import CloseReason


def reason_of(problem: DialError) -> CloseReason:
    """The close reason of a session whose dial failed with `problem`."""
    if isinstance(problem, ConnectTimedOut):
        return CloseReason.CONNECT_TIMEOUT
    if isinstance(problem, NameNotResolved):
        return CloseReason.NAME_NOT_RESOLVED
    if isinstance(problem, TLSFailed):
        return CloseReason.TLS_FAILED
    if isinstance(problem, TargetsDown):
        return CloseReason.ALL_DOWN
    if isinstance(problem, NotPermitted):
        return CloseReason.FILTER
    if isinstance(problem, TargetsFull):
        return CloseReason.LIMIT
    if isinstance(problem, OutOfResources):
        return CloseReason.RESOURCES
    return CloseReason.CONNECT_REFUSED
