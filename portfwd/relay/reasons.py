# -*- test-case-name: tests.relay.test_session -*-
"""The close reasons of failed dials."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

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

#: Close reasons by class of the exception. Other classes have the reason of their base class.
REASONS: Final[Mapping[type[BaseException], CloseReason]] = {
    ConnectTimedOut: CloseReason.CONNECT_TIMEOUT,
    NameNotResolved: CloseReason.NAME_NOT_RESOLVED,
    TLSFailed: CloseReason.TLS_FAILED,
    TargetsDown: CloseReason.ALL_DOWN,
    NotPermitted: CloseReason.FILTER,
    TargetsFull: CloseReason.LIMIT,
    OutOfResources: CloseReason.RESOURCES,
    DialError: CloseReason.CONNECT_REFUSED,
}


def reason_of(problem: DialError) -> CloseReason:
    """The close reason of a session whose dial failed with `problem`."""
    return next(REASONS[kind] for kind in type(problem).__mro__ if kind in REASONS)
