# -*- test-case-name: tests.upstreams.checks.test_http -*-
"""The check ``http``: sends a request and checks the status, and optionally a text, of the response."""

from __future__ import annotations

import re
from typing import Final

from attrs import frozen

from portfwd.filters.options import OptionKind, data, option, text, words
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

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])(?: ([^\r\n]*))?\r?\n")
_PATTERN = re.compile(r"[1-5](?:xx|[0-9][0-9])", re.ASCII)
_BAD = re.compile(r"[\x00-\x20\x7f]")


def statuses(value: str) -> tuple[str, ...]:
    """
    Read ``200,204`` or ``2xx,3xx``.

    :raises ValueError: it is neither.
    """
    found = tuple(words.read(value))
    for one in found:
        if not _PATTERN.fullmatch(one):
            raise ValueError("expected a status such as 200, or 2xx")
    return found


def _without_blanks(value: str) -> str:
    read = text.read(value)
    if _BAD.search(read):
        raise ValueError("blanks and control characters cannot stand here")
    return read


_PLAIN: Final = OptionKind("text", _without_blanks, str)


@frozen
class HTTPCheck(Check):
    """
    Requests a path by HTTP, and passes if the status of the response is one of the expected ones.

    With `expect`, the first 64 KiB of the response must also contain a text.
    """

    path: str = option(_PLAIN, default="/", help="The requested path.", example="/health")
    status: tuple[str, ...] = option(
        OptionKind("statuses", statuses, ",".join, "200,2xx"),
        default=("2xx", "3xx"),
        help="Statuses that pass, such as `200` or `2xx,304`.",
    )
    host: str = option(_PLAIN, default="", help="The `Host` of the request; by default the target's host.")
    expect: bytes = option(data, default=b"", help="A text that the response must contain.")

    def begin(self, subject: Subject) -> CheckConversation:
        """See `Check`."""
        return HTTPConversation(self, subject)


class HTTPConversation(CheckConversation):
    """One request."""

    def __init__(self, options: HTTPCheck, subject: Subject) -> None:
        self._options = options
        host = f"[{subject.host}]" if ":" in subject.host else subject.host
        self._host = options.host or host or "localhost"
        self._answer = bytearray()
        self._status = b""

    def opened(self) -> CheckReply:
        """Send the request by HTTP/1.0, so the response is not chunked and the server closes after it."""
        lines = (
            f"GET {self._options.path} HTTP/1.0",
            f"Host: {self._host}",
            "User-Agent: portfwd-check",
            "Connection: close",
        )
        return CheckReply("".join(f"{line}\r\n" for line in (*lines, "")).encode())

    def received(self, data: bytes) -> CheckReply:
        """Check the status line, then search for the text."""
        # The text may begin in the bytes before these.
        start = max(0, len(self._answer) - len(self._options.expect))
        self._answer += data
        if not self._status:
            match = _STATUS_LINE.match(self._answer)
            if match is None:
                return self._no_http() if b"\n" in data else WAIT
            start, self._status = 0, bytes(match[1])
            if not self._is_expected(self._status.decode()):
                return failed(f"status {said(bytes(match[1]) + b' ' + bytes(match[2] or b''))}")
        if self._answer.find(self._options.expect, start) >= 0:
            return passed(f"status {self._status.decode()}")
        return WAIT

    def _is_expected(self, status: str) -> bool:
        return any(status == one or one[0] + "xx" == one == status[0] + "xx" for one in self._options.status)

    def _no_http(self) -> CheckReply:
        return failed(f"no answer of HTTP/1: {said(self._answer)}")

    def _missing(self) -> CheckReply:
        return failed(f"'{said(self._options.expect)}' is not in the answer")

    def ended(self) -> CheckReply:
        """The response is complete and does not contain the text."""
        return self._missing() if self._status else super().ended()

    def exceeded(self, limit: int) -> CheckReply:
        """The beginning of the response does not contain the text."""
        return self._missing() if self._status else self._no_http()
