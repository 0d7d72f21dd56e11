# -*- test-case-name: tests.admin.test_shell_keys -*-
"""
Reads the keys of a manhole: the public keys of clients and the host key.

Weak keys are refused. Lines with options are refused, because options are not supported.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final, cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.conch.ssh.keys import BadKeyError, EncryptedKeyError, Key

from portfwd.admin.tight_files import LooseFile, check_directories, read_tight

#: Minimum bits of an RSA key. NIST SP 800-57 part 1, table 2: 112 bits of security; OpenSSH has the same
#: minimum for new keys.
MIN_RSA: Final = 2048


def read_client_keys(path: str) -> Sequence[Key]:
    """
    The public keys of a file in the format of ``authorized_keys`` (sshd(8)), without options.

    :raises LooseFile: other users can write it, a line is not an accepted key, or it contains no key.
    :raises OSError: it cannot be read.
    """
    keys = []
    for number, line in enumerate(read_tight(path).splitlines(), 1):
        text = line.strip()
        if not text or text.startswith(b"#"):
            continue
        keys.append(_client_key(text, f"{path}:{number}"))
    if not keys:
        raise LooseFile(f"{path} contains no key, so no log-in would be possible")
    return tuple(keys)


def _client_key(line: bytes, where: str) -> Key:
    try:
        key = Key.fromString(line)
        is_public = key.isPublic()
    except Exception as problem:
        # Invalid lines raise BadKeyError, binascii.Error, struct.error and others.
        raise LooseFile(
            f"{where}: this is not a public key, or it has options, which are not supported"
        ) from problem
    if not is_public:
        raise LooseFile(f"{where}: this is a private key; put the public key here")
    if key.type() == "DSA" or (key.type() == "RSA" and key.size() < MIN_RSA):
        raise LooseFile(f"{where}: this key is too weak: make another with 'ssh-keygen -t ed25519'")
    return cast(Key, key)


def new_host_key() -> Key:
    """A new Ed25519 key (RFC 8709)."""
    return Key(Ed25519PrivateKey.generate())


def read_host_key(path: str) -> Key:
    """
    The host key in `path`. If the file does not exist, a new key is stored in it.

    :raises LooseFile: other users can read it, or it is not an unencrypted private key.
    :raises OSError: it cannot be read or created.
    """
    try:
        data = read_tight(path, secret=True)
    except FileNotFoundError:
        return _make_host_key(path)
    try:
        key = Key.fromString(data)
    except EncryptedKeyError:
        raise LooseFile(f"{path} is encrypted; a host key must have no password") from None
    except (BadKeyError, ValueError, IndexError, TypeError) as problem:
        raise LooseFile(f"{path} is not a private key") from problem
    if key.isPublic():
        raise LooseFile(f"{path} is a public key; put the private key here")
    return cast(Key, key)


def _make_host_key(path: str) -> Key:
    check_directories(path)
    key = new_host_key()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as file:
        file.write(key.toString("OPENSSH"))
    return key


def public_line(key: Key) -> str:
    """The public key in the form of ``known_hosts``: type and base64."""
    return str(key.public().toString("OPENSSH").decode("ascii").strip())
