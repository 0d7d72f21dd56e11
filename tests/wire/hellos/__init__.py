"""
ClientHellos as programs sent them, and messages that are made of one.

Each file holds what one program sent for the name ``www.example.com``, in hexadecimal digits. No test
depends on the TLS library of the machine, whose message grows with each version.
"""

from __future__ import annotations

from functools import cache
from itertools import chain
from pathlib import Path

#: Program and version -> the first bytes that it sent, one record.
HELLOS = {
    path.stem: bytes.fromhex(path.read_text("ascii"))
    for path in sorted(Path(__file__).resolve().parent.glob("*.hex"))
}

_SERVER_NAME, _ALPN = 0, 16
_MAX_RECORD = 2**14


@cache
def openssl(name: str | None = "www.example.com", alpn: tuple[str, ...] = ()) -> bytes:
    """
    What OpenSSL 3.5 sends for another name and other protocols.

    :param name: None for no name.
    """
    message = HELLOS["openssl-3.5"][9:]
    rest = 34 + 1 + message[34]  # version, random, session id
    rest += 2 + int.from_bytes(message[rest : rest + 2], "big")  # cipher suites
    rest += 1 + message[rest]  # compression methods
    head, extensions = message[:rest], message[rest + 2 :]
    kept = []
    while extensions:
        end = 4 + int.from_bytes(extensions[2:4], "big")
        if int.from_bytes(extensions[:2], "big") not in (_SERVER_NAME, _ALPN):
            kept.append(extensions[:end])
        extensions = extensions[end:]
    if name is not None:
        kept.insert(0, _extension(_SERVER_NAME, _sized(2, b"\0" + _sized(2, name.encode("ascii")))))
    if alpn:
        kept.append(_extension(_ALPN, _sized(2, b"".join(_sized(1, one.encode("ascii")) for one in alpn))))
    handshake = b"\x01" + _sized(3, head + _sized(2, b"".join(kept)))
    starts = range(0, len(handshake), _MAX_RECORD)
    return b"".join(
        chain.from_iterable(
            (b"\x16\x03\x01", _sized(2, handshake[start : start + _MAX_RECORD])) for start in starts
        )
    )


def _extension(kind: int, content: bytes) -> bytes:
    return kind.to_bytes(2, "big") + _sized(2, content)


def _sized(size: int, content: bytes) -> bytes:
    return len(content).to_bytes(size, "big") + content
