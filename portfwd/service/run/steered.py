# -*- test-case-name: tests.service.run.test_forwarder -*-
"""The part of a forwarder with commands for single rules: pause, drain, resume, and states of targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.application.service import Service
from twisted.internet.defer import DeferredLock

from portfwd.errors import SteerError
from portfwd.relay.live import LiveRule
from portfwd.service.build.bound import Bound
from portfwd.service.build.build import Binder
from portfwd.service.run.steering import Steering, named
from portfwd.service.run.switching import systemd_names
from portfwd.upstreams.health import TargetState


class SteeredService(Service):
    """A service with commands for single rules. Commands are refused during a reload."""

    _bound: list[Bound]
    binder: Binder
    _steering: Steering
    _turn: DeferredLock

    def pause(self, name: str) -> Sequence[LiveRule]:
        """
        Accept no clients of a rule until `resume`. They wait (see `Steering`), and sessions continue.

        A paused or drained rule keeps its state over reloads.

        :param name: name of a rule, or of one port of its range.
        :returns: the affected live rules.
        :raises SteerError: there is no such rule, it cannot be paused, or a reload is running.
        """
        return self._steered(name, self._steering.pause)

    def drain(self, name: str) -> Sequence[LiveRule]:
        """
        Close the listeners of a rule, and give its sessions the time of a stop.

        Parameter, result and errors are those of `pause`.
        """
        return self._steered(name, self._steering.drain)

    def resume(self, name: str) -> Sequence[LiveRule]:
        """
        Accept clients of a paused or drained rule again.

        Parameter and result are those of `pause`.

        :raises SteerError: there is no such rule, it cannot be bound again, or a reload is running.
        """
        return self._steered(name, self._steering.resume)

    def order_target(self, name: str, label: str, ordered: TargetState | None) -> Sequence[LiveRule]:
        """See `Steering.order_target`. Parameter, result and errors are those of `pause`."""
        return self._steered(name, lambda found: self._steering.order_target(found, label, ordered))

    def _steered(self, name: str, steer: Callable[[Sequence[Bound]], Sequence[Bound]]) -> Sequence[LiveRule]:
        if not self.running:
            raise SteerError("the forwarder is stopping: it accepts nobody any more")
        if self._turn.locked:
            raise SteerError("a reload is under way; ask again when it is over")
        found = steer(named(self._bound, name))
        now = {one.live: one for one in found}
        self._bound = [now.get(one.live, one) for one in self._bound]
        self.binder.unused.refuse(systemd_names(self._bound))
        return [one.live for one in found]
