# -*- test-case-name: tests.rules.test_whole -*-
"""
Finds addresses on which a process would listen twice.

Rules and lines of operators (``admin``, ``web``, ``manhole``, ``toxiproxy``, ``metrics``) claim addresses.
These are normalised before comparison: ``unix:/x`` and ``unix:/./x`` are equal, and so are ``localhost``,
``127.0.0.1`` and ``[::ffff:127.0.0.1]``.
The time is O(n log n) for n claims, regardless of the size of their port ranges. Whether an address can be
bound is not checked; only the kernel can tell.
"""

from __future__ import annotations

import ipaddress
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from attrs import frozen

from portfwd.errors import Location
from portfwd.rules.addresses import is_datagram, plain_path
from portfwd.rules.admin_lines import admin_specs, manhole_specs, toxiproxy_spec, web_specs
from portfwd.rules.findings import Findings
from portfwd.rules.model import SYSTEMD_KINDS, Directive, Kind, ListenSpec, PortRange, Rule, Ruleset
from portfwd.rules.steps import Steps
from portfwd.rules.whole_process import metrics_listener
from portfwd.values import InetAddress, UnixAddress, unmapped

_WILDCARDS: Final = frozenset({"", "0.0.0.0", "::"})  # noqa: S104
#: RFC 6761 section 6.3: "Name resolution APIs and libraries SHOULD recognize localhost names as special and
#: SHOULD always return the IP loopback address".
_LOCALHOST: Final = ("127.0.0.1", "::1")


@frozen(eq=False)
class Claim:
    """
    Ports on one host that a listener claims.

    :ivar who: the listener for messages, as in ``the rule of rules.conf:3``.
    :ivar where: its place in the file.
    :ivar v6only: whether a wildcard is only for IPv6.
    """

    who: str
    where: Location
    first: int
    last: int
    host: str
    v6only: bool


def check_claims(rules: Iterable[Rule], directives: Sequence[Directive], findings: Findings) -> Steps[None]:
    """Report addresses that are claimed twice. A step for each rule and each host."""
    spans: dict[tuple[bool, str], list[Claim]] = {}
    paths: dict[tuple[str, str], Claim] = {}
    told: set[Claim] = set()

    def clash(claim: Claim, other: Claim) -> None:
        place, others = claim.where, other.where
        if place.file == others.file and (place.line, place.column) < (others.line, others.column):
            claim, other = other, claim
        if claim not in told:
            told.add(claim)
            findings.error(
                claim.where,
                "listen-clash",
                f"{other.who} listens here too",
                "a listener can have several targets: LISTEN -> TARGET, TARGET"
                if claim.who.startswith("the rule") and other.who.startswith("the rule")
                else "give one of them another address",
            )

    for listen, who, where in _listeners(rules, directives):
        yield
        if listen.kind is Kind.ENDPOINT or (listen.ports is not None and listen.ports.first == 0):
            continue
        if listen.ports is None:
            claim = Claim(who, where, 0, 0, "", False)
            first = paths.setdefault(_path(listen), claim)
            if first is not claim:
                clash(claim, first)
            continue
        host = _normal(listen.host)
        claim = Claim(who, where, listen.ports.first, listen.ports.last, host, bool(listen.options.v6only))
        for one in _LOCALHOST if host == "localhost" else (host,):
            spans.setdefault((is_datagram(listen), one), []).append(claim)
    for (datagram, host), group in spans.items():
        yield
        # Sorted by port, and for equal ports by place in the file (the sort is stable).
        group.sort(key=lambda span: span.first)
        widest = before = group[0]
        for span in group[1:]:
            # The previous one is the more likely mistake. A range further up may also include this port.
            for other in (before, widest):
                if span.first <= other.last:
                    clash(span, other)
                    break
            before = span
            if span.last > widest.last:
                widest = span
        if host not in _WILDCARDS:
            for wildcard in ("", "::" if ":" in host else "0.0.0.0"):  # noqa: S104
                _check_overlap(host, group, spans.get((datagram, wildcard), []), findings, told)
    for datagram in (False, True):
        for wildcard in ("0.0.0.0", "::"):  # noqa: S104
            wide = spans.get((datagram, wildcard), [])
            _check_overlap(wildcard, wide, spans.get((datagram, ""), []), findings, told)


def _listeners(
    rules: Iterable[Rule], directives: Sequence[Directive]
) -> Iterator[tuple[ListenSpec, str, Location]]:
    for rule in rules:
        yield rule.listen, f"the rule of {rule.where.file}:{rule.where.line}", rule.listen.where
    process = Ruleset(directives=tuple(directives))
    for admin in admin_specs(process):
        yield ListenSpec(Kind.UNIX, path=admin.path), _line("admin", admin.where), admin.where
    for web in web_specs(process):
        yield web.listen, _line("web", web.where), web.where
    for manhole in manhole_specs(process):
        yield _spec(manhole.address), _line("manhole", manhole.where), manhole.where
    toxiproxy = toxiproxy_spec(process)
    if toxiproxy is not None:
        yield _spec(toxiproxy.address), _line("toxiproxy", toxiproxy.where), toxiproxy.where
    metrics = metrics_listener(process)
    if metrics is not None:
        yield metrics, _line("metrics", metrics.where), metrics.where


def _line(name: str, where: Location) -> str:
    return f"'{name}' of {where.file}:{where.line}"


def _spec(address: InetAddress | UnixAddress) -> ListenSpec:
    if isinstance(address, UnixAddress):
        return ListenSpec(Kind.UNIX, path=address.path)
    return ListenSpec(Kind.TCP, address.host, PortRange(address.port, address.port))


def _path(listen: ListenSpec) -> tuple[str, str]:
    """A name that only one listener may have. Stream and datagram sockets share file names."""
    if listen.kind in SYSTEMD_KINDS:
        return listen.kind.value.removeprefix("tls:"), listen.path
    return "unix", plain_path(listen.path)


def _check_overlap(
    host: str, group: list[Claim], wildcards: list[Claim], findings: Findings, told: set[Claim]
) -> None:
    """Report each claim of `group` on `host` that one of `wildcards` covers."""
    if not group or not wildcards:
        return
    firsts = []
    reach: list[Claim] = []  # the one with the last port among those up to here
    for span in sorted(wildcards, key=lambda span: span.first):
        firsts.append(span.first)
        reach.append(span if not reach or span.last >= reach[-1].last else reach[-1])
    for span in group:
        index = bisect_right(firsts, span.last) - 1
        if index < 0 or reach[index].last < span.first or span in told:
            continue
        other = reach[index]
        if other.v6only and ":" not in host:
            continue
        told.add(span)
        findings.error(
            span.where,
            "listen-overlap",
            f"{other.who} listens on every address, so on this one too",
            "Linux refuses the second of them: keep one, or give both an address of their own",
        )


def _normal(host: str) -> str:
    host = unmapped(host)
    if ":" in host:
        return str(ipaddress.ip_address(host))
    return host.lower().removesuffix(".")
