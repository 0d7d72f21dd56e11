# -*- test-case-name: tests.service.tls.test_listeners -*-
"""
Which certificate a ``tls:`` listener shows to whom: one reading of the files that ``cert=`` names.

Certificates for the same names with keys of different kinds are one choice: OpenSSL shows the one that the
client can use. In a directory, a file that is not good stops no other one: what it held before stays in use.
"""

from __future__ import annotations

import os
import ssl
import stat
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from hashlib import sha256

from attrs import evolve, frozen

from portfwd.rules.model import ListenOptions
from portfwd.service.tls.certificates import (
    Pair,
    authority_files,
    pair_files,
    read_file,
    read_pair,
    read_password,
)
from portfwd.service.tls.context import load_pair, new_context, refuse_revoked, trust_file
from portfwd.service.tls.files import Unusable


@frozen(eq=False)
class ShownCertificate:
    """
    A context, and the certificates that it may show: for the same names, each with a key of another kind.

    :ivar digest: of all files that it was made of.
    """

    context: ssl.SSLContext
    pairs: tuple[Pair, ...]
    digest: bytes


@frozen(eq=False)
class Certificates:
    """
    One reading of all that ``cert=`` names.

    :ivar first: shown to those who ask for no name, or for one that nobody has.
    :ivar by_name: those with a name; ``*.example.com`` stands for one more label.
    :ivar shown: all of them, in the order of their files.
    :ivar problems: what is wrong with files of a directory beside which others are good.
    """

    first: ssl.SSLContext
    by_name: Mapping[str, ssl.SSLContext]
    shown: tuple[ShownCertificate, ...]
    problems: tuple[str, ...] = ()

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """What was read."""
        return tuple(pair for one in self.shown for pair in one.pairs)

    def find(self, name: str) -> ssl.SSLContext | None:
        """The context for `name`, in small letters and without a dot at its end."""
        _, _, rest = name.partition(".")
        return self.by_name.get(name) or self.by_name.get(f"*.{rest}")


def named_files(options: ListenOptions) -> Iterator[str]:
    """
    Every file that `read_certificates` reads.

    :raises OSError, ValueError: as it does.
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
    The certificates that ``cert=`` names, and what is wrong with files of a directory, by the file's name.

    :raises OSError, ValueError: there is none that is good.
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

    :param before: what was read before with the same options: contexts of files that have not changed are
        taken over, so that clients go on resuming their sessions; and those of files that are not good.
    :param new: take over only the latter; so it is with ``keylog=``, which a context keeps open.
    :raises OSError: a file cannot be read.
    :raises ValueError: what is in it is not good; it is named.
    """
    pairs, problems = read_pairs(options)
    old = () if before is None else before.shown
    kept = [one for one in old if any(pair.cert in problems for pair in one.pairs)]
    spoken_for = {pair.cert for one in kept for pair in one.pairs}
    known = {} if new or options.keylog is not None else {one.digest: one for one in old}
    shown = list(kept)
    for group in _groups(pair for pair in pairs if pair.cert not in spoken_for):
        digest = _digest(options, group)
        made = known.get(digest)
        if made is None:
            made = ShownCertificate(_context(options, group), group, digest)
            if digest != _digest(options, group):
                # A file changed while it was read: the next reading makes another one.
                made = ShownCertificate(made.context, group, b"")
        shown.append(evolve(made, pairs=group))
    order = {cert: number for number, (cert, _) in enumerate(pair_files(options.cert or "", options.key))}
    shown.sort(key=lambda one: order.get(one.pairs[0].cert, 0))
    by_name: dict[str, ssl.SSLContext] = {}
    # One that has expired must not stand before a good one for the same name.
    for one in sorted(shown, key=lambda one: not all(pair.since <= now < pair.until for pair in one.pairs)):
        for name in one.pairs[0].names:
            by_name.setdefault(name, one.context)
    return Certificates(shown[0].context, by_name, tuple(shown), tuple(problems.values()))


def _groups(pairs: Iterable[Pair]) -> list[tuple[Pair, ...]]:
    """Pairs for the same names with keys of different kinds together, in the order of the first of each."""
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
        trust_file(context, options.client_ca, read_file)
        optional = options.verify_client == "optional"
        context.verify_mode = ssl.CERT_OPTIONAL if optional else ssl.CERT_REQUIRED
    elif options.verify_client is not None or options.client_name or options.crl is not None:
        raise Unusable("clients' certificates are checked against nothing", "write client-ca=FILE")
    if options.crl is not None:
        refuse_revoked(context, options.crl, read_file)
    if options.alpn:
        context.set_alpn_protocols(list(options.alpn))
    if options.keylog is not None:
        # Whoever reads it reads everything: it is made for its owner alone.
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        # Without O_NONBLOCK the opening of a FIFO waits for somebody who reads it.
        flags |= getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
        if os.path.exists(options.keylog):
            judge_keylog(options.keylog, os.stat(options.keylog))  # the opening of a FIFO says less
        descriptor = os.open(options.keylog, flags, 0o600)
        try:
            judge_keylog(options.keylog, os.fstat(descriptor))
        finally:
            os.close(descriptor)
        context.keylog_filename = options.keylog
    return context


def judge_keylog(path: str, found: os.stat_result) -> None:
    """
    Refuse a file of secrets that somebody else can read, and what is no file.

    :raises ValueError: it says what to do.
    """
    if not stat.S_ISREG(found.st_mode) and not stat.S_ISCHR(found.st_mode):
        raise Unusable(f"keylog={path}: it is no regular file", "remove it, and a file is made")
    if found.st_uid != os.geteuid():
        raise Unusable(f"keylog={path}: this file belongs to another user", "remove it, and it is made anew")
    if stat.S_ISREG(found.st_mode) and found.st_mode & 0o077:
        raise Unusable(
            f"keylog={path}: others than its owner have access to this file (mode"
            f" {found.st_mode & 0o777:04o}), and it decrypts every session",
            "'chmod 600' it",
        )
