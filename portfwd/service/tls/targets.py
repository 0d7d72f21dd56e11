# -*- test-case-name: tests.service.tls.test_targets -*-
"""
The client side of TLS for a ``tls:`` target, configured by its options.

The certificate of the target is checked against ``server-name=`` or the host of the target, which is a name
or an address. The trusted authorities are those of the system or of ``ca=``. With ``pin=`` the fingerprint is
checked. Files are read at build time, before ``--chroot`` and ``--uid`` take effect, and again when they
change.
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
from weakref import WeakValueDictionary

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
from portfwd.service.tls.files import while_reading
from portfwd.service.tls.renewal import Renewal, Renewed, Run, at_once
from portfwd.streams.transports.tls_failures import NotAdmitted
from portfwd.values import TLSInfo, ascii_host, is_literal
from portfwd.wire.client_hello import ClientHello

#: The authorities that distributions trust, for a Python whose OpenSSL has other default paths.
SYSTEM_BUNDLES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Alpine, Arch
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/ssl/cert.pem",  # BSD, macOS
)

#: The value of ``server-name=client`` and ``alpn=client``: take it from the handshake of the client.
CLIENT: Final = "client"

#: Time for which a stored session is resumed before it is replaced. Each read of `ssl.SSLObject.session`
#: leaks about 7 KiB (Python 3.11 at least), so the session of every connection is not stored. Servers keep
#: sessions for five minutes (nginx) to two hours (OpenSSL). An expired session costs a full handshake.
RENEW_AFTER: Final = timedelta(minutes=2)

#: Maximum number of stored sessions. With ``server-name=client`` clients choose the server names.
MAX_NAMES: Final = 64


def _trust_system(context: ssl.SSLContext) -> None:
    paths = ssl.get_default_verify_paths()
    if paths.cafile is None and paths.capath is None:
        for bundle in SYSTEM_BUNDLES:
            if os.path.exists(bundle):
                context.load_verify_locations(bundle)
                return
    context.load_default_certs()


@frozen
class _Offer:
    """
    What the ClientHello of one connection offers.

    :ivar name: server name for SNI and for the check of the certificate.
    :ivar alpn: the offered protocols.
    """

    name: str
    alpn: tuple[str, ...]


@define
class _LoadedFiles:
    """
    The result of reading the files once.

    :ivar read: returns the bytes of a file as they were read, for further contexts.
    :ivar pairs: the client certificate, if there is one.
    :ivar first: a context that is not used yet.
    """

    read: Callable[[str], bytes]
    pairs: tuple[Pair, ...]
    first: ssl.SSLContext | None


@frozen
class _StoredSession:
    """
    A session that connections resume.

    :ivar session: None if the server sent no ticket.
    :ivar since: the time at which it was stored, or at which no ticket was found.
    """

    session: ssl.SSLSession | None
    since: datetime


def certificate_name(host: str) -> str:
    """
    The name of a host in the form of certificates.

    :raises ValueError: it cannot be a name in a certificate.
    """
    # RFC 6066 section 3: the name "is represented … without a trailing dot"; so is a certificate's.
    name = ascii_host(host.partition("%")[0].removesuffix("."))
    if not is_literal(name):
        try:
            name.encode("idna")  # `ssl` does the same; for an ASCII name it only checks the length of labels
        except UnicodeError as problem:
            raise ValueError(f"{name}: this cannot be a name in a certificate: {problem}") from problem
    return name


class ClientSide:
    """Starts TLS to one target as a client, and resumes sessions; a `TLSSide` and a `TLSTarget`."""

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
        label: str = "",
    ) -> None:
        """
        Read the files.

        :param label: rule and target, for the log as long as `users` is empty.
        :param read: returns the bytes of a file.
        :param seconds: the reactor's clock; None to never check the files for changes.
        :param run: runs the function that reads the files again.
        :raises OSError: a file cannot be read.
        :raises ValueError: the content of a file cannot be used (the message names the file), or the host
            cannot be a name in a certificate.
        """
        self.accepts_eof = options.eof == "accept"
        self._options = options
        self._read = read
        self._now = now
        self._label = label or f"tls:{host}"
        #: The live rules that have this side, by rule and target, for the log.
        self.users: WeakValueDictionary[str, object] = WeakValueDictionary()
        self._takes_client_name = options.server_name == CLIENT
        written = None if self._takes_client_name else options.server_name
        name = certificate_name(written or host)
        if not name and options.verify and not options.pin:
            raise ValueError(
                "a target without a host needs server-name=, the name that its certificate must contain"
            )
        alpn = () if options.target_alpn == (CLIENT,) else options.target_alpn
        self._usual = _Offer(name, alpn)
        self._watch = None if seconds is None else FileWatch(partial(_named_files, options), seconds)
        self._renewal: Renewal[_LoadedFiles] | None = None
        if self._watch is not None:
            self._renewal = Renewal(self._watch, run)
        self._contexts: dict[tuple[str, ...], ssl.SSLContext] = {}
        self.sessions: OrderedDict[_Offer, _StoredSession] = OrderedDict()
        self._is_good = True
        self._files = self._read_again()
        self.pairs: tuple[Pair, ...] = self._files.pairs
        self._context(alpn)

    def __repr__(self) -> str:
        return f"<ClientSide {self._usual.name}>"

    @property
    def _who(self) -> str:
        """The rule and target that the log names; several targets can share a side."""
        users = list(self.users.keys())
        if not users:
            return self._label
        return users[0] if len(users) == 1 else f"{users[0]} and {len(users) - 1} more"

    def _context(self, alpn: tuple[str, ...]) -> ssl.SSLContext:
        """The context of connections that offer these protocols."""
        context = self._contexts.get(alpn)
        if context is None:
            context = self._contexts[alpn] = self._files.first or self._new_context(self._files.read)[0]
            self._files.first = None
            if alpn:
                context.set_alpn_protocols(list(alpn))
        return context

    def _read_again(self) -> _LoadedFiles:
        """Read the files. Runs in a thread, except at a start."""
        remembered: dict[str, bytes] = {}
        read_now = (
            self._read
        )  # the stored `read` must not refer to `self`, which would make a reference cycle

        def read(path: str) -> bytes:
            if path not in remembered:
                remembered[path] = read_now(path)
            return remembered[path]

        context, pairs = self._new_context(read)
        return _LoadedFiles(read, pairs, context)

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
            with while_reading("ca"):
                trust_file(context, options.ca, read)
        else:
            _trust_system(context)
        if options.target_crl is not None:
            with while_reading("crl"):
                refuse_revoked(context, options.target_crl, read)
        if options.client_cert is not None:
            with while_reading("client-cert", "client-key", "client-key-password-file"):
                password = read_password(options.client_key_password_file, read)
                pair = read_pair(options.client_cert, options.client_key, read, password)
                load_pair(context, pair, read)
            pairs = (pair,)
        elif options.client_key is not None:
            raise ValueError(f"client-key={options.client_key}: there is no client-cert= for it")
        return context, pairs

    @property
    def watch(self) -> FileWatch | None:
        """The files, as they were read last."""
        return self._watch

    @property
    def is_current(self) -> bool:
        """Whether the files are unchanged. False for the system's authorities, which are not watched."""
        reads_system = self._options.ca is None and self._options.verify and not self._options.pin
        watch = self._watch
        return self._is_good and not reads_system and watch is not None and not watch.differs(watch.look())

    def check_files(self) -> None:
        """Start to read the files again if the next check is due and they have changed."""
        if self._renewal is not None and self._watch is not None and self._watch.due:
            self._renewal.look(self._read_again, self._renewed)

    def _renewed(self, renewed: Renewed[_LoadedFiles]) -> None:
        if renewed.changed:
            self._is_good = not renewed.problem
        if renewed.problem:
            self._log.error(
                "{who}: the new certificates cannot be used, the old ones stay in use: {problem}",
                who=self._who,
                problem=renewed.problem,
            )
        if renewed.made is None:
            return
        self._files = renewed.made
        self.pairs = self._files.pairs
        self._contexts = {}
        self.sessions.clear()  # they belong to the old contexts
        self._log.info("{who}: the certificates were read again", who=self._who)

    def warn_of_expiry(self) -> None:
        """Log a warning if the client certificate has expired or expires soon."""
        for pair in self.pairs:
            warning = expiry(pair.cert, pair.until, self._now(), pair.since)
            if warning:
                self._log.warn("{who}: {problem}", who=self._who, problem=warning)

    # Connections

    def for_client(self, client: TLSInfo | None) -> ClientSide | _OneConnection:
        """See `TLSTarget`."""
        name, alpn = self._usual.name, self._usual.alpn
        if client is not None:
            if self._takes_client_name and client.server_name:
                name = client.server_name
            if self._options.target_alpn == (CLIENT,) and client.alpn:
                alpn = (client.alpn,)
        offer = _Offer(name, alpn)
        return self if offer == self._usual else _OneConnection(self, offer)

    def for_name(self, name: str) -> ClientSide | _OneConnection:
        """See `TLSTarget`."""
        offer = _Offer(certificate_name(name), self._usual.alpn)
        return self if offer == self._usual else _OneConnection(self, offer)

    def start(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, hello: ClientHello) -> ssl.SSLObject:
        """See `TLSSide`."""
        return self.begin(incoming, outgoing, self._usual)

    def begin(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, offer: _Offer) -> ssl.SSLObject:
        """Start TLS of a connection with this offer."""
        self.check_files()
        kept = self.sessions.get(offer)
        # RFC 8446 appendix C.4 recommends to use a ticket once, so that observers cannot link connections.
        # They can link connections of portfwd by its address anyway.
        session = None if kept is None else kept.session
        return self._context(offer.alpn).wrap_bio(
            incoming, outgoing, server_side=False, server_hostname=offer.name or None, session=session
        )

    def judge(self, tls: ssl.SSLObject, hello: ClientHello) -> TLSInfo:
        """See `TLSSide`."""
        return self.verdict(tls, self._usual)

    def verdict(self, tls: ssl.SSLObject, offer: _Offer) -> TLSInfo:
        """
        Check ``pin=``, and return the properties of the session. Without it OpenSSL has checked the
        certificate.

        :raises NotAdmitted: the fingerprint is not in ``pin=``.
        """
        if self._options.pin:
            _check_pin(tls.getpeercert(binary_form=True) or b"", self._options.pin)
        cipher = tls.cipher()
        return TLSInfo(
            offer.name,
            tls.selected_alpn_protocol() or "",
            "",
            tls.version() or "",
            "" if cipher is None else cipher[0],
            bool(tls.session_reused),
        )

    def leave(self, tls: ssl.SSLObject) -> None:
        """See `TLSSide`."""
        self.keep(tls, self._usual)

    def keep(self, tls: ssl.SSLObject, offer: _Offer) -> None:
        """Store the session for connections with the same offer, at most once per `RENEW_AFTER`."""
        # A session of an old context cannot be resumed after the files were read again.
        if not self._options.target_resume or tls.context is not self._contexts.get(offer.alpn):
            return
        kept, now = self.sessions.get(offer), self._now()
        if kept is not None and now - kept.since < RENEW_AFTER:
            return
        session = tls.session
        if session is None or not session.has_ticket:
            session = None if kept is None else kept.session
        self.sessions[offer] = _StoredSession(session, now)
        self.sessions.move_to_end(offer)
        if len(self.sessions) > MAX_NAMES:
            self.sessions.popitem(last=False)


