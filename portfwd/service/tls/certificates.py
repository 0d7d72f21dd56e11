# -*- test-case-name: tests.service.tls.test_certificates -*-
"""
Reads certificates, keys and revocation lists from files, and checks their dates.

A file that cannot be used raises a `ValueError` that names the file and the reason. An encrypted key needs a
file with its passphrase, because a service cannot ask for one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from attrs import field, frozen
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from portfwd.service.daemon.regular import read_regular
from portfwd.service.tls.files import Unusable

#: Days before the expiry of a certificate at which warnings start. Automatic renewal happens a month before
#: the expiry (as Let's Encrypt recommends), so with two weeks left it has failed.
EXPIRES_SOON: Final = 14

_BEGIN: Final = b"-----BEGIN CERTIFICATE-----"
#: Part of the first line of all kinds of private keys (RFC 7468 sections 10 and 11, and OpenSSL's own kinds).
_PRIVATE: Final = b"PRIVATE KEY-----"

_CRL: Final = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----\n?", re.DOTALL)

#: The time of the next update of a list that does not name one.
NEVER: Final = datetime.max.replace(tzinfo=UTC)

Read = Callable[[str], bytes]


@frozen
class Pair:
    """
    A certificate with its key.

    :ivar cert: path of the chain.
    :ivar key: path of the key; may be the same.
    :ivar names: the DNS names of the certificate, in lower case.
    :ivar until: end of its validity.
    :ivar since: start of its validity.
    :ivar kind: type of its key. Certificates with different types for the same names serve different clients.
    :ivar password: password of its key; None if the key is not encrypted.
    """

    cert: str
    key: str
    names: tuple[str, ...]
    until: datetime
    since: datetime
    kind: str
    password: bytes | None = field(default=None, repr=False)


def read_file(path: str) -> bytes:
    """
    The bytes of a file.

    :raises OSError: it cannot be read.
    """
    return read_regular(path)


def read_chain(path: str, read: Read = read_file) -> list[x509.Certificate]:
    """
    The certificates of a PEM file.

    :raises OSError: it cannot be read.
    :raises ValueError: it contains no certificate, or a broken one.
    """
    data = read(path)
    if _BEGIN not in data:
        hint = "name a file of certificates in PEM; 'openssl x509 -inform der' converts one from DER"
        raise Unusable(f"{path}: holds no PEM certificate", hint)
    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError as problem:
        hint = "copy the file again, or have the certificate issued again"
        raise Unusable(f"{path}: holds a certificate that cannot be read: {problem}", hint) from problem


def read_password(path: str | None, read: Read = read_file) -> bytes | None:
    """
    The password of a key: the first line of the file. None if `path` is None.

    :raises OSError: it cannot be read.
    :raises ValueError: it is empty.
    """
    if path is None:
        return None
    password = read(path).split(b"\n", 1)[0].rstrip(b"\r")
    if not password:
        raise Unusable(f"{path}: holds no password in its first line", "write it there")
    return password


def read_pair(cert: str, key: str | None, read: Read = read_file, password: bytes | None = None) -> Pair:
    """
    A certificate and the key that belongs to it.

    :param key: path of the key; None if it is in the file of the certificate.
    :param password: password of an encrypted key; ignored for a key that is not encrypted.
    :raises OSError: a file cannot be read.
    :raises ValueError: they cannot be used, or do not belong together.
    """
    if key is not None and _PRIVATE in (held := read(cert)) and _BEGIN not in held and _BEGIN in read(key):
        raise Unusable(f"{cert}: holds the private key, and {key} the certificate", "swap the two")
    leaf = read_chain(cert, read)[0]
    where = cert if key is None else key
    data = read(where)
    if _PRIVATE not in data:
        hint = "write key=FILE" if key is None else "name the file of the key, in PEM"
        raise Unusable(f"{where}: holds no PEM private key", hint)
    private, needed = _private_key(data, where, password)
    if _public_bytes(private.public_key()) != _public_bytes(leaf.public_key()):
        hint = "name the key for which this certificate was issued, or the certificate of this key"
        raise Unusable(f"{where}: this key does not belong to the certificate of {cert}", hint)
    names = names_of(leaf)
    kind = type(leaf.public_key()).__name__.strip("_")
    until, since = leaf.not_valid_after_utc, leaf.not_valid_before_utc
    return Pair(cert, where, names, until, since, kind, password if needed else None)


def _private_key(data: bytes, where: str, password: bytes | None) -> tuple[Any, bool]:
    """A key, and whether it is encrypted."""
    needed = False
    try:
        try:
            return load_pem_private_key(data, None, unsafe_skip_rsa_key_validation=True), needed
        except TypeError:
            needed = True
        if password is None:
            raise Unusable(
                f"{where}: the key has a passphrase",
                "write it to a file that only its owner can read and name that by key-password-file="
                " (client-key-password-file= for a target), or remove it ('openssl pkey')",
            )
        return load_pem_private_key(data, password, unsafe_skip_rsa_key_validation=True), needed
    except Exception as problem:  # several classes, cryptography's and the algorithms'
        if needed and password is not None:
            hint = "put the password of this key into the first line of the file"
            text = f"{where}: the key cannot be read with the password that was given: {problem}"
            raise Unusable(text, hint) from problem
        if needed:
            raise
        hint = "copy the file again; 'openssl pkey -noout -in FILE' shows whether it is complete"
        raise Unusable(f"{where}: holds a key that cannot be read: {problem}", hint) from problem


def _public_bytes(key: object) -> bytes:
    encoded: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined]
    return encoded


def names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """The DNS names of a certificate; its common name only if it has none (RFC 6125 section 6.4.4)."""
    try:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = [str(one) for one in alternatives.get_values_for_type(x509.DNSName)]
    except (x509.ExtensionNotFound, ValueError):
        names = []
    if not names:
        names = [str(one.value) for one in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    return tuple(name.lower().rstrip(".") for name in names)


def expiry(path: str, until: datetime, now: datetime, since: datetime | None = None) -> str:
    """
    A warning if the certificate at `path` has expired, expires in `EXPIRES_SOON` days or is not valid yet.

    :returns: the warning, or an empty text.
    """
    if until <= now:
        return f"{path}: the certificate expired on {until:%Y-%m-%d}"
    if until - now <= timedelta(days=EXPIRES_SOON):
        return f"{path}: the certificate expires on {until:%Y-%m-%d}"
    if since is not None and since > now:
        return f"{path}: the certificate is not valid before {since:%Y-%m-%d %H:%M} UTC"
    return ""


def authority_files(path: str) -> list[str]:
    """
    The files of ``ca=``: one file, or ``*.pem`` and ``*.crt`` in a directory.

    :raises ValueError: the directory contains none.
    """
    directory = Path(path)
    if not directory.is_dir():
        return [path]
    found = sorted(
        str(one)
        for pattern in ("*.pem", "*.crt")
        for one in directory.glob(pattern)
        if not one.name.startswith(".")
    )
    if not found:
        hint = "put the authorities' certificates there, or name a file"
        raise Unusable(f"{path}: there is no *.pem or *.crt in this directory", hint)
    return found


def read_revoked(path: str, read: Read = read_file) -> datetime:
    """
    The earliest date at which a revocation list of a PEM file expires.

    :raises OSError: it cannot be read.
    :raises ValueError: it contains no list, or a broken one.
    """
    blocks = _CRL.findall(read(path))
    if not blocks:
        hint = "name a file of lists in PEM; 'openssl crl -inform der' converts one from DER"
        raise Unusable(f"{path}: holds no PEM revocation list (X509 CRL)", hint)
    try:
        lists = [x509.load_pem_x509_crl(block) for block in blocks]
    except ValueError as problem:
        hint = "fetch the authority's list again"
        raise Unusable(f"{path}: holds a revocation list that cannot be read: {problem}", hint) from problem
    return min((one.next_update_utc for one in lists if one.next_update_utc), default=NEVER)


def now_utc() -> datetime:
    """The current time, for `expiry`."""
    return datetime.now(UTC)


def pair_files(cert: str, key: str | None) -> Iterator[tuple[str, str | None]]:
    """
    The certificates of ``cert=`` with their keys: one file, or ``*.pem`` in a directory, in order.

    In a directory the key of ``NAME.pem`` is in the same file or in ``NAME.key``. ``default.pem`` is first.

    :returns: pairs of paths; the second is None if the key is in the file of the certificate.
    :raises ValueError: the directory contains none, or `key` is given for a directory.
    :raises OSError: the directory cannot be read.
    """
    directory = Path(cert)
    if not directory.is_dir():
        yield cert, key
        return
    if key is not None:
        raise Unusable(
            f"{cert} is a directory, so {key} could be the key of any of its certificates",
            "put each key into its NAME.pem, or into NAME.key beside it, and leave key= out",
        )
    # Hidden files are temporary files of editors and of renewal: .swp.pem, .tmp.pem.
    found = [path for path in directory.glob("*.pem") if not path.name.startswith(".")]
    found.sort(key=lambda path: (path.name != "default.pem", path.name))
    if not found:
        hint = "put certificates there as NAME.pem, or name a file"
        raise Unusable(f"{cert}: there is no *.pem in this directory", hint)
    for path in found:
        beside = path.with_suffix(".key")
        yield str(path), str(beside) if beside.exists() else None
