# -*- test-case-name: tests.rules.test_draft -*-
"""
Drafts of rules, and their conversion to values.

A draft collects the contents of a rule's line and of the lines beneath it. `finish` adds defaults, checks
that the options fit the rule, and makes the `Rule`. `portfwd.rules.whole` compares rules with each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from attrs import Factory, define, evolve

from portfwd.errors import Location
from portfwd.rules.addresses import Place, address_text, is_datagram, is_inet
from portfwd.rules.findings import Findings, shown
from portfwd.rules.model import (
    DATAGRAM_IDLE,
    DATAGRAM_KINDS,
    TLS_KINDS,
    UNIX_KINDS,
    AclEntry,
    CheckSpec,
    FilterSpec,
    ListenOptions,
    ListenSpec,
    Options,
    RelayKind,
    RouteSpec,
    Rule,
    TargetSpec,
)
from portfwd.rules.options import BY_NAME, Affects, Needs, OptionSpec, Scope
from portfwd.values import is_literal

#: Options by unique name, each with its value and place.
Settings = Mapping[str, tuple[Any, Location]]

_NO_LISTEN_OPTIONS = ListenOptions()
_NO_OPTIONS = Options()


@define
class TargetDraft:
    """One target. `settings` are the options of its ``target`` clause."""

    place: Place
    where: Location
    name: str = ""
    settings: Settings = Factory(dict)


@define
class RouteDraft:
    """One route. The target is a draft, the name of one, or None for ``close``."""

    patterns: tuple[str, ...]
    target: TargetDraft | str | None
    where: Location
    pattern_places: tuple[Location, ...] = ()


@define
class RuleDraft:
    """
    One rule.

    :ivar name: as written; empty for none.
    :ivar settings: options of its own line.
    :ivar defaults: those of ``default`` lines above it.
    :ivar broken: whether its line had errors, so that it will not become a rule.
    """

    place: Place
    where: Location
    listen_where: Location
    name: str = ""
    targets: list[TargetDraft] = Factory(list)
    settings: Settings = Factory(dict)
    defaults: Settings = Factory(dict)
    access: list[AclEntry] = Factory(list)
    filters: list[FilterSpec] = Factory(list)
    checks: list[CheckSpec] = Factory(list)
    routes: list[RouteDraft] = Factory(list)
    named: list[TargetDraft] = Factory(list)
    broken: bool = False

    def every_target(self) -> Iterator[TargetDraft]:
        """All targets, including those of routes."""
        yield from self.targets
        yield from self.named
        for route in self.routes:
            if isinstance(route.target, TargetDraft):
                yield route.target

    def finish(self, settings: Settings, findings: Findings) -> Rule:
        """
        Make the rule.

        :param settings: options for all rules. Those of the rule and of its defaults replace them.
        """
        inherited = {**settings, **self.defaults} if settings else self.defaults
        chosen: dict[str, tuple[Any, Location]] = {}
        if inherited or self.settings:
            chosen.update((name, item) for name, item in inherited.items() if self._fits(name))
            for name, item in self.settings.items():
                if not self._fits(name):
                    _complain(name, item[1], findings)
                chosen[name] = item
        listen_options, options = _split(chosen)
        listen = self.place
        if is_datagram(listen) and "idle" not in chosen:
            options = evolve(options, idle=DATAGRAM_IDLE)
        targets = tuple(_target(target, options, findings) for target in self.targets)
        written = self.targets[0].place.written if self.targets else ("", "")
        rule = Rule(
            name=self.name or address_text(listen, quoted=False),
            listen=ListenSpec(
                listen.kind, listen.host, listen.ports, listen.path, listen_options, self.listen_where
            ),
            targets=targets,
            options=options,
            access=tuple(self.access),
            filters=tuple(self.filters),
            checks=tuple(self.checks),
            routes=tuple(_route(route, options, findings) for route in self.routes),
            named_targets=tuple(_target(target, options, findings) for target in self.named),
            written=(*listen.written, *written),
            where=self.where,
            places=tuple((name, where) for name, (_, where) in chosen.items()),
        )
        self._warn(rule, findings)
        return rule

    def _warn(self, rule: Rule, findings: Findings) -> None:
        """Warn of the rule's own options that act on nothing in it."""
        # A `default` line is for other rules too.
        targets = tuple(rule.every_target())
        clauses = zip((draft.settings for draft in self.every_target()), targets, strict=True)
        for settings, concerned in ((self.settings, targets), *((own, (one,)) for own, one in clauses)):
            for name, (_, where) in settings.items():
                affects = BY_NAME[name].affects
                if affects is not Affects.ANY and not _acts(BY_NAME[name], rule, concerned):
                    findings.warning(
                        where,
                        "option-without-effect",
                        f"{shown(BY_NAME[name].key)} has no effect here: it is for {affects.value}",
                        "delete it",
                    )

    def _fits(self, name: str) -> bool:
        needs = BY_NAME[name].needs
        return needs is Needs.NOTHING or _met(needs, self.place, list(self.every_target()))


