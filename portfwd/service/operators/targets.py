# -*- test-case-name: tests.service.operators.test_targets -*-
"""Makes the `TargetView` values of the targets of active rules."""

from __future__ import annotations

from collections.abc import Iterator

from portfwd.admin.operator import CheckView, TargetView
from portfwd.relay.live import LiveRule
from portfwd.upstreams.health import TargetState
from portfwd.upstreams.pool import MemberView


def target_views(live: LiveRule, older: int, now: float) -> Iterator[TargetView]:
    """
    The targets of a rule.

    :param older: number of sessions of the rule that started before a reload.
    :param now: the reactor's seconds.
    """
    names = {one.identity: one.name for one in live.balancing.checks}
    for name, destination, view in live.balancing.views():
        occupancy = destination.occupancy
        sessions = occupancy.taken if destination.is_counted else len(live.sessions) + older
        state, cause, since, ordered, share = TargetState.UP, "", None, False, 1.0
        checks: tuple[CheckView, ...] = ()
        if view is not None:
            state, cause, ordered, share = view.state, view.cause, view.member.ordered is not None, view.part
            since = None if view.since is None or ordered else now - view.since
            checks = _checks(view, names)
        yield TargetView(
            live.name,
            name,
            destination.label,
            state.value,
            cause,
            since,
            ordered,
            share,
            destination.options.backup,
            sessions,
            occupancy.dials,
            occupancy.failures,
            checks,
        )


def _checks(view: MemberView, names: dict[str, str]) -> tuple[CheckView, ...]:
    return tuple(
        CheckView(names.get(identity, identity), one.passing, one.verdict.cause, one.seconds, one.problem)
        for identity, one in view.member.health.checks.items()
    )
