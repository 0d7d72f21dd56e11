# -*- test-case-name: tests.service.tls.test_listeners -*-
"""
What a ``tls:`` listener shows and asks for, from its options; read again when the files change.

Connections that are open keep what they were made with. A new pair that is not
good is reported once, and the old one stays. It refuses to touch a socket.
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

#: Seconds for which the keys last that OpenSSL encrypts tickets with: who steals them can decrypt sessions of
#: TLS 1.2 that were resumed. A new key costs each client one full handshake.
TICKET_KEYS_LAST: Final = 86400.0

#: Alternative names that `client-name=` can admit, in Python's words. The others have no text: a name in a
#: directory has parts, and of any other kind Python only says that it is ``<unsupported>``.
NAME_KINDS: Final = frozenset({"DNS", "IP Address", "email", "URI"})


def names_shown(certificate: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    """
    Who a verified certificate (of `ssl.SSLObject.getpeercert`) is about.

    :returns: its common name, and that and all alternative names: hosts, addresses of mail, URIs.
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
    What a word of ``client-name=`` matches, in small letters: ``*`` is any run of characters.

    A host with letters beyond ASCII is matched in its ``xn--`` form too, which is how certificates have it.
    """
    forms = [written.lower()]
    try:
        forms.append(ascii_host(written.lower()))
    except ValueError:
        pass  # it is no host: the name of a person, say
    texts = dict.fromkeys(".*".join(map(re.escape, form.split("*"))) for form in forms)
    return re.compile("|".join(texts), re.DOTALL)


class ServerSide:
    """
    Makes the server's end of TLS for the clients of one listener; a `TLSSide`.

    :ivar certificates: those that the next client is shown.
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

        OpenSSL encrypts the tickets of a context with keys of its own, so what has not changed
        is taken over: clients go on resuming their sessions.

        :param name: the rule's, for the log.
        :param seconds: the reactor's clock.
        :param before: what served the same listener before a reload.
        :param run: runs what reads the files again.
        :raises OSError: a file cannot be read.
        :raises ValueError: what is in it is not good; it is named.
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
        self._tell_problems(())
        self.warn_of_expiry()

    def __repr__(self) -> str:
        return f"<ServerSide {self._name} certificates={len(self.certificates.pairs)}>"

    # The files

    @classmethod
    def judge_options(cls, name: str, options: ListenOptions) -> tuple[str, ...]:
        """
        Try whether `options` would do, and keep nothing.

        :returns: what is wrong with files of a directory beside which others are good.
        :raises OSError, ValueError: as for a new side.
        """
        return cls(name, evolve(options, keylog=None), lambda: 0.0).certificates.problems

    @property
    def pairs(self) -> Sequence[Pair]:
        """The certificates that are shown."""
        return self.certificates.pairs

    def _tell_problems(self, told: Sequence[str]) -> None:
        for problem in self.certificates.problems:
            if problem not in told:
                self._log.error(
                    "{rule}: a certificate is not good, and the others are used: {problem}",
                    rule=self._name,
                    problem=problem,
                )

    def warn_of_expiry(self) -> None:
        """Warn of certificates that have expired or soon will, and of what ``keylog=`` does."""
        for pair in self.certificates.pairs:
            warning = expiry(pair.cert, pair.until, self._now(), pair.since)
            if warning:
                self._log.warn("{rule}: {problem}", rule=self._name, problem=warning)
        if self._options.keylog is not None:
            self._log.warn(
                "{rule}: keylog= writes what decrypts every session to {path}",
                rule=self._name,
                path=self._options.keylog,
            )

    def _look(self) -> None:
        """Have the files read again if they are others than before, and it is time to look."""
        if not self._watch.due:
            return
        new = self._seconds() - self._keys_made_at >= TICKET_KEYS_LAST
        if new:
            self._keys_made_at = self._seconds()  # if that is not possible now, it is tomorrow
        self._renewal.look(
            partial(read_certificates, self._options, self._now(), self.certificates, new=new),
            self._renewed,
            always=new,
        )

    def _renewed(self, renewed: Renewed[Certificates]) -> None:
        if renewed.made is not None:
            told = self.certificates.problems
            self.certificates = renewed.made
            self._tell_problems(told)
            self.warn_of_expiry()
        if renewed.changed and renewed.problem:
            self._log.error(
                "{rule}: the new certificates are not good, the old ones stay: {problem}",
                rule=self._name,
                problem=renewed.problem,
            )
        elif renewed.changed:
            self._log.info("{rule}: {count} read again", rule=self._name,
                           count=counted(len(self.certificates.pairs), "certificate"))  # fmt: skip

    # Connections

    def start(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, hello: ClientHello) -> ssl.SSLObject:
        """See `TLSSide`: the name that the client asks for chooses the certificate."""
        self._look()
        options, name = self._options, hello.server_name
        context = self.certificates.find(name)
        if context is None and options.unknown_name == "refuse":
            asked = f"asks for '{printable(name)}', a name of no certificate" if name else "asks for no name"
            raise HandshakeRefused(f"the client {asked}, and unknown-name=refuse", UNRECOGNIZED_NAME)
        if options.alpn_mismatch == "refuse" and hello.alpn and not self._shares_protocol(hello):
            # RFC 7301 section 3.2: "the server SHALL respond with a fatal 'no_application_protocol' alert"
            offered = printable(", ".join(one.decode("latin-1") for one in hello.alpn))
            raise HandshakeRefused(
                f"the client offers none of the protocols of alpn=: it offers {offered}",
                NO_APPLICATION_PROTOCOL,
            )
        if hello.finite_field and options.curve is None:
            # OpenSSL takes 4 to 160 ms for it, all sessions wait meanwhile, and Python cannot switch it off.
            raise HandshakeRefused(
                "the client wants a key exchange in a finite field (ffdhe), which is too slow to be offered",
                HANDSHAKE_FAILURE,
            )
        chosen = context or self.certificates.first
        if options.resume:
            return chosen.wrap_bio(incoming, outgoing, server_side=True)
        return begin_alone(chosen, incoming, outgoing, min_version=options.min_version, curve=options.curve)

    def _shares_protocol(self, hello: ClientHello) -> bool:
        return not self._alpn or not self._alpn.isdisjoint(hello.alpn)

    def judge(self, tls: ssl.SSLObject, hello: ClientHello) -> TLSInfo:
        """See `TLSSide`: ``client-name=`` says who may come in."""
        common, names = "", ()  # type: tuple[str, tuple[str, ...]]
        if self._options.client_ca is not None:
            common, names = names_shown(tls.getpeercert() or {})
        if self._allowed and not self._admits(names):
            shown = f"'{printable(common)}'" if common else "that was shown" if names else "that is missing"
            raise NotAdmitted(f"the client's certificate {shown} is none that client-name= admits")
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
        """See `TLSSide`; clients keep their sessions themselves (tickets, RFC 8446 section 4.6.1)."""
