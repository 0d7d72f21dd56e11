# -*- test-case-name: tests.upstreams.checks.test_agent -*-
"""
The check ``agent``: what a program on the target's machine says, in HAProxy's words.

The program accepts connections on a port of its own, writes one line and closes. The line has words
with blanks or commas between them: ``up``, ``ready``, ``drain``, ``down``, ``failed``, ``stopped`` and
``maint``, a share such as ``50%``, and a text behind ``#``. Words that are unknown here are ignored.
"""

from __future__ import annotations

import re
from typing import ClassVar, Final

from attrs import frozen

from portfwd.upstreams.checks.api import (
    WAIT,
    Check,
    CheckCarrier,
    CheckConversation,
    CheckReply,
    Subject,
    failed,
    said,
)
from portfwd.upstreams.health import Verdict

#: Bytes of its line: HAProxy's buffer has more, its words need fewer.
MAX_LINE: Final = 4096
_UP: Final = frozenset({"up", "ready"})
_DOWN: Final = frozenset({"down", "failed", "fail", "stopped", "maint"})
_SHARE = re.compile(r"([0-9]{1,3})%", re.ASCII)


@frozen
class AgentCheck(Check):
    """
    Asks an agent on the target's machine, which says `up`, `down`, `drain` or a share such as `50%`.

    Write `port=` for the port of the agent. An agent that cannot be reached says nothing: the target stays as
    it is.
    """

    carrier: ClassVar[CheckCarrier] = CheckCarrier.PLAIN
    at_once: ClassVar[bool] = True
    silent: ClassVar[bool] = True

    def begin(self, subject: Subject) -> CheckConversation:
        """See `Check`."""
        return AgentConversation()


class AgentConversation(CheckConversation):
    """One line."""

    def __init__(self) -> None:
        self._line = b""

    def opened(self) -> CheckReply:
        """The agent speaks first."""
        return WAIT

    def received(self, data: bytes) -> CheckReply:
        """Wait for the end of the line."""
        self._line += data
        if b"\n" in self._line:
            return judge(self._line.partition(b"\n")[0])
        return failed("an endless line") if len(self._line) > MAX_LINE else WAIT

    def ended(self) -> CheckReply:
        """The line may end with the connection."""
        return judge(self._line)


def judge(line: bytes) -> CheckReply:
    """What a line of an agent says; one without a word that is known says nothing."""
    words, _, _text = line.decode("utf-8", "replace").partition("#")
    found = words.lower().replace(",", " ").split()
    share = next((match[1] for word in found if (match := _SHARE.fullmatch(word))), None)
    states = [word for word in found if word in _UP or word in _DOWN or word == "drain"]
    cause = said(line)
    if not states and share is None:
        return CheckReply(silent=True)
    # Of several words the one that keeps sessions away counts.
    if any(word in _DOWN for word in states):
        return CheckReply(verdict=Verdict(False, cause))
    part = None if share is None else min(100, int(share)) / 100
    return CheckReply(verdict=Verdict(True, cause, drain="drain" in states, share=part))
