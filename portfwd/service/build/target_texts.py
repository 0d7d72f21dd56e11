# -*- test-case-name: tests.service.build.test_target_texts -*-
"""
Text of a rules file that code writes: a target with its options, and options of TLS.

The grammar is the file's own: the text is read as a rule of one line. It opens nothing; a target that is made
ready reads the files that its options name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import attrs

from portfwd.errors import RulesError
from portfwd.relay.context import RelayContext
from portfwd.relay.destination import Destination
from portfwd.rules import parse_rule
from portfwd.rules.model import ListenOptions, Options, Rule, TargetSpec
from portfwd.rules.tokens import spell_value
from portfwd.service.build.targets import TLSCreators, destination, named_target, warn_unverified

_DEFAULTS: Final = Options()

#: A listener that is no target.
_LISTEN: Final = "unix:@portfwd-target"


def read_target(text: str, options: Options) -> TargetSpec:
    """
    A target as a rules file writes it.

    :param options: those of the rule: they hold where the text says nothing else.
    :raises ValueError: the text says something else, or several targets.
    """
    target = _read(f"{_LISTEN} -> {text}", text)
    own = {
        one.name: getattr(target.options, one.name)
        for one in attrs.fields(Options)
        if getattr(target.options, one.name) != getattr(_DEFAULTS, one.name)
    }
    return attrs.evolve(target, options=attrs.evolve(options, **own))


def target_reader(rule: Rule, context: RelayContext, creators: TLSCreators) -> Callable[[str], Destination]:
    """What makes targets ready that filters of `rule` write; the parameters are those of `destination`."""

    def read(text: str) -> Destination:
        try:
            made = destination(read_target(text, rule.options), 0, context, creators, rule.name)
        except OSError as problem:
            raise ValueError(f"{text}: {problem}") from problem
        if made.tls is not None:
            warn_unverified(named_target(rule.name, made.label), made.options)
        return attrs.evolve(made, is_chosen=True)

    return read


def listener_options(options: Mapping[str, str]) -> ListenOptions:
    """
    Options of a ``tls:`` listener, by their names in a rules file.

    :raises ValueError: they cannot be; the text says why.
    """
    text = _written(options)
    return _rule(f"tls:127.0.0.1:1 {text} -> 127.0.0.1:2", text).listen.options


def target_options(options: Mapping[str, str]) -> Options:
    """
    Options of a ``tls:`` target, by their names in a rules file.

    :raises ValueError: they cannot be; the text says why.
    """
    text = _written(options)
    return _read(f"{_LISTEN} -> tls:127.0.0.1:2 {text}", text).options


def _written(options: Mapping[str, str]) -> str:
    return " ".join(f"{key}={spell_value(value)}" for key, value in options.items())


def _read(line: str, text: str) -> TargetSpec:
    targets = _rule(line, text).targets
    if len(targets) != 1:
        raise ValueError(f"{text}: this is not one target")
    return targets[0]


def _rule(line: str, text: str) -> Rule:
    if "\n" in line or "\r" in line:
        raise ValueError(f"{text!r} is no line")
    try:
        (rule,) = parse_rule(line).rules
    except RulesError as refused:
        raise ValueError(f"{text}: {refused.problems[0].message}") from refused
    return rule
