# -*- test-case-name: tests.service.operators.test_forwarder_operator -*-
"""
Implements `portfwd.admin.operator.Operator` with a `Forwarder`.

It finds rules and sessions by name and number, translates errors to `OperatorError`, and delegates the work
to sessions, rules and the forwarder.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any, Final, Protocol, cast

from twisted.internet.defer import Deferred

from portfwd.admin.changes import ChangeLog, LoggedLine
from portfwd.admin.operator import FaultView, LiveSession, OperatorError, RuleView, TargetView
from portfwd.errors import SteerError
from portfwd.kernel.reactor import Reactor
from portfwd.logs.fields import utc_time
from portfwd.relay.live import LiveRule
from portfwd.relay.session import Session
from portfwd.relay.tapping import Taps
from portfwd.rules.findings import nearest, shown
from portfwd.rules.queries.explain import explain
from portfwd.rules.queries.explain_text import explanation_json, explanation_text
from portfwd.service.build import faults
from portfwd.service.build.addresses import bound_labels
from portfwd.service.daemon.log_level import LogThreshold
from portfwd.service.operators.targets import target_views
from portfwd.service.run.forwarder import Forwarder
from portfwd.upstreams.health import TargetState
from portfwd.values import CloseReason, Direction
from portfwd.version import __version__

_PARTIES: Final = ("client_stream", "upstream_stream")


class Result(Protocol):
    """The result of a reload, such as `portfwd.service.run.reload.ReloadResult`."""

    @property
    def applied(self) -> bool:
        """Whether the new rules are in use."""

    @property
    def failures(self) -> Sequence[str]:
        """One line for each problem."""

    def lines(self) -> Iterator[str]:
        """The result as lines of text."""


class ForwarderOperator:
    """The operations of operators on a forwarder."""

    version = __version__

    def __init__(
        self,
        forwarder: Forwarder,
        reactor: Reactor,
        *,
        reload: Callable[[bool, bool], Deferred[Any]] | None = None,
        stop: Callable[[], None] | None = None,
        threshold: LogThreshold | None = None,
    ) -> None:
        """
        :param reload: reads the rules again and returns a `Result`. Its arguments: whether it is a dry run,
            and whether to import changed code of filters. None if there is no file.
        :param stop: ends the program; None for a forwarder inside another program.
        """
        self._forwarder = forwarder
        self._reactor = reactor
        self._reload = reload
        self._stop = stop
        self._threshold = LogThreshold() if threshold is None else threshold
        self._started_at = reactor.seconds()
        self._taps = Taps()
        self.change_log = ChangeLog()
        #: The addresses and host keys of manholes, for ``status`` and ``portfwd shell``.
        self.shells: list[dict[str, str]] = []

    def __repr__(self) -> str:
        return f"<ForwarderOperator {self._forwarder!r}>"

    # Looking

    def status(self) -> dict[str, Any]:
        """See `portfwd.admin.operator.Operator`."""
        forwarder = self._forwarder
        now = self._reactor.seconds()
        rules = forwarder.rules
        return {
            "version": self.version,
            "pid": os.getpid(),
            "uptime": round(now - self._started_at, 3),
            "state": "running" if forwarder.running else "draining",
            "rules": len(rules),
            "targets_down": forwarder.targets.down,
            "sessions": forwarder.session_count,
            "total": forwarder.session_total,
            "descriptors": forwarder.budget.spent,
            "files": list(forwarder.ruleset.files),
            "reloads": forwarder.reloads,
            "reload_failures": forwarder.reload_failures,
            "last_reload_refused": forwarder.last_reload_refused,
            "reloaded_at": None if forwarder.reloaded_at is None else utc_time(forwarder.reloaded_at),
            "log_level": self._threshold.level,
            "shells": self.shells,
        }

    def rule_count(self) -> int:
        """See `portfwd.admin.operator.Operator`."""
        return len(self._forwarder.rules)

    def rules(self, start: int = 0) -> Iterator[RuleView]:
        """See `portfwd.admin.operator.Operator`."""
        bounds = self._forwarder.bound
        older = self._older()
        for bound in bounds[start:]:
            state = "" if bound.closed else "paused" if bound.paused else "accepting"
            addresses = () if bound.closed else tuple(bound_labels(bound))
            yield _view(bound.live, state, addresses, older[bound.live.name])
        if not bounds:
            # The forwarder stops: no rule listens any more, but sessions may exist.
            yield from (_view(live, "", (), older[live.name]) for live in self._forwarder.rules[start:])

    def _older(self) -> Counter[str]:
        """Number of sessions of retired rules, by the name of the rule that replaced theirs or their own."""
        older = Counter[str]()
        for live in self._forwarder.retired_rules:
            older[(live.heir or live).name] += len(live.sessions)
        return older

    def _named(self, rule: str, lives: Sequence[LiveRule]) -> list[LiveRule]:
        """
        The rules of `lives` with the name `rule`.

        :raises OperatorError: there is none.
        """
        found = [live for live in lives if rule in (live.rule.name, live.name)]
        if not found:
            hint = nearest(rule, {live.rule.name for live in lives}, "portfwd rules")
            raise OperatorError("not-found", f"there is no rule called {shown(rule)}; {hint}")
        return found

    def sessions(self, rule: str | None = None) -> Iterator[LiveSession]:
        """See `portfwd.admin.operator.Operator`."""
        lives = self._forwarder.every_rule
        for live in lives if rule is None else self._named(rule, lives):
            yield from tuple(live.sessions.values())

    def session(self, number: int) -> LiveSession:
        """See `portfwd.admin.operator.Operator`."""
        for live in self._forwarder.every_rule:
            found = live.sessions.get(number)
            if found is not None:
                return found
        raise OperatorError("not-found", f"there is no open session {number}; 'portfwd sessions' lists them")

    def detail(self, session: LiveSession) -> dict[str, Any]:
        """See `portfwd.admin.operator.Operator`."""
        streams = zip(_PARTIES, cast(Session, session).streams, strict=True)
        return {name: None if stream is None else repr(stream) for name, stream in streams}

    def explain(self, client: str, listen: str) -> dict[str, Any]:
        """See `portfwd.admin.operator.Operator`."""
        try:
            explanation = explain(self._forwarder.ruleset, client, listen)
        except ValueError as error:
            raise OperatorError("bad-request", str(error)) from None
        rule = explanation.rule
        plan = None
        if rule is not None:
            plan = next(live.plan for live in self._forwarder.rules if live.rule.name == rule.name)
        return {
            "explanation": explanation_json(explanation, plan),
            "text": explanation_text(explanation, plan),
        }

    def changes(self, after: int) -> tuple[int, Iterator[LoggedLine]]:
        """See `portfwd.admin.operator.Operator`."""
        return self.change_log.last, self.change_log.since(after)

    def tap(self, session: LiveSession, saw: Callable[[Direction, bytes], None]) -> Callable[[], None]:
        """See `portfwd.admin.operator.Operator`."""
        try:
            return self._taps.begin(cast(Session, session), saw)
        except ValueError as error:
            raise OperatorError("refused", str(error)) from None

    # Steering

    def kill(self, session: LiveSession) -> None:
        """See `portfwd.admin.operator.Operator`."""
        session.kill(CloseReason.KILLED)

    def drain(self, rule: str) -> list[str]:
        """See `portfwd.admin.operator.Operator`."""
        return self._steer(self._forwarder.drain, rule)

    def pause(self, rule: str) -> list[str]:
        """See `portfwd.admin.operator.Operator`."""
        return self._steer(self._forwarder.pause, rule)

    def resume(self, rule: str) -> list[str]:
        """See `portfwd.admin.operator.Operator`."""
        return self._steer(self._forwarder.resume, rule)

    def _steer(self, steer: Callable[[str], Sequence[LiveRule]], rule: str) -> list[str]:
        self._named(rule, self._forwarder.rules)
        try:
            return [live.name for live in steer(rule)]
        except SteerError as problem:
            raise OperatorError("refused", str(problem)) from None

    def targets(self, rule: str | None, start: int = 0) -> Iterator[TargetView]:
        """See `portfwd.admin.operator.Operator`."""
        lives = self._forwarder.rules
        older = self._older()
        found = lives if rule is None else self._named(rule, lives)
        now = self._reactor.seconds()
        return islice(
            (view for live in found for view in target_views(live, older[live.name], now)), start, None
        )

    def order_target(self, rule: str, target: str, state: str) -> list[str]:
        """See `portfwd.admin.operator.Operator`."""
        ordered = None if state == "auto" else TargetState(state)
        return self._steer(partial(self._forwarder.order_target, label=target, ordered=ordered), rule)

    def faults(self, rule: str | None) -> list[FaultView]:
        """See `portfwd.admin.operator.Operator`."""
        lives = self._forwarder.rules
        return faults.views(lives if rule is None else self._named(rule, lives))

    def set_faults(
        self, rule: str, which: str, active: bool | None, options: Mapping[str, str]
    ) -> list[FaultView]:
        """See `portfwd.admin.operator.Operator`."""
        return faults.change(self._named(rule, self._forwarder.rules), which, active, options)

    def log_level(self, level: str | None) -> str:
        """See `portfwd.admin.operator.Operator`."""
        if level is not None:
            try:
                self._threshold.set_level(level)
            except ValueError as error:
                raise OperatorError("bad-request", str(error)) from None
        return self._threshold.level

    async def reload(self, dry_run: bool, code: bool = False) -> dict[str, Any]:
        """See `portfwd.admin.operator.Operator`."""
        if self._reload is None:
            raise OperatorError("refused", "there is no rules file to read again")
        # A client that disconnects cancels this coroutine, but not the reload.
        outcome: Deferred[Result] = Deferred()
        self._reload(dry_run, code).chainDeferred(outcome)
        result = await outcome
        lines = list(result.lines())
        if result.failures:
            raise OperatorError("bad-rules", lines[0], {"lines": lines})
        return {"applied": result.applied, "lines": lines}

    def stop(self) -> None:
        """See `portfwd.admin.operator.Operator`."""
        if self._stop is None:
            raise OperatorError("refused", "this forwarder is part of another program, which must stop it")
        self._stop()


def _view(live: LiveRule, state: str, listen: tuple[str, ...], older: int) -> RuleView:
    """The view of a rule. An empty `state` means that it does not listen."""
    sessions = len(live.sessions) + older
    return RuleView(
        live.name,
        live.rule.name,
        listen,
        tuple(one.label for one in live.destinations),
        state or ("draining" if sessions else "closed"),
        sessions,
        live.counts.total,
        tuple(name for name, _ in live.filters),
        live.counts.filter_failures,
        str(live.rule.where),
    )
