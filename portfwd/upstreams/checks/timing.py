# -*- test-case-name: tests.upstreams.checks.test_timing -*-
"""The options that all checks have: intervals, time limit, and how many verdicts take effect."""

from __future__ import annotations

from attrs import frozen

from portfwd.filters.options import between, duration, fraction, number, option


@frozen
class Timing:
    """When a target is checked, and how many verdicts take effect."""

    inter: float = option(
        between(duration, 0.1, 86400), default=2.0, help="Time between two checks of a target."
    )
    timeout: float = option(
        between(duration, 0.01, 3600), default=2.0, help="Time limit of one check, after which it has failed."
    )
    rise: int = option(between(number, 1, 1000), default=2, help="Good verdicts in a row that bring it up.")
    fall: int = option(between(number, 1, 1000), default=3, help="Bad verdicts in a row that take it down.")
    fastinter: float | None = option(
        between(duration, 0.1, 86400),
        default=None,
        help="Time between checks while the state is undecided.",
    )
    port: int | None = option(
        between(number, 1, 65535), default=None, help="Port of the check; by default the target's."
    )
    jitter: float = option(
        between(fraction, 0.0, 0.5), default=0.1, help="Fraction of `inter` by which it varies at random."
    )

    def wait(self, *, undecided: bool, draw: float) -> float:
        """
        Return the seconds from the start of one check to that of the next.

        :param draw: a random number from 0 up to 1.
        """
        inter = self.fastinter if undecided and self.fastinter is not None else self.inter
        return inter * (1 + self.jitter * (2 * draw - 1))
