# -*- test-case-name: tests.service.test_embed -*-
"""A forwarder inside another Twisted program."""

from __future__ import annotations

from twisted.application.service import IService

from portfwd.errors import RulesError
from portfwd.kernel.reactor import Reactor
from portfwd.kernel.steady import steady
from portfwd.relay.rule import SessionLog
from portfwd.rules import parse_rule, unsupported
from portfwd.rules.model import Rule, Ruleset
from portfwd.service.build.factories import Factories
from portfwd.service.build.filters import filter_problems
from portfwd.service.run.forwarder import DRAIN, Forwarder


def forward(
    reactor: Reactor, rule: str | Rule | Ruleset, *, log: SessionLog | None = None, drain: float = DRAIN
) -> IService:
    """See `portfwd.forward`."""
    if isinstance(rule, str):
        ruleset = parse_rule(rule)
    elif isinstance(rule, Rule):
        ruleset = Ruleset(rules=(rule,))
    else:
        ruleset = rule
    factories = Factories()
    problems = (*unsupported(ruleset), *filter_problems(ruleset, factories=factories))
    if problems:
        raise RulesError(problems)
    service: IService = Forwarder(steady(reactor), ruleset, log, drain=drain, factories=factories)
    return service
