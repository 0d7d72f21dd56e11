# -*- test-case-name: tests.service.tls.test_listeners -*-
"""
Reads the files of ``cert=``, and chooses the certificate of a ``tls:`` listener by the server name.

Certificates for the same names with keys of different kinds share a context: OpenSSL chooses the one that the
client can use. If a file of a directory cannot be used, its previous certificate and all other files are
used.
"""

from __future__ import annotations

import errno
import os
import ssl
import stat
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from hashlib import sha256

from attrs import evolve, frozen

from portfwd.rules.model import ListenOptions
from portfwd.service.daemon.creating import try_to_create
from portfwd.service.tls.certificates import (
    Pair,
    authority_files,
    pair_files,
    read_file,
    read_pair,
    read_password,
)
from portfwd.service.tls.context import load_pair, new_context, refuse_revoked, trust_file
from portfwd.service.tls.files import Unusable, while_reading


@frozen(eq=False)
class ShownCertificate:
    """
    A context with its certificates, which are for the same names and have keys of different kinds.

    :ivar digest: digest of all its files.
    """

    context: ssl.SSLContext
    pairs: tuple[Pair, ...]
    digest: bytes


@frozen(eq=False)
class Certificates:
    """
    All certificates of ``cert=``, as read at one time.

    :ivar first: the context for clients without a server name, or with an unknown one.
    :ivar by_name: contexts by name; the ``*`` of ``*.example.com`` matches one label.
    :ivar shown: all certificates, in the order of their files.
    :ivar problems: problems of files in a directory in which other files can be used.
    :ivar kept: those of them whose previous certificate stays in use.
    """

    first: ssl.SSLContext
    by_name: Mapping[str, ssl.SSLContext]
    shown: tuple[ShownCertificate, ...]
    problems: tuple[str, ...] = ()
    kept: frozenset[str] = frozenset()

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """The certificates of all contexts."""
        return tuple(pair for one in self.shown for pair in one.pairs)

    def find(self, name: str) -> ssl.SSLContext | None:
        """The context for `name`, which is in lower case and has no trailing dot."""
        _, _, rest = name.partition(".")
        return self.by_name.get(name) or self.by_name.get(f"*.{rest}")


def named_files(options: ListenOptions) -> Iterator[str]:
    """
    The paths of all files that `read_certificates` reads.

    :raises OSError, ValueError: see `read_certificates`.
    """
    if options.cert is None:
        raise Unusable("a tls: listener needs a certificate", "write cert=FILE before '->'")
    for cert, key in pair_files(options.cert, options.key):
        yield cert
        if key is not None:
            yield key
    yield from _shared_files(options)


def _shared_files(options: ListenOptions) -> Iterator[str]:
    if options.client_ca is not None:
        yield from authority_files(options.client_ca)
    for path in (options.crl, options.key_password_file):
        if path is not None:
            yield path


def read_pairs(options: ListenOptions) -> tuple[list[Pair], dict[str, str]]:
    """
    The certificates of ``cert=``, and the problems of files in a directory by path.

    :raises OSError, ValueError: no certificate can be used.
    """
    if options.cert is None:
        raise Unusable("a tls: listener needs a certificate", "write cert=FILE before '->'")
    password = read_password(options.key_password_file)
    pairs: list[Pair] = []
    problems: dict[str, str] = {}
    several = os.path.isdir(options.cert)
    for cert, key in pair_files(options.cert, options.key):
        try:
            pairs.append(read_pair(cert, key, password=password))
        except (OSError, ValueError) as problem:
            if not several:
                raise
            problems[cert] = str(problem)
    if not pairs:
        raise ValueError("; ".join(problems.values()))
    return pairs, problems


