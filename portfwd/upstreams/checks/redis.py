# -*- test-case-name: tests.upstreams.checks.test_redis -*-
"""The check ``redis``: sends ``PING``, or ``ROLE`` to check the role of the server (RESP 2)."""

from __future__ import annotations

from typing import Final

from attrs import frozen

from portfwd.filters.options import FileText, choice, file_text, option, text
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

#: Lines of the answer to ``ROLE`` that are examined: the eighth has the state of the link to the master.
ROLE_LINES: Final = 8


@frozen
class RedisCheck(Check):
    """
    Sends `PING` to a Redis server, or checks its role.

    With `role=master`, a replica fails. With `role=slave`, a master fails, and so does a replica that is not
    connected to its master.
    """

    role: str = option(choice("any", "master", "slave"), default="any", help="The required role.")
    user: str = option(text, default="", help="User of `AUTH`; by default Redis' default user.")
    password_file: FileText | None = option(
        file_text, default=None, help="A file with the password for `AUTH` in its first line."
    )

    def begin(self, subject: Subject) -> CheckConversation:
        """See `Check`."""
        return RedisConversation(self)


def command(*words: str) -> bytes:
    """Build a command as an array of bulk strings."""
    parts = [f"*{len(words)}\r\n".encode()]
    for word in words:
        raw = word.encode()
        parts.append(b"$%d\r\n%s\r\n" % (len(raw), raw))
    return b"".join(parts)


class RedisConversation(CheckConversation):
    """``AUTH`` if there is a password, then ``PING`` or ``ROLE``."""

    def __init__(self, options: RedisCheck) -> None:
        self._role = options.role
        self._answer = b""
        lines = options.password_file.text.splitlines() if options.password_file is not None else []
        credentials = [one for one in (options.user, lines[0] if lines else "") if one]
        self._authenticates = bool(lines)
        self._question = command("PING" if self._role == "any" else "ROLE")
        self._auth = command("AUTH", *credentials) if lines else b""

    def opened(self) -> CheckReply:
        """Send both commands at once; the answers have the same order."""
        return CheckReply(self._auth + self._question)

    def received(self, data: bytes) -> CheckReply:
        """Read the answers."""
        self._answer += data
        if self._authenticates:
            line, newline, rest = self._answer.partition(b"\r\n")
            if not newline:
                return WAIT
            if not line.startswith(b"+OK"):
                return failed(f"AUTH: {said(line)}")
            self._authenticates, self._answer = False, rest
        lines = self._answer.split(b"\r\n", ROLE_LINES)
        if len(lines) < 2:
            return WAIT
        if self._role == "any":
            return passed("PONG") if lines[0] == b"+PONG" else failed(said(lines[0]))
        if not lines[0].startswith(b"*"):
            return failed(said(lines[0]))
        return self._judge(lines[:-1])

    def _judge(self, lines: list[bytes]) -> CheckReply:
        """Judge *5, $5, slave, $9, 127.0.0.1, :6379, $9, connected, :3167038, as far as received."""
        if len(lines) < 3:
            return WAIT
        role = said(lines[2])
        if role != self._role:
            return failed(f"its role is {role}")
        if role == "slave":
            if len(lines) < ROLE_LINES:
                return WAIT
            if lines[7] != b"connected":
                return failed(f"its link to the master is {said(lines[7])}")
        return passed(f"its role is {role}")
