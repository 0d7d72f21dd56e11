# -*- test-case-name: tests.service.test_tls -*-
"""
What a ``tls:`` target verifies and shows, from its options.

The certificate is checked against ``server-name=`` or the target's host, a
name or an address, with the system's authorities or those of ``ca=``. Files are read
here, at build time, so before ``--chroot`` and ``--uid``.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from typing import Final

from twisted.logger import Logger

from portfwd.rules.model import Options
from portfwd.service.certificates import read_chain, read_file, read_pair
from portfwd.streams.tls_failures import explain
from portfwd.values import TLSInfo, ascii_host, is_literal

_LOG: Final = Logger()

#: Where distributions keep the authorities that they trust, for a Python whose OpenSSL looks elsewhere.
SYSTEM_BUNDLES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Alpine, Arch
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/ssl/cert.pem",  # BSD, macOS
)

#: Ciphers of TLS 1.2: those with forward secrecy and authenticated encryption, as in Mozilla's intermediate
#: list (https://wiki.mozilla.org/Security/Server_Side_TLS). Those of TLS 1.3 are all good, and OpenSSL's.
CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"


def new_context(*, server: bool, ciphers: str | None = None) -> ssl.SSLContext:
    """
    TLS 1.2 and 1.3, without renegotiation and compression.

    :param ciphers: OpenSSL's list for TLS 1.2.
    :raises ValueError: no cipher is left.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not server:
        # RFC 9525 section 2: a common name was never meant for hosts. service-identity ignores it as well.
        context.hostname_checks_common_name = False
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    try:
        context.set_ciphers(CIPHERS if ciphers is None else ciphers)
    except ssl.SSLError as problem:
        raise ValueError(f"ciphers={ciphers}: OpenSSL knows no such cipher") from problem
    return context


def load_pair(context: ssl.SSLContext, cert: str, key: str) -> None:
    """
    Show this certificate; the files were found good by `read_pair`.

    :raises OSError: a file cannot be read.
    :raises ValueError: OpenSSL does not take it: too weak for its security level, say.
    """
    try:
        context.load_cert_chain(cert, key, password=_no_passphrase)
    except ssl.SSLError as problem:
        raise ValueError(f"{cert}: OpenSSL does not take it: {explain(problem)}") from problem


def _no_passphrase() -> str:
    raise ValueError("the key has a passphrase")


class ClientSide:
    """Makes client connections to one target, and resumes sessions; a `TLSSide`."""

    speaks_first: Final = True

    def __init__(self, context: ssl.SSLContext, name: str) -> None:
        """:param name: what is asked for (SNI) and verified, unless the context verifies nothing."""
        self._context = context
        self._name = name
        self._session: ssl.SSLSession | None = None

    def start(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, name: str) -> ssl.SSLObject:
        """See `TLSSide`."""
        # RFC 8446 appendix C.4: a ticket is used once.
        session, self._session = self._session, None
        return self._context.wrap_bio(
            incoming, outgoing, server_side=False, server_hostname=self._name, session=session
        )

    def judge(self, tls: ssl.SSLObject, name: str) -> TLSInfo:
        """See `TLSSide`; OpenSSL has verified the certificate."""
        return TLSInfo(self._name, tls.selected_alpn_protocol() or "", "", tls.version() or "")

    def leave(self, tls: ssl.SSLObject) -> None:
        """Keep the session for the next connection."""
        session = tls.session
        if session is not None and session.has_ticket:
            self._session = session


def _trust_the_system(context: ssl.SSLContext) -> None:
    paths = ssl.get_default_verify_paths()
    if paths.cafile is None and paths.capath is None:
        for bundle in SYSTEM_BUNDLES:
            if os.path.exists(bundle):
                context.load_verify_locations(bundle)
                return
    context.load_default_certs()


def trust_file(context: ssl.SSLContext, path: str, read: Callable[[str], bytes]) -> None:
    """
    Trust the authorities of a PEM bundle.

    :raises OSError: it cannot be read.
    :raises ValueError: there is no good certificate in it.
    """
    read_chain(path, read)
    try:
        context.load_verify_locations(cadata=read(path).decode("ascii", "ignore"))
    except ssl.SSLError as problem:
        raise ValueError(f"{path}: OpenSSL does not take it: {explain(problem)}") from problem


def client_side(host: str, options: Options, read: Callable[[str], bytes] = read_file) -> ClientSide:
    """
    What makes and checks the TLS connection to a target on `host`.

    :param read: gives the bytes of a file.
    :raises OSError: a file cannot be read.
    :raises ValueError: what is in it is not good (the file is named), or the name cannot be one.
    """
    # RFC 6066 section 3: the name "is represented … without a trailing dot"; certificates have none either.
    name = ascii_host((options.server_name or host.partition("%")[0]).removesuffix("."))
    context = new_context(server=False)
    if not options.verify:
        _LOG.warn(
            "tls:{host}: the certificate of this target is not checked (verify=off):"
            " who stands between can read and change everything",
            host=host,
        )
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif options.ca is not None:
        trust_file(context, options.ca, read)
    else:
        _trust_the_system(context)
    if options.client_cert is not None:
        pair = read_pair(options.client_cert, options.client_key, read)
        load_pair(context, pair.cert, pair.key)
    elif options.client_key is not None:
        raise ValueError(f"client-key={options.client_key}: there is no client-cert= for it")
    if options.target_alpn:
        context.set_alpn_protocols(list(options.target_alpn))
    if not is_literal(name):
        try:
            name.encode("idna")  # as Python does with a name in ASCII, which only bounds its labels
        except UnicodeError as problem:
            raise ValueError(f"{name}: this cannot be the name of a certificate: {problem}") from problem
    return ClientSide(context, name)
