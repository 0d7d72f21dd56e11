"""Conversations of checks, in tests: what they send, and what they say."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from portfwd.filters.options import OptionFiles
from portfwd.upstreams.checks.api import Check, CheckConversation, CheckReply, Subject
from portfwd.upstreams.checks.registry import CheckRegistry

SUBJECT = Subject("10.0.0.5:80", "10.0.0.5", 80, "0123456789abcdef01234567")
FILES = OptionFiles(read={"/secret": "hunter2\nignored\n"}.__getitem__, absolute=lambda path: path)


@cache
def installed() -> CheckRegistry:
    """The installed checks, which take a while to find."""
    return CheckRegistry.installed()


def check(clause: str, **options: str) -> Check:
    """A check from its name, its words and its options."""
    name, *plain = clause.split(" ")
    pairs = [(key.replace("_", "-"), value) for key, value in options.items()]
    read = installed().find(name).read(plain, pairs, FILES)
    if isinstance(read, list):
        raise ValueError([one.message for one in read])
    return read[0]


class CheckCase(SynchronousTestCase):
    """Conversations, each with its answers split anywhere."""

    def say(self, conversation: CheckConversation, *events: bytes | None) -> tuple[list[bytes], CheckReply]:
        """What is sent on each event, and the last reply; None: the target closes."""
        replies = [conversation.opened()]
        for event in events:
            if replies[-1].verdict is not None or replies[-1].silent:
                break
            replies.append(conversation.ended() if event is None else conversation.received(event))
        return [one.send for one in replies], replies[-1]

    def judge(
        self, made: Check, *events: bytes | None, sent: Sequence[bytes] | None = None
    ) -> tuple[Any, str]:
        """Whether it passes and why; the same is said when the events come byte by byte."""
        said, last = self.say(made.begin(SUBJECT), *events)
        if sent is not None:
            self.assertEqual([one for one in said if one], list(sent))
        bytewise = [
            piece
            for event in events
            for piece in ([None] if event is None else [bytes([byte]) for byte in event])
        ]
        conversation = made.begin(SUBJECT)
        again, split = self.say(conversation, *bytewise)
        self.assertEqual((split.verdict, split.silent), (last.verdict, last.silent), events)
        self.assertEqual(b"".join(again), b"".join(said))
        if last.verdict is None:
            return (None, "silent" if last.silent else "")
        return last.verdict.passed, last.verdict.cause
