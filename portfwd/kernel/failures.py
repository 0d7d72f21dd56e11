# -*- test-case-name: tests.kernel.test_failures -*-
"""
Logging where nothing may be raised.

Twisted's log publisher catches an `Exception` of an observer; `SystemExit` and the like leave it. Code that
ends a session because something failed, or that the reactor calls for many sessions, has to go on even then,
so it logs with these functions. An observer that raises loses the event, and so do those behind it: there is
nobody left to tell.

A traceback is logged with `MOST_FRAMES` frames: a filter that recurses without end would fill the log with a
thousand, each time.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Final

from twisted.logger import Logger
from twisted.python.failure import Failure

#: Frames of a traceback that are logged, half of them from either end.
MOST_FRAMES: Final = 40


def log_failure(log: Logger, text: str, failure: Failure | None = None, **values: Any) -> None:
    """Log `failure`, or the exception that is being handled."""
    try:
        log.failure(text, shortened(Failure() if failure is None else failure), **values)
    except BaseException:  # noqa: S110 - see the module's docstring
        pass


def shortened(failure: Failure) -> Failure:
    """`failure`, without the middle of a traceback of more than `MOST_FRAMES` frames."""
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
