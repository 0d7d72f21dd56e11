# -*- test-case-name: tests.kernel.test_failures -*-
"""
Logging where nothing may be raised.

Twisted's log publisher catches an `Exception` of an observer; `SystemExit` and the like leave it. Code that
ends a session because something failed, or that the reactor calls for many sessions, has to go on even then,
so it logs with these functions. An observer that raises loses the event, and so do those behind it: there is
nobody left to tell.
"""

from __future__ import annotations

from typing import Any

from twisted.logger import Logger
from twisted.python.failure import Failure


def log_failure(log: Logger, text: str, failure: Failure | None = None, **values: Any) -> None:
    """Log `failure`, or the exception that is being handled."""
    try:
        log.failure(text, failure, **values)
    except BaseException:  # noqa: S110 - see the module's docstring
        pass


def log_warning(log: Logger, text: str, **values: Any) -> None:
    """Log a warning."""
    try:
        log.warn(text, **values)
    except BaseException:  # noqa: S110 - see the module's docstring
        pass
