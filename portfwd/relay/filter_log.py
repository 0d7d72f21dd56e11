# -*- test-case-name: tests.relay.test_filtered -*-
"""The log of filters. Each event has the rule, and the session or the filter, and is one line."""

from __future__ import annotations

from typing import Final

from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from portfwd.filters.chain.effects import Trouble
from portfwd.kernel.failures import log_failure
from portfwd.values import printable

#: The beginning of each event of a filter. Filters must not use these names for their values.
_WHOSE: Final = "{portfwd_rule}: session {portfwd_session}: "
_WHOSE_CLAUSE: Final = "{portfwd_rule}: filter {portfwd_filter}: "


def log_trouble(log: Logger, trouble: Trouble, session: object) -> None:
    """Log that a filter of `session` raised, with the traceback."""
    log_failure(
        log,
        "filter {filter} of {session!r} failed ({method})",
        Failure(trouble.error),
        level=LogLevel.error,  # of one filter of one session
        filter=trouble.filter,
        method=trouble.method,
        session=session,
    )


class FilterLog:
    """The log of a filter. Events have the rule and the session."""

    __slots__ = ("_id", "_log", "_rule")

    def __init__(self, log: Logger, rule: str, number: int) -> None:
        """:param number: number of the session."""
        self._log = log
        self._rule = rule
        self._id = number

    def info(self, text: str, **values: object) -> None:
        """Log an informational event."""
        self._log.info(f"{_WHOSE}{text}", **self._with_names(values))

    def warn(self, text: str, **values: object) -> None:
        """Log an event that needs the attention of an operator."""
        self._log.warn(f"{_WHOSE}{text}", **self._with_names(values))

    def _with_names(self, values: dict[str, object]) -> dict[str, object]:
        return {**_on_one_line(values), "portfwd_rule": self._rule, "portfwd_session": self._id}


class ClauseLog:
    """The log of the factory of a ``filter`` clause. Events have the rule and the filter."""

    __slots__ = ("_filter", "_log", "_rule")

    def __init__(self, log: Logger, rule: str, name: str) -> None:
        """:param name: name of the filter."""
        self._log = log
        self._rule = rule
        self._filter = name

    def info(self, text: str, **values: object) -> None:
        """Log an informational event."""
        self._log.info(f"{_WHOSE_CLAUSE}{text}", **self._with_names(values))

    def warn(self, text: str, **values: object) -> None:
        """Log an event that needs the attention of an operator."""
        self._log.warn(f"{_WHOSE_CLAUSE}{text}", **self._with_names(values))

    def _with_names(self, values: dict[str, object]) -> dict[str, object]:
        return {**_on_one_line(values), "portfwd_rule": self._rule, "portfwd_filter": self._filter}


def _on_one_line(values: dict[str, object]) -> dict[str, object]:
    # Bytes of a client must not end the line, even if a filter does not escape them. Escaped texts stay
    # unchanged.
    return {
        key: printable(value) if isinstance(value, str) and not value.isprintable() else value
        for key, value in values.items()
    }
