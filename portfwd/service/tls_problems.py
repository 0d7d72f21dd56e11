# -*- test-case-name: tests.service.test_tls_problems -*-
"""
What is wrong with the certificates, keys and authorities that rules name: for ``portfwd check``.

The same functions read the files that read them at a start, so that both say the same; here
each problem gets its place.

=====================  ==================================================================
code                   meaning
=====================  ==================================================================
bad-tls                an error: a file or a setting of TLS that rules cannot be started with
certificate-expires    a certificate has expired, or will within two weeks
key-exposed            a private key that every user of the machine can read
session-secrets        ``keylog=`` writes what decrypts every session
=====================  ==================================================================

It refuses to ask anybody for a certificate: what a target shows is not looked at.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from datetime import datetime

from portfwd.rules.diagnostics import Location, Problem, Severity
from portfwd.rules.model import Kind, Options, Rule, Ruleset
from portfwd.service.certificates import expiry, now_utc, pair_files, read_chain, read_pair
from portfwd.service.tls import client_side
from portfwd.service.tls_server import ServerSide, judge_keylog


def tls_problems(ruleset: Ruleset, now: Callable[[], datetime] = now_utc) -> tuple[Problem, ...]:
    """Every problem, in the order of the rules; what several rules share is told once a place."""
    found = (problem for rule in ruleset.rules for problem in _about(rule, now()))
    return tuple(dict.fromkeys(found))


def _about(rule: Rule, now: datetime) -> Iterator[Problem]:
    places = dict(rule.places)
    listen, options = rule.listen, rule.listen.options
    if listen.kind is Kind.TLS:
        where = places.get("cert", listen.where)
        try:
            ServerSide.judge_options(rule.name, options)
        except (OSError, ValueError) as problem:
            yield _error(where, problem)
        else:
            for pair in ServerSide.pairs(options):
                yield from _expiry(where, pair.cert, pair.until, now)
                yield from _exposed(where, pair.key)
        if options.keylog is not None:
            there = places.get("keylog", listen.where)
            try:
                judge_keylog(options.keylog, os.stat(options.keylog))
            except ValueError as problem:
                yield _error(there, problem)
            except OSError:  # it is not there yet, or a start will say why it cannot be had
                pass
            yield Problem(
                there,
                "session-secrets",
                "whoever reads this file can decrypt every session",
                "delete keylog= when you have seen what you wanted to see",
                Severity.WARNING,
            )
    for target in rule.every_target():
        if target.kind is not Kind.TLS:
            continue
        try:
            client_side(target.host, target.options)
        except (OSError, ValueError) as problem:
            yield _error(target.where, problem)
        else:
            yield from _of_target(target.where, target.options, now)


def _of_target(where: Location, options: Options, now: datetime) -> Iterator[Problem]:
    if options.client_cert is not None:
        for cert, key in pair_files(options.client_cert, options.client_key):
            pair = read_pair(cert, key)
            yield from _expiry(where, cert, pair.until, now)
            yield from _exposed(where, pair.key)
    if options.ca is not None and options.verify:
        for authority in read_chain(options.ca):
            yield from _expiry(where, options.ca, authority.not_valid_after_utc, now)


def _expiry(where: Location, path: str, until: datetime, now: datetime) -> Iterator[Problem]:
    said = expiry(path, until, now)
    if said:
        yield Problem(where, "certificate-expires", said, "renew it", Severity.WARNING)


def _exposed(where: Location, path: str) -> Iterator[Problem]:
    """A group may read a key, as Debian's ``ssl-cert`` does; everybody should not."""
    if os.stat(path).st_mode & stat.S_IROTH:
        yield Problem(
            where,
            "key-exposed",
            f"{path}: every user of this machine can read this private key",
            f"chmod o= {path}",
            Severity.WARNING,
        )


def _error(where: Location, problem: Exception) -> Problem:
    return Problem(where, "bad-tls", str(problem))
