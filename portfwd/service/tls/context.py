# -*- test-case-name: tests.service.tls.test_context -*-
"""
OpenSSL's settings for one side of TLS: versions, ciphers, groups, certificates, authorities, revocation.

What only OpenSSL knows of the options is checked here. It refuses to choose among certificates.
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
#: list (https://wiki.mozilla.org/Security/Server_Side_TLS). Those of TLS 1.3 are all good, and OpenSSL's.
CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"

#: The same where ``min-version=`` lets older versions in: they know no authenticated encryption, and sign by
#: algorithms that OpenSSL's security level 1 refuses.
OLD_CIPHERS: Final = f"{CIPHERS}:ECDHE:DHE:HIGH:!aNULL:!eNULL@SECLEVEL=0"

VERSIONS: Final = {
    "1.0": ssl.TLSVersion.TLSv1,
    "1.1": ssl.TLSVersion.TLSv1_1,
    "1.2": ssl.TLSVersion.TLSv1_2,
    "1.3": ssl.TLSVersion.TLSv1_3,
}

#: ``SSL_OP_LEGACY_SERVER_CONNECT``: servers without RFC 5746, which Python has no name for before 3.12.
_LEGACY_SERVER_CONNECT: Final = 0x4

#: ``SSL_OP_PRIORITIZE_CHACHA``: a client that would like ChaCha20 best has no hardware for AES. For all
#: others our order holds. Python has no name for it.
_PRIORITIZE_CHACHA: Final = 0x200000


def _acknowledge(_connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
    """
    Take the name: RFC 6066 section 3 wants the server to say that it has looked at it.

    The name has chosen the certificate before; OpenSSL says so only where it could ask somebody.
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
    TLS 1.2 and 1.3 unless `min_version` says otherwise, without renegotiation and compression.

    :param ciphers: OpenSSL's list for TLS 1.2 and before.
    :param curve: the one group of the key exchange, by OpenSSL's name; None for OpenSSL's list.
    :param resume: sessions may be resumed.
    :raises ValueError: no cipher is left, one is not known or does not encrypt, or no such group is known.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # who writes min-version=1.0 knows
        context.minimum_version = VERSIONS[min_version]
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    if server:
        context.sni_callback = _acknowledge
        if ciphers is None:
            context.options |= _PRIORITIZE_CHACHA
    else:
        # RFC 9525 section 2: a common name was never meant for hosts. service-identity ignores it as well.
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
            context.set_ecdh_curve(curve)
        except (ValueError, ssl.SSLError) as problem:
            raise Unusable(
                f"curve={curve}: OpenSSL knows no such group for a key exchange", "write X25519 or prime256v1"
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
    A server's connection whose session no other connection can resume, with all that `context` says.

    OpenSSL keeps sessions of TLS 1.2 in the context that a connection begins with, and Python has no call to
    switch that off. So each begins with a context of its own, which goes with it: 12 KiB.
    """
    own = new_context(server=True, min_version=min_version, curve=curve, resume=False)
    own.options, own.verify_flags, own.verify_mode = (
        context.options,
        context.verify_flags,
        context.verify_mode,
    )
    tls = own.wrap_bio(incoming, outgoing, server_side=True)
    # Certificate, ciphers, authorities and protocols are looked up here from now on.
    tls.context = context
    return tls


def _set_ciphers(context: ssl.SSLContext, ciphers: str | None, min_version: str) -> None:
    if ciphers is None:
        old = VERSIONS[min_version] < ssl.TLSVersion.TLSv1_2
        context.set_ciphers(OLD_CIPHERS if old else CIPHERS)
        return
    # OpenSSL passes over a name that it does not know, as long as it knows another one.
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
            what = "does not encrypt" if not cipher["strength_bits"] else "does not say who the server is"
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
    A file name by which OpenSSL can read `data`, which were read from `path`.

    OpenSSL opens a name by itself and waits for whatever is there by then: a FIFO, say. On systems without
    files in memory, or without ``/proc``, it is `path`.
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
    Show this certificate too; the files were found good by `read_pair`.

    A context has one certificate for each kind of key, and shows the one that the peer can use.

    :raises OSError: a file cannot be read.
    :raises ValueError: OpenSSL does not take it: too weak for its security level, say.
    """
    try:
        # An empty password, and not none: OpenSSL would ask the terminal.
        with in_memory(read(pair.cert), pair.cert) as cert, in_memory(read(pair.key), pair.key) as key:
            context.load_cert_chain(cert, key, password=pair.password or b"")
    except ssl.SSLError as problem:
        raise ValueError(f"{pair.cert}: OpenSSL does not take it: {explain(problem)}") from problem


def trust_file(context: ssl.SSLContext, path: str, read: Callable[[str], bytes]) -> None:
    """
    Trust the certificates of a PEM bundle, or of a directory of them; also those that are no root.

    :raises OSError: it cannot be read.
    :raises ValueError: there is no good certificate in it.
    """
    for one in authority_files(path):
        read_chain(one, read)
        try:
            context.load_verify_locations(cadata=read(one).decode("ascii", "ignore"))
        except ssl.SSLError as problem:
            raise ValueError(f"{one}: OpenSSL does not take it: {explain(problem)}") from problem
    # What the file names is trusted, whoever has signed it.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN


def refuse_revoked(context: ssl.SSLContext, path: str, read: Callable[[str], bytes]) -> None:
    """
    Refuse the certificates that a file of revocation lists names, and those of authorities without a list.

    :raises OSError: it cannot be read.
    :raises ValueError: there is no good list in it.
    """
    read_revoked(path, read)
    try:
        with in_memory(read(path), path) as name:
            context.load_verify_locations(cafile=name)
    except ssl.SSLError as problem:
        raise ValueError(f"{path}: OpenSSL does not take it: {explain(problem)}") from problem
    context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