def read_certificates(
    options: ListenOptions, now: datetime, before: Certificates | None = None, *, new: bool = False
) -> Certificates:
    """
    Read the files.

    :param before: the previous certificates of the same options. Contexts of unchanged files are taken over,
        so that clients can still resume their sessions. Contexts of files that cannot be used now are taken
        over too.
    :param new: make new contexts for unchanged files. ``keylog=`` has the same effect, because a context
        keeps that file open.
    :raises OSError: a file cannot be read.
    :raises ValueError: the content of a file cannot be used; the message names the file.
    """
    pairs, problems = read_pairs(options)
    old = () if before is None else before.shown
    kept = [one for one in old if any(pair.cert in problems for pair in one.pairs)]
    kept_files = {pair.cert for one in kept for pair in one.pairs}
    known = {} if new or options.keylog is not None else {one.digest: one for one in old}
    shown = list(kept)
    for group in _groups(pair for pair in pairs if pair.cert not in kept_files):
        digest = _digest(options, group)
        made = known.get(digest)
        if made is None:
            made = ShownCertificate(_context(options, group), group, digest)
            if digest != _digest(options, group):
                # A file changed while it was read. Without a digest the next reading makes a new context.
                made = ShownCertificate(made.context, group, b"")
        shown.append(evolve(made, pairs=group))
    order = {cert: number for number, (cert, _) in enumerate(pair_files(options.cert or "", options.key))}
    shown.sort(key=lambda one: order.get(one.pairs[0].cert, 0))
    by_name: dict[str, ssl.SSLContext] = {}
    # A valid certificate is preferred to an expired one for the same name.
    for one in sorted(shown, key=lambda one: not all(pair.since <= now < pair.until for pair in one.pairs)):
        for name in one.pairs[0].names:
            by_name.setdefault(name, one.context)
    stay = frozenset(problem for cert, problem in problems.items() if cert in kept_files)
    return Certificates(shown[0].context, by_name, tuple(shown), tuple(problems.values()), stay)


def _groups(pairs: Iterable[Pair]) -> list[tuple[Pair, ...]]:
    """Group pairs that have the same names and keys of different kinds, in the order of their first pair."""
    groups: list[list[Pair]] = []
    for pair in pairs:
        for group in groups:
            same = set(group[0].names) == set(pair.names) and group[0].names
            if same and pair.kind not in {one.kind for one in group}:
                group.append(pair)
                break
        else:
            groups.append([pair])
    return [tuple(group) for group in groups]


def _digest(options: ListenOptions, group: tuple[Pair, ...]) -> bytes:
    paths = [path for pair in group for path in (pair.cert, pair.key)]
    return b"".join(sha256(read_file(path)).digest() for path in (*paths, *_shared_files(options)))


def _context(options: ListenOptions, group: tuple[Pair, ...]) -> ssl.SSLContext:
    context = new_context(
        server=True,
        ciphers=options.ciphers,
        min_version=options.min_version,
        curve=options.curve,
        resume=options.resume,
    )
    for pair in group:
        load_pair(context, pair)
    if options.client_ca is not None:
        with while_reading("client-ca"):
            trust_file(context, options.client_ca, read_file)
        optional = options.verify_client == "optional"
        context.verify_mode = ssl.CERT_OPTIONAL if optional else ssl.CERT_REQUIRED
    elif options.verify_client is not None or options.client_name or options.crl is not None:
        with while_reading(_checks_clients(options)):
            raise Unusable("there is no authority to check clients' certificates", "write client-ca=FILE")
    if options.crl is not None:
        with while_reading("crl"):
            refuse_revoked(context, options.crl, read_file)
    if options.alpn:
        context.set_alpn_protocols(list(options.alpn))
    if options.keylog is not None:
        # The file decrypts all sessions, so only its owner may read it.
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        # Without O_NONBLOCK opening a FIFO waits for a reader.
        flags |= getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
        try_keylog(options.keylog)  # the error of opening a FIFO is less clear
        descriptor = os.open(options.keylog, flags, 0o600)
        try:
            judge_keylog(options.keylog, os.fstat(descriptor))
        finally:
            os.close(descriptor)
        context.keylog_filename = options.keylog
    return context


def _checks_clients(options: ListenOptions) -> str:
    """An option that needs ``client-ca=``."""
    if options.crl is not None:
        return "crl"
    return "client-name" if options.client_name else "verify-client"


def try_keylog(path: str) -> None:
    """
    Check whether a start could open a ``keylog=``, without creating it.

    :raises OSError: it could not.
    :raises ValueError: `judge_keylog` refuses it.
    """
    try:
        found = os.stat(path)
    except FileNotFoundError:
        try_to_create(path)
        return
    judge_keylog(path, found)
    if not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)


def judge_keylog(path: str, found: os.stat_result) -> None:
    """
    Refuse a ``keylog=`` that other users can access, or that is not a file.

    :raises ValueError: it is refused; the message has the remedy.
    """
    if not stat.S_ISREG(found.st_mode) and not stat.S_ISCHR(found.st_mode):
        raise Unusable(f"keylog={path}: it is not a regular file", "remove it; a new file is created")
    if found.st_uid != os.geteuid():
        raise Unusable(
            f"keylog={path}: this file belongs to another user", "remove it; a new file is created"
        )
    if stat.S_ISREG(found.st_mode) and found.st_mode & 0o077:
        raise Unusable(
            f"keylog={path}: other users than its owner have access to this file (mode"
            f" {found.st_mode & 0o777:04o}), and it decrypts every session",
            "'chmod 600' it",
        )
