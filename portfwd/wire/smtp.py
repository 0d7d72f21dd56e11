# -*- test-case-name: tests.wire.test_smtp -*-
"""SMTP (RFC 5321): the command of a line, the end of a reply, and the extensions in a reply to ``EHLO``."""

from __future__ import annotations

from typing import Final

#: Commands that RFC 3207 section 4 permits without TLS, besides ``STARTTLS``.
BEFORE_TLS: Final = (b"EHLO", b"HELO", b"NOOP", b"RSET", b"QUIT")


def verb_of(line: bytes) -> bytes:
    """Return the command of a line in upper case."""
    return line.strip().partition(b" ")[0].upper()


def split_reply(data: bytes) -> tuple[bytes, bytes] | None:
    """Split `data` after its first reply, which may have several lines; None if the reply is incomplete."""
    end = 0
    while (line_end := data.find(b"\n", end) + 1) > 0:
        last, end = data[end + 3 : end + 4] != b"-", line_end
        if last:
            return data[:end], data[end:]
    return None


def with_extension(reply: bytes, *, offered: bool) -> bytes:
    """Add ``STARTTLS`` to a reply to ``EHLO``, or remove it."""
    texts = [line[4:] for line in reply.splitlines()]
    kept = [text for text in texts if text.strip().upper() != b"STARTTLS"] + [b"STARTTLS"] * offered
    marks = [b"-"] * (len(kept) - 1) + [b" "]
    return b"".join(reply[:3] + mark + text + b"\r\n" for mark, text in zip(marks, kept, strict=True))
