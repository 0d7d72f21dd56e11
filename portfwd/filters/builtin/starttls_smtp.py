# -*- test-case-name: tests.filters.builtin.test_starttls_smtp -*-
"""
``filter starttls-smtp MODE``: TLS of SMTP, which begins after the command ``STARTTLS`` (RFC 3207).

Bytes after the command belong to TLS, also if they arrive together with it, so an attacker cannot insert
commands before the encrypted ones (CVE-2011-0411). The modes are those of
`portfwd.filters.builtin.starttls_postgres`.

With ``terminate`` the filter adds the extension ``STARTTLS`` to the upstream's reply to ``EHLO``, and removes
it after TLS has begun. With ``answer`` the filter sends the greeting and the reply to ``EHLO``, because the
upstream is not known yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from portfwd.filters.api import (
    DONE,
    NEED_MORE,
    Again,
    Close,
    Connection,
    Factory,
    Filter,
    Forward,
    Plugin,
    Reply,
    RouteClause,
    StartTLS,
    Verdict,
)
from portfwd.filters.builtin.starttls_options import StartTLSOptions
from portfwd.filters.builtin.starttls_upstream import AskingUpstream
from portfwd.values import TO_CLIENT, Direction, Side
from portfwd.wire.smtp import BEFORE_TLS, split_reply, verb_of, with_extension

READY: Final = b"220 2.0.0 ready to start TLS\r\n"
FIRST_TLS: Final = b"530 5.7.0 must issue a STARTTLS command first\r\n"
_NAME: Final = b"portfwd"


class TerminatingMail(Filter):
    """Terminates TLS of a client and forwards its commands without encryption."""

    def __init__(self, *, requires: bool) -> None:
        """:param requires: whether to refuse mail without TLS."""
        self._requires = requires
        self._due = [b""]  # commands without a reply yet; the greeting belongs to none
        self._secure = self._over = False

    def received(self, direction: Direction, data: bytes) -> Verdict:
        """See `IFilter`."""
        if self._over:
            return DONE
        return self._reply(data) if direction is TO_CLIENT else self._command(data)

    def _command(self, data: bytes) -> Verdict:
        line, newline, rest = data.partition(b"\n")
        if not newline:
            return NEED_MORE
        verb = verb_of(line)
        if verb == b"STARTTLS" and not self._secure:
            if self._due:
                return Close("STARTTLS did not wait for the answers to what came before", abort=True)
            self._secure = True
            return [Reply(READY), StartTLS(Side.CLIENT, rest=rest)]
        if verb not in BEFORE_TLS or (self._secure and verb != b"EHLO"):
            if self._requires and not self._secure:
                return (
                    [Reply(FIRST_TLS), Again(rest)]
                    if not self._due
                    else Close("commands before TLS", abort=True)
                )
            self._over = True
            return DONE
        self._due.append(verb)
        return [Forward(line + newline), Again(rest)]

    def _reply(self, data: bytes) -> Verdict:
        split = split_reply(data)
        if split is None:
            return NEED_MORE
        reply, rest = split
        if self._due and self._due.pop(0) == b"EHLO" and reply.startswith(b"250"):
            reply = with_extension(reply, offered=not self._secure)
            self._over = self._secure
        return [Forward(reply), Again(rest)]


class AnsweringMail(Filter):
    """Answers a client until it begins TLS, which is passed on."""

    def opened(self, connection: Connection) -> Verdict:
        """See `IFilter`."""
        return Reply(b"220 " + _NAME + b" ESMTP\r\n")

    def received(self, direction: Direction, data: bytes) -> Verdict:
        """See `IFilter`."""
        if direction is TO_CLIENT:
            return DONE
        line, newline, rest = data.partition(b"\n")
        if not newline:
            return NEED_MORE
        verb = verb_of(line)
        if verb == b"STARTTLS":
            return [Reply(READY), Forward(rest), DONE]
        if verb == b"QUIT":
            return Close("the client has quit", reply=b"221 2.0.0 bye\r\n")
        greeting = (
            b"250-" + _NAME + b"\r\n250 STARTTLS\r\n" if verb == b"EHLO" else b"250 2.0.0 " + _NAME + b"\r\n"
        )
        return [Reply(greeting if verb in BEFORE_TLS else FIRST_TLS), Again(rest)]


class AskingMail(AskingUpstream):
    """Requests TLS from the upstream after its greeting."""

    refusal = b"421 4.7.0 the server behind this one has no TLS\r\n"

    def __init__(self, *, originates: bool) -> None:
        """See `AskingUpstream`."""
        super().__init__(originates=originates)
        self._steps = [(b"220", b"EHLO " + _NAME + b"\r\n"), (b"250", b"STARTTLS\r\n"), (b"220", b"")]
        self._greeting = b""

    def answered(self, data: bytes) -> Verdict:
        """See `AskingUpstream`."""
        split = split_reply(data)
        if split is None:
            return NEED_MORE
        (reply, rest), (code, command) = split, self._steps.pop(0)
        self._greeting = self._greeting or reply
        if not reply.startswith(code) or (code == b"250" and b"STARTTLS" not in reply.upper()):
            return self.refuse()
        return [Reply(command), Again(rest)] if self._steps else self.agree(rest, self._greeting)


def make_factory(options: StartTLSOptions, clauses: Sequence[RouteClause]) -> Factory:
    """A factory for one clause."""
    if options.mode == "terminate":
        return options.factory(lambda: TerminatingMail(requires=options.require))
    if options.mode == "answer":
        return options.factory(AnsweringMail)
    return options.factory(lambda: AskingMail(originates=options.mode == "originate"))


PLUGIN = Plugin("starttls-smtp", "TLS that begins with SMTP's STARTTLS", StartTLSOptions, make_factory)
