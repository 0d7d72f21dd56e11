# -*- test-case-name: tests.service.tls.test_listeners -*-
"""
The server side of TLS for a ``tls:`` listener, configured by its options. Changed files are read again.

Open connections are not affected by a change. If a new pair cannot be used, this is reported once and the old
one stays in use. This module uses no socket.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Final

from attrs import evolve
from twisted.logger import Logger

from portfwd.rules.model import ListenOptions
from portfwd.service.tls.certificate_choice import Certificates, named_files, read_certificates
from portfwd.service.tls.certificates import Pair, expiry, now_utc
from portfwd.service.tls.context import begin_alone
from portfwd.service.tls.file_watch import FileWatch
from portfwd.service.tls.renewal import Renewal, Renewed, Run, at_once
from portfwd.streams.transports.tls_failures import NotAdmitted
from portfwd.streams.transports.tls_side import (
    HANDSHAKE_FAILURE,
    NO_APPLICATION_PROTOCOL,
    UNRECOGNIZED_NAME,
    HandshakeRefused,
)
from portfwd.values import TLSInfo, ascii_host, counted, printable
from portfwd.wire.client_hello import ClientHello

#: Lifetime in seconds of the keys with which OpenSSL encrypts tickets. A stolen key decrypts resumed sessions
#: of TLS 1.2. A new key costs each client one full handshake.
TICKET_KEYS_LAST: Final = 86400.0

#: The kinds of alternative names that `client-name=` can admit, as Python's `ssl` names them. The other kinds
#: are no text: a directory name has parts, and for any other kind Python returns ``<unsupported>``.
NAME_KINDS: Final = frozenset({"DNS", "IP Address", "email", "URI"})


def names_shown(certificate: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    """
    The names in a verified certificate, given as `ssl.SSLObject.getpeercert` returns it.

    :returns: its common name; and a tuple of the common name and all alternative names: hosts, IP addresses,
        mail addresses and URIs.
    """
    common = ""
    for relative in certificate.get("subject", ()):
        for key, value in relative:
            if key == "commonName":
                common = value
    others = [value for kind, value in certificate.get("subjectAltName", ()) if kind in NAME_KINDS]
    return common, tuple(name for name in (common, *others) if name)


def name_pattern(written: str) -> re.Pattern[str]:
    """
    The pattern of a word of ``client-name=``, in lower case; ``*`` matches any run of characters.

    A host name with non-ASCII letters matches its ``xn--`` form too, which certificates contain.
    """
    forms = [written.lower()]
    try:
        forms.append(ascii_host(written.lower()))
    except ValueError:
        pass  # it is not a host name, but the name of a person, for example
    texts = dict.fromkeys(".*".join(map(re.escape, form.split("*"))) for form in forms)
    return re.compile("|".join(texts), re.DOTALL)


class ServerSide:
    """
    Starts TLS as a server for the clients of one listener; a `TLSSide`.

    :ivar certificates: the certificates for the next client.
    """

    speaks_first: Final = False
    accepts_eof: Final = False
    _log = Logger()

    def __init__(
        self,
        name: str,
        options: ListenOptions,
        seconds: Callable[[], float],
        *,
        now: Callable[[], datetime] = now_utc,
        before: ServerSide | None = None,
        run: Run = at_once,
    ) -> None:
        """
        Read the files.

        Each context of OpenSSL has its own keys for tickets. Unchanged contexts are taken over from `before`,
        so that clients can still resume their sessions.

        :param name: name of the rule, for the log.
        :param seconds: the reactor's clock.
        :param before: the side of the same listener before a reload.
        :param run: runs the function that reads the files again.
        :raises OSError: a file cannot be read.
        :raises ValueError: the content of a file cannot be used; the message names the file.
        """
        self._name = name
        self._options = options
        self._seconds = seconds
        self._now = now
        self._allowed = tuple(name_pattern(one) for one in options.client_name)
        self._alpn = frozenset(one.encode() for one in options.alpn)
        self._watch = FileWatch(lambda: named_files(options), seconds)
        self._renewal: Renewal[Certificates] = Renewal(self._watch, run)
        old = before if before is not None and before._options == options else None
        self._keys_made_at: float = seconds() if old is None else old._keys_made_at
        known = None if old is None else old.certificates
        self.certificates: Certificates = read_certificates(options, now(), known)
        self._log_problems(())
        self.warn_of_expiry()

    def __repr__(self) -> str:
        return f"<ServerSide {self._name} certificates={len(self.certificates.pairs)}>"

    # The files

    @staticmethod
    def judge_options(options: ListenOptions) -> tuple[str, ...]:
        """
        Check `options` by reading the files. Nothing is logged.

        :returns: the problems of files in a directory in which other files can be used.
        :raises OSError, ValueError: as for a new side.
        """
        return read_certificates(evolve(options, keylog=None), now_utc()).problems

    @property
    def watch(self) -> FileWatch:
        """The files, as they were read last."""
        return self._watch

    @property
    def pairs(self) -> Sequence[Pair]:
        """The certificates in use."""
        return self.certificates.pairs

    def _log_problems(self, known: Sequence[str]) -> None:
        for problem in self.certificates.problems:
            if problem not in known:
                self._log.error(
                    "{rule}: a certificate cannot be used, {instead}: {problem}",
                    rule=self._name,
                    instead="its previous one stays in use"
                    if problem in self.certificates.kept
                    else "the others are used",
                    problem=printable(problem),  # it may quote the name of a file
                )

    def warn_of_expiry(self) -> None:
        """Log warnings about certificates that have expired or expire soon, and about ``keylog=``."""
        for pair in self.certificates.pairs:
            warning = expiry(pair.cert, pair.until, self._now(), pair.since)
            if warning:
                self._log.warn("{rule}: {problem}", rule=self._name, problem=warning)
        if self._options.keylog is not None:
            self._log.warn(
                "{rule}: keylog= writes secrets that decrypt every session to {path}",
                rule=self._name,
                path=self._options.keylog,
            )

    def check_files(self) -> None:
        """Start to read the files again if the next check is due and they have changed."""
        if not self._watch.due:
            return
        new = self._seconds() - self._keys_made_at >= TICKET_KEYS_LAST
        if new:
            self._keys_made_at = self._seconds()  # if reading fails, the next try is after `TICKET_KEYS_LAST`
        self._renewal.look(
            partial(read_certificates, self._options, self._now(), self.certificates, new=new),
            self._renewed,
            always=new,
        )

    def _renewed(self, renewed: Renewed[Certificates]) -> None:
        if renewed.made is not None:
            known = self.certificates.problems
            self.certificates = renewed.made
            self._log_problems(known)
            self.warn_of_expiry()
        if renewed.changed and renewed.problem:
            self._log.error(
                "{rule}: the new certificates cannot be used, the old ones stay in use: {problem}",
                rule=self._name,
                problem=renewed.problem,
            )
        elif renewed.changed:
            self._log.info("{rule}: {count} read again", rule=self._name,
                           count=counted(len(self.certificates.pairs), "certificate"))  # fmt: skip

    # Connections

    def start(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, hello: ClientHello) -> ssl.SSLObject:
        """See `TLSSide`. The server name in the ClientHello chooses the certificate."""
        self.check_files()
        options, name = self._options, hello.server_name
        context = self.certificates.find(name)
        if context is None and options.unknown_name == "refuse":
            asked = (
                f"asks for '{printable(name)}', which no certificate contains" if name else "asks for no name"
            )
            raise HandshakeRefused(f"the client {asked}, and unknown-name=refuse", UNRECOGNIZED_NAME)
        if options.alpn_mismatch == "refuse" and hello.alpn and not self._shares_protocol(hello):
            # RFC 7301 section 3.2: "the server SHALL respond with a fatal 'no_application_protocol' alert"
            offered = printable(", ".join(one.decode("latin-1") for one in hello.alpn))
            raise HandshakeRefused(
                f"the client offers none of the protocols of alpn=: it offers {offered}",
                NO_APPLICATION_PROTOCOL,
            )
        if hello.finite_field and options.curve is None:
            # OpenSSL needs 4 to 160 ms for it and blocks all sessions, and Python cannot switch it off.
            raise HandshakeRefused(
                "the client requires a finite-field key exchange (ffdhe), which is too slow to be offered",
                HANDSHAKE_FAILURE,
            )
        chosen = context or self.certificates.first
        if options.resume:
            return chosen.wrap_bio(incoming, outgoing, server_side=True)
        return begin_alone(chosen, incoming, outgoing, min_version=options.min_version, curve=options.curve)

    def _shares_protocol(self, hello: ClientHello) -> bool:
        return not self._alpn or not self._alpn.isdisjoint(hello.alpn)

    def judge(self, tls: ssl.SSLObject, hello: ClientHello) -> TLSInfo:
        """See `TLSSide`. ``client-name=`` lists the admitted names."""
        common, names = "", ()  # type: tuple[str, tuple[str, ...]]
        if self._options.client_ca is not None:
            common, names = names_shown(tls.getpeercert() or {})
        if self._allowed and not self._admits(names):
            shown = (
                f" '{printable(common)}'" if common else "" if names else ", which has no name or is missing"
            )
            raise NotAdmitted(f"client-name= does not admit the client's certificate{shown}")
        cipher = tls.cipher()
        return TLSInfo(
            hello.server_name,
            tls.selected_alpn_protocol() or "",
            common or (names[0] if names else ""),
            tls.version() or "",
            "" if cipher is None else cipher[0],
            bool(tls.session_reused),
        )

    def _admits(self, names: Sequence[str]) -> bool:
        return any(one.fullmatch(name.lower()) for name in names for one in self._allowed)

    def leave(self, tls: ssl.SSLObject) -> None:
        """See `TLSSide`. Nothing to do: clients store their sessions (tickets, RFC 8446 section 4.6.1)."""
