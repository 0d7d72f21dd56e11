# -*- test-case-name: tests.service.test_tls -*-
"""
What a ``tls:`` target verifies, from its options.

Verification is service-identity's (through Twisted) against ``server-name=``
or the target's host, with the system's authorities or those of ``ca=``.
Files are read here, at build time, so before ``--chroot`` and ``--uid``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from OpenSSL.crypto import Error as CryptoError
from OpenSSL.SSL import Connection
from OpenSSL.SSL import Error as SSLError
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    optionsForClientTLS,
    platformTrust,
    trustRootFromCertificates,
)
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from portfwd.rules.model import Options
from portfwd.values import is_literal

_BEGIN = b"-----BEGIN CERTIFICATE-----"


@implementer(IOpenSSLClientConnectionCreator)
class Unverified:
    """Makes client connections that check nothing (``verify=off``)."""

    def __init__(self, server_name: str) -> None:
        """
        :param server_name: sent as SNI; an address literal is not (RFC 6066 section 3).
        :raises ValueError: it cannot be a name.
        """
        self._server_name = b"" if is_literal(server_name) else server_name.encode("idna")
        self._context = CertificateOptions(verify=False).getContext()

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> Connection:
        """A connection object that waits for the handshake."""
        connection = Connection(self._context, None)
        if self._server_name:
            connection.set_tlsext_host_name(self._server_name)
        connection.set_connect_state()
        return connection


def authorities(pem: bytes) -> Any:
    """
    The certificates of a PEM bundle as a trust root.

    :raises ValueError: there is no certificate in it, or one cannot be read.
    """
    blocks = [_BEGIN + block for block in pem.split(_BEGIN)[1:]]
    if not blocks:
        raise ValueError("holds no PEM certificate")
    try:
        root: Any = trustRootFromCertificates([Certificate.loadPEM(block) for block in blocks])
    except (CryptoError, SSLError, ValueError) as problem:
        raise ValueError("holds a certificate that cannot be read") from problem
    return root


def client_creator(
    host: str, options: Options, read: Callable[[str], bytes]
) -> IOpenSSLClientConnectionCreator:
    """
    What makes and checks the TLS connection to a target on `host`.

    :param read: gives the bytes of a file; ``ca=`` is read through it.
    :raises OSError: the file of ``ca=`` cannot be read.
    :raises ValueError: there is no good certificate in it (the file is named), or the name cannot be one.
    """
    name = options.server_name or host
    if not options.verify:
        return Unverified(name)
    root = platformTrust()
    if options.ca is not None:
        try:
            root = authorities(read(options.ca))
        except ValueError as problem:
            raise ValueError(f"{options.ca}: {problem}") from problem
    creator: IOpenSSLClientConnectionCreator = optionsForClientTLS(name, trustRoot=root)
    return creator
