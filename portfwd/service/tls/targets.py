# -*- test-case-name: tests.service.tls.test_targets -*-
"""
What a ``tls:`` target verifies and shows, from its options.

The certificate is checked against ``server-name=`` or the target's host, a
name or an address, with the system's authorities or those of ``ca=``; or by its fingerprint
(``pin=``). Files are read at build time, so before ``--chroot`` and ``--uid``, and again when they change.
"""

from __future__ import annotations

import base64
import os
import ssl
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from hashlib import sha256
from typing import Final

from attrs import define, frozen
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from twisted.logger import Logger

from portfwd.rules.model import Options
from portfwd.service.tls.certificates import (
    Pair,
    authority_files,
    expiry,
    now_utc,
    read_file,
    read_pair,
    read_password,
)
from portfwd.service.tls.context import load_pair, new_context, refuse_revoked, trust_file
from portfwd.service.tls.file_watch import FileWatch
from portfwd.service.tls.renewal import Renewal, Renewed, Run, at_once
from portfwd.streams.transports.tls_failures import NotAdmitted
from portfwd.values import TLSInfo, ascii_host, is_literal
from portfwd.wire.client_hello import ClientHello

_LOG: Final = Logger()

#: Where distributions keep the authorities that they trust, for a Python whose OpenSSL looks elsewhere.
SYSTEM_BUNDLES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Alpine, Arch
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/ssl/cert.pem",  # BSD, macOS
)

#: ``server-name=client`` and ``alpn=client``: what the client's own handshake said.
CLIENT: Final = "client"

#: Seconds for which connections resume one session before the next is kept. Python's `ssl` (3.11 at least)
#: loses some 7 KiB with each session that it is asked for, so not each connection's is kept. Servers keep
#: theirs for five minutes (nginx) to two hours (OpenSSL); an older one costs them a full handshake.
RENEW_AFTER: Final = timedelta(minutes=2)

#: Server names whose sessions are kept: with ``server-name=client`` clients choose them.
MAX_NAMES: Final = 64


def _trust_the_system(context: ssl.SSLContext) -> None:
    paths = ssl.get_default_verify_paths()
    if paths.cafile is None and paths.capath is None:
        for bundle in SYSTEM_BUNDLES:
            if os.path.exists(bundle):
                context.load_verify_locations(bundle)
                return
    context.load_default_certs()


@frozen
class _Asked:
    """
    What one connection asks of the server.

    :ivar name: for SNI and the certificate.
    :ivar alpn: protocols offered.
    """

    name: str
    alpn: tuple[str, ...]


@define
class _Read:
    """
    One reading of the files.

    :ivar read: gives the bytes of a file as they were read, for further contexts.
    :ivar pairs: the certificate that is shown, if there is one.
    :ivar first: a context that nobody uses yet.
    """

    read: Callable[[str], bytes]
    pairs: tuple[Pair, ...]
    first: ssl.SSLContext | None


@frozen
class _Kept:
    """
    What connections resume.

    :ivar session: None: the server gave none.
    :ivar since: when it was kept, or looked for in vain.
    """

    session: ssl.SSLSession | None
    since: datetime


def certificate_name(host: str) -> str:
    """
    The name of a host as its certificate has it.

    :raises ValueError: no certificate can have it.
    """
    # RFC 6066 section 3: the name "is represented … without a trailing dot"; so is a certificate's.
    name = ascii_host(host.partition("%")[0].removesuffix("."))
    if not is_literal(name):
        try:
            name.encode("idna")  # as Python does with a name in ASCII, which only bounds its labels
        except UnicodeError as problem:
            raise ValueError(f"{name}: this cannot be the name of a certificate: {problem}") from problem
    return name


