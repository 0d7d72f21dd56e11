# -*- test-case-name: tests.wire.test_framing -*-
"""
Datagrams in a stream: a length of two bytes precedes each message.

RFC 1035 section 4.2.2: "The message is prefixed with a two byte length field which gives the message length,
excluding the two byte length field." DNS over TCP and over TLS (RFC 7858 section 3.3) use this format. Every
length is valid, so a stream cannot violate the format.
"""

from __future__ import annotations

from typing import Final

from portfwd.values import counted

#: The largest length that two bytes can express.
MAX_MESSAGE: Final = 65535
_PREFIX: Final = 2


def frame(message: bytes) -> bytes:
    """
    Prefix `message` with its length.

    :raises ValueError: `message` is longer than `MAX_MESSAGE`.
    """
    if len(message) > MAX_MESSAGE:
        raise ValueError(f"a message of {counted(len(message), 'byte')} has no length of two bytes")
    return len(message).to_bytes(_PREFIX, "big") + message


class Unframer:
    """
    Splits a stream into messages.

    It keeps at most one incomplete message: `MAX_MESSAGE` bytes and the length field.
    """

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept = b""

    def __repr__(self) -> str:
        return f"<Unframer keeps {len(self._kept)} bytes>"

    @property
    def kept(self) -> int:
        """Bytes of the incomplete message."""
        return len(self._kept)

    def feed(self, data: bytes) -> list[bytes]:
        """Return the messages that `data` completes, in order."""
        data = self._kept + data if self._kept else data
        messages = []
        start, size = 0, len(data)
        while size - start >= _PREFIX:
            begin = start + _PREFIX
            end = begin + int.from_bytes(data[start:begin], "big")
            if end > size:
                break
            messages.append(data[begin:end])
            start = end
        self._kept = data[start:] if start else data
        return messages