def _met(needs: Needs, listen: Place | None, targets: list[TargetDraft]) -> bool:
    if needs is Needs.TLS_TARGET:
        return any(target.place.kind in TLS_KINDS for target in targets)
    if needs is Needs.INET_TARGET:
        return any(is_inet(target.place) for target in targets)
    # Options that a target can have only need the two above.
    assert listen is not None
    if needs is Needs.UNIX_LISTENER:
        return listen.kind in UNIX_KINDS
    if needs is Needs.DATAGRAM_LISTENER:
        return is_datagram(listen)
    if needs is Needs.TLS_LISTENER:
        return listen.kind in TLS_KINDS
    if needs is Needs.MIXED:
        return any(is_datagram(target.place) != is_datagram(listen) for target in targets)
    return is_inet(listen) and (":" in listen.host or not is_literal(listen.host))


def _acts(option: OptionSpec, rule: Rule, concerned: Sequence[TargetSpec]) -> bool:
    """Whether `option`, which was written for the targets `concerned`, acts on anything."""
    affects = option.affects
    if option.needs is Needs.TLS_LISTENER:
        # What has no TLS at all is an error of its own.
        return rule.listen.kind not in TLS_KINDS or _acts_on_clients(affects, rule.listen.options)
    if option.needs is Needs.TLS_TARGET:
        secured = [one.options for one in concerned if one.kind in TLS_KINDS]
        return not secured or any(_acts_on_target(affects, one) for one in secured)
    sides: list[ListenSpec | TargetSpec] = [rule.listen, *rule.every_target()]
    if affects is Affects.STREAMS:
        return any(one.kind not in DATAGRAM_KINDS for one in sides)
    if affects is Affects.TCP:
        return any(one.kind not in DATAGRAM_KINDS and one.kind not in UNIX_KINDS for one in sides)
    if affects is Affects.PIPES:
        relays = rule.options.relay is RelayKind.AUTO or rule.options.relay is RelayKind.SPLICE
        return relays and rule.is_plain
    if affects is Affects.CONNECTIONS:
        return rule.listen.kind not in DATAGRAM_KINDS
    return len(sides) > 2


def _acts_on_clients(affects: Affects, options: ListenOptions) -> bool:
    return bool(options.alpn) if affects is Affects.ALPN else options.min_version != "1.3"


def _acts_on_target(affects: Affects, options: Options) -> bool:
    if affects is Affects.CHECKED:
        # With pin= and without ca= the fingerprint alone is checked.
        return options.verify and (options.ca is not None or not options.pin)
    if affects is Affects.CLIENT_CERT:
        return options.client_cert is not None
    return options.target_min_version != "1.3"


def _complain(name: str, where: Location, findings: Findings) -> None:
    option = BY_NAME[name]
    findings.error(
        where,
        "option-does-not-fit",
        f"{shown(option.key)} has no meaning here: it needs {option.needs.value}",
        "delete it, or change the rule",
    )


def _split(settings: Settings) -> tuple[ListenOptions, Options]:
    listener: dict[str, Any] = {}
    rule: dict[str, Any] = {}
    for name, (value, _) in settings.items():
        option = BY_NAME[name]
        (listener if option.scope is Scope.LISTENER else rule)[option.field] = value
    return (
        ListenOptions(**listener) if listener else _NO_LISTEN_OPTIONS,
        Options(**rule) if rule else _NO_OPTIONS,
    )


def _target(draft: TargetDraft, options: Options, findings: Findings) -> TargetSpec:
    if draft.settings:
        for name, (_, where) in draft.settings.items():
            needs = BY_NAME[name].needs
            if needs is not Needs.NOTHING and not _met(needs, None, [draft]):
                _complain(name, where, findings)
        own = {BY_NAME[name].field: value for name, (value, _) in draft.settings.items()}
        options = evolve(options, **own)
    place = draft.place
    return TargetSpec(place.kind, place.host, place.ports, place.path, draft.name, options, draft.where)


def _route(draft: RouteDraft, options: Options, findings: Findings) -> RouteSpec:
    target: TargetSpec | str | None
    if isinstance(draft.target, TargetDraft):
        target = _target(draft.target, options, findings)
    else:
        target = draft.target
    return RouteSpec(draft.patterns, target, draft.where, draft.pattern_places)
