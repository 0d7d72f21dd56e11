# -*- test-case-name: tests.service.test_certificates -*-
"""
Certificates and keys as files have them: read, compared, judged by the calendar.

Bytes in, values out; what is not good is a `ValueError` whose text says which file and
why. It refuses keys with a passphrase: a program that starts by itself has nobody to ask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

#: Days before its end from which a certificate is warned about. Those who renew by machine do so a month
#: before (Let's Encrypt's advice): with two weeks left, the machine does not work.
EXPIRES_SOON: Final = 14

_BEGIN: Final = b"-----BEGIN CERTIFICATE-----"

Read = Callable[[str], bytes]


@frozen
class Pair:
    """
    A certificate with its key.

    :ivar cert: file of the chain.
    :ivar key: file of the key; may be the same.
    :ivar names: the DNS names that the certificate is for, small letters.
    :ivar until: when it ends.
    """

    cert: str
    key: str
    names: tuple[str, ...]
    until: datetime


def read_file(path: str) -> bytes:
    """
    The bytes of a file.

    :raises OSError: it cannot be read.
    """
    return Path(path).read_bytes()


def read_chain(path: str, read: Read = read_file) -> list[x509.Certificate]:
    """
    The certificates of a PEM file.

    :raises OSError: it cannot be read.
    :raises ValueError: there is none in it, or one that is broken.
    """
    data = read(path)
    if _BEGIN not in data:
        raise ValueError(f"{path}: holds no PEM certificate")
    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError as problem:
        raise ValueError(f"{path}: holds a certificate that cannot be read: {problem}") from problem


def read_pair(cert: str, key: str | None, read: Read = read_file) -> Pair:
    """
    A certificate and the key that belongs to it.

    :param key: None: in the file of the certificate.
    :raises OSError: a file cannot be read.
    :raises ValueError: they are not good, or do not belong together.
    """
    leaf = read_chain(cert, read)[0]
    where = cert if key is None else key
    data = read(where)
    if b"PRIVATE KEY-----" not in data:
        raise ValueError(f"{where}: holds no PEM private key" + ("; write key=FILE" if key is None else ""))
    try:
        private = load_pem_private_key(data, None, unsafe_skip_rsa_key_validation=True)
    except TypeError as problem:
        raise ValueError(
            f"{where}: the key has a passphrase; take it off ('openssl pkey') and guard the file instead"
        ) from problem
    except Exception as problem:  # several classes, cryptography's and the algorithms'
        raise ValueError(f"{where}: holds a key that cannot be read: {problem}") from problem
    if _public_bytes(private.public_key()) != _public_bytes(leaf.public_key()):
        raise ValueError(f"{where}: this key does not belong to the certificate of {cert}")
    return Pair(cert, where, names_of(leaf), leaf.not_valid_after_utc)


def _public_bytes(key: object) -> bytes:
    encoded: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined]
    return encoded


def names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """The DNS names of a certificate; its common name only where it has none (RFC 6125 section 6.4.4)."""
    try:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = [str(one) for one in alternatives.get_values_for_type(x509.DNSName)]
    except (x509.ExtensionNotFound, ValueError):
        names = []
    if not names:
        names = [str(one.value) for one in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    return tuple(name.lower().rstrip(".") for name in names)


def expiry(path: str, until: datetime, now: datetime) -> str:
    """A warning where `until` has passed or is near, else nothing."""
    if until <= now:
        return f"{path}: the certificate expired on {until:%Y-%m-%d}"
    if until - now <= timedelta(days=EXPIRES_SOON):
        return f"{path}: the certificate expires on {until:%Y-%m-%d}"
    return ""


def now_utc() -> datetime:
    """The time, for `expiry`."""
    return datetime.now(UTC)


def pair_files(cert: str, key: str | None) -> Iterator[tuple[str, str | None]]:
    """
    The certificates that ``cert=`` names: one file, or a directory's ``*.pem`` in their order.

    In a directory, the key of ``NAME.pem`` is in it, or in ``NAME.key`` beside it; ``default.pem`` is first.

    :raises ValueError: there is none in the directory, or a `key` is given for all of it.
    :raises OSError: it cannot be read.
    """
    directory = Path(cert)
    if not directory.is_dir():
        yield cert, key
        return
    if key is not None:
        raise ValueError(
            f"{cert} is a directory, so {key} could be the key of any of its certificates: put each key into"
            " its NAME.pem, or into NAME.key beside it, and leave key= out"
        )
    found = sorted(directory.glob("*.pem"), key=lambda path: (path.name != "default.pem", path.name))
    if not found:
        raise ValueError(f"{cert}: there is no *.pem in this directory")
    for path in found:
        beside = path.with_suffix(".key")
        yield str(path), str(beside) if beside.exists() else None
