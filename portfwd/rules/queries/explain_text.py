# -*- test-case-name: tests.rules.queries.test_explain_text -*-
"""Formats an `Explanation` as text and as values for JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from portfwd.errors import Location
from portfwd.quantities import format_size
from portfwd.rules.addresses import address_text
from portfwd.rules.model import UNIX_KINDS, AclEntry, Balance, Directive, FilterSpec, OnLimit, Rule
from portfwd.rules.options import RULE
from portfwd.rules.queries.explain import Choice, Explanation
from portfwd.values import RelayPlan, printable

#: The limits on connections of a rule, and those of them at which clients can wait.
_BOUNDS: Final = ("max-conns", "max-conns-per-source", "max-conns-per-target", "rate", "rate-per-source")
_WAITING: Final = frozenset({"max-conns", "rate"})
#: Most access entries that are listed if none of them matched.
MOST_NAMED: Final = 3


def place(where: Location) -> str:
    """``file:line``, and the key in a TOML file."""
    line = f"{where.file}:{where.line}" if where.line else where.file
    return printable(f"{line}: {where.key}" if where.key else line)


def explanation_text(explanation: Explanation, plan: RelayPlan | None = None) -> str:
    """
    Format `explanation` for people, one fact per line, without a final line end.

    :param plan: the relay that serves the rule; None to leave it out.
    """
    client = explanation.client or "a client without an address"
    lines = [f"{client} to {printable(explanation.listen)}"]
    lines.extend(f"  {name:8} {text}" for name, text in _facts(explanation, plan))
    return "\n".join(lines)


def _facts(explanation: Explanation, plan: RelayPlan | None) -> Iterator[tuple[str, str]]:
    rule = explanation.rule
    if rule is None:
        yield "rule", "no rule takes this connection"
    else:
        yield "rule", _rule(rule)
        yield "access", _access(explanation, rule)
        for target in explanation.targets:
            yield "target", _choice(target)
        if len(explanation.targets) > 1:
            yield "order", _order(explanation.balance)
        if explanation.targets:
            for spec in rule.filters:
                yield "filter", f"{_filter(spec)} ({place(spec.where)})"
            if plan is not None:
                yield "relay", f"{plan.summary}: {plan.why}"
            for limit in _limits(rule):
                yield "limit", limit
            if explanation.shared is not None:
                yield "limit", _shared(explanation.shared)
        for route in explanation.route_choices:
            goes = "close" if route.choice is None else printable(route.choice.address)
            yield "route", f"{printable(' '.join(route.patterns))} -> {goes} ({place(route.where)})"
    for other in explanation.others:
        yield "not", _rule(other)


def _rule(rule: Rule) -> str:
    listens = printable(address_text(rule.listen, quoted=False))
    name = printable(rule.name)
    where = place(rule.where)
    return f"{name} ({where})" if name == listens else f"{name}, listens on {listens} ({where})"


def _filter(spec: FilterSpec) -> str:
    options = (f"{key}={value}" for key, value in spec.options)
    return printable(" ".join((spec.name, *spec.words, *options)))


def _choice(choice: Choice) -> str:
    return f"{printable(choice.address)} ({place(choice.where)})"


def _order(balance: Balance) -> str:
    if balance is Balance.FIRST:
        return "in this order, the next when a dial fails"
    return f"as balance={balance.value} picks, the next when a dial fails"


def _limits(rule: Rule) -> Iterator[str]:
    options = rule.options
    for name in _BOUNDS:
        option = RULE[name]
        value = getattr(options, option.field)
        if value is not None:
            waits = name in _WAITING and options.on_limit is OnLimit.WAIT
            end = "beyond it clients wait" if waits else "beyond it clients are refused"
            if name == "max-conns-per-target":
                end = "beyond it the next target is tried"
            yield f"{name}={option.text(value)}, {end}"
    for rate, direction in ((options.upward, "to-upstream"), (options.downward, "to-client")):
        if rate is not None:
            yield f"{format_size(rate)}/s {direction}, all sessions together"
    if options.bandwidth_per_source is not None:
        yield f"{format_size(options.bandwidth_per_source)}/s in each direction for one client address"
    if options.bandwidth_per_connection is not None:
        yield f"{format_size(options.bandwidth_per_connection)}/s in each direction for one connection"


def _shared(line: Directive) -> str:
    options = ", ".join(f"{key}={value}" for key, value in line.options)
    return f"{line.words[0]}, shared with other rules: {printable(options)} ({place(line.where)})"


def _entry(entry: AclEntry) -> str:
    return f"'{'allow' if entry.allow else 'deny'} {printable(entry.pattern)}' ({place(entry.where)})"


def _access(explanation: Explanation, rule: Rule) -> str:
    decision = explanation.decision
    assert decision is not None  # a rule always comes with a decision
    if decision.entry is not None:
        if decision.allowed:
            return f"allowed by {_entry(decision.entry)}"
        return f"refused by {_entry(decision.entry)}"
    if decision.allowed:
        if rule.listen.kind in UNIX_KINDS:
            return "allowed: no list of entries names unix, mode= says who may connect"
        return "allowed: no entry speaks against it"
    whose = "global" if decision.step == 1 else "the rule's own"
    named = ", ".join(_entry(entry) for entry in explanation.asked[:MOST_NAMED])
    more = len(explanation.asked) - MOST_NAMED
    rest = f" and {more} more" if more > 0 else ""
    return f"refused: matches none of {whose} {named}{rest}"


def explanation_json(explanation: Explanation, plan: RelayPlan | None = None) -> dict[str, Any]:
    """
    Turn `explanation` into values for ``json.dumps``.

    Keys: ``client``, ``listen``, ``rule``, ``access``, ``targets``, ``balance``, ``filters``, ``relay``,
    ``bandwidth``, ``limits``, ``routes``, ``others``. ``rule``, ``access`` and ``bandwidth`` are null when no
    rule takes the connection; in ``bandwidth`` are bytes a second, null for any number. In ``limits`` are
    those that the rule shares with others, null where it shares none. ``filters`` has the name and place of
    each filter. ``relay`` has the ``kind`` of the relay that serves the rule, and ``why``.
    """
    decision = explanation.decision
    access: dict[str, Any] | None = None
    if decision is not None:
        access = {
            "allowed": decision.allowed,
            "step": decision.step,
            "entry": None if decision.entry is None else _entry_json(decision.entry),
            "asked": [_entry_json(entry) for entry in explanation.asked],
        }
    return {
        "client": explanation.client or None,
        "listen": explanation.listen,
        "rule": None if explanation.rule is None else _rule_json(explanation.rule),
        "access": access,
        "targets": [_choice_json(target) for target in explanation.targets],
        "balance": explanation.balance.value,
        "filters": []
        if explanation.rule is None
        else [{"name": one.name, **_where_json(one.where)} for one in explanation.rule.filters],
        "relay": None if plan is None else {"kind": plan.kind, "why": plan.why},
        "bandwidth": None if explanation.rule is None else _bandwidth_json(explanation.rule),
        "limits": None if explanation.shared is None else _shared_json(explanation.shared),
        "routes": [
            {
                "patterns": list(route.patterns),
                "target": None if route.choice is None else _choice_json(route.choice),
                **_where_json(route.where),
            }
            for route in explanation.route_choices
        ],
        "others": [_rule_json(rule) for rule in explanation.others],
    }


def _where_json(where: Location) -> dict[str, Any]:
    return {"file": where.file, "line": where.line, "column": where.column}


def _shared_json(line: Directive) -> dict[str, Any]:
    return {"name": line.words[0], "options": dict(line.options), **_where_json(line.where)}


def _rule_json(rule: Rule) -> dict[str, Any]:
    return {"name": rule.name, "listen": address_text(rule.listen), **_where_json(rule.where)}


def _bandwidth_json(rule: Rule) -> dict[str, Any]:
    options = rule.options
    return {
        "to_upstream": options.upward,
        "to_client": options.downward,
        "per_source": options.bandwidth_per_source,
        "per_connection": options.bandwidth_per_connection,
    }


def _choice_json(choice: Choice) -> dict[str, Any]:
    return {"address": choice.address, **_where_json(choice.where)}


def _entry_json(entry: AclEntry) -> dict[str, Any]:
    return {"kind": "allow" if entry.allow else "deny", "pattern": entry.pattern, **_where_json(entry.where)}
