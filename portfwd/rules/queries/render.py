# -*- test-case-name: tests.rules.queries.test_render -*-
"""
Formats a `Ruleset` as native text, for ``portfwd convert``.

The text parses to an equal ruleset. Comments, includes and the layout of lines are not kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from portfwd.rules.addresses import address_text, is_datagram, resembles_name
from portfwd.rules.model import (
    DATAGRAM_IDLE,
    AclEntry,
    Directive,
    FilterSpec,
    ListenOptions,
    LogSpec,
    Options,
    Rule,
    Ruleset,
    TargetSpec,
)
from portfwd.rules.options import LISTENER, RULE, TARGET, OptionSpec
from portfwd.rules.tokens import spell, spell_value

_LISTEN_DEFAULTS: Final = ListenOptions()
_RULE_DEFAULTS: Final = Options()
_DATAGRAM_DEFAULTS: Final = Options(idle=DATAGRAM_IDLE)


def render(ruleset: Ruleset) -> str:
    """The native text of `ruleset`, LF at the end of each line."""
    head = [*_head(ruleset)]
    blocks = ["\n".join(head)] if head else []
    blocks.extend("\n".join(_rule(rule)) for rule in ruleset.rules)
    return "\n".join(block + "\n" for block in blocks)


def _head(ruleset: Ruleset) -> Iterator[str]:
    log = ruleset.log
    if log != LogSpec():
        access = "" if log.access is None else f" access={log.access.value}"
        file = "" if log.file is None else f" file={spell_value(log.file)}"
        probes = "" if log.probes else " probes=off"
        repeats = " repeats=on" if log.repeats else ""
        opened = " opened=on" if log.opened else ""
        yield f"log{access}{file}{opened}{probes}{repeats}"
    if ruleset.pid_file is not None:
        yield f"pidfile {spell(ruleset.pid_file)}"
    for directive in ruleset.directives:
        yield " ".join([directive.name, *_text(directive)])
    yield from _access(ruleset.access)


def _access(entries: Iterable[AclEntry], indent: str = "") -> Iterator[str]:
    for entry in entries:
        yield f"{indent}{'allow' if entry.allow else 'deny'} {spell(entry.pattern)}"


def _text(spec: Directive | FilterSpec) -> Iterator[str]:
    yield from (spell(word) for word in spec.words)
    yield from (f"{key}={spell_value(value)}" for key, value in spec.options)


def _rule(rule: Rule) -> Iterator[str]:
    listen = rule.listen
    words = []
    if rule.name != address_text(listen, quoted=False):
        words.append(rule.name + ":")
        words.append(address_text(listen))
    elif resembles_name(listen):
        words.append(f"{listen.kind.value}:{address_text(listen)}")
    else:
        words.append(address_text(listen))
    words.extend(_changed(LISTENER, listen.options, _LISTEN_DEFAULTS))
    # Targets with options need a clause. Those after them get one too, to keep the order.
    inline = next(
        (index for index, target in enumerate(rule.targets) if target.options != rule.options),
        len(rule.targets),
    )
    words.extend(["->", ", ".join(address_text(target) for target in rule.targets[:inline])])
    words.extend(_changed(RULE, rule.options, _DATAGRAM_DEFAULTS if is_datagram(listen) else _RULE_DEFAULTS))
    yield " ".join(words)
    yield from _access(rule.access, "    ")
    for spec in rule.filters:
        yield "    " + " ".join(["filter", spell(spec.name), *_text(spec)])
    for route in rule.routes:
        if route.target is None:
            target = "close"
        elif isinstance(route.target, str):
            target = route.target
        else:
            target = address_text(route.target)
        yield "    " + " ".join(["route", *(spell(pattern) for pattern in route.patterns), "->", target])
    for check in rule.checks:
        yield "    " + " ".join(["check", spell(check.name), *_text(check)])
    for named in (*rule.targets[inline:], *rule.named_targets):
        yield "    " + " ".join(_clause(named, rule))


def _clause(target: TargetSpec, rule: Rule) -> Iterator[str]:
    yield "target"
    yield f"{target.name}={address_text(target)}" if target.name else address_text(target)
    yield from _changed(TARGET, target.options, rule.options)


def _changed(table: Mapping[str, OptionSpec], options: Any, defaults: Any) -> Iterator[str]:
    """The options whose value is not the default."""
    for key, option in table.items():
        value = getattr(options, option.field)
        if value != getattr(defaults, option.field):
            yield f"{key}={spell_value(option.text(value))}"
