# -*- test-case-name: tests.upstreams.checks.test_mysql -*-
"""
The check ``mysql``: waits for the greeting of the server, and logs in without a password.

MySQL's internals manual, "Connection Phase": a packet has a length of three bytes, a number and the payload.
"""

from __future__ import annotations

from typing import Final

from attrs import frozen

from portfwd.filters.options import option, text
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

#: CLIENT_LONG_PASSWORD, CLIENT_PROTOCOL_41, CLIENT_SECURE_CONNECTION and CLIENT_PLUGIN_AUTH.
CAPABILITIES: Final = 0x00000001 | 0x00000200 | 0x00008000 | 0x00080000
#: utf8mb4_general_ci, which every version since 5.5.3 has.
CHARSET: Final = 45
#: The user name without `user=`; the server is expected to deny it.
NOBODY: Final = "portfwd-check"
#: Errors by which a working server denies a login: ER_ACCESS_DENIED_ERROR, ER_NOT_SUPPORTED_AUTH_MODE,
#: ER_ACCESS_DENIED_NO_PASSWORD_ERROR and ER_SECURE_TRANSPORT_REQUIRED.
DENIED: Final = frozenset({1045, 1251, 1698, 3159})
#: Bytes before the payload of a packet: its length (three bytes) and its number.
HEADER: Final = 4
#: Maximum packets of the server in one login. A login has at most five: the greeting, a change of the method,
#: two packets of that method, and the result.
MAX_PACKETS: Final = 16
#: COM_QUIT.
QUIT: Final = b"\x01\x00\x00\x00\x01"


@frozen
class MySQLCheck(Check):
    """
    Waits for the greeting of a MySQL or MariaDB server, and for its answer to a login.

    With `user`, that user must exist, have no password, and needs no rights. Without it, the check logs in as
    a user that does not exist, and passes if the server denies the login.
    """

    user: str = option(text, default="", help="User to log in as, without a password.")

    def begin(self, subject: Subject) -> CheckConversation:
        """See `Check`."""
        return MySQLConversation(self.user)


def packet(number: int, payload: bytes) -> bytes:
    """Build one packet."""
    return len(payload).to_bytes(3, "little") + bytes([number & 0xFF]) + payload


class MySQLConversation(CheckConversation):
    """The greeting, then the login."""

    def __init__(self, user: str) -> None:
        self._user = user
        self._buffer = bytearray()
        self._version = ""
        self._packets = 0

    def opened(self) -> CheckReply:
        """The server sends first."""
        return WAIT

    def received(self, data: bytes) -> CheckReply:
        """Read the complete packets."""
        self._buffer += data
        start, send = 0, b""
        while len(self._buffer) - start >= HEADER:
            size = int.from_bytes(self._buffer[start : start + 3], "little")
            if size > MAX_ANSWER or not size:
                return failed("no greeting of MySQL")
            end = start + HEADER + size
            if len(self._buffer) < end:
                break
            self._packets += 1
            if self._packets > MAX_PACKETS:
                return failed("it sends more packets than a login has")
            reply = self._packet(bytes(self._buffer[start + HEADER : end]), self._buffer[start + 3])
            send += reply.send
            if reply.verdict is not None:
                return CheckReply(send, reply.verdict)
            start = end
        del self._buffer[:start]
        return CheckReply(send)

    def _packet(self, payload: bytes, number: int) -> CheckReply:
        if payload[0] == 0xFF:
            code = int.from_bytes(payload[1:3], "little")
            if self._version and not self._user and code in DENIED:
                return passed(f"version {self._version}")
            return failed(_error(payload))
        return self._logged_in(payload, number) if self._version else self._greeted(payload, number)

    def _greeted(self, payload: bytes, number: int) -> CheckReply:
        if payload[0] != 10:
            return failed(f"protocol {payload[0]} and not 10")
        self._version = said(payload[1:].partition(b"\0")[0]) or "?"
        # Log in also without `user`: a server blocks an address, and all sessions from it, after
        # `max_connect_errors` interrupted handshakes. Denied logins are not counted.
        login = (
            CAPABILITIES.to_bytes(4, "little")
            + (1 << 24).to_bytes(4, "little")
            + bytes([CHARSET])
            + bytes(23)
            + (self._user or NOBODY).encode()
            + b"\0"
            + b"\0"  # an empty answer to the challenge
            + b"mysql_native_password\0"
        )
        return CheckReply(packet(number + 1, login))

    def _logged_in(self, payload: bytes, number: int) -> CheckReply:
        if payload[0] == 0x00:
            who = f", {self._user} is logged in" if self._user else ""
            return passed(f"version {self._version}{who}", QUIT)
        if payload[0] == 0xFE:  # another authentication method: an empty password is empty in all of them
            return CheckReply(packet(number + 1, b""))
        if payload[0] == 0x01:  # caching_sha2_password: the empty password is accepted; OK follows
            return WAIT
        return failed("an invalid answer to the login")


def _error(payload: bytes) -> str:
    """Return the text of an ERR packet: two bytes of code, ``#`` and five bytes of state, then the text."""
    text = payload[3:]
    return said(text[6:] if text.startswith(b"#") else text) or "the server refuses"
