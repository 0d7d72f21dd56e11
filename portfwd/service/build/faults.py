# -*- test-case-name: tests.service.build.test_faults -*-
"""
The faults of rules at work: found, told, switched and made stronger.

A clause ``filter faults`` has one `Fault` that its connections share; this changes it. A clause that
a reload made anew is another one, and is as the file says. A toxic is a fault as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from attrs import evolve

from portfwd.admin.operator import FaultView, OperatorError
from portfwd.filters.builtin.fault_clause import Fault, FaultsOptions
from portfwd.filters.builtin.faults import FaultFactory
from portfwd.filters.builtin.toxic_slots import ToxicSlot
from portfwd.filters.options import declared
from portfwd.relay.live import LiveRule


def faults_of(rules: Sequence[LiveRule]) -> Iterator[tuple[str, int, Fault]]:
    """Each fault, with its rule's name in the file and its number there, from 1."""
    seen: set[int] = set()
    counts: dict[str, int] = {}
    for live in rules:
        for _, factory in live.filters:
            fault = factory.fault if isinstance(factory, FaultFactory | ToxicSlot) else None
            # The ports of a range share theirs.
            if fault is not None and id(fault) not in seen:
                seen.add(id(fault))
                name = live.rule.name
                counts[name] = counts.get(name, 0) + 1
                yield name, counts[name], fault


def views(rules: Sequence[LiveRule]) -> list[FaultView]:
    """How all faults of `rules` stand."""
    return [_view(*one) for one in faults_of(rules)]


def change(
    rules: Sequence[LiveRule], which: str, active: bool | None, options: Mapping[str, str]
) -> list[FaultView]:
    """
    See `portfwd.admin.operator.Operator.set_faults`.

    :raises OperatorError: there is none, or an option does not fit; nothing is changed then.
    """
    chosen = [one for one in faults_of(rules) if which in ("all", str(one[1]), one[2].kind)]
    if not chosen:
        has = ", ".join(f"{place} ({fault.kind})" for _, place, fault in faults_of(rules))
        hint = f"it has {has}" if has else "it has no line 'filter faults'"
        raise OperatorError("not-found", f"this rule has no fault {which!r}: {hint}")
    try:
        changed = [_with(fault.options, options) for _, _, fault in chosen]
        before = [fault.options for _, _, fault in chosen]
        try:
            for (_, _, fault), new in zip(chosen, changed, strict=True):
                fault.options = new
        except ValueError:
            for (_, _, fault), old in zip(chosen, before, strict=True):
                fault.options = old
            raise
    except ValueError as error:
        raise OperatorError("bad-request", str(error)) from None
    if active is not None:
        for _, _, fault in chosen:
            fault.active = active
    return [_view(*one) for one in chosen]


def _with(options: FaultsOptions, texts: Mapping[str, str]) -> FaultsOptions:
    """
    `options` with some of them changed.

    :raises ValueError: one cannot be read; the message names it.
    """
    known = {one.key: one for one in declared(FaultsOptions)}
    values = {}
    for key, text in texts.items():
        if key not in known:
            raise ValueError(f"a fault has no {key}=")
        try:
            values[known[key].attribute] = known[key].kind.read(text)  # type: ignore[union-attr]
        except ValueError as error:
            raise ValueError(f"bad value for {key}=: {error}") from None
    return evolve(options, **values)


def _view(rule: str, number: int, fault: Fault) -> FaultView:
    texts = []
    for one in declared(FaultsOptions):
        value = getattr(fault.options, one.attribute)
        if one.key not in ("kind", "active") and value not in (None, one.default):
            texts.append((one.key, one.kind.write(value)))  # type: ignore[union-attr]
    return FaultView(rule, number, fault.kind, fault.active, tuple(texts), fault.connections, fault.affected)
