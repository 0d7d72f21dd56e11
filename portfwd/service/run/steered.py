# -*- test-case-name: tests.service.run.test_forwarder -*-
"""The part of a forwarder that steers single rules: pause, drain, resume, and orders about targets."""

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
    """A service with rules that an operator can steer, one at a time, but not while they are changed."""

    _bound: list[Bound]
    binder: Binder
    _steering: Steering
    _turn: DeferredLock

    def pause(self, name: str) -> Sequence[LiveRule]:
        """
        Accept no clients of a rule until `resume`; they wait (see `Steering`), and sessions go on.

        What is paused or drained stays so over reloads, for as long as the new rules listen there too.

        :param name: of a rule, or of one port of its range.
        :returns: the live rules that this holds for.
        :raises SteerError: there is no such rule, it cannot wait, or a reload is under way.
        """
        return self._steered(name, self._steering.pause)

    def drain(self, name: str) -> Sequence[LiveRule]:
        """
        Close the listeners of a rule and give its sessions the time that a stop gives them.

        Parameter, result and errors are those of `pause`.
        """
        return self._steered(name, self._steering.drain)

    def resume(self, name: str) -> Sequence[LiveRule]:
        """
        Accept the clients of a rule again, whether it was paused or drained.

        Parameter and result are those of `pause`.

        :raises SteerError: there is no such rule, it cannot be bound again, or a reload is under way.
        """
        return self._steered(name, self._steering.resume)

    def order_target(self, name: str, label: str, ordered: TargetState | None) -> Sequence[LiveRule]:
        """Obey `Steering.order_target`; parameter, result and errors are those of `pause`."""
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
