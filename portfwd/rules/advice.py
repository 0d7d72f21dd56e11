# -*- test-case-name: tests.rules.test_advice -*-
"""
Warnings of ``portfwd check`` about valid rules that are probably not what the author meant.

These warnings never refuse a file, and a start does not use them. A function of the caller tells whether a
directory exists.

==========================  ======================================================
code                        meaning
==========================  ======================================================
access-unused               entries beneath a unix listener, none of which names ``unix``
backup-without-effect       several targets, all of which are ``backup``
endpoint-descriptors        a listener of Twisted's own, which closes clients it has no descriptor for
limit-without-effect        a ``bandwidth-per-source`` that no client can come up to, or has no address for,
                            and a ``bandwidth-per-connection`` that no connection can come up to
no-directory                the directory of a target's unix socket does not exist
no-final-newline            a file whose last line has no newline at its end, so that it may have been cut
no-framing                  DNS between datagrams and a stream without ``framing=length16``
no-weight                   several targets, all of which have ``weight=0``
no-zone                     a link-local address without the interface that it belongs to
unverified                  a ``tls:`` target whose certificate is not checked
==========================  ======================================================
"""

from __future__ import annotations

import ipaddress
import posixpath
from collections.abc import Callable, Iterator

from portfwd.errors import Location, Problem, Severity
from portfwd.rules.access import UNIX
from portfwd.rules.model import (
    TLS_KINDS,
    UNIX_KINDS,
    Framing,
    Kind,
    ListenSpec,
    PortRange,
    Rule,
    Ruleset,
    TargetSpec,
)
from portfwd.values import is_literal, printable

#: The ports of DNS over UDP and TCP, and over TLS (RFC 7858).
_DNS_PORTS = (53, 853)


def advise(ruleset: Ruleset, is_directory: Callable[[str], bool]) -> tuple[Problem, ...]:
    """Collect the warnings, in the order of the rules. `is_directory` is `os.path.isdir` in the program."""
    return tuple(problem for rule in ruleset.rules for problem in _about(rule, is_directory))


def advise_of_end(where: Location) -> Problem:
    """Warn of a file that may have been cut while it was written: its last line has no newline."""
    return _warning(
        where,
        "no-final-newline",
        "the file ends within this line",
        "if it was cut while it was written, write it again; otherwise put a newline at the end",
    )


def _about(rule: Rule, is_directory: Callable[[str], bool]) -> Iterator[Problem]:
    listen = rule.listen
    if listen.kind is Kind.ENDPOINT:
        yield _warning(
            listen.where,
            "endpoint-descriptors",
            "out of descriptors, this listener closes the clients that wait, as Twisted does",
            "a listener without endpoint: leaves them waiting until there are descriptors again",
        )
    if listen.kind in UNIX_KINDS and rule.access and all(one.pattern != UNIX for one in rule.access):
        yield _warning(
            rule.access[0].where,
            "access-unused",
            "clients of a unix socket have no address, so that this line refuses nobody",
            "mode= before the arrow says who may connect, or 'allow unix' and 'deny unix' do",
        )
    yield from _source_limit(rule)
    yield from _connection_limit(rule)
    yield from _shares(rule)
    yield from _framing(rule)
    yield from _zone(listen, "the rule cannot be started")
    for target in _targets(rule):
        yield from _zone(target, "it cannot be dialled")
        yield from _directory(target, is_directory)
        if target.kind in TLS_KINDS and not target.options.verify and not target.options.pin:
            yield _warning(
                target.where,
                "unverified",
                "this target's certificate is not checked: who stands between can read and change everything",
                "ca=FILE names whom to trust where it is not the system's authorities, pin= one certificate",
            )


def _targets(rule: Rule) -> Iterator[TargetSpec]:
    yield from rule.targets
    yield from rule.named_targets
    yield from (route.target for route in rule.routes if isinstance(route.target, TargetSpec))


