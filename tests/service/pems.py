"""Certificates of tests, in files."""

from __future__ import annotations

import os
from pathlib import Path

import trustme
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
