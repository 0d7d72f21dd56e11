# -*- test-case-name: tests.rules.test_whole_process -*-
"""
The directives about the process as a whole: ``limits`` and ``metrics``.

Their lines are judged where they are read, so that what is wrong is told with its place, and kept as
text like other directives. What they mean, `overall_limits` and `metrics_listener` say. Of
several lines the last one counts, as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from portfwd.limits.admission import NO_BOUNDS, Bounds
from portfwd.rules.addresses import Place, PortOfService, Role, address_text, read_place
from portfwd.rules.clauses import split_options
from portfwd.rules.model import Directive, Kind, ListenOptions, ListenSpec, OnLimit, Options, Ruleset
from portfwd.rules.options import LISTENER, RULE, OptionSpec
from portfwd.rules.reading import FileScope, Reading
from portfwd.rules.settings import read_settings
from portfwd.rules.tokens import Fault, Line, Word

#: What the ``limits`` line takes, with the meaning and the bounds that rules have. A rate of
#: all rules together is none of them: those who wait for it would wait for each other.
LIMITS: Final[Mapping[str, OptionSpec]] = MappingProxyType(
    {key: RULE[key] for key in ("max-conns", "max-conns-per-source", "rate-per-source", "on-limit")}
)
#: What the ``metrics`` line takes beside its address.
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
    line = _last(ruleset, "limits")
    if line is None:
        return NO_BOUNDS
    return rule_bounds(Options(**_values(LIMITS, line)))


def metrics_listener(ruleset: Ruleset) -> ListenSpec | None:
    """Where metrics are to be had; None where nobody asks for them."""
    line = _last(ruleset, "metrics")
    if line is None:
        return None
    (text,) = line.words
    place = _read_listener(text, _no_services)
    options = ListenOptions(**_values(METRICS, line))
    return ListenSpec(place.kind, place.host, place.ports, place.path, options, line.where)


def wants_figures(ruleset: Ruleset) -> bool:
    """Whether somebody may ask what sessions did once they are closed."""
    return any(one.name in {"metrics", "admin", "manhole"} for one in ruleset.directives)


def _no_services(name: str, protocol: str) -> int | None:
    return None


def _last(ruleset: Ruleset, name: str) -> Directive | None:
    return next((one for one in reversed(ruleset.directives) if one.name == name), None)


def _values(table: Mapping[str, OptionSpec], line: Directive) -> dict[str, Any]:
    return {table[key].field: table[key].value(text) for key, text in line.options}


def _keep(reading: Reading, line: Line, words: list[Word], plain: tuple[str, ...] = ()) -> None:
    where = line.at(words[0])
    _, options = split_options(words[1:])
    reading.say(words[0].text, where)
    reading.directives.append(Directive(words[0].text, plain, options, where))


def read_limits(reading: Reading, scope: FileScope, line: Line, words: list[Word]) -> None:
    """Read ``limits`` and its options."""
    if len(words) == 1:
        reading.findings.error(
            line.at(words[0]), "missing-argument", "'limits' needs an option", "such as limits max-conns=1000"
        )
    for word in words[1:]:
        item = word.option()
        if item is not None and item[0] not in LIMITS and item[0] in RULE:
            reading.findings.error(
                line.at(word),
                "misplaced-option",
                f"'{item[0]}' is no limit of all rules together",
                f"write it on the rules, or once for all of them: default {item[0]}=…",
            )
            return
    read_settings(reading, line, words[1:], None, of=LIMITS)
    _keep(reading, line, words)


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
    except Fault as fault:
        reading.findings.fault(line, word, fault)
        return
    settings = read_settings(reading, line, words[2:], None, of=METRICS)
    if "mode" in settings and place.kind is not Kind.UNIX:
        reading.findings.error(
            settings["mode"][1], "option-does-not-fit", "'mode' has no meaning here: it needs a unix: address"
        )
    _keep(reading, line, words, (address_text(place, quoted=False),))


def _read_listener(text: str, port_of_service: PortOfService) -> Place:
    # Quoted or not makes no difference here, and is not kept.
    place = read_place(Word(text, 1, len(text), len(text)), Role.LISTEN, port_of_service)
    if place.kind not in (Kind.TCP, Kind.UNIX) or (place.ports is not None and len(place.ports) > 1):
        raise Fault("bad-address", "metrics listen on one TCP port or unix socket", "such as 127.0.0.1:9100")
    return place
