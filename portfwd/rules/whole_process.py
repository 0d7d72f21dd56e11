# -*- test-case-name: tests.rules.test_whole_process -*-
"""
The directives ``limits`` and ``metrics``, which apply to the process or to several rules.

Their lines are checked when they are read, so errors have places, and kept as text like other directives.
`overall_limits`, `shared_limits` and `metrics_listener` interpret them. The last of several lines counts as a
whole; for ``limits NAME`` the last one with that name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from portfwd.limits.admission import NO_BOUNDS, Bounds
from portfwd.rules.addresses import Place, PortOfService, Role, address_text, read_place
from portfwd.rules.clauses import split_options
from portfwd.rules.findings import Findings, shown, suggestion
from portfwd.rules.model import Directive, Kind, ListenOptions, ListenSpec, OnLimit, Options, Rule, Ruleset
from portfwd.rules.options import LISTENER, RULE, OptionSpec
from portfwd.rules.reading import FileScope, Reading
from portfwd.rules.settings import read_settings
from portfwd.rules.tokens import NAME, Line, Word, WordFault

#: Options of the ``limits`` line, with the same meaning and bounds as in rules. A rate for all rules together
#: is not possible, because waiting rules would block each other.
LIMITS: Final[Mapping[str, OptionSpec]] = MappingProxyType(
    {key: RULE[key] for key in ("max-conns", "max-conns-per-source", "rate-per-source", "on-limit")}
)
#: Options of a ``limits NAME`` line: those of the limits of a rule.
SHARED: Final[Mapping[str, OptionSpec]] = MappingProxyType({**LIMITS, "rate": RULE["rate"]})
#: Lines of those who may ask for figures.
ASKING: Final = frozenset({"admin", "manhole", "metrics", "stats-log", "status-file", "toxiproxy", "web"})
#: Options of the ``metrics`` line after its address.
METRICS: Final[Mapping[str, OptionSpec]] = MappingProxyType({"mode": LISTENER["mode"]})


def rule_bounds(options: Options) -> Bounds:
    """The limits of one rule."""
    return Bounds(
        options.max_conns,
        options.max_conns_per_source,
        options.rate,
        options.rate_per_source,
        options.on_limit is OnLimit.WAIT,
    )


def overall_limits(ruleset: Ruleset) -> Bounds:
    """The limits of all rules together."""
    unnamed = (line for line in reversed(ruleset.directives) if line.name == "limits" and not line.words)
    line = next(unnamed, None)
    if line is None:
        return NO_BOUNDS
    return rule_bounds(Options(**_values(LIMITS, line)))


def shared_limits(ruleset: Ruleset) -> Mapping[str, Bounds]:
    """The limits that rules share, by name."""
    lines = {line.words[0]: line for line in ruleset.directives if line.name == "limits" and line.words}
    return {name: rule_bounds(Options(**_values(SHARED, line))) for name, line in lines.items()}


def shared_line(ruleset: Ruleset, rule: Rule) -> Directive | None:
    """The ``limits NAME`` line that `rule` uses; None without ``limit=``."""
    name = rule.options.limit
    named = (line for line in reversed(ruleset.directives) if line.name == "limits" and line.words == (name,))
    return None if name is None else next(named, None)


def check_shared(rules: Sequence[Rule], directives: Sequence[Directive], findings: Findings) -> None:
    """Report rules whose ``limit=`` has no ``limits NAME`` line, and lines that no rule uses."""
    lines = {line.words[0]: line for line in directives if line.name == "limits" and line.words}
    used = set()
    for rule in rules:
        name = rule.options.limit
        if name is None:
            continue
        used.add(name)
        if name not in lines:
            findings.error(
                next((where for option, where in rule.places if option == "limit"), rule.where),
                "unknown-limit",
                f"there are no limits called {shown(name)}",
                suggestion(name, lines) or f"write a line such as 'limits {name} max-conns=100'",
            )
    for name, line in lines.items():
        if name not in used:
            findings.warning(
                line.where,
                "unused-limit",
                f"no rule has a share in the limits {shown(name)}",
                f"write limit={name} on the rules that share them; limits of all rules have no name",
            )


def metrics_listener(ruleset: Ruleset) -> ListenSpec | None:
    """The address of the metrics page; None if there is none."""
    line = _last(ruleset, "metrics")
    if line is None:
        return None
    (text,) = line.words
    place = _read_listener(text, _no_services)
    options = ListenOptions(**_values(METRICS, line))
    return ListenSpec(place.kind, place.host, place.ports, place.path, options, line.where)


def wants_figures(ruleset: Ruleset) -> bool:
    """Whether the counts of closed sessions are needed later."""
    return any(one.name in ASKING for one in ruleset.directives)


def _no_services(name: str, protocol: str) -> int | None:
    return None


def _last(ruleset: Ruleset, name: str) -> Directive | None:
    return next((one for one in reversed(ruleset.directives) if one.name == name), None)


def _values(table: Mapping[str, OptionSpec], line: Directive) -> dict[str, Any]:
    return {table[key].field: table[key].value(text) for key, text in line.options}


def _keep(reading: Reading, line: Line, words: list[Word], plain: tuple[str, ...] = ()) -> None:
    where = line.at(words[0])
    _, options = split_options(words[1:])
    reading.say(" ".join([words[0].text, *plain]) if words[0].text == "limits" else words[0].text, where)
    reading.directives.append(Directive(words[0].text, plain, options, where))


def read_limits(reading: Reading, scope: FileScope, line: Line, words: list[Word]) -> None:
    """Read ``limits`` and its options, or ``limits NAME`` and those."""
    named = len(words) > 1 and words[1].option() is None and NAME.fullmatch(words[1].text) is not None
    table, options = (SHARED, words[2:]) if named else (LIMITS, words[1:])
    plain = (words[1].text,) if named else ()
    if plain == ("none",):
        reading.findings.error(
            line.at(words[1]), "bad-name", "'none' is no name for limits: limit=none means no shared limits"
        )
        return
    if not options:
        reading.findings.error(
            line.at(words[0]),
            "missing-argument",
            "'limits' needs an option",
            f"such as {' '.join(['limits', *plain])} max-conns=1000",
        )
    for word in options:
        item = word.option()
        if item is not None and item[0] not in table and item[0] in RULE:
            whose = "of several rules together" if named else "of all rules together"
            hint = f"write it on the rules, or once for all of them: default {item[0]}=…"
            if item[0] in SHARED:
                hint = f"give the line a name: limits NAME {item[0]}=…, with limit=NAME on the rules"
            reading.findings.error(
                line.at(word), "misplaced-option", f"'{item[0]}' is no limit {whose}", hint
            )
            options = []
            break
    read_settings(reading, line, options, None, of=table)
    _keep(reading, line, words, plain)


def read_metrics(reading: Reading, scope: FileScope, line: Line, words: list[Word]) -> None:
    """Read ``metrics ADDRESS`` and its options."""
    if len(words) == 1 or words[1].option() is not None:
        reading.findings.error(
            line.at(words[0]), "missing-argument", "'metrics' needs an address", "such as 127.0.0.1:9100"
        )
        return
    word = words[1]
    try:
        place = _read_listener(word.text, reading.port_of_service)
    except WordFault as fault:
        reading.findings.fault(line, word, fault)
        return
    settings = read_settings(reading, line, words[2:], None, of=METRICS)
    if "mode" in settings and place.kind is not Kind.UNIX:
        reading.findings.error(
            settings["mode"][1], "option-does-not-fit", "'mode' has no meaning here: it needs a unix: address"
        )
    _keep(reading, line, words, (address_text(place, quoted=False),))


def _read_listener(text: str, port_of_service: PortOfService) -> Place:
    # Quotes make no difference here and are not kept.
    place = read_place(Word(text, 1, len(text), len(text)), Role.LISTEN, port_of_service)
    if place.kind not in (Kind.TCP, Kind.UNIX) or (place.ports is not None and len(place.ports) > 1):
        raise WordFault(
            "bad-address", "metrics listen on one TCP port or unix socket", "such as 127.0.0.1:9100"
        )
    return place