class ClientSide:
    """Makes client connections to one target, and resumes sessions; a `TLSSide` and a `TLSTarget`."""

    speaks_first: Final = True
    _log = Logger()

    def __init__(
        self,
        host: str,
        options: Options,
        read: Callable[[str], bytes] = read_file,
        seconds: Callable[[], float] | None = None,
        now: Callable[[], datetime] = now_utc,
        run: Run = at_once,
    ) -> None:
        """
        Read the files.

        :param read: gives the bytes of a file.
        :param seconds: the reactor's clock; None: the files are never looked at again.
        :param run: runs what reads them again.
        :raises OSError: a file cannot be read.
        :raises ValueError: what is in it is not good (the file is named), or the name cannot be one.
        """
        self.accepts_eof = options.eof == "accept"
        self._options = options
        self._read = read
        self._now = now
        self._host = host
        self._asks_for_client = options.server_name == CLIENT
        written = None if self._asks_for_client else options.server_name
        name = certificate_name(written or host)
        if not name and options.verify and not options.pin:
            raise ValueError(
                "a target without a host needs server-name=, the name that its certificate has to have"
            )
        alpn = () if options.target_alpn == (CLIENT,) else options.target_alpn
        self._usual = _Asked(name, alpn)
        self._watch = None if seconds is None else FileWatch(partial(_named_files, options), seconds)
        self._renewal: Renewal[_Read] | None = None
        if self._watch is not None:
            self._renewal = Renewal(self._watch, run)
        self._contexts: dict[tuple[str, ...], ssl.SSLContext] = {}
        self.sessions: OrderedDict[_Asked, _Kept] = OrderedDict()
        self._is_good = True
        self._files = self._read_again()
        self.pairs: tuple[Pair, ...] = self._files.pairs
        self._context(alpn)

    def __repr__(self) -> str:
        return f"<ClientSide {self._usual.name}>"

    def _context(self, alpn: tuple[str, ...]) -> ssl.SSLContext:
        """The context for connections that offer these protocols."""
        context = self._contexts.get(alpn)
        if context is None:
            context = self._contexts[alpn] = self._files.first or self._new_context(self._files.read)[0]
            self._files.first = None
            if alpn:
                context.set_alpn_protocols(list(alpn))
        return context

    def _read_again(self) -> _Read:
        """Read the files; in a thread, unless this is a start."""
        remembered: dict[str, bytes] = {}
        read_now = self._read  # what is kept must not know this side: nothing waits for the garbage collector

        def read(path: str) -> bytes:
            if path not in remembered:
                remembered[path] = read_now(path)
            return remembered[path]

        context, pairs = self._new_context(read)
        return _Read(read, pairs, context)

    def _new_context(self, read: Callable[[str], bytes]) -> tuple[ssl.SSLContext, tuple[Pair, ...]]:
        options = self._options
        pairs: tuple[Pair, ...] = ()
        context = new_context(
            server=False,
            ciphers=options.target_ciphers,
            min_version=options.target_min_version,
            curve=options.target_curve,
            resume=options.target_resume,
        )
        if not options.verify or (options.pin and options.ca is None):
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        elif options.ca is not None:
            trust_file(context, options.ca, read)
        else:
            _trust_the_system(context)
        if options.target_crl is not None:
            refuse_revoked(context, options.target_crl, read)
        if options.client_cert is not None:
            password = read_password(options.client_key_password_file, read)
            pair = read_pair(options.client_cert, options.client_key, read, password)
            load_pair(context, pair, read)
            pairs = (pair,)
        elif options.client_key is not None:
            raise ValueError(f"client-key={options.client_key}: there is no client-cert= for it")
        return context, pairs

    @property
    def is_current(self) -> bool:
        """Whether its files are those that were read. Not known of the system's authorities: then False."""
        reads_system = self._options.ca is None and self._options.verify and not self._options.pin
        watch = self._watch
        return self._is_good and not reads_system and watch is not None and not watch.differs(watch.look())

    def _look(self) -> None:
        """Have the files read again if they are others than before, and it is time to look."""
        if self._renewal is not None and self._watch is not None and self._watch.due:
            self._renewal.look(self._read_again, self._renewed)

    def _renewed(self, renewed: Renewed[_Read]) -> None:
        if renewed.changed:
            self._is_good = not renewed.problem
        if renewed.problem:
            self._log.error(
                "tls:{host}: the new certificates are not good, the old ones stay: {problem}",
                host=self._host,
                problem=renewed.problem,
            )
        if renewed.made is None:
            return
        self._files = renewed.made
        self.pairs = self._files.pairs
        self._contexts = {}
        self.sessions.clear()  # they belong to the old contexts
        self._log.info("tls:{host}: the certificates were read again", host=self._host)

    def warn_of_expiry(self) -> None:
        """Warn of a certificate that has expired or soon will."""
        for pair in self.pairs:
            warning = expiry(pair.cert, pair.until, self._now(), pair.since)
            if warning:
                self._log.warn("tls:{host}: {problem}", host=self._host, problem=warning)

    # Connections

    def for_client(self, client: TLSInfo | None) -> ClientSide | _OneConnection:
        """See `TLSTarget`."""
        name, alpn = self._usual.name, self._usual.alpn
        if client is not None:
            if self._asks_for_client and client.server_name:
                name = client.server_name
            if self._options.target_alpn == (CLIENT,) and client.alpn:
                alpn = (client.alpn,)
        asked = _Asked(name, alpn)
        return self if asked == self._usual else _OneConnection(self, asked)

    def for_name(self, name: str) -> ClientSide | _OneConnection:
        """See `TLSTarget`."""
        asked = _Asked(certificate_name(name), self._usual.alpn)
        return self if asked == self._usual else _OneConnection(self, asked)

    def start(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, hello: ClientHello) -> ssl.SSLObject:
        """See `TLSSide`."""
        return self.begin(incoming, outgoing, self._usual)

    def begin(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, asked: _Asked) -> ssl.SSLObject:
        """TLS of a connection that asks for this."""
        self._look()
        kept = self.sessions.get(asked)
        # RFC 8446 appendix C.4: a ticket is better used once, so that observers cannot link connections. They
        # see our address in any case.
        session = None if kept is None else kept.session
        return self._context(asked.alpn).wrap_bio(
            incoming, outgoing, server_side=False, server_hostname=asked.name or None, session=session
        )

    def judge(self, tls: ssl.SSLObject, hello: ClientHello) -> TLSInfo:
        """See `TLSSide`."""
        return self.verdict(tls, self._usual)

    def verdict(self, tls: ssl.SSLObject, asked: _Asked) -> TLSInfo:
        """
        Say what the handshake said; OpenSSL has verified the certificate, unless ``pin=`` is to.

        :raises NotAdmitted: it is none of ``pin=``.
        """
        if self._options.pin:
            _check_pin(tls.getpeercert(binary_form=True) or b"", self._options.pin)
        cipher = tls.cipher()
        return TLSInfo(
            asked.name,
            tls.selected_alpn_protocol() or "",
            "",
            tls.version() or "",
            "" if cipher is None else cipher[0],
            bool(tls.session_reused),
        )

    def leave(self, tls: ssl.SSLObject) -> None:
        """See `TLSSide`."""
        self.keep(tls, self._usual)

    def keep(self, tls: ssl.SSLObject, asked: _Asked) -> None:
        """Keep the session for connections that ask for the same, once in `RENEW_AFTER`."""
        if not self._options.target_resume or tls.context is not self._contexts.get(asked.alpn):
            return  # or the files were read again meanwhile
        kept, now = self.sessions.get(asked), self._now()
        if kept is not None and now - kept.since < RENEW_AFTER:
            return
        session = tls.session
        if session is None or not session.has_ticket:
            session = None if kept is None else kept.session
        self.sessions[asked] = _Kept(session, now)
        self.sessions.move_to_end(asked)
        if len(self.sessions) > MAX_NAMES:
            self.sessions.popitem(last=False)


