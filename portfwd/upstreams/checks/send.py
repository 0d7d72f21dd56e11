# -*- test-case-name: tests.upstreams.checks.test_simple -*-
"""The checks ``send`` and ``expect``: send bytes to the target, and wait for bytes from it."""

from __future__ import annotations

from attrs import frozen

from portfwd.filters.options import choice, data, option
from portfwd.upstreams.checks.api import (
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
    """Sends bytes, and passes if the first 64 KiB of the answer contain the expected bytes."""

    send: bytes = option(data, positional=True, help="The bytes to send.", example='"PING\\\\r\\\\n"')
    word: str = option(
        choice("expect"), positional=True, default="expect", help="Separates the two.", example="expect"
    )
    expect: bytes = option(data, positional=True, default=b"", help="The expected bytes.", example='"+PONG"')

    def begin(self, subject: Subject) -> CheckConversation:
        """See `Check`."""
        return SendConversation(self.send, self.expect)


@frozen
class ExpectCheck(Check):
    """Passes if the target, which sends first, sends the expected bytes."""

    expect: bytes = option(data, positional=True, help="The expected bytes.", example='"220 "')

    def begin(self, subject: Subject) -> CheckConversation:
        """See `Check`."""
        return SendConversation(b"", self.expect)


class SendConversation(CheckConversation):
    """Sends bytes and searches the answer."""

    def __init__(self, send: bytes, expect: bytes) -> None:
        self._send = send
        self._expect = expect
        self._answer = bytearray()

    def opened(self) -> CheckReply:
        """Send the bytes; pass if no answer is expected."""
        return CheckReply(self._send) if self._expect else passed("sent", self._send)

    def received(self, data: bytes) -> CheckReply:
        """Search for the expected bytes."""
        # They may begin in the bytes before these.
        start = max(0, len(self._answer) - len(self._expect))
        self._answer += data
        if self._answer.find(self._expect, start) >= 0:
            return passed(f"got '{said(self._expect)}'")
        return WAIT

    def _missing(self) -> CheckReply:
        return failed(f"'{said(self._expect)}' did not come, but '{said(self._answer)}'")

    def ended(self) -> CheckReply:
        """The expected bytes were not received."""
        return self._missing() if self._answer else super().ended()

    def exceeded(self, limit: int) -> CheckReply:
        """The expected bytes are not at the beginning."""
        return self._missing()
