# -*- test-case-name: tests.limits.test_look_ups -*-
"""
Limits on running look-ups of names that clients choose: in all, per rule, and per client.

A look-up lasts seconds if the name server does not answer. With these limits one client cannot use all
look-ups of its rule, and one rule cannot use all look-ups of the process.
"""

from __future__ import annotations

from collections import Counter
from typing import Final, NamedTuple

#: Running look-ups of one client address (of a /64 for IPv6). A browser that opens a page looks up 10 to 30
#: names.
MAX_PER_SOURCE: Final = 32

#: Running look-ups of one rule. Two busy rules leave half of the total to the others.
MAX_PER_RULE: Final = 128

#: Running look-ups in all. Each has one socket; its session has none for the upstream yet.
MAX_LOOK_UPS: Final = 512


class Asker(NamedTuple):
    """The client of a look-up. :ivar source: its address as limits count it, or empty."""

    rule: str = ""
    source: str = ""


#: For names of the rules file, which belong to no client.
NOBODY: Final = Asker()


class LookUpLimits:
    """Counts running look-ups."""

    def __init__(
        self, total: int = MAX_LOOK_UPS, per_rule: int = MAX_PER_RULE, per_source: int = MAX_PER_SOURCE
    ) -> None:
        self._total = total
        self._per_rule = per_rule
        self._per_source = per_source
        self._rules: Counter[str] = Counter()
        self._sources: Counter[str] = Counter()
        self._taken = 0

    def __repr__(self) -> str:
        return (
            f"<LookUpLimits {self._taken} of {self._total},"
            f" of {len(self._rules)} rules and {len(self._sources)} clients>"
        )

    def take(self, asker: Asker) -> str:
        """
        Count one more.

        If a limit is reached, return its name and count nothing; else return an empty text.
        """
        if asker.source and self._sources[asker.source] >= self._per_source:
            return f"{self._per_source} look-ups of this client are under way"
        if self._rules[asker.rule] >= self._per_rule:
            return f"{self._per_rule} look-ups of this rule are under way"
        if self._taken >= self._total:
            return f"{self._total} look-ups are under way"
        self._taken += 1
        self._rules[asker.rule] += 1
        self._sources[asker.source] += 1
        return ""

    def give_back(self, asker: Asker) -> None:
        """A counted look-up has ended."""
        self._taken -= 1
        for counts, key in ((self._rules, asker.rule), (self._sources, asker.source)):
            counts[key] -= 1
            if not counts[key]:
                del counts[key]
