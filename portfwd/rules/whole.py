# -*- test-case-name: tests.rules.test_whole -*-
"""
Checks the rules of a file together: names and listen addresses used twice, ranges, routes.

`portfwd.rules.claims` compares the addresses.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from portfwd.rules.addresses import address_text, is_inet
from portfwd.rules.claims import check_claims
from portfwd.rules.findings import Findings, shown
from portfwd.rules.loops import check_loops
from portfwd.rules.model import Directive, Kind, Rule, TargetSpec
from portfwd.rules.steps import Steps, finish
from portfwd.values import counted, is_literal


def verify(rules: Sequence[Rule], findings: Findings, directives: Sequence[Directive] = ()) -> None:
    """Report errors in rules as a whole, and conflicts between rules."""
    finish(verify_in_steps(rules, findings, directives))


def verify_in_steps(
    rules: Sequence[Rule], findings: Findings, directives: Sequence[Directive] = ()
) -> Steps[None]:
    """Do what `verify` does, in steps of one rule or one host."""
    _check_names(rules, findings)
    yield
    yield from check_claims(rules, directives, findings)
    yield from check_loops(rules, findings)
    for rule in rules:
        yield
        if rule.routes or rule.named_targets:
            _check_routes(rule, findings)
        if len(rule.targets) > 1 or rule.named_targets:
            _check_twice(rule, findings)
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
            continue  # the conflict of their addresses is reported already
        findings.error(
            rule.where,
            "duplicate-name",
            f"the name {shown(rule.name)} is taken by the rule of {_place(other)}",
            "give it another name" if not unnamed else "write NAME: before LISTEN",
        )


def _can_clash(rule: Rule) -> bool:
    ports = rule.listen.ports
    return rule.listen.kind is not Kind.ENDPOINT and (ports is None or ports.first != 0)


def _check_range(rule: Rule, target: TargetSpec, findings: Findings) -> None:
    wanted = 1 if rule.listen.ports is None else len(rule.listen.ports)
    if target.ports is None or len(target.ports) == wanted:
        return
    if wanted == 1:
        message = f"{len(target.ports)} target ports for one listener"
        hint = "write several targets with commas between them"
    else:
        message = f"the listener has {counted(wanted, 'port')} and this target {len(target.ports)}"
        last = target.ports.first + wanted - 1
        hint = f"write {target.ports.first}-{last}: the n-th port goes to the n-th" if last <= 65535 else ""
    findings.error(target.where, "range-mismatch", message, hint)


def _check_source(rule: Rule, target: TargetSpec, src: str, findings: Findings) -> None:
    if is_inet(target) and is_literal(target.host) and (":" in src) != (":" in target.host):
        findings.error(
            target.where,
            "source-family",
            f"src={src} is of another address family than this target",
            "write an address of the target's family; a 'target' clause can have a src= of its own",
        )


def _check_twice(rule: Rule, findings: Findings) -> None:
    seen = set()
    for target in (*rule.targets, *rule.named_targets):
        key = (target.name, target.kind, target.host, target.ports, target.path)
        if key in seen:
            where = f" under the name {shown(target.name)}" if target.name else ""
            findings.warning(
                target.where, "duplicate-target", f"this target stands twice{where}; it is used once"
            )
        seen.add(key)


def _check_routes(rule: Rule, findings: Findings) -> None:
    known: dict[str, TargetSpec] = {}
    for target in rule.named_targets:
        known.setdefault(target.name, target)  # a name may stand for several targets
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
