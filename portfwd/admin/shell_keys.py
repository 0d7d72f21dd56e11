# -*- test-case-name: tests.admin.test_shell_keys -*-
"""
The keys of a manhole: whom it lets in, and what it shows itself by.

It refuses keys that are too weak, and lines with options: it could not obey these.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final, cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.conch.ssh.keys import BadKeyError, EncryptedKeyError, Key

from portfwd.admin.tight_files import LooseFile, check_directories, read_tight

#: NIST SP 800-57 part 1, table 2: 112 bits of security, which is also OpenSSH's least for new keys.
MIN_RSA: Final = 2048


def read_client_keys(path: str) -> Sequence[Key]:
    """
    The public keys of a file, one a line, as ``authorized_keys`` (sshd(8)) has them, without options.

    :raises LooseFile: others could have written it; a line is no good key; there is none.
    :raises OSError: it cannot be read.
    """
    keys = []
    for number, line in enumerate(read_tight(path).splitlines(), 1):
        text = line.strip()
        if not text or text.startswith(b"#"):
            continue
        keys.append(_client_key(text, f"{path}:{number}"))
    if not keys:
        raise LooseFile(f"{path} has no key: nobody could log in")
    return tuple(keys)


def _client_key(line: bytes, where: str) -> Key:
    try:
        key = Key.fromString(line)
        is_public = key.isPublic()
    except Exception as problem:
        # Whatever a damaged line makes of itself: BadKeyError, binascii.Error, struct.error and others.
        raise LooseFile(
            f"{where}: this is no public key, or it has options, which are not obeyed here"
        ) from problem
    if not is_public:
        raise LooseFile(f"{where}: this is a private key; only the public half belongs here")
    if key.type() == "DSA" or (key.type() == "RSA" and key.size() < MIN_RSA):
        raise LooseFile(f"{where}: this key is too weak: make another with 'ssh-keygen -t ed25519'")
    return cast(Key, key)


def new_host_key() -> Key:
    """A key that nobody has had before (RFC 8709)."""
    return Key(Ed25519PrivateKey.generate())


def read_host_key(path: str) -> Key:
    """
    The server's own key; made, and kept in `path`, if there is none.

    :raises LooseFile: others could read it, or it is no private key without a password.
    :raises OSError: it can be neither read nor made.
    """
    try:
        data = read_tight(path, secret=True)
    except FileNotFoundError:
        return _make_host_key(path)
    try:
        key = Key.fromString(data)
    except EncryptedKeyError:
        raise LooseFile(f"{path} has a password, and nobody is there to type it") from None
    except (BadKeyError, ValueError, IndexError, TypeError) as problem:
        raise LooseFile(f"{path} is no private key") from problem
    if key.isPublic():
        raise LooseFile(f"{path} is a public key; the private half belongs here")
    return cast(Key, key)


def _make_host_key(path: str) -> Key:
    check_directories(path)
    key = new_host_key()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as file:
        file.write(key.toString("OPENSSH"))
    return key


def public_line(key: Key) -> str:
    """The public half as ``known_hosts`` has it: kind and base64."""
    return str(key.public().toString("OPENSSH").decode("ascii").strip())
