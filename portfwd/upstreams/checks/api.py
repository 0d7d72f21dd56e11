# -*- test-case-name: tests.upstreams.checks.test_api -*-
"""
The interface of checks for plug-ins.

A check is an attrs class of options (`portfwd.filters.options.option`), derived from `Check`. For each check
of a target, `Check.begin` makes a `CheckConversation`. Its methods are called for each event and return a
`CheckReply`: bytes to send, or the verdict that ends the check. The caller connects, performs TLS, enforces
the limits of time and bytes, and closes. A conversation does no I/O and has no clock, so its tests need
neither.

::

    @frozen
    class Greeting(Check):
        \"\"\"The server sends a greeting.\"\"\"

        expect: bytes = option(data, positional=True, help="The expected greeting.")

        def begin(self, subject: Subject) -> CheckConversation:
            return GreetingConversation(self.expect)
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import ClassVar, Final

from attrs import frozen

from portfwd.upstreams.health import Verdict

#: The version of this interface. A check for another version is refused.
API_VERSION: Final = 1
#: Maximum bytes that a target may send to one check, by default: an HTTP response with its head, or a login.
MAX_ANSWER: Final = 65536
#: Maximum characters of a server's answer in a cause.
MAX_SAID: Final = 80


class CheckCarrier(enum.Enum):
    """How a check reaches the target."""

    STREAM = "stream"  #: as sessions do: by TCP or a unix socket, with TLS for a ``tls:`` target
    PLAIN = "plain"  #: by TCP without TLS
    TLS = "tls"  #: by TLS, also if the target is not a ``tls:`` target
    DATAGRAM = "datagram"  #: by UDP
    COMMAND = "command"  #: by running a program, see `Check.arguments`


@frozen
class Subject:
    """
    The target of a check.

    :ivar label: its name in messages.
    :ivar host: its host name or address; empty for a unix socket.
    :ivar port: its port; 0 for a unix socket.
    :ivar token: random hexadecimal digits, new for each check.
    """

    label: str
    host: str = ""
    port: int = 0
    token: str = "0" * 24


@frozen
class CheckReply:
    """
    The next step of a conversation.

    :ivar send: bytes to send. With a verdict they are sent before the connection is closed.
    :ivar verdict: the result, which ends the check. None: the check continues.
    :ivar silent: end the check without a result; the state of the target is kept.
    :ivar cause: with `silent`, why there is no result, for ``portfwd targets`` and the log.
    """

    send: bytes = b""
    verdict: Verdict | None = None
    silent: bool = False
    cause: str = "the answer does not decide"


#: Send nothing, and wait for more bytes.
WAIT: Final = CheckReply()


def passed(cause: str, send: bytes = b"") -> CheckReply:
    """End the check: the target is fit, for the reason `cause`."""
    return CheckReply(send, Verdict(True, cause))


def failed(cause: str, send: bytes = b"") -> CheckReply:
    """End the check: the target is not fit, for the reason `cause`."""
    return CheckReply(send, Verdict(False, cause))


def said(data: bytes | bytearray) -> str:
    """Make printable text of a server's bytes, to be part of a cause."""
    text = data[:MAX_SAID].decode("utf-8", "replace").strip()
    return "".join(one if one.isprintable() else "?" for one in text)


class CheckConversation:
    """One check of one target. By default it passes when the target is connected."""

    def opened(self) -> CheckReply:
        """The target is connected, and a TLS handshake is complete if there is one."""
        return passed("connected")

    def received(self, data: bytes) -> CheckReply:
        """The target sent `data`: any part of a stream, or one whole datagram."""
        return WAIT

    def ended(self) -> CheckReply:
        """The target closed the connection; the check is over after this."""
        return failed("the connection was closed before there was an answer")

    def exceeded(self, limit: int) -> CheckReply:
        """The target sent more than `limit` bytes without a verdict; the check is over after this."""
        return failed(f"there is no verdict after {limit} bytes of the answer")


class Check:
    """
    The base class of checks. Its instances hold the options of a ``check`` clause.

    The first paragraph of a subclass's docstring is its help text.

    :cvar api_version: the `API_VERSION` for which it was written.
    :cvar carrier: how the check reaches the target.
    :cvar only_connects: whether it passes when the target is connected.
    :cvar at_once: whether one verdict counts, without regard to ``rise=`` and ``fall=``.
    :cvar silent: whether a target that cannot be reached, or does not answer, gives no verdict.
    :cvar max_answer: maximum bytes that the target may send, in all datagrams or by the stream. The caller
        ends a check that has no verdict then.
    """

    api_version: ClassVar[int] = API_VERSION
    carrier: ClassVar[CheckCarrier] = CheckCarrier.STREAM
    only_connects: ClassVar[bool] = False
    at_once: ClassVar[bool] = False
    silent: ClassVar[bool] = False
    max_answer: ClassVar[int] = MAX_ANSWER

    def begin(self, subject: Subject) -> CheckConversation:
        """Begin one check of `subject`."""
        return CheckConversation()

    def arguments(self, subject: Subject) -> Sequence[str]:
        """Return the program to run and its arguments, for `CheckCarrier.COMMAND`."""
        raise NotImplementedError

    def exited(self, status: int | None, output: bytes) -> Verdict:
        """
        Judge the end of the program.

        :param status: its exit status; None: a signal ended it.
        :param output: the first bytes of its standard output.
        """
        raise NotImplementedError
