# -*- test-case-name: tests.service.tls.test_context -*-
"""
Configures OpenSSL for one side of TLS: versions, ciphers, groups, certificates, authorities, revocation.

Options that only OpenSSL can check are checked here. `portfwd.service.tls.certificate_choice` chooses
certificates.
"""

from __future__ import annotations

import os
import re
import ssl
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from portfwd.service.tls.certificates import Pair, authority_files, read_chain, read_file, read_revoked
from portfwd.service.tls.files import Unusable
from portfwd.streams.transports.tls_failures import explain

#: Ciphers of TLS 1.2: those with forward secrecy and authenticated encryption, as in Mozilla's intermediate
#: list (https://wiki.mozilla.org/Security/Server_Side_TLS). OpenSSL's ciphers of TLS 1.3 all have both.
CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"

#: Ciphers if ``min-version=`` allows older versions, which have no authenticated encryption and use signature
#: algorithms that OpenSSL's security level 1 refuses.
OLD_CIPHERS: Final = f"{CIPHERS}:ECDHE:DHE:HIGH:!aNULL:!eNULL@SECLEVEL=0"

VERSIONS: Final = {
    "1.0": ssl.TLSVersion.TLSv1,
    "1.1": ssl.TLSVersion.TLSv1_1,
    "1.2": ssl.TLSVersion.TLSv1_2,
    "1.3": ssl.TLSVersion.TLSv1_3,
}

#: OpenSSL's names of NIST's curves (FIPS 186-5); Python's `ssl` knows no others.
NIST_CURVES: Final = {"P-256": "prime256v1", "P-384": "secp384r1", "P-521": "secp521r1"}

#: ``SSL_OP_LEGACY_SERVER_CONNECT``: connect to servers without RFC 5746. Python has no name for it before
#: 3.12.
_LEGACY_SERVER_CONNECT: Final = 0x4

#: ``SSL_OP_PRIORITIZE_CHACHA``: use ChaCha20 for clients that prefer it, because they have no hardware for
#: AES. For all other clients the order of the server applies. Python has no name for it.
_PRIORITIZE_CHACHA: Final = 0x200000


