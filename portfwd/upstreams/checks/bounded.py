# -*- test-case-name: tests.upstreams.checks.test_bounded -*-
"""
Limits the bytes that a target may send to one check.

The limit applies to every check, also to those of plug-ins, so a conversation may keep all bytes that it
gets.
"""

from __future__ import annotations

from portfwd.upstreams.checks.api import Check, CheckCarrier, CheckConversation, CheckReply, failed


class BoundedConversation(CheckConversation):
    """
    A conversation that ends after `Check.max_answer` bytes of the target at the latest.

    Of a stream the conversation gets the bytes up to the limit; a datagram is never cut.
    """

    def __init__(self, check: Check, conversation: CheckConversation) -> None:
        """:param conversation: a conversation that `check` has begun."""
        self._conversation = conversation
        self._datagrams = check.carrier is CheckCarrier.DATAGRAM
        self._limit = self._left = check.max_answer

    def __repr__(self) -> str:
        return f"<BoundedConversation, {max(self._left, 0)} of {self._limit} bytes left>"

    @property
    def is_exceeded(self) -> bool:
        """Whether the target has sent more than the limit."""
        return self._left < 0

    def opened(self) -> CheckReply:
        """See `CheckConversation`."""
        return self._conversation.opened()

    def received(self, data: bytes) -> CheckReply:
        """See `CheckConversation`. The reply has a verdict if the limit is exceeded."""
        room = self._left
        self.count(data)
        reply = CheckReply()
        if room > 0 and not (self._datagrams and self.is_exceeded):
            reply = self._conversation.received(data[:room])
        if not self.is_exceeded or reply.verdict is not None or reply.silent:
            return reply
        last = self._conversation.exceeded(self._limit)
        if last.verdict is None and not last.silent:
            return failed("the answer is too long")
        return last

    def count(self, data: bytes) -> None:
        """Count bytes that come after the verdict too. An empty datagram counts as one byte."""
        self._left -= max(1, len(data))

    def ended(self) -> CheckReply:
        """See `CheckConversation`."""
        return self._conversation.ended()
