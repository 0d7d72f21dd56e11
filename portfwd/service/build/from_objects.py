# -*- test-case-name: tests.service.build.test_from_objects -*-
"""
A rule from objects of a program: Twisted's endpoints, filters, and options as keywords.

The rule is written as text of the native grammar and read by its reader, so both forms have the same checks
and the same defaults. Names stand for the objects in that text; the values that come out of it keep the
objects themselves (`ListenSpec.given`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeAlias, cast

from attrs import evolve
from twisted.internet.interfaces import IStreamClientEndpoint, IStreamServerEndpoint

from portfwd.rules import parse_rule
from portfwd.rules.model import Kind, Rule, Ruleset
from portfwd.rules.options import OPTIONS, OptionSpec, Scope
from portfwd.rules.tokens import spell_value

#: A filter: the text of a ``filter`` clause, or an object; see `portfwd.filters.given`.
FilterArgument: TypeAlias = object


class Listens(Protocol):
    """A server endpoint, for programs that are checked without mypy-zope."""

    def listen(self, protocolFactory: Any) -> Any:
        """See `IStreamServerEndpoint`."""


class Connects(Protocol):
    """A client endpoint, likewise."""

    def connect(self, protocolFactory: Any) -> Any:
        """See `IStreamClientEndpoint`."""


# Texts, since interfaces of zope.interface 6 have no |.
Listening: TypeAlias = "str | IStreamServerEndpoint | Listens"
Target: TypeAlias = "str | IStreamClientEndpoint | Connects"

#: What the text has in the place of an object; no description of an endpoint begins like it.
_STANDS_FOR: Final = "given-object-"
_BY_FIELD: Final[Mapping[str, OptionSpec]] = {one.name.replace("-", "_"): one for one in OPTIONS}


def ruleset_of(rule: str | Rule | Ruleset) -> Ruleset:
    """
    A ruleset from text or from values; see `portfwd.forward`.

    :raises RulesError: the text is not good.
    """
    if isinstance(rule, Ruleset):
        return rule
    if isinstance(rule, Rule):
        return Ruleset(rules=(rule,))
    if isinstance(rule, str):
        return parse_rule(rule)
    raise TypeError(f"a rule is text, a Rule or a Ruleset, not {_kind(rule)}")


def ruleset_from(
    listen: Listening,
    to: Target | Iterable[Target],
    filters: Iterable[FilterArgument] = (),
    clauses: Iterable[str] = (),
    name: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Ruleset:
    """
    A ruleset of one rule; see `portfwd.forward`.

    :raises RulesError: an address, an option or a clause is not good.
    :raises TypeError: an argument has a wrong type.
    """
    given: dict[str, object] = {}
    where = _place(listen, IStreamServerEndpoint.providedBy, "listen", given)
    targets = [to] if isinstance(to, str) or IStreamClientEndpoint.providedBy(to) else _items(to, "to")
    places = [_place(one, IStreamClientEndpoint.providedBy, "to", given) for one in targets]
    before, after = _options(options or {})
    words = [*([] if name is None else [f"{name}:"]), where, *before, "->", ", ".join(places), *after]
    lines = [" ".join(words)]
    lines += [
        f"filter {_line(one, 'filters') if isinstance(one, str) else _stand_in(one, given)}"
        for one in _items(filters, "filters")
    ]
    lines += [_line(one, "clauses") for one in _items(clauses, "clauses")]
    read = parse_rule("\n    ".join(lines))
    (rule,) = read.rules
    names = _names(given)
    made = evolve(
        rule,
        name=names.get(rule.listen.path, rule.name) if name is None else rule.name,
        listen=_with_object(rule.listen, given, names),
        targets=tuple(_with_object(one, given, names) for one in rule.targets),
        filters=tuple(
            evolve(one, name=_kind(given[one.name]), given=given[one.name]) if one.name in given else one
            for one in rule.filters
        ),
        written=cast(Any, tuple(names.get(word.removeprefix("endpoint:"), word) for word in rule.written)),
    )
    return evolve(read, rules=(made,))


def _place(
    value: object, is_endpoint: Callable[[object], bool], argument: str, given: dict[str, object]
) -> str:
    """What the text has for an address or an endpoint."""
    if isinstance(value, str):
        return _line(value, argument)
    if not is_endpoint(value):
        side = "server" if argument == "listen" else "client"
        raise TypeError(f"{argument}= takes text or a {side} endpoint of Twisted's, not {_kind(value)}")
    return f'endpoint:"{_stand_in(value, given)}"'


def _stand_in(value: object, given: dict[str, object]) -> str:
    token = f"{_STANDS_FOR}{len(given)}"
    given[token] = value
    return token


def _line(text: object, argument: str) -> str:
    if not isinstance(text, str):
        raise TypeError(f"{argument}= takes text, not {_kind(text)}")
    if not text.isprintable():
        raise ValueError(f"{argument}= takes text without line ends, not {text!r}")
    return text


def _items(values: object, argument: str) -> list[Any]:
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise TypeError(f"{argument}= takes a list, not {_kind(values)}")
    return list(values)


def _options(options: Mapping[str, Any]) -> tuple[Sequence[str], Sequence[str]]:
    """Options as the text has them: of the listener, and of the rule."""
    before: list[str] = []
    after: list[str] = []
    for key, value in options.items():
        option = _BY_FIELD.get(key)
        words = before if option is not None and option.scope is Scope.LISTENER else after
        # The reader refuses a key that it does not know, and suggests another.
        word = key.replace("_", "-") if option is None else option.key
        words.append(f"{word}={spell_value(_text(key, value, option))}")
    return before, after


def _text(key: str, value: Any, option: OptionSpec | None) -> str:
    if isinstance(value, str):
        return _line(value, key)
    if option is None:
        return str(value)
    try:
        return option.text(value)
    except Exception as error:
        raise TypeError(
            f"{key}={value!r} is no value of this option; write {option.unit}, as text"
        ) from error


def _kind(value: object) -> str:
    """An object by its class, or by its own name."""
    kind = value if isinstance(value, type) else type(value)
    return kind.__name__


def _names(given: Mapping[str, object]) -> dict[str, str]:
    """What logs and operators call each object: its class, with a number from the second on."""
    count: dict[str, int] = {}
    names = {}
    for token, value in given.items():
        kind = _kind(value)
        count[kind] = count.get(kind, 0) + 1
        names[token] = kind if count[kind] == 1 else f"{kind}-{count[kind]}"
    return names


def _with_object(spec: Any, given: Mapping[str, object], names: Mapping[str, str]) -> Any:
    if spec.kind is not Kind.ENDPOINT or spec.path not in given:
        return spec
    return evolve(spec, path=names[spec.path], given=given[spec.path])
