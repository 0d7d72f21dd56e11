# -*- test-case-name: tests.service.tls.test_problems -*-
"""
Problems of the certificates, keys and authorities that rules name, for ``portfwd check``.

The functions that read the files at a start are used here too, so both give the same messages. This module
adds the place of each problem in the rules file.

=====================  ==================================================================
code                   meaning
=====================  ==================================================================
bad-tls                an error: a file or a setting of TLS with which the rules cannot be started
bad-certificate        a file of a directory that cannot be used; the others are used
certificate-expires    a certificate has expired, expires within two weeks, or is not valid yet
chain-broken           a certificate of a file is not signed by the next one
chain-incomplete       the authority's intermediate certificate is missing
list-expired           a revocation list that has expired
key-exposed            a private key that every user of the machine can read
session-secrets        ``keylog=`` writes secrets that decrypt every session
option-without-effect  see `portfwd.service.tls.client_values`
=====================  ==================================================================

It connects to no target, so certificates of targets are not checked.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID

from portfwd.errors import Location, Problem, Severity
from portfwd.rules.model import TLS_KINDS, ListenOptions, Options, Rule, Ruleset
from portfwd.service.build.target_texts import listener_options, target_options
from portfwd.service.tls.certificate_choice import read_pairs, try_keylog
from portfwd.service.tls.certificates import (
    Pair,
    authority_files,
    expiry,
    now_utc,
    read_chain,
    read_pair,
    read_password,
    read_revoked,
)
from portfwd.service.tls.client_values import client_value_problems
from portfwd.service.tls.files import files_of, located, missing, place_of, written_files
from portfwd.service.tls.listeners import ServerSide
from portfwd.service.tls.targets import ClientSide
from portfwd.values import Side, printable


def tls_problems(
    ruleset: Ruleset,
    filters: Callable[[str], Sequence[tuple[str, Any]]] = lambda rule: (),
    now: Callable[[], datetime] = now_utc,
) -> tuple[Problem, ...]:
    """
    All problems, in the order of the rules. A problem that rules share at the same place is listed once.

    :param filters: returns name and factory of each ``filter`` clause of a rule; fewer if some are not valid.
    """
    found: list[Problem] = []
    for rule in ruleset.rules:
        found += _of_rule(rule, now())
        clauses = filters(rule.name)
        if len(clauses) == len(rule.filters):
            for spec, (_, factory) in zip(rule.filters, clauses, strict=True):
                found += _of_filter(spec.where, getattr(factory, "starts_tls", {}), now())
            found += client_value_problems(rule, clauses)
    return tuple(dict.fromkeys(found))


def _of_filter(where: Location, starts: Mapping[Side, Mapping[str, str]], now: datetime) -> Iterator[Problem]:
    """Warnings about the TLS that a filter starts. Errors are reported with the options of the filter."""
    for side, options in starts.items():
        if side is Side.CLIENT:
            listen = listener_options(options)
            yield from _of_server(listen, lambda name: where, now)
            if listen.keylog is not None:
                yield _keylog_warning(where)
        else:
            yield from _of_target(where, target_options(options), now)


def _of_rule(rule: Rule, now: datetime) -> Iterator[Problem]:
    if rule.listen.kind in TLS_KINDS:
        yield from _of_listener(rule, now)
    for target in rule.every_target():
        if target.kind not in TLS_KINDS:
            continue
        files = files_of(target, dict(rule.places))
        lacking = tuple(missing(files))
        yield from lacking
        if lacking:
            continue
        try:
            ClientSide(target.host, target.options)
        except (OSError, ValueError) as problem:
            yield located(files, target.where, problem)
        else:
            yield from _of_target(target.where, target.options, now)


def _of_listener(rule: Rule, now: datetime) -> Iterator[Problem]:
    places = dict(rule.places)
    listen, options = rule.listen, rule.listen.options
    where = places.get("cert", listen.where)
    files = files_of(listen, places)
    lacking = tuple(missing(files))
    yield from lacking
    if lacking:
        return
    try:
        problems = ServerSide.judge_options(options)
    except (OSError, ValueError) as problem:
        yield located(files, place_of(problem, places, where), problem)
    else:
        for text in problems:
            yield Problem(
                where, "bad-certificate", text, "repair or remove it; the others are used", Severity.WARNING
            )
        yield from _of_server(options, lambda name: places.get(name, where), now)
    if options.keylog is not None:
        there = places.get("keylog", listen.where)
        try:
            try_keylog(options.keylog)
        except (OSError, ValueError) as problem:
            yield located(written_files(listen, places), there, problem)
        yield _keylog_warning(there)


def _of_server(options: ListenOptions, place: Callable[[str], Location], now: datetime) -> Iterator[Problem]:
    """Warnings about files that can be used; `place` returns the place of an option."""
    for pair in read_pairs(options)[0]:
        yield from _of_pair(place("cert"), pair, now)
    if options.client_ca is not None:
        yield from _of_authorities(place("client-ca"), options.client_ca, now)
    if options.crl is not None:
        yield from _of_lists(place("crl"), options.crl, now)
    if options.key_password_file is not None:
        yield from _exposed(place("key-password-file"), options.key_password_file, "password")


def _keylog_warning(where: Location) -> Problem:
    return _warning(
        where,
        "session-secrets",
        "everybody who can read this file can decrypt every session",
        "delete keylog= when you no longer need it",
    )


def _of_target(where: Location, options: Options, now: datetime) -> Iterator[Problem]:
    if options.client_cert is not None:
        password = read_password(options.client_key_password_file)
        yield from _of_pair(where, read_pair(options.client_cert, options.client_key, password=password), now)
    if options.client_key_password_file is not None:
        yield from _exposed(where, options.client_key_password_file, "password")
    if options.ca is not None and options.verify:
        yield from _of_authorities(where, options.ca, now)
    if options.target_crl is not None:
        yield from _of_lists(where, options.target_crl, now)


def _of_pair(where: Location, pair: Pair, now: datetime) -> Iterator[Problem]:
    yield from _expiry(where, pair.cert, pair.until, now, pair.since)
    chain = read_chain(pair.cert)
    for one in chain[1:]:
        said = expiry(pair.cert, one.not_valid_after_utc, now, one.not_valid_before_utc)
        if said:
            text = said.replace("the certificate", f"the intermediate certificate '{_name(one)}'", 1)
            way_out = _way_out("replace it with the authority's new one", now, one.not_valid_before_utc)
            yield _warning(where, "certificate-expires", text, way_out)
    for child, parent in pairwise(chain):
        if child.issuer != parent.subject:
            yield _warning(
                where,
                "chain-broken",
                f"{pair.cert}: '{_name(child)}' is not signed by the next one, '{_name(parent)}'",
                "write the certificate first, and after each one that of its authority",
            )
            return
    if _lacks_intermediate(chain[-1], alone=len(chain) == 1):
        yield _warning(
            where,
            "chain-incomplete",
            f"{pair.cert}: the intermediate certificate '{_issuer(chain[-1])}' is missing: most clients will"
            " not trust this one",
            "append it: certbot's file with both is fullchain.pem",
        )
    yield from _exposed(where, pair.key, "private key")


def _lacks_intermediate(last: x509.Certificate, *, alone: bool) -> bool:
    """
    Whether the intermediate certificate after `last` is missing, because `last` names where to get it.

    Such a pointer (RFC 5280 section 4.2.2.1, id-ad-caIssuers) in the first certificate leads to an
    intermediate. In an intermediate it often leads to a root, so only a certificate alone is checked.
    """
    if not alone or last.issuer == last.subject:
        return False
    try:
        found = last.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except (x509.ExtensionNotFound, ValueError):
        return False
    return any(one.access_method == AuthorityInformationAccessOID.CA_ISSUERS for one in found)


def _name(certificate: x509.Certificate) -> str:
    return printable(certificate.subject.rfc4514_string())


def _issuer(certificate: x509.Certificate) -> str:
    return printable(certificate.issuer.rfc4514_string())


def _of_authorities(where: Location, path: str, now: datetime) -> Iterator[Problem]:
    for file in authority_files(path):
        for authority in read_chain(file):
            until, since = authority.not_valid_after_utc, authority.not_valid_before_utc
            yield from _expiry(where, file, until, now, since)


def _of_lists(where: Location, path: str, now: datetime) -> Iterator[Problem]:
    until = read_revoked(path)
    if until <= now:
        yield _warning(
            where,
            "list-expired",
            f"{path}: a revocation list expired on {until:%Y-%m-%d}, so every certificate of its authority is"
            " refused",
            "fetch the authority's new one",
        )


def _expiry(where: Location, path: str, until: datetime, now: datetime, since: datetime) -> Iterator[Problem]:
    said = expiry(path, until, now, since)
    if said:
        yield _warning(where, "certificate-expires", said, _way_out("renew it", now, since))


def _way_out(renew: str, now: datetime, since: datetime) -> str:
    """What to do about a date: `renew`, unless the certificate is not valid yet."""
    if since <= now:
        return renew
    return f"check the clock of this machine ({now:%Y-%m-%d %H:%M} UTC), or wait until then"


def _exposed(where: Location, path: str, what: str) -> Iterator[Problem]:
    """A warning if all users can read a key. A group may read it, such as ``ssl-cert`` of Debian."""
    if os.stat(path).st_mode & stat.S_IROTH:
        yield _warning(
            where,
            "key-exposed",
            f"{path}: every user of this machine can read this {what}",
            f"chmod o= {path}",
        )


def _warning(where: Location, code: str, text: str, way_out: str) -> Problem:
    return Problem(where, code, text, way_out, Severity.WARNING)