class _OneConnection:
    """A `TLSSide` for a connection that asks for something of its own."""

    speaks_first: Final = True

    def __init__(self, side: ClientSide, asked: _Asked) -> None:
        self.accepts_eof = side.accepts_eof
        self._side = side
        self._asked = asked

    def start(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, hello: ClientHello) -> ssl.SSLObject:
        """See `TLSSide`."""
        return self._side.begin(incoming, outgoing, self._asked)

    def judge(self, tls: ssl.SSLObject, hello: ClientHello) -> TLSInfo:
        """See `TLSSide`."""
        return self._side.verdict(tls, self._asked)

    def leave(self, tls: ssl.SSLObject) -> None:
        """See `TLSSide`."""
        self._side.keep(tls, self._asked)


def _check_pin(der: bytes, pins: Sequence[str]) -> None:
    found = sha256(der).hexdigest()
    if found in pins:
        return
    key = x509.load_der_x509_certificate(der).public_key()
    digest = sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
    if f"sha256//{base64.b64encode(digest).decode()}" not in pins:
        raise NotAdmitted(f"the certificate is none of pin=: its fingerprint is {found}")


def client_side(
    host: str,
    options: Options,
    read: Callable[[str], bytes] = read_file,
    seconds: Callable[[], float] | None = None,
    run: Run = at_once,
    known: ClientSide | None = None,
) -> ClientSide:
    """
    What makes and checks the TLS connections to a target on `host`; the other parameters are `ClientSide`'s.

    :param known: made of the same host and options before; it is used again if its files are the same.
    :raises OSError, ValueError: as for `ClientSide`.
    """
    if not options.verify and not options.pin:
        _LOG.warn(
            "tls:{host}: the certificate of this target is not checked (verify=off):"
            " who stands between can read and change everything",
            host=host,
        )
    side = known
    if side is None or not side.is_current:
        side = ClientSide(host, options, read, seconds, run=run)
    side.warn_of_expiry()
    return side


def _named_files(options: Options) -> Iterator[str]:
    """
    The files of a target.

    :raises OSError: a directory among them cannot be read.
    """
    for path in (
        options.client_cert,
        options.client_key,
        options.client_key_password_file,
        options.target_crl,
    ):
        if path is not None:
            yield path
    if options.ca is not None and options.verify:
        yield from authority_files(options.ca)
