# -*- test-case-name: tests.upstreams.checks.test_api -*-
"""
The contract of checks: what a plug-in is, and how one check of one target goes.

A check is an attrs class of options (`portfwd.filters.options.option`), derived from `Check`. For each check
of a target its `Check.begin` makes a `CheckConversation`, which is told what happens and answers with a
`CheckReply`: bytes to send, or the verdict that ends the check. Connecting, TLS, time limits and closing are
the caller's; a conversation does no I/O and knows no time, so that its tests need neither.

::

    @frozen
    class Greeting(Check):
        \"\"\"The server speaks first.\"\"\"

        expect: bytes = option(data, positional=True, help="What it says.")

        def begin(self, subject: Subject) -> CheckConversation:
            return GreetingConversation(self.expect)
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import ClassVar, Final

from attrs import frozen

from portfwd.upstreams.health import Verdict

#: Version of this contract; a plug-in for another one is refused.
API_VERSION: Final = 1
#: Bytes of an answer that a check looks at; a server that sends more than that without an answer fails.
MAX_ANSWER: Final = 65536
#: Characters of what a server says that stand in a cause.
MAX_SAID: Final = 80


class CheckCarrier(enum.Enum):
    """What carries a check."""

    STREAM = "stream"  #: as sessions reach the target: TCP or a unix socket, with TLS for a ``tls:`` target
    PLAIN = "plain"  #: TCP without TLS, whatever the target speaks
    TLS = "tls"  #: TLS, also where the target is passed on by TCP
    DATAGRAM = "datagram"  #: UDP
    COMMAND = "command"  #: a program, see `Check.arguments`


@frozen
class Subject:
    """
    What is checked.

    :ivar label: the target as messages name it.
    :ivar host: its name or address; empty for a unix socket.
    :ivar port: 0 for a unix socket.
    :ivar token: hexadecimal digits that are new for each check.
    """

    label: str
    host: str = ""
    port: int = 0
    token: str = "0" * 24


@frozen
class CheckReply:
    """
    What is done next.

    :ivar send: bytes to send, before the check ends if there is a verdict.
    :ivar verdict: the check is over; None: it goes on.
    :ivar silent: the check is over, and says nothing.
    """

    send: bytes = b""
    verdict: Verdict | None = None
    silent: bool = False


#: Nothing is sent, and the check goes on.
WAIT: Final = CheckReply()


def passed(cause: str, send: bytes = b"") -> CheckReply:
    """The target is fit, because of `cause`."""
    return CheckReply(send, Verdict(True, cause))


def failed(cause: str, send: bytes = b"") -> CheckReply:
    """The target is not fit, because of `cause`."""
    return CheckReply(send, Verdict(False, cause))


def said(data: bytes) -> str:
    """Bytes of a server as they may stand in a cause."""
    text = data[:MAX_SAID].decode("utf-8", "replace").strip()
    return "".join(one if one.isprintable() else "?" for one in text)


class CheckConversation:
    """One check of one target. By default it passes as soon as the target is connected."""

    def opened(self) -> CheckReply:
        """The target is connected, with TLS where there is any."""
        return passed("connected")

    def received(self, data: bytes) -> CheckReply:
        """The target sent `data`: of a stream any piece, of datagrams a whole one."""
        return WAIT

    def ended(self) -> CheckReply:
        """The target closed the connection; the check is over after this."""
        return failed("the connection was closed before there was an answer")


class Check:
    """
    The options of a check, read from a ``check`` clause; the docstring's first paragraph is its help.

    :cvar carrier: what carries it.
    :cvar only_connects: it passes as soon as the target is connected.
    :cvar at_once: one verdict counts, whatever ``rise=`` and ``fall=`` say.
    :cvar silent: that the target cannot be reached, or does not answer, is no verdict.
    """

    api_version: ClassVar[int] = API_VERSION
    carrier: ClassVar[CheckCarrier] = CheckCarrier.STREAM
    only_connects: ClassVar[bool] = False
    at_once: ClassVar[bool] = False
    silent: ClassVar[bool] = False

    def begin(self, subject: Subject) -> CheckConversation:
        """Begin one check of `subject`."""
        return CheckConversation()

    def arguments(self, subject: Subject) -> Sequence[str]:
        """The program to run and its arguments, with `CheckCarrier.COMMAND`."""
        raise NotImplementedError

    def exited(self, status: int | None, output: bytes) -> Verdict:
        """
        Judge how the program ended.

        :param status: of its exit; None: a signal ended it.
        :param output: the first bytes that it wrote to its standard output.
        """
        raise NotImplementedError
