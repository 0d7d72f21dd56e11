# -*- test-case-name: tests.service.run.test_checking -*-
"""What a run of a check is, and its results besides a plain verdict."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from attrs import frozen
from twisted.python.failure import Failure

from portfwd.upstreams.checks.api import MAX_SAID
from portfwd.upstreams.health import Verdict


@frozen
class NoVerdict:
    """A check that decided nothing. :ivar cause: the reason in a few words."""

    cause: str


@frozen
class RaisedVerdict(Verdict):
    """The verdict of a check whose code raised an exception. :ivar failure: for the log."""

    failure: Failure | None = None

    @classmethod
    def of(cls, failure: Failure) -> RaisedVerdict:
        """Make the verdict for an exception."""
        words = f"{type(failure.value).__name__}: {failure.getErrorMessage()}".removesuffix(": ")
        return cls(False, f"the check raised {words[:MAX_SAID]}", failure=failure)


Done = Callable[["Verdict | NoVerdict | None"], None]


class Run(Protocol):
    """
    One running check.

    :ivar judged: whether the conversation gave the verdict, and not the connection or the time limit.
    """

    judged: bool

    def start(self) -> None:
        """Start. The result may be delivered before this returns."""

    def cancel(self) -> None:
        """Stop without a result."""
