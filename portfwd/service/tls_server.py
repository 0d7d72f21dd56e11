# -*- test-case-name: tests.service.test_tls_server -*-
"""
What a ``tls:`` listener shows and asks for, from its options; read again when the files change.

Connections that are open keep what they were made with. A new pair that is not
good is reported once, and the old one stays. It refuses to touch a socket.
"""

from __future__ import annotations

import os
import re
import ssl
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any, Final

from attrs import evolve, frozen
from twisted.logger import Logger

from portfwd.rules.model import ListenOptions
from portfwd.service.certificates import Pair, expiry, now_utc, pair_files, read_file, read_pair
from portfwd.service.tls import load_pair, new_context, trust_file
from portfwd.streams.tls_failures import NotAdmitted
from portfwd.values import TLSInfo, ascii_host, printable

#: Seconds between looks at the files' times; looks are made when clients come.
LOOK_EVERY: Final = 10.0

#: Alternative names that `client-name=` can admit, in Python's words. The others have no text: a name in a
#: directory has parts, and of any other kind Python only says that it is ``<unsupported>``.
NAME_KINDS: Final = frozenset({"DNS", "IP Address", "email", "URI"})

#: What a file looked like: its number, time and size, or None for one that is not there.
Signature = tuple[tuple[str, tuple[int, int, int] | None], ...]


@frozen(eq=False)
class Certificates:
    """
    One reading of all that ``cert=`` names.

    :ivar first: shown to those who ask for no name, or for one that nobody has.
    :ivar by_name: those with a name; ``*.example.com`` stands for one more label.
    :ivar pairs: what was read.
    :ivar contexts: those that a later reading may take over, by the digest of what they were made of.
    """

    first: ssl.SSLContext
    by_name: Mapping[str, ssl.SSLContext]
    pairs: tuple[Pair, ...]
    contexts: Mapping[bytes, ssl.SSLContext]

    def choose(self, name: str) -> ssl.SSLContext:
        """The context for `name`, in small letters and without a dot at its end; for nobody's the first."""
        _, _, rest = name.partition(".")
        return self.by_name.get(name) or self.by_name.get(f"*.{rest}") or self.first


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


def judge_keylog(path: str, found: os.stat_result) -> None:
    """
    Refuse a file of secrets that somebody else can read.

    :raises ValueError: it says what to do.
    """
    if found.st_uid != os.geteuid():
        raise ValueError(f"keylog={path}: this file belongs to another user; remove it, and it is made anew")
    if stat.S_ISREG(found.st_mode) and found.st_mode & 0o077:
        raise ValueError(
            f"keylog={path}: others than its owner have access to this file (mode"
            f" {found.st_mode & 0o777:04o}), and it decrypts every session; 'chmod 600' it"
        )


