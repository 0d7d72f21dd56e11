# -*- test-case-name: tests.service.run.test_steering -*-
"""
Operators' commands for single rules: pause, drain, resume.

Clients of a paused rule wait: connections in the backlog, datagrams in a queue of the size of the receive
buffer. A drained rule does not listen any more, and its sessions get a deadline. The text of a rule is
changed only by a reload.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.logger import Logger

from portfwd.errors import SteerError
from portfwd.limits.descriptors import DescriptorBudget
from portfwd.listen.datagram_clients import DatagramClients
from portfwd.listen.late_clients import LAST_BATCHES
from portfwd.relay.live import LiveRule
from portfwd.rules.findings import nearest, shown
from portfwd.service.build.bind_failures import cannot_bind
from portfwd.service.build.bound import Bound, listen_on_endpoints
from portfwd.service.build.build import Binder, Planned
from portfwd.service.run.retired_rules import RetiredRules
from portfwd.service.run.rivals import Rivals
from portfwd.upstreams.health import TargetState
from portfwd.values import counted


def named(bounds: Sequence[Bound], name: str) -> Sequence[Bound]:
    """
    The listeners of a rule, or of one port of its range.

    :raises SteerError: there is no such rule.
    """
    found = [bound for bound in bounds if name in (bound.live.name, bound.live.rule.name)]
    if not found:
        known = {name for bound in bounds for name in (bound.live.name, bound.live.rule.name)}
        hint = nearest(name, known)
        raise SteerError(f"there is no rule called {shown(name)}{hint and f'; {hint}'}")
    return found


class Steering:
    """Performs the commands. Each method takes the listeners of a rule and returns its new ones."""

    _log = Logger()

    def __init__(self, binder: Binder, budget: DescriptorBudget, retired_rules: RetiredRules) -> None:
        self._binder = binder
        self._budget = budget
        self._retired_rules = retired_rules

    def pause(self, found: Sequence[Bound]) -> Sequence[Bound]:
        """
        Stop accepting. Clients wait.

        :raises SteerError: an endpoint of Twisted cannot be paused; nothing was paused.
        """
        for bound in found:
            if not bound.can_pause:
                raise SteerError(
                    f"{bound.live.name}: an endpoint of Twisted's that cannot be paused; drain it"
                )
        for bound in found:
            if not bound.closed:
                bound.pause()
                datagrams = any(isinstance(listener, DatagramClients) for listener in bound.listeners)
                what = "datagrams of new clients" if datagrams else "clients"
                where = "a queue as large as the receive buffer" if datagrams else "the backlog"
                self._log.info(
                    "{rule}: paused, {what} wait in {where}", rule=bound.live.name, what=what, where=where
                )
        return found

    def drain(self, found: Sequence[Bound]) -> Sequence[Bound]:
        """Close listeners, and give sessions a deadline."""
        for bound in found:
            # Sessions from before the last reload, and waiting clients, belong to the rule too.
            lives = self._retired_rules.family(bound.live)
            if not bound.closed:
                for late in bound.take_waiting():
                    self._retired_rules.serve(bound.live, late, LAST_BATCHES)
                for live in lives:
                    self._retired_rules.turn_away(live)
                self._budget.give_back(len(bound.listeners))
                bound.close()
            for live in lives:
                self._retired_rules.drain(live, operator=True)
            count = sum(len(live.sessions) for live in lives)
            self._log.info("{rule}: draining {count}", rule=bound.live.name, count=counted(count, "session"))
        return found

    def resume(self, found: Sequence[Bound]) -> Sequence[Bound]:
        """
        Accept again on all ports. If one of them cannot be bound, drained ports stay closed.

        :raises SteerError: a listener cannot be bound again; nothing was changed.
        """
        again = self._bind_again([bound for bound in found if bound.closed])
        now = []
        for bound in found:
            if bound.closed:
                bound = again[bound.live]
            else:
                bound.resume()
            for live in self._retired_rules.family(bound.live):
                self._retired_rules.spare(live)
            self._log.info("{rule}: accepts clients", rule=bound.live.name)
            now.append(bound)
        return now

    def order_target(
        self, found: Sequence[Bound], label: str, ordered: TargetState | None
    ) -> Sequence[Bound]:
        """
        Set the state of a target, regardless of its dials and checks.

        :param label: name of the target in messages.
        :param ordered: the state; None to let dials and checks decide again.
        :returns: those of `found` that have the target.
        :raises SteerError: none of them has it.
        """
        chosen = [one for one in found if one.live.order_target(label, ordered)]
        for one in chosen:
            for older in one.live.older:
                older.obey_order(label, ordered)
        if not chosen:
            known = {target.label for one in found for target in one.live.every_destination}
            hint = nearest(label, known)
            name = found[0].live.rule.name
            raise SteerError(f"{name} has no target called {shown(label)}{hint and f'; {hint}'}")
        return chosen

    def _bind_again(self, drained: Sequence[Bound]) -> dict[LiveRule, Bound]:
        """Listen again for all drained ports, or for none."""
        again: dict[LiveRule, Bound] = {}
        failures: list[str] = []
        rivals = Rivals(self._binder.retired)
        for one in drained:
            planned = Planned(one.live, one.offset, one.endpoint)
            try:
                again[one.live] = fresh = rivals.bind(self._binder, planned)
                for listener in fresh.listeners:
                    listener.open()
            except (OSError, ValueError) as problem:
                failures.append(cannot_bind(planned.live.rule, planned.live.name, planned.offset, problem))
                break
        if not failures:
            # Last, because these accept clients at once.
            for fresh in again.values():
                listen_on_endpoints(fresh, self._budget, failures.append)
        if failures:
            for fresh in again.values():
                fresh.close()
            for take_back in rivals.taking_back():
                take_back()
        rivals.stop_sharing(again.values())
        if failures:
            raise SteerError(failures[0])
        for fresh in again.values():
            for listener in fresh.listeners:
                listener.begin()
                if isinstance(listener, DatagramClients):
                    self._binder.retired.join(listener)
            self._budget.spent += len(fresh.listeners)
        return again
