# -*- test-case-name: tests.upstreams.checks.test_agent -*-
"""
The check ``agent``: asks a program on the target's machine (HAProxy's agent check).

The program accepts connections on its own port, writes one line and closes. The line has words separated by
blanks or commas: ``up``, ``ready``, ``drain``, ``down``, ``failed``, ``stopped`` and ``maint``, a share such
as ``50%``, and a text after ``#``. Unknown words are ignored. As with HAProxy, an agent that cannot be
reached, or whose line has no known word, does not change the state of the target.
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
    said,
)
from portfwd.upstreams.health import Verdict

#: Maximum bytes of the line. HAProxy's buffer is larger; the words need less.
MAX_LINE: Final = 4096
_UP: Final = frozenset({"up", "ready"})
_DOWN: Final = frozenset({"down", "failed", "fail", "stopped", "maint"})
_SHARE = re.compile(r"([0-9]{1,3})%", re.ASCII)


@frozen
class AgentCheck(Check):
    """
    Asks an agent on the target's machine, which answers `up`, `down`, `drain` or a share such as `50%`.

    Set `port=` to the port of the agent. If the agent cannot be reached, or its answer has none of these
    words, the state of the target does not change.
    """

    carrier: ClassVar[CheckCarrier] = CheckCarrier.PLAIN
    at_once: ClassVar[bool] = True
    silent: ClassVar[bool] = True
    max_answer: ClassVar[int] = MAX_LINE

    def begin(self, subject: Subject) -> CheckConversation:
        """See `Check`."""
        return AgentConversation()


class AgentConversation(CheckConversation):
    """Reads one line."""

    def __init__(self) -> None:
        self._line = b""

    def opened(self) -> CheckReply:
        """The agent sends first."""
        return WAIT

    def received(self, data: bytes) -> CheckReply:
        """Wait for the end of the line."""
        self._line += data
        if b"\n" in self._line:
            return judge(self._line.partition(b"\n")[0])
        return WAIT

    def exceeded(self, limit: int) -> CheckReply:
        """The line has no end, so there is no result."""
        return CheckReply(silent=True, cause=f"no line within {limit} bytes")

    def ended(self) -> CheckReply:
        """The line may end with the connection."""
        return judge(self._line)


def judge(line: bytes) -> CheckReply:
    """Judge the line of an agent; without a known word there is no verdict."""
    words, _, _text = line.decode("utf-8", "replace").partition("#")
    found = words.lower().replace(",", " ").split()
    share = next((match[1] for word in found if (match := _SHARE.fullmatch(word))), None)
    states = [word for word in found if word in _UP or word in _DOWN or word == "drain"]
    cause = said(line)
    if not states and share is None:
        return CheckReply(silent=True, cause=f"no known word in the answer '{cause}'")
    # If there are several words, one that means down has precedence.
    if any(word in _DOWN for word in states):
        return CheckReply(verdict=Verdict(False, cause))
    part = None if share is None else min(100, int(share)) / 100
    return CheckReply(verdict=Verdict(True, cause, drain="drain" in states, share=part))