class ServerSide:
    """
    Makes the server's end of TLS for the clients of one listener; a `TLSSide`.

    :ivar certificates: those that the next client is shown.
    """

    speaks_first: Final = False
    _log = Logger()

    def __init__(
        self,
        name: str,
        options: ListenOptions,
        seconds: Callable[[], float],
        *,
        now: Callable[[], datetime] = now_utc,
        before: ServerSide | None = None,
    ) -> None:
        """
        Read the files.

        OpenSSL encrypts the tickets of a context with keys of its own, so what has not changed
        is taken over: clients go on resuming their sessions.

        :param name: the rule's, for the log.
        :param seconds: the reactor's clock.
        :param before: what served the same listener before a reload.
        :raises OSError: a file cannot be read.
        :raises ValueError: what is in it is not good; it is named.
        """
        self._name = name
        self._options = options
        self._seconds = seconds
        self._now = now
        self._allowed = tuple(name_pattern(one) for one in options.client_name)
        self._looked_at = seconds()
        self._signature = self._sign()
        known: Mapping[bytes, ssl.SSLContext] = {}
        if before is not None and before._options == options:
            known = before.certificates.contexts
        self.certificates: Certificates = self._read(known)
        self._warn_of_expiry()

    def __repr__(self) -> str:
        return f"<ServerSide {self._name} certificates={len(self.certificates.pairs)}>"

    # The files

    @classmethod
    def judge_options(cls, name: str, options: ListenOptions) -> None:
        """
        Try whether `options` would do, and make nothing.

        :raises OSError, ValueError: as for a new side.
        """
        cls(name, evolve(options, keylog=None), lambda: 0.0)

    @staticmethod
    def pairs(options: ListenOptions) -> list[Pair]:
        """
        The certificates that ``cert=`` names.

        :raises OSError, ValueError: as for a new side.
        """
        return [read_pair(cert, key) for cert, key in pair_files(options.cert or "", options.key)]

    def _files(self) -> Iterator[str]:
        options = self._options
        if options.cert is None:
            raise ValueError("a tls: listener needs a certificate: write cert=FILE before '->'")
        for cert, key in pair_files(options.cert, options.key):
            yield cert
            if key is not None:
                yield key
        if options.client_ca is not None:
            yield options.client_ca

    def _sign(self) -> Signature:
        return tuple((path, _look(path)) for path in self._files())

    def _read(self, known: Mapping[bytes, ssl.SSLContext]) -> Certificates:
        options = self._options
        if options.cert is None:
            raise ValueError("a tls: listener needs a certificate: write cert=FILE before '->'")
        made = []
        contexts: dict[bytes, ssl.SSLContext] = {}
        for cert, key in pair_files(options.cert, options.key):
            pair = read_pair(cert, key)
            digest = self._digest(pair)
            context = known.get(digest) or self._context(pair)
            if options.keylog is None and digest == self._digest(pair):
                # A context keeps its keylog open, and a file may change while it is read.
                contexts[digest] = context
            made.append((context, pair))
        first = made[0][0]
        by_name: dict[str, ssl.SSLContext] = {}
        for context, pair in made:
            for name in pair.names:
                by_name.setdefault(name, context)
        return Certificates(first, by_name, tuple(pair for _, pair in made), contexts)

    def _digest(self, pair: Pair) -> bytes:
        """Of all files that a context is made of."""
        paths = [pair.cert, pair.key]
        if self._options.client_ca is not None:
            paths.append(self._options.client_ca)
        return b"".join(sha256(read_file(path)).digest() for path in paths)

    def _context(self, pair: Pair) -> ssl.SSLContext:
        options = self._options
        context = new_context(server=True, ciphers=options.ciphers)
        load_pair(context, pair.cert, pair.key)
        if options.client_ca is not None:
            trust_file(context, options.client_ca, read_file)
            optional = options.verify_client == "optional"
            context.verify_mode = ssl.CERT_OPTIONAL if optional else ssl.CERT_REQUIRED
        elif options.verify_client is not None or self._allowed:
            raise ValueError("clients' certificates are checked against nothing: write client-ca=FILE")
        if options.alpn:
            context.set_alpn_protocols(list(options.alpn))
        if options.keylog is not None:
            # Whoever reads it reads everything: it is made for its owner alone.
            descriptor = os.open(options.keylog, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                judge_keylog(options.keylog, os.fstat(descriptor))
            finally:
                os.close(descriptor)
            context.keylog_filename = options.keylog
        return context

    def _warn_of_expiry(self) -> None:
        for pair in self.certificates.pairs:
            warning = expiry(pair.cert, pair.until, self._now())
            if warning:
                self._log.warn("{rule}: {problem}", rule=self._name, problem=warning)
        if self._options.keylog is not None:
            self._log.warn(
                "{rule}: keylog= writes what decrypts every session to {path}",
                rule=self._name,
                path=self._options.keylog,
            )

    def refresh(self) -> str:
        """
        Read the files again.

        :returns: what is wrong with them, and then the old ones stay; empty if all is well.
        """
        self._looked_at = self._seconds()
        try:
            signature = self._sign()
            certificates = self._read(self.certificates.contexts)
        except (OSError, ValueError) as problem:
            return str(problem)
        self._signature, self.certificates = signature, certificates
        self._warn_of_expiry()
        return ""

    def _look(self) -> None:
        """Read the files again if they are others than before, and it is time to look."""
        now = self._seconds()
        if now - self._looked_at < LOOK_EVERY:
            return
        self._looked_at = now
        try:
            signature = self._sign()
        except (OSError, ValueError) as problem:
            signature = ((str(problem), None),)
        if signature == self._signature:
            return
        self._signature = signature  # a bad pair is told of once
        wrong = self.refresh()
        if wrong:
            self._log.error(
                "{rule}: the new certificates are not good, the old ones stay: {problem}",
                rule=self._name,
                problem=wrong,
            )
        else:
            self._log.info("{rule}: {count} certificates were read again", rule=self._name,
                           count=len(self.certificates.pairs))  # fmt: skip

    # Connections

    def start(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, name: str) -> ssl.SSLObject:
        """See `TLSSide`."""
        self._look()
        return self.certificates.choose(name).wrap_bio(incoming, outgoing, server_side=True)

    def judge(self, tls: ssl.SSLObject, name: str) -> TLSInfo:
        """See `TLSSide`: ``client-name=`` says who may come in."""
        common, names = "", ()  # type: tuple[str, tuple[str, ...]]
        if self._options.client_ca is not None:
            common, names = names_shown(tls.getpeercert() or {})
        if self._allowed and not self._admits(names):
            shown = f"'{printable(common)}'" if common else "that was shown" if names else "that is missing"
            raise NotAdmitted(f"the client's certificate {shown} is none that client-name= admits")
        return TLSInfo(
            name,
            tls.selected_alpn_protocol() or "",
            common,
            tls.version() or "",
        )

    def _admits(self, names: Sequence[str]) -> bool:
        return any(one.fullmatch(name.lower()) for name in names for one in self._allowed)

    def leave(self, tls: ssl.SSLObject) -> None:
        """See `TLSSide`; clients keep their sessions themselves (tickets, RFC 8446 section 4.6.1)."""


def _look(path: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
