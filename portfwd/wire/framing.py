# -*- test-case-name: tests.wire.test_framing -*-
"""
Datagrams in a stream: a length of two bytes before each message.

RFC 1035 section 4.2.2: "The message is prefixed with a two byte length field which
gives the message length, excluding the two byte length field." DNS over TCP and over TLS (RFC 7858
section 3.3) are written so. It refuses nothing: every length that two bytes can say is a message's.
"""

from __future__ import annotations

from typing import Final

from portfwd.values import counted

#: What two bytes can say.
MAX_MESSAGE: Final = 65535
_PREFIX: Final = 2


def frame(message: bytes) -> bytes:
    """
    `message` with its length before it.

    :raises ValueError: it is longer than `MAX_MESSAGE`.
    """
    if len(message) > MAX_MESSAGE:
        raise ValueError(f"a message of {counted(len(message), 'byte')} has no length of two bytes")
    return len(message).to_bytes(_PREFIX, "big") + message


class Unframer:
    """
    Finds the messages in a stream.

    Never more than one unfinished message is kept: `MAX_MESSAGE` bytes and its length.
    """

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept = b""

    def __repr__(self) -> str:
        return f"<Unframer keeps {len(self._kept)} bytes>"

    @property
    def kept(self) -> int:
        """Bytes of a message that is not whole yet."""
        return len(self._kept)

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that `data` completes, in order."""
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
