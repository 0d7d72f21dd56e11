# -*- test-case-name: tests.relay.test_failovers -*-
"""
Warnings about targets that fail while another target serves instead.

Without them, an expired certificate or a refused dial of the first target would only appear in the JSON lines
of successful sessions. One warning is logged for each target and cause of a rule, regardless of the number of
sessions. A rule that a reload has replaced warns again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from twisted.logger import Logger

from portfwd.values import FailedAttempt

#: Most targets and causes of one rule that are remembered. Names with many addresses cause many.
MAX_TOLD: Final = 256


class Failovers:
    """The warnings about one rule's targets so far."""

    _log = Logger()

    def __init__(self, rule: str) -> None:
        """:param rule: name of the rule."""
        self._rule = rule
        self._told: set[tuple[str, str]] = set()

    def __repr__(self) -> str:
        return f"<Failovers of {self._rule}, {len(self._told)} told>"

    def note(self, failures: Sequence[FailedAttempt], last: str) -> None:
        """
        Warn about each target of `failures` except `last`.

        :param last: the connected target, or the one whose failure is in the session's line.
        """
        # The last cause of a target made the session try the next one.
        for target, cause in {one.target: one.cause for one in failures if one.target != last}.items():
            if (target, cause) not in self._told and len(self._told) < MAX_TOLD:
                self._told.add((target, cause))
                self._log.warn(
                    "{rule}: target {target} failed, and {last} was tried instead: {cause}",
                    rule=self._rule,
                    target=target,
                    last=last,
                    cause=cause,
                )