class _OneConnection:
    """A `TLSSide` for a connection whose offer differs from the usual one of its `ClientSide`."""

    speaks_first: Final = True

    def __init__(self, side: ClientSide, offer: _Offer) -> None:
        self.accepts_eof = side.accepts_eof
        self._side = side
        self._offer = offer

    def start(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, hello: ClientHello) -> ssl.SSLObject:
        """See `TLSSide`."""
        return self._side.begin(incoming, outgoing, self._offer)

    def judge(self, tls: ssl.SSLObject, hello: ClientHello) -> TLSInfo:
        """See `TLSSide`."""
        return self._side.verdict(tls, self._offer)

    def leave(self, tls: ssl.SSLObject) -> None:
        """See `TLSSide`."""
        self._side.keep(tls, self._offer)


def _check_pin(der: bytes, pins: Sequence[str]) -> None:
    found = sha256(der).hexdigest()
    if found in pins:
        return
    key = x509.load_der_x509_certificate(der).public_key()
    digest = sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
    if f"sha256//{base64.b64encode(digest).decode()}" not in pins:
        raise NotAdmitted(f"the certificate is not in pin=: its fingerprint is {found}")


def client_side(
    host: str,
    options: Options,
    read: Callable[[str], bytes] = read_file,
    seconds: Callable[[], float] | None = None,
    run: Run = at_once,
    known: ClientSide | None = None,
    label: str = "",
) -> ClientSide:
    """
    The `ClientSide` of a target on `host`. The other parameters are those of `ClientSide`.

    :param known: the previous side of the same host and options; it is returned if its files are unchanged.
    :raises OSError, ValueError: see `ClientSide`.
    """
    side = known
    if side is None or not side.is_current:
        side = ClientSide(host, options, read, seconds, run=run, label=label)
    side.warn_of_expiry()
    return side


def _named_files(options: Options) -> Iterator[str]:
    """
    The files that the options of a target name.

    :raises OSError: a directory cannot be read.
    :raises ValueError: a directory contains no certificates.
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
