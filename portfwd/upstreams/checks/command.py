# -*- test-case-name: tests.upstreams.checks.test_simple -*-
"""The check ``exec``: runs a program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from attrs import frozen

from portfwd.filters.options import option, text
from portfwd.upstreams.checks.api import Check, CheckCarrier, Subject, said
from portfwd.upstreams.health import Verdict


@frozen
class ExecCheck(Check):
    """
    Runs a program, and passes if its exit status is 0.

    No shell is used. The environment has `PATH`, `PORTFWD_TARGET`, `PORTFWD_HOST` and `PORTFWD_PORT`. The
    first line of the output is the cause. The program is killed at the end of `timeout`.
    """

    carrier: ClassVar[CheckCarrier] = CheckCarrier.COMMAND

    command: tuple[str, ...] = option(
        text,
        positional=True,
        repeated=True,
        help="The program and its arguments.",
        example="/usr/local/bin/check-app --quick",
    )

    def __attrs_post_init__(self) -> None:
        """
        Refuse a clause without a program.

        :raises ValueError: `command` is empty.
        """
        if not self.command:
            raise ValueError("the program is missing")

    def arguments(self, subject: Subject) -> Sequence[str]:
        """See `Check`."""
        return self.command

    def exited(self, status: int | None, output: bytes) -> Verdict:
        """See `Check`."""
        line = said(output.partition(b"\n")[0])
        if status == 0:
            return Verdict(True, line or "exit status 0")
        how = "killed by a signal" if status is None else f"exit status {status}"
        return Verdict(False, f"{how}: {line}" if line else how)
