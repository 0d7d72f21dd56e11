# -*- test-case-name: tests.relay.test_failovers -*-
"""
Warnings of targets that fail while another one serves in their place.

Without them an expired certificate or a refused dial of the first target would leave no trace but in the JSON
lines of sessions that otherwise look well. One warning is written for each target and cause of a rule,
however many sessions meet it; a rule that a reload makes anew warns anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from twisted.logger import Logger

from portfwd.values import FailedAttempt

#: Targets and causes of one rule that are remembered: names with many addresses make many causes.
MAX_TOLD: Final = 256


class Failovers:
    """What has been told of one rule's targets."""

    _log = Logger()

    def __init__(self, rule: str) -> None:
        """:param rule: its name."""
        self._rule = rule
        self._told: set[tuple[str, str]] = set()

    def __repr__(self) -> str:
        return f"<Failovers of {self._rule}, {len(self._told)} told>"

    def note(self, failures: Sequence[FailedAttempt], last: str) -> None:
        """
        Warn of each target of `failures` but `last`.

        :param last: the target that was reached, or whose failure the session's line tells.
        """
        # The last cause of a target is the one that made the session go on to the next.
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
