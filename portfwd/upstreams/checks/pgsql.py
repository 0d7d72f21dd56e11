# -*- test-case-name: tests.upstreams.checks.test_pgsql -*-
"""
The check ``pgsql``: whether a PostgreSQL server accepts connections, and whether it is the primary.

PostgreSQL's manual, chapter "Frontend/Backend Protocol", version 3.0. Since version 14 a server reports after
the login whether it is in hot standby; an older one is asked by a query.
"""

from __future__ import annotations

import hashlib
from typing import Final

from attrs import frozen

from portfwd.filters.options import FileText, choice, file_text, option, text
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
from portfwd.upstreams.checks.scram import Scram, ScramError

PROTOCOL: Final = 196608
#: Maximum messages of the server in one check: a login with its parameters and notices has about 20.
MAX_MESSAGES: Final = 256
#: Maximum requests for authentication in one login. SASL has four: the methods, the challenge, the signature,
#: and OK.
MAX_REQUESTS: Final = 4
#: Bytes before the payload of a message: its kind and its length (four bytes).
HEADER: Final = 5
TERMINATE: Final = b"X\0\0\0\4"
QUESTION: Final = b"SELECT pg_is_in_recovery()\0"


@frozen
class PgSQLCheck(Check):
    """
    Asks a PostgreSQL server whether it accepts connections, and whether it is the primary or a replica.

    To learn the role it logs in; the user needs no rights. The supported methods are `trust`, a password in
    clear text, MD5 and SCRAM-SHA-256.
    """

    role: str = option(choice("any", "primary", "replica"), default="any", help="The required role.")
    user: str = option(text, default="portfwd", help="User to log in as.", example="probe")
    database: str = option(text, default="postgres", help="Database to log in to.")
    password_file: FileText | None = option(
        file_text, default=None, help="A file with the user's password in its first line."
    )

    def begin(self, subject: Subject) -> CheckConversation:
        """See `Check`."""
        return PgSQLConversation(self, subject.token)


def message(kind: bytes, payload: bytes) -> bytes:
    """Build one message."""
    return kind + (len(payload) + 4).to_bytes(4, "big") + payload


class PgSQLConversation(CheckConversation):
    """The login, and a query for the role if the server does not report it."""

    def __init__(self, options: PgSQLCheck, nonce: str) -> None:
        self._options = options
        lines = options.password_file.text.splitlines() if options.password_file is not None else []
        self._password = lines[0] if lines else ""
        self._scram = Scram(self._password, nonce)
        self._buffer = bytearray()
        self._messages = self._requests = 0
        self._is_replica: bool | None = None
        self._asked = False

    def opened(self) -> CheckReply:
        """Send the start-up message."""
        words = (
            "user",
            self._options.user,
            "database",
            self._options.database,
            "application_name",
            "portfwd",
        )
        payload = PROTOCOL.to_bytes(4, "big") + b"".join(word.encode() + b"\0" for word in words) + b"\0"
        return CheckReply(message(b"", payload))

    def received(self, data: bytes) -> CheckReply:
        """Read the complete messages."""
        self._buffer += data
        start, send = 0, b""
        while len(self._buffer) - start >= HEADER:
            size = int.from_bytes(self._buffer[start + 1 : start + HEADER], "big")
            if not 4 <= size <= MAX_ANSWER:
                return failed("no answer of PostgreSQL")
            end = start + 1 + size
            if len(self._buffer) < end:
                break
            self._messages += 1
            if self._messages > MAX_MESSAGES:
                return failed("it sends more messages than a login has")
            kind, payload = self._buffer[start : start + 1], bytes(self._buffer[start + HEADER : end])
            start = end
            try:
                reply = self._message(bytes(kind), payload)
            except ScramError as error:
                reply = failed(str(error))
            send += reply.send
            if reply.verdict is not None:
                return CheckReply(send, reply.verdict)
        del self._buffer[:start]
        return CheckReply(send)

    def _message(self, kind: bytes, payload: bytes) -> CheckReply:
        if kind == b"E":
            return failed(_error(payload))
        if kind == b"R":
            return self._authenticate(int.from_bytes(payload[:4], "big"), payload[4:])
        if kind == b"S" and payload.startswith(b"in_hot_standby\0"):
            self._is_replica = payload.split(b"\0")[1] == b"on"
        elif kind == b"D":
            # One column: the number of columns (two bytes), its length (four bytes), and t or f.
            self._is_replica = payload[6:7] == b"t"
        elif kind == b"Z":
            return self._ready()
        return WAIT

    def _ready(self) -> CheckReply:
        if self._is_replica is None:
            if self._asked:
                return failed("it does not say its role", TERMINATE)
            self._asked = True
            return CheckReply(message(b"Q", QUESTION))
        role = "replica" if self._is_replica else "primary"
        if role == self._options.role:
            return passed(f"it is the {role}" if role == "primary" else "it is a replica", TERMINATE)
        return failed(f"it is a {role}" if role == "replica" else "it is the primary", TERMINATE)

    def _authenticate(self, how: int, rest: bytes) -> CheckReply:
        if self._options.role == "any":
            return passed("it accepts connections", TERMINATE if how == 0 else b"")
        self._requests += 1
        if self._requests > MAX_REQUESTS:
            return failed("it asks more often than a login does")
        if how in (0, 12):
            if how == 12:
                self._scram.verify(rest)
            return WAIT
        if not self._password:
            return failed(f"it wants a password of {self._options.user}, and there is no password-file=")
        if how == 3:
            return CheckReply(message(b"p", self._password.encode() + b"\0"))
        if how == 5:
            inner = _md5((self._password + self._options.user).encode())
            return CheckReply(message(b"p", b"md5" + _md5(inner + rest[:4]) + b"\0"))
        if how == 10 and b"SCRAM-SHA-256" in rest.split(b"\0"):
            first = self._scram.first()
            return CheckReply(message(b"p", b"SCRAM-SHA-256\0" + len(first).to_bytes(4, "big") + first))
        if how == 11:
            return CheckReply(message(b"p", self._scram.final(rest)))
        return failed("it wants a way to log in that is not understood")


def _md5(value: bytes) -> bytes:
    return hashlib.md5(value, usedforsecurity=False).hexdigest().encode()


def _error(payload: bytes) -> str:
    """Return the text of an ErrorResponse. A field is a letter and a text; M is the message."""
    fields = {field[:1]: field[1:] for field in payload.split(b"\0") if field}
    return said(fields.get(b"M", b"")) or "it refuses"
