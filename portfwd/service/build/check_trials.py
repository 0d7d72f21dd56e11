# -*- test-case-name: tests.service.build.test_check_trials -*-
"""
Warns of ``check`` clauses that are well-formed and cannot be made for a target of their rule.

Their program is missing or may not be executed, their code raises an exception when a check begins, or a
target has no address for them. Such a check takes the target down when the forwarder runs. Nothing is
connected and no program is started here.

=====================  ==================================================================
code                   meaning
=====================  ==================================================================
check-impossible       a check cannot be made for a target of its rule (a warning)
=====================  ==================================================================
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator

from portfwd.errors import Problem, Severity
from portfwd.rules.model import DATAGRAM_KINDS, TLS_KINDS, UNIX_KINDS, Kind, Rule, Ruleset, TargetSpec
from portfwd.service.build.checks import ReadyCheck, configure_checks
from portfwd.upstreams.checks.api import CheckCarrier, Subject
from portfwd.upstreams.checks.registry import CheckRegistry
from portfwd.values import printable


def executable(program: str) -> bool:
    """Whether this user may execute `program`, which is searched in ``PATH`` if it has no slash."""
    return shutil.which(program, path=os.environ.get("PATH", os.defpath)) is not None


def impossible_checks(
    ruleset: Ruleset, registry: CheckRegistry | None = None, runs: Callable[[str], bool] = executable
) -> Iterator[Problem]:
    """
    Yield a warning for each ``check`` clause that cannot be made.

    :param registry: None: the installed checks, which are found at the first rule with a check.
    :param runs: tells whether a program can be executed.
    """
    registry = CheckRegistry.installed() if registry is None else registry
    for rule in ruleset.rules:
        for spec in rule.checks:
            for ready in configure_checks(rule, registry, (spec,)).checks:
                why = _why_not(rule, ready, runs)
                if why:
                    yield Problem(
                        spec.where,
                        "check-impossible",
                        f"check {ready.name}: {why}",
                        "the target is down as long as the check cannot be made",
                        Severity.WARNING,
                    )


def _why_not(rule: Rule, ready: ReadyCheck, runs: Callable[[str], bool]) -> str:
    for target in (*rule.targets, *rule.named_targets):
        why = _without_address(target, ready)
        if why:
            return why
        port = 1 if target.ports is None else target.ports.first
        subject = Subject(target.host, target.host, ready.timing.port or port)
        try:
            if ready.check.carrier is not CheckCarrier.COMMAND:
                ready.check.begin(subject)
                continue
            program = next(iter(ready.check.arguments(subject)))
        except Exception as error:
            return f"it raised {type(error).__name__}: {printable(str(error))}"
        if not runs(program):
            return f"the program '{printable(program)}' is missing, or may not be executed"
    return ""


def _without_address(target: TargetSpec, ready: ReadyCheck) -> str:
    carrier, kind = ready.check.carrier, target.kind
    if carrier is CheckCarrier.COMMAND:
        return ""
    is_unix = kind in UNIX_KINDS
    is_endpoint = kind is Kind.ENDPOINT or target.given is not None
    if ready.timing.port is not None and (is_unix or is_endpoint):
        return "port= needs a target with a host"
    if carrier is CheckCarrier.DATAGRAM and (is_endpoint or (is_unix and kind not in DATAGRAM_KINDS)):
        return "it sends datagrams, and a target has no address for them"
    if carrier is CheckCarrier.TLS and kind not in TLS_KINDS and (is_endpoint or is_unix):
        return "it needs TLS, and a target has no host for it"
    return ""
