# -*- test-case-name: tests.rules.test_whole -*-
"""
What only the whole file shows: names and listen addresses used twice, ranges, routes.

Values in, problems out, in time that grows with the rules (and the logarithm of
them), not with the ports of their ranges. It refuses to ask whether an address
can be bound: only the kernel knows.
"""

from __future__ import annotations

import ipaddress
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

from attrs import frozen

from portfwd.rules.addresses import address_text, is_datagram, is_inet
from portfwd.rules.findings import Findings, shown
from portfwd.rules.model import Kind, Rule, TargetSpec
from portfwd.rules.steps import Steps, finish
from portfwd.values import is_literal

_WILDCARDS = frozenset({"", "0.0.0.0", "::"})  # noqa: S104


def verify(rules: Sequence[Rule], findings: Findings) -> None:
    """Report what is wrong between the rules of a file and its includes, and within each as a whole."""
    finish(verify_in_steps(rules, findings))


def verify_in_steps(rules: Sequence[Rule], findings: Findings) -> Steps[None]:
    """Do what `verify` does; what compares all listeners is one step for each host."""
    _check_names(rules, findings)
    yield
    yield from _check_listeners(rules, findings)
    for rule in rules:
        yield
        if rule.routes or rule.named_targets:
            _check_routes(rule, findings)
        for target in _targets(rule):
            _check_range(rule, target, findings)
            if target.options.src is not None:
                _check_source(rule, target, target.options.src, findings)


def _targets(rule: Rule) -> Iterator[TargetSpec]:
    yield from rule.targets
    yield from rule.named_targets
    for route in rule.routes:
        if isinstance(route.target, TargetSpec):
            yield route.target


def _place(rule: Rule) -> str:
    return f"{rule.where.file}:{rule.where.line}"


def _check_names(rules: Iterable[Rule], findings: Findings) -> None:
    first: dict[str, Rule] = {}
    for rule in rules:
        other = first.setdefault(rule.name, rule)
        if other is rule:
            continue
        unnamed = rule.name == address_text(rule.listen, quoted=False)
        if unnamed and other.listen == rule.listen and _can_clash(rule):
            continue  # that they listen on the same address says it all
        findings.error(
            rule.where,
            "duplicate-name",
            f"the name {shown(rule.name)} is taken by the rule of {_place(other)}",
            "give it another name" if not unnamed else "write NAME: before LISTEN",
        )


def _can_clash(rule: Rule) -> bool:
    ports = rule.listen.ports
    return rule.listen.kind is not Kind.ENDPOINT and (ports is None or ports.first != 0)


@frozen
class _Span:
    """The ports that a rule takes on one host."""

    first: int
    last: int
    rule: Rule


def _check_listeners(rules: Iterable[Rule], findings: Findings) -> Steps[None]:
    spans: dict[tuple[bool, str], list[_Span]] = {}
    paths: dict[tuple[Kind, str], Rule] = {}
    for rule in rules:
        listen = rule.listen
        if not _can_clash(rule):
            continue
        if listen.ports is None:
            first = paths.setdefault((listen.kind, listen.path), rule)
            if first is not rule:
                _clash(rule, first, findings)
        else:
            key = (is_datagram(listen), _normal(listen.host))
            spans.setdefault(key, []).append(_Span(listen.ports.first, listen.ports.last, rule))
        yield
    for (datagram, host), group in spans.items():
        yield
        # Sorted by port, and by place in the file where the ports are equal (the sort is stable).
        group.sort(key=lambda span: span.first)
        widest = before = group[0]
        for span in group[1:]:
            # The one just before is the likelier slip; a range further up may reach here as well.
            for other in (before, widest):
                if span.first <= other.last:
                    _clash(span.rule, other.rule, findings)
                    break
            before = span
            if span.last > widest.last:
                widest = span
        if host not in _WILDCARDS:
            for wildcard in ("", "::" if ":" in host else "0.0.0.0"):  # noqa: S104
                _check_overlap(group, spans.get((datagram, wildcard), []), findings)
    for datagram in (False, True):
        for wildcard in ("0.0.0.0", "::"):  # noqa: S104
            _check_overlap(spans.get((datagram, wildcard), []), spans.get((datagram, ""), []), findings)


