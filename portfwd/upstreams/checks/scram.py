# -*- test-case-name: tests.upstreams.checks.test_scram -*-
"""The client side of SCRAM-SHA-256 (RFC 5802, RFC 7677) without channel binding."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from functools import lru_cache
from typing import Final

#: Maximum iterations that a server may request, because the computation blocks the reactor. PostgreSQL's
#: default is 4096.
MAX_ITERATIONS: Final = 20_000


class ScramError(ValueError):
    """The server's message is invalid, or the server does not know the password."""


@lru_cache(maxsize=64)
def _salted(password: str, salt: bytes, iterations: int) -> bytes:
    # Cached, because the result is the same for every check until the password is changed.
    return hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.new(key, message, hashlib.sha256).digest()


class Scram:
    """One exchange. The user name is empty, because PostgreSQL uses the name in the start-up message."""

    def __init__(self, password: str, nonce: str) -> None:
        self._password = password
        self._nonce = nonce
        self._bare = f"n=,r={nonce}"
        self._signature = b""

    def first(self) -> bytes:
        """Build the client's first message."""
        return f"n,,{self._bare}".encode()

    def final(self, server_first: bytes) -> bytes:
        """
        Build the client's last message.

        :raises ScramError: `server_first` is invalid, or not the first one. Each costs a computation.
        """
        if self._signature:
            raise ScramError("the server's message of SCRAM is wrong")
        try:
            parts = dict(part.split("=", 1) for part in server_first.decode("ascii").split(","))
            nonce, salt, iterations = parts["r"], base64.b64decode(parts["s"]), int(parts["i"])
        except (ValueError, KeyError, binascii.Error):
            raise ScramError("the server's message of SCRAM is wrong") from None
        if not nonce.startswith(self._nonce) or not 0 < iterations <= MAX_ITERATIONS:
            raise ScramError("the server's message of SCRAM is wrong")
        without_proof = f"c=biws,r={nonce}"
        message = f"{self._bare},{server_first.decode('ascii')},{without_proof}".encode()
        salted = _salted(self._password, salt, iterations)
        client_key = _hmac(salted, b"Client Key")
        signature = _hmac(hashlib.sha256(client_key).digest(), message)
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        self._signature = _hmac(_hmac(salted, b"Server Key"), message)
        return f"{without_proof},p={base64.b64encode(proof).decode()}".encode()

    def verify(self, server_final: bytes) -> None:
        """
        Verify the server's last message.

        :raises ScramError: the server does not know the password.
        """
        if server_final.split(b",")[0] != b"v=" + base64.b64encode(self._signature):
            raise ScramError("the server does not know the password")
