# -*- test-case-name: tests.kernel.test_failures -*-
"""
Logging functions that never raise.

Twisted's log publisher catches an `Exception` of an observer, but not `SystemExit` and similar ones. Code
that ends a session after a failure, or that the reactor calls for many sessions, must continue even then, so
it logs with these functions. If an observer raises, that event is lost for it and for the observers after it.

A traceback is logged with at most `MOST_FRAMES` frames. A filter with an endless recursion would otherwise
write a thousand frames for each session.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Final

from twisted.logger import Logger
from twisted.python.failure import Failure

#: Logged frames of a traceback, half of them from each end.
MOST_FRAMES: Final = 40


def log_failure(log: Logger, text: str, failure: Failure | None = None, **values: Any) -> None:
    """Log `failure`, or the exception that is being handled now."""
    try:
        log.failure(text, shortened(Failure() if failure is None else failure), **values)
    except BaseException:  # noqa: S110 - see the module's docstring
        pass


def shortened(failure: Failure) -> Failure:
    """`failure` with at most `MOST_FRAMES` frames; the middle ones are removed."""
    frames = []
    at = failure.getTracebackObject()
    while at is not None:
        frames.append(at)
        at = at.tb_next
    if len(frames) <= MOST_FRAMES:
        return failure
    half, kept = MOST_FRAMES // 2, None
    for one in reversed(frames[:half] + frames[-half:]):
        kept = TracebackType(kept, one.tb_frame, one.tb_lasti, one.tb_lineno)
    return Failure(failure.value, failure.type, kept)


def log_warning(log: Logger, text: str, **values: Any) -> None:
    """Log a warning."""
    try:
        log.warn(text, **values)
    except BaseException:  # noqa: S110 - see the module's docstring
        pass