def _clash(rule: Rule, other: Rule, findings: Findings) -> None:
    if (rule.where.file, rule.where.line) < (other.where.file, other.where.line) and (
        rule.where.file == other.where.file
    ):
        rule, other = other, rule
    findings.error(
        rule.listen.where,
        "listen-clash",
        f"the rule of {_place(other)} listens here too",
        "a listener can have several targets: LISTEN -> TARGET, TARGET",
    )


def _check_overlap(group: list[_Span], wildcards: list[_Span], findings: Findings) -> None:
    """Warn for each of `group` that one of the sorted `wildcards` covers."""
    if not group or not wildcards:
        return
    firsts = []
    reach: list[_Span] = []  # the one with the last port among those up to here
    for span in sorted(wildcards, key=lambda span: span.first):
        firsts.append(span.first)
        reach.append(span if not reach or span.last >= reach[-1].last else reach[-1])
    for span in group:
        index = bisect_right(firsts, span.last) - 1
        if index < 0 or reach[index].last < span.first:
            continue
        other = reach[index].rule
        if other.listen.options.v6only and not span.rule.listen.host.count(":"):
            continue
        findings.warning(
            span.rule.listen.where,
            "listen-overlap",
            f"the rule of {_place(other)} listens on every address, so on this one too",
            "Linux refuses the second of them; other systems prefer the narrower one",
        )


def _normal(host: str) -> str:
    if ":" in host:
        return str(ipaddress.ip_address(host))
    return host.lower().removesuffix(".")


def _check_range(rule: Rule, target: TargetSpec, findings: Findings) -> None:
    wanted = 1 if rule.listen.ports is None else len(rule.listen.ports)
    if target.ports is None or len(target.ports) == wanted:
        return
    if wanted == 1:
        message = f"{len(target.ports)} target ports for one listener"
        hint = "write several targets with commas between them"
    else:
        message = f"the listener has {wanted} ports and this target {len(target.ports)}"
        last = target.ports.first + wanted - 1
        hint = f"write {target.ports.first}-{last}: the n-th port goes to the n-th" if last <= 65535 else ""
    findings.error(target.where, "range-mismatch", message, hint)


def _check_source(rule: Rule, target: TargetSpec, src: str, findings: Findings) -> None:
    if is_inet(target) and is_literal(target.host) and (":" in src) != (":" in target.host):
        findings.error(
            target.where,
            "source-family",
            f"src={src} is of another address family than this target",
            "give this target a 'target' clause with a src= of its own",
        )


def _check_routes(rule: Rule, findings: Findings) -> None:
    known: dict[str, TargetSpec] = {}
    for target in rule.named_targets:
        if known.setdefault(target.name, target) is not target:
            findings.error(target.where, "duplicate-target", f"the name {shown(target.name)} is taken")
    used = set()
    for route in rule.routes:
        if isinstance(route.target, str):
            used.add(route.target)
            if route.target not in known:
                findings.error(
                    route.where,
                    "unknown-target",
                    f"this rule has no target called {shown(route.target)}",
                    f"write target {route.target}=HOST:PORT beneath the rule, or HOST:PORT here",
                )
    for name, target in known.items():
        if name not in used:
            findings.warning(
                target.where,
                "unused-target",
                f"no route leads to {shown(name)}",
                "only routes reach a named target",
            )
    if rule.routes and not rule.filters:
        findings.error(
            rule.routes[0].where,
            "route-without-filter",
            "nothing can choose a route here: the rule has no filter",
            "write a filter such as 'filter sni' above it",
        )