def _shares(rule: Rule) -> Iterator[Problem]:
    """Targets of the rule, or of one name, share sessions."""
    pools: dict[str, list[TargetSpec]] = {"": list(rule.targets)}
    for target in rule.named_targets:
        pools.setdefault(target.name, []).append(target)
    for pool in pools.values():
        if len(pool) < 2:
            continue
        if not any(one.options.weight for one in pool):
            yield _warning(
                pool[0].where,
                "no-weight",
                "all of these targets have weight=0, so new clients are reset",
                "give one of them a weight; 'portfwd target RULE TARGET drain' takes one out for a while",
            )
        elif all(one.options.backup for one in pool):
            yield _warning(
                pool[0].where,
                "backup-without-effect",
                "all of these targets are backup, so none of them waits for another",
                "delete backup of those that serve first",
            )


def _source_limit(rule: Rule) -> Iterator[Problem]:
    options = rule.options
    each, up, down = options.bandwidth_per_source, options.upward, options.downward
    if each is None:
        return
    where = _place(rule, "bandwidth-per-source")
    if rule.listen.kind in UNIX_KINDS:
        yield _warning(
            where,
            "limit-without-effect",
            "clients of a unix socket have no address, so that bandwidth-per-source limits nobody",
            "bandwidth= limits all of them together",
        )
    elif up is not None and down is not None and each >= max(up, down):
        yield _warning(
            where,
            "limit-without-effect",
            "one client may have as much as all together, so that bandwidth-per-source limits nobody",
            "write a smaller one, or delete it: sessions share bandwidth= in turn",
        )


def _connection_limit(rule: Rule) -> Iterator[Problem]:
    options = rule.options
    each, source = options.bandwidth_per_connection, options.bandwidth_per_source
    up, down = options.upward, options.downward
    if each is None:
        return
    if source is not None and each >= source and rule.listen.kind not in UNIX_KINDS:
        yield _warning(
            _place(rule, "bandwidth-per-connection"),
            "limit-without-effect",
            "one connection may have as much as its address, so that bandwidth-per-connection limits none",
            "write a smaller one, or delete it",
        )
    elif up is not None and down is not None and each >= max(up, down):
        yield _warning(
            _place(rule, "bandwidth-per-connection"),
            "limit-without-effect",
            "one connection may have as much as all together, so that bandwidth-per-connection limits none",
            "write a smaller one, or delete it: sessions share bandwidth= in turn",
        )


def _place(rule: Rule, option: str) -> Location:
    return next((where for name, where in rule.places if name == option), rule.where)


def _framing(rule: Rule) -> Iterator[Problem]:
    """DNS needs a length before each message of a stream (RFC 1035, section 4.2.2)."""
    if not rule.is_mixed or rule.options.framing is not Framing.NONE:
        return
    if _has_dns_port(rule.listen.ports) or any(_has_dns_port(target.ports) for target in _targets(rule)):
        yield _warning(
            rule.where,
            "no-framing",
            "DNS servers do not understand this: each message in a stream needs its length before it",
            "write framing=length16 behind the target, or /udp on both sides",
        )


def _has_dns_port(ports: PortRange | None) -> bool:
    return ports is not None and any(ports.first <= port <= ports.last for port in _DNS_PORTS)


def _zone(spec: ListenSpec | TargetSpec, effect: str) -> Iterator[Problem]:
    host = spec.host
    if is_literal(host) and ":" in host and "%" not in host and ipaddress.ip_address(host).is_link_local:
        yield _warning(
            spec.where,
            "no-zone",
            f"{host} is a link-local address, and the interface is missing: {effect}",
            f"write [{host}%INTERFACE], as in [fe80::1%eth0]",
        )


def _directory(spec: TargetSpec, is_directory: Callable[[str], bool]) -> Iterator[Problem]:
    if spec.kind in UNIX_KINDS and not spec.path.startswith("@"):
        directory = posixpath.dirname(spec.path) or "."
        if not is_directory(directory):
            yield _warning(
                spec.where,
                "no-directory",
                f"there is no directory '{printable(directory)}'",
                "sessions fail until it is there",
            )


def _warning(where: Location, code: str, message: str, hint: str) -> Problem:
    return Problem(where, code, message, hint, Severity.WARNING)
