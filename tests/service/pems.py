"""Certificates of tests, in files."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import trustme
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import AuthorityInformationAccessOID
from twisted.trial.unittest import SynchronousTestCase

CA, OTHER_CA = trustme.CA(), trustme.CA()


def directory_of(case: SynchronousTestCase) -> Path:
    """A directory for the files of a test."""
    path = Path(case.mktemp()).absolute()
    path.mkdir()
    return path


def write_pair(
    directory: Path, name: str, leaf: trustme.LeafCert, *, apart: bool = True, key: str = ".key"
) -> tuple[str, str]:
    """
    A certificate and its key as ``name.pem`` and ``name.key``, or both in the first.

    :returns: the names of both files.
    """
    cert_file, key_file = directory / f"{name}.pem", directory / f"{name}{key}"
    chain = b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
    secret = leaf.private_key_pem.bytes()
    replace(cert_file, chain if apart else chain + secret)
    if apart:
        replace(key_file, secret)
    return str(cert_file), str(key_file)


def replace(path: Path, data: bytes) -> None:
    """Write a file as renewals do: beside, then over."""
    beside = path.with_suffix(".new")
    beside.touch(0o600)
    beside.write_bytes(data)
    os.replace(beside, path)


def write_authority(directory: Path, authority: trustme.CA = CA) -> str:
    """An authority's certificate as ``ca.pem``."""
    path = directory / "ca.pem"
    path.write_bytes(authority.cert_pem.bytes())
    return str(path)


def write_encrypted(directory: Path, name: str, leaf: trustme.LeafCert) -> tuple[str, str, str]:
    """A certificate, its key with a passphrase, and a file with that: the names of the three files."""
    cert, key = write_pair(directory, name, leaf)
    secret = load_pem_private_key(leaf.private_key_pem.bytes(), None)
    encrypted = secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"sesame"))
    replace(Path(key), encrypted)
    password = directory / f"{name}.password"
    password.touch(0o600)
    password.write_bytes(b"sesame\n")
    return cert, key, str(password)


def write_crl(
    directory: Path,
    authority: trustme.CA,
    *revoked: trustme.LeafCert,
    until: datetime = datetime(2099, 1, 1, tzinfo=UTC),
) -> str:
    """A revocation list of an authority, as ``revoked.pem``."""
    since = datetime(2020, 1, 1, tzinfo=UTC)
    signed_by = x509.load_pem_x509_certificate(authority.cert_pem.bytes())
    builder = x509.CertificateRevocationListBuilder(signed_by.subject, since, until)
    for leaf in revoked:
        number = x509.load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes()).serial_number
        entry = x509.RevokedCertificateBuilder(number, since).build()
        builder = builder.add_revoked_certificate(entry)
    key: Any = load_pem_private_key(authority.private_key_pem.bytes(), None)
    path = directory / "revoked.pem"
    path.write_bytes(builder.sign(key, SHA256()).public_bytes(Encoding.PEM))
    return str(path)


def with_issuer_url(leaf: trustme.LeafCert) -> bytes:
    """The same certificate with a pointer to its authority's certificate (its signature is not checked)."""
    old = x509.load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes())
    key: Any = load_pem_private_key(leaf.private_key_pem.bytes(), None)
    there = x509.AccessDescription(
        AuthorityInformationAccessOID.CA_ISSUERS, x509.UniformResourceIdentifier("http://ca.example/i.der")
    )
    builder = x509.CertificateBuilder(
        old.issuer, old.subject, old.public_key(), old.serial_number, old.not_valid_before_utc,
        old.not_valid_after_utc, list(old.extensions),
    ).add_extension(x509.AuthorityInformationAccess([there]), critical=False)  # fmt: skip
    return builder.sign(key, SHA256()).public_bytes(Encoding.PEM)
