# -*- test-case-name: tests.filters.builtin.test_users -*-
"""
A file of the users of a proxy with hashed passwords.

Each line is ``NAME:HASH``. Blank lines and lines that begin with ``#`` are skipped. The hash is one of::

    pbkdf2-sha256$ROUNDS$SALT$KEY
    scrypt$N$R$P$SALT$KEY

with salt and key in base64 (RFC 4648 section 4). `hash_password` makes the first kind.

Checking a password is slow on purpose, so filters use `Connection.verify`: the relay runs the check in a
thread, one at a time for each source, and delays the next one after a failure. The last correct password of
each user is cached as a fast hash that is keyed with the slow one, so a returning client costs little. A
wrong password and an unknown name take the same time.

Passwords in plain text are refused.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from functools import partial
from typing import Final

from attrs import frozen

from portfwd.filters.api import Await, Connection
from portfwd.values import printable

#: Default rounds of `hash_password`: the recommendation of OWASP's Password Storage Cheat Sheet for
#: PBKDF2-HMAC-SHA256, about 200 ms of one thread.
ROUNDS: Final = 600_000
#: Most rounds that are accepted, about half a second.
MAX_ROUNDS: Final = 2_000_000
#: Memory that scrypt may take, ``128 * N * R`` bytes: twice what RFC 7914 section 2 suggests (N=2^14, R=8).
MAX_MEMORY: Final = 32 * 1024 * 1024
#: Most lanes: those of the test vectors in RFC 7914 section 12. Each takes the same time.
MAX_LANES: Final = 16
#: RFC 8018 section 4.1: "It should be at least eight octets".
MIN_SALT: Final = 8
#: Most users of a file. For more, use a directory service.
MAX_USERS: Final = 10_000


@frozen
class Secret:
    """
    A hashed password.

    :ivar cost: rounds of PBKDF2; or N, R and P of scrypt.
    :ivar key: the expected result. The repr contains neither this nor `salt`.
    """

    cost: tuple[int, ...]
    salt: bytes
    key: bytes

    def matches(self, password: bytes) -> bool:
        """Hash `password`, which is slow, and compare."""
        if len(self.cost) == 1:
            key = hashlib.pbkdf2_hmac("sha256", password, self.salt, self.cost[0], len(self.key))
        else:
            n, r, p = self.cost
            # OpenSSL counts additional memory. The limit was checked when the line was parsed.
            key = hashlib.scrypt(
                password, salt=self.salt, n=n, r=r, p=p, dklen=len(self.key), maxmem=2 * MAX_MEMORY
            )
        return hmac.compare_digest(key, self.key)

    def __repr__(self) -> str:
        return f"<Secret: cost {self.cost}>"


class Users:
    """The users of one file."""

    __slots__ = ("_decoy", "_remembered", "_secrets")

    def __init__(self, secrets: Mapping[bytes, Secret]) -> None:
        """:param secrets: the hashed passwords by name; at least one."""
        self._secrets = dict(secrets)
        self._decoy = next(iter(self._secrets.values()))
        self._remembered: dict[bytes, bytes] = {}

    def __eq__(self, other: object) -> bool:
        """Whether these are the same users with the same hashes: a reload then keeps the factory."""
        return isinstance(other, Users) and self._secrets == other._secrets

    __hash__ = None  # type: ignore[assignment]

    def remembers(self, name: bytes, password: bytes) -> bool:
        """Whether `password` is the last one admitted for `name`. False does not mean that it is wrong."""
        secret, known = self._secrets.get(name), self._remembered.get(name)
        if secret is None or known is None:
            return False
        return hmac.compare_digest(known, hmac.digest(secret.key, password, "sha256"))

    def admits(self, name: bytes, password: bytes) -> bool:
        """Whether `password` is that of `name`, both as sent by the client. Slow; may run in any thread."""
        secret = self._secrets.get(name)
        if secret is None:
            self._decoy.matches(password)
            return False
        if self.remembers(name, password):
            return True
        if not secret.matches(password):
            return False
        self._remembered[name] = hmac.digest(secret.key, password, "sha256")
        return True

    def ask(self, connection: Connection, name: bytes, password: bytes) -> Await:
        """The verdict that checks `password` for `name`. Its result is a bool."""
        return Await(
            connection.verify(
                connection.source,
                partial(self.remembers, name, password),
                partial(self.admits, name, password),
            )
        )

    def __repr__(self) -> str:
        return f"<Users: {len(self._secrets)}>"


def read_users(text: str) -> Users:
    """
    Parse a file of users.

    :raises ValueError: a line is invalid. The message names the line without the part after its colon.
    """
    secrets: dict[bytes, Secret] = {}
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        name, colon, written = stripped.partition(":")
        try:
            if not colon or not name or printable(name) != name:
                raise ValueError("expected NAME:HASH")
            if name.encode() in secrets:
                raise ValueError(f"the user '{name}' is there twice")
            if len(secrets) == MAX_USERS:
                raise ValueError(f"a file has at most {MAX_USERS} users")
            secrets[name.encode()] = _read_secret(written)
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
    if not secrets:
        raise ValueError("there is no user in it: write a line NAME:HASH for each")
    return Users(secrets)


def _read_secret(written: str) -> Secret:
    kind, *costs, salt, key = written.split("$") if written.count("$") >= 2 else ("", "", "")
    wanted = {"pbkdf2-sha256": 1, "scrypt": 3}.get(kind)
    if wanted is None or len(costs) != wanted:
        raise ValueError("expected a hash pbkdf2-sha256$ROUNDS$SALT$KEY or scrypt$N$R$P$SALT$KEY")
    if not all(cost.isascii() and cost.isdigit() and 0 < len(cost) <= 9 for cost in costs):
        raise ValueError("the costs of a hash are whole numbers")
    secret = Secret(tuple(map(int, costs)), _read_base64(salt), _read_base64(key))
    _check_cost(secret.cost)
    if len(secret.salt) < MIN_SALT:
        raise ValueError(f"the salt of a hash has at least {MIN_SALT} bytes")
    if not 16 <= len(secret.key) <= 64:
        raise ValueError("the key of a hash has 16 to 64 bytes")
    return secret


def _check_cost(cost: tuple[int, ...]) -> None:
    if len(cost) == 1:
        if not 1000 <= cost[0] <= MAX_ROUNDS:
            raise ValueError(f"PBKDF2 has 1000 to {MAX_ROUNDS} rounds here")
        return
    n, r, p = cost
    if n < 2 or n & (n - 1) or r < 1 or not 1 <= p <= MAX_LANES or 128 * n * r > MAX_MEMORY:
        raise ValueError(
            f"scrypt has an N that is a power of 2, 128*N*R of at most {MAX_MEMORY} bytes, "
            f"and P from 1 to {MAX_LANES}"
        )


def _read_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise ValueError("salt and key of a hash are in base64") from None


def wrong_name(name: str) -> str:
    """The error of `name` as the name of a user; empty if it is valid."""
    if not name:
        return "the name is empty"
    if ":" in name:
        return f"the name '{printable(name)}' has a ':' in it, which ends the name in the file"
    if name.startswith("#"):
        return f"the name '{printable(name)}' begins with '#', which begins a comment in the file"
    if name != name.strip() or len(name.splitlines()) > 1:
        return f"the name '{printable(name)}' has a blank at an end or more than one line"
    if not name.isascii() and any("\ud800" <= letter <= "\udfff" for letter in name):
        return f"the name '{printable(name)}' is not UTF-8, which the file is"
    return ""


def hash_password(name: str, password: str, salt: bytes, rounds: int = ROUNDS) -> str:
    """
    Make a line of the file.

    :param salt: random bytes, different for each user; 16 are usual.
    :raises ValueError: `wrong_name` refuses the name, or the salt is too short.
    """
    wrong = wrong_name(name)
    if wrong:
        raise ValueError(wrong)
    key = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, rounds)
    texts = [base64.b64encode(part).decode() for part in (salt, key)]
    line = f"{name}:pbkdf2-sha256${rounds}${texts[0]}${texts[1]}"
    read_users(line)
    return line
