# -*- test-case-name: tests.upstreams.checks.test_simple -*-
"""The checks ``send`` and ``expect``: bytes to the target, and bytes that must come from it."""

from __future__ import annotations

from attrs import frozen

from portfwd.filters.options import choice, data, option
from portfwd.upstreams.checks.api import (
    MAX_ANSWER,
    WAIT,
    Check,
    CheckConversation,
    CheckReply,
    Subject,
    failed,
    passed,
    said,
)


@frozen
class SendCheck(Check):
    """Sends bytes, and passes if the answer has what is expected, anywhere in its first 64 KiB."""

    send: bytes = option(data, positional=True, help="What is sent.", example='"PING\\\\r\\\\n"')
    word: str = option(
        choice("expect"), positional=True, default="expect", help="Stands between the two.", example="expect"
    )
    expect: bytes = option(data, positional=True, default=b"", help="What must come.", example='"+PONG"')

    def begin(self, subject: Subject) -> CheckConversation:
        """See `Check`."""
        return SendConversation(self.send, self.expect)


@frozen
class ExpectCheck(Check):
    """Passes if the target, which speaks first, says what is expected."""

    expect: bytes = option(data, positional=True, help="What must come.", example='"220 "')

    def begin(self, subject: Subject) -> CheckConversation:
        """See `Check`."""
        return SendConversation(b"", self.expect)


class SendConversation(CheckConversation):
    """One question and its answer."""

    def __init__(self, send: bytes, expect: bytes) -> None:
        self._send = send
        self._expect = expect
        self._answer = b""

    def opened(self) -> CheckReply:
        """Ask; without anything to wait for that is all."""
        return CheckReply(self._send) if self._expect else passed("sent", self._send)

    def received(self, data: bytes) -> CheckReply:
        """Look for what is expected."""
        self._answer += data
        if self._expect in self._answer:
            return passed(f"got '{said(self._expect)}'")
        return self._missing() if len(self._answer) > MAX_ANSWER else WAIT

    def _missing(self) -> CheckReply:
        return failed(f"'{said(self._expect)}' did not come, but '{said(self._answer)}'")

    def ended(self) -> CheckReply:
        """It did not come."""
        return self._missing() if self._answer else super().ended()
