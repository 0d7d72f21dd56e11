# -*- test-case-name: tests.wire.test_smtp -*-
"""SMTP (RFC 5321): commands, where a server's reply ends, and the extensions that it offers."""

from __future__ import annotations

from typing import Final

#: Commands that RFC 3207 section 4 permits without TLS, besides ``STARTTLS``.
BEFORE_TLS: Final = (b"EHLO", b"HELO", b"NOOP", b"RSET", b"QUIT")


def verb_of(line: bytes) -> bytes:
    """The command of a line, in large letters."""
    return line.strip().partition(b" ")[0].upper()


def split_reply(data: bytes) -> tuple[bytes, bytes] | None:
    """The first reply of `data`, all of its lines, and what is behind it; None while it is not complete."""
    end = 0
    while (line_end := data.find(b"\n", end) + 1) > 0:
        last, end = data[end + 3 : end + 4] != b"-", line_end
        if last:
            return data[:end], data[end:]
    return None


def with_extension(reply: bytes, *, offered: bool) -> bytes:
    """An answer to ``EHLO`` that offers ``STARTTLS``, or does not."""
    texts = [line[4:] for line in reply.splitlines()]
    kept = [text for text in texts if text.strip().upper() != b"STARTTLS"] + [b"STARTTLS"] * offered
    marks = [b"-"] * (len(kept) - 1) + [b" "]
    return b"".join(reply[:3] + mark + text + b"\r\n" for mark, text in zip(marks, kept, strict=True))