def _acknowledge(_connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
    """
    Do nothing. OpenSSL acknowledges the server name (RFC 6066 section 3) only if there is a callback.

    The name has chosen the certificate before.
    """


def new_context(
    *,
    server: bool,
    ciphers: str | None = None,
    min_version: str = "1.2",
    curve: str | None = None,
    resume: bool = True,
) -> ssl.SSLContext:
    """
    A context for `min_version` and later, without renegotiation and compression.

    :param ciphers: OpenSSL's list for TLS 1.2 and earlier; None for the default list.
    :param curve: OpenSSL's or NIST's name of the only group of the key exchange; None for OpenSSL's list.
    :param resume: whether sessions may be resumed.
    :raises ValueError: no cipher is left, a cipher is unknown or does not encrypt, or the group is unknown.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # min-version=1.0 is written on purpose
        context.minimum_version = VERSIONS[min_version]
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    if server:
        context.sni_callback = _acknowledge
        if ciphers is None:
            context.options |= _PRIORITIZE_CHACHA
    else:
        # RFC 9525 section 2: clients do not match host names against the common name, as service-identity.
        context.hostname_checks_common_name = False
        if VERSIONS[min_version] < ssl.TLSVersion.TLSv1_2:
            context.options |= _LEGACY_SERVER_CONNECT
    if not resume:
        context.options |= ssl.OP_NO_TICKET
        if server:
            context.num_tickets = 0
    _set_ciphers(context, ciphers, min_version)
    if curve is not None:
        try:
            context.set_ecdh_curve(NIST_CURVES.get(curve.upper(), curve))
        except (ValueError, ssl.SSLError) as problem:
            raise Unusable(
                f"curve={curve}: OpenSSL knows no such group for a key exchange", "write X25519 or P-256"
            ) from problem
    return context


def begin_alone(
    context: ssl.SSLContext,
    incoming: ssl.MemoryBIO,
    outgoing: ssl.MemoryBIO,
    *,
    min_version: str,
    curve: str | None,
) -> ssl.SSLObject:
    """
    Start a connection of a server with the settings of `context`. Its session cannot be resumed.

    OpenSSL stores sessions of TLS 1.2 in the first context of a connection, and Python cannot switch that
    off. So each connection starts with its own context, which needs 12 KiB until the connection ends.
    """
    own = new_context(server=True, min_version=min_version, curve=curve, resume=False)
    own.options, own.verify_flags, own.verify_mode = (
        context.options,
        context.verify_flags,
        context.verify_mode,
    )
    tls = own.wrap_bio(incoming, outgoing, server_side=True)
    # From now on OpenSSL takes certificate, ciphers, authorities and protocols from `context`.
    tls.context = context
    return tls


def _set_ciphers(context: ssl.SSLContext, ciphers: str | None, min_version: str) -> None:
    if ciphers is None:
        old = VERSIONS[min_version] < ssl.TLSVersion.TLSv1_2
        context.set_ciphers(OLD_CIPHERS if old else CIPHERS)
        return
    # OpenSSL ignores unknown names if the list has a known one.
    for word in re.split(r"[:, ]", ciphers):
        name = word.lstrip("!-+").partition("@")[0]
        if name and not _is_cipher(name):
            text = f"ciphers={ciphers}: OpenSSL knows no such cipher: {name}"
            raise Unusable(text, "'openssl ciphers -v' lists those of this machine")
    try:
        context.set_ciphers(ciphers)
    except ssl.SSLError as problem:
        text = f"ciphers={ciphers}: OpenSSL knows no such cipher, or has none left"
        raise Unusable(text, "'openssl ciphers -v' lists those of this machine") from problem
    for cipher in context.get_ciphers():
        if not cipher["strength_bits"] or "Au=None" in cipher["description"]:
            what = "does not encrypt" if not cipher["strength_bits"] else "does not authenticate the server"
            raise Unusable(f"ciphers={ciphers}: {cipher['name']} {what}", "add !aNULL:!eNULL")


def _is_cipher(name: str) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).set_ciphers(f"{name}:@SECLEVEL=0")
    except ssl.SSLError:
        return False
    return True


@contextmanager
def in_memory(data: bytes, path: str) -> Iterator[str]:
    """
    A path from which OpenSSL can read `data`, which were read from `path`.

    OpenSSL opens the path itself. `path` may be a FIFO by then, which would block. Systems without files in
    memory or without ``/proc`` use `path`.
    """
    try:
        descriptor = os.memfd_create("portfwd")
    except (AttributeError, OSError):
        yield path
        return
    with open(descriptor, "wb", buffering=0) as file:
        name = f"/proc/self/fd/{descriptor}"
        file.write(data)
        yield name if os.path.exists(name) else path


def load_pair(context: ssl.SSLContext, pair: Pair, read: Callable[[str], bytes] = read_file) -> None:
    """
    Add a certificate to a context. `read_pair` has checked the files before.

    A context has one certificate for each kind of key. OpenSSL uses the one that the peer supports.

    :raises OSError: a file cannot be read.
    :raises ValueError: OpenSSL refuses it, for example because it is too weak for the security level.
    """
    try:
        # Without a password OpenSSL would ask on the terminal, so an empty one is passed.
        with in_memory(read(pair.cert), pair.cert) as cert, in_memory(read(pair.key), pair.key) as key:
            context.load_cert_chain(cert, key, password=pair.password or b"")
    except ssl.SSLError as problem:
        raise ValueError(f"{pair.cert}: OpenSSL refuses it: {explain(problem)}") from problem


def trust_file(context: ssl.SSLContext, path: str, read: Callable[[str], bytes]) -> None:
    """
    Trust the certificates of a PEM file, or of the PEM files in a directory, including intermediates.

    :raises OSError: it cannot be read.
    :raises ValueError: a file contains no certificate, or one that OpenSSL refuses.
    """
    for one in authority_files(path):
        read_chain(one, read)
        try:
            context.load_verify_locations(cadata=read(one).decode("ascii", "ignore"))
        except ssl.SSLError as problem:
            raise ValueError(f"{one}: OpenSSL refuses it: {explain(problem)}") from problem
    # Trust certificates of the file that are not self-signed.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN


def refuse_revoked(context: ssl.SSLContext, path: str, read: Callable[[str], bytes]) -> None:
    """
    Refuse certificates in a file of revocation lists, and certificates of authorities without a list.

    :raises OSError: it cannot be read.
    :raises ValueError: it contains no list, or one that OpenSSL refuses.
    """
    read_revoked(path, read)
    try:
        with in_memory(read(path), path) as name:
            context.load_verify_locations(cafile=name)
    except ssl.SSLError as problem:
        raise ValueError(f"{path}: OpenSSL refuses it: {explain(problem)}") from problem
    context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
