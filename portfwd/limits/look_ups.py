# -*- test-case-name: tests.limits.test_look_ups -*-
"""
How many look-ups of names that clients choose may be under way: in all, for one rule, and for one client.

A name server that does not answer keeps a look-up for seconds. These limits keep one client from taking the
look-ups of all others of its rule, and one rule from taking those of all other rules.
"""

from __future__ import annotations

from collections import Counter
from typing import Final, NamedTuple

#: Look-ups under way for one client address (an IPv6 client counts by its /64). A browser that opens a page
#: asks for 10 to 30 names at once.
MAX_PER_SOURCE: Final = 32

#: For one rule, so that two rules full of clients leave half of the places to the others.
MAX_PER_RULE: Final = 128

#: In all: each holds one socket, in place of the one that its session will use for the upstream.
MAX_LOOK_UPS: Final = 512


class Asker(NamedTuple):
    """For whom a name is looked up. :ivar source: the client's address as limits count it, or empty."""

    rule: str = ""
    source: str = ""


#: Names that the rules file writes are nobody's.
NOBODY: Final = Asker()


class LookUpLimits:
    """Counts look-ups under way."""

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
        return f"<LookUpLimits {self._taken} of {self._total}>"

    def take(self, asker: Asker) -> str:
        """Count one more; the result names the limit that was reached, and then nothing is counted."""
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
        """One that was taken is over."""
        self._taken -= 1
        for counts, key in ((self._rules, asker.rule), (self._sources, asker.source)):
            counts[key] -= 1
            if not counts[key]:
                del counts[key]
