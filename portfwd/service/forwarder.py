# -*- test-case-name: tests.service.test_forwarder -*-
"""
The forwarder as a Twisted service: bind, start, drain, stop.

`privilegedStartService` binds everything, all or nothing; `startService`
accepts; `stopService` accepts no more and lets sessions finish until the drain
deadline. The same service runs under twistd and inside other programs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from attrs import frozen
from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from portfwd.errors import StartError
from portfwd.kernel.pipes import PipePool, pipe_allowance
from portfwd.kernel.platform import Platform, find_platform
from portfwd.kernel.poller import Poller
from portfwd.kernel.reactor import Reactor
from portfwd.kernel.sockets import raise_descriptor_limit
from portfwd.limits.descriptors import PER_SESSION, RESERVE, DescriptorBudget
from portfwd.relay.dial import Surroundings
from portfwd.relay.live import LiveRule, SessionLog
from portfwd.relay.sinks import Sinks
from portfwd.rules.model import Ruleset
from portfwd.service.build import (
    Binder,
    Bound,
    bound_addresses,
    cannot_listen,
    count_descriptors,
    live_rules,
    target_labels,
)
from portfwd.streams.opening import StreamMaker
from portfwd.streams.socket_opening import SocketShare
from portfwd.upstreams.names import Names
from portfwd.values import CloseReason

#: Seconds that sessions get to finish when the service stops.
DRAIN: Final = 10.0


@frozen
class Silent:
    """A session log that writes nothing."""

    wants_opened: bool = False
    wants_closed: bool = False

    def opened(self, summary: object) -> None:
        """Nothing."""

    def closed(self, summary: object) -> None:
        """Nothing."""


class Forwarder(Service):
    """
    Forwards as a ruleset says.

    :ivar rules: the rules at work, one for each listening port.
    """

    name = "portfwd"

    def __init__(
        self,
        reactor: Reactor,
        ruleset: Ruleset,
        log: SessionLog | None = None,
        *,
        drain: float = DRAIN,
        platform: Platform | None = None,
    ) -> None:
        """
        Make targets ready; nothing is bound or connected yet.

        :param log: who writes the access lines; None for nobody.
        :param drain: seconds that sessions get to finish on `stopService`.
        :param platform: what may be used; None to look.
        :raises StartError: a target cannot be made ready (a certificate, an endpoint's description).
        """
        self._reactor = reactor
        self._platform = find_platform(reactor) if platform is None else platform
        self._poller = Poller(reactor) if self._platform.epoll else None
        self._budget = DescriptorBudget(0, 0)
        self._pool = PipePool(pipe_allowance(), self._budget, reactor) if self._platform.splice else None
        world = Surroundings(
            reactor=reactor,
            platform=self._platform,
            names=Names(reactor.nameResolver, reactor),  # type: ignore[attr-defined]
            streams=StreamMaker(reactor, self._poller),
            sockets=None if self._poller is None else SocketShare(self._poller, self._pool),
        )
        self._world = world
        self._live = live_rules(ruleset, world, Silent() if log is None else log)
        self._bound: list[Bound] = []
        self._drain = drain
        self._stopping: list[Deferred[None]] = []
        self._ports_open = False
        self._deadline: IDelayedCall | None = None
        self._log = Logger()

    def __repr__(self) -> str:
        state = "running" if self.running else "stopped"
        return f"<Forwarder {state} rules={len(self._live)} sessions={self.session_count}>"

    @property
    def rules(self) -> Sequence[LiveRule]:
        """See the class."""
        return [planned.live for planned in self._live]

    @property
    def sinks(self) -> Sinks:
        """Where filters' copies go; they are whoever runs the service's to reopen and to close."""
        return self._world.sinks

    @property
    def session_count(self) -> int:
        """Sessions that are not closed."""
        return sum(len(live.sessions) for live in self.rules)

    @property
    def addresses(self) -> dict[str, list[str]]:
        """Rule names to the addresses that are bound for them, ports filled in."""
        return {bound.live.name: list(bound_addresses(bound)) for bound in self._bound}

    def privilegedStartService(self) -> None:
        """
        Bind every listener; ports below 1024 want the privileges that are dropped after this.

        :raises StartError: with a line for each listener that cannot be bound.
        """
        self._budget.limit = raise_descriptor_limit()
        self._bound = Binder(self._world, self._budget).bind_all(self._live)

    def startService(self) -> None:
        """
        Accept.

        :raises StartError: something cannot be bound, or its port was taken since it was.
        """
        if not self._bound:
            self.privilegedStartService()
        if self._poller is not None:
            self._poller.start()
        for sentence in self._platform.missing():
            self._log.info("{sentence}", sentence=sentence)
        failures: list[str] = []
        for bound in self._bound:
            for listener in bound.listeners:
                try:
                    listener.start()
                except OSError as problem:
                    reason = problem.strerror or str(problem)
                    failures.append(cannot_listen(bound.live.name, str(listener.address), reason))
        self._budget.spent = count_descriptors()
        if not failures and not self._budget.has_room(PER_SESSION):
            failures.append(
                f"{self._budget.limit} descriptors are too few: {self._budget.spent} are open before any"
                f" client comes, and {RESERVE} are kept free; raise 'ulimit -n'"
            )
        if failures:
            self._close_listeners()
            if self._poller is not None:
                self._poller.stop()
            raise StartError(failures)
        super().startService()
        for bound in self._bound:
            for address in bound_addresses(bound):
                self._log.info(
                    "{rule}: listening on {address} -> {targets}",
                    rule=bound.live.name,
                    address=address,
                    targets=target_labels(bound.live),
                )

    def _close_listeners(self) -> Deferred[Any]:
        bound, self._bound = self._bound, []
        closing = [deferred for one in bound for deferred in one.close()]
        return DeferredList(closing, consumeErrors=True)

    def stopService(self) -> Deferred[None]:
        """
        Accept no more, let sessions finish, cut those that are left at the deadline.

        :returns: fires when every session and every port is closed.
        """
        stopped: Deferred[None] = Deferred()
        self._stopping.append(stopped)
        if len(self._stopping) > 1:
            return stopped  # it is under way
        super().stopService()
        self._ports_open = True
        count = self.session_count
        if count:
            self._log.info("draining: {count} sessions have {drain} s", count=count, drain=f"{self._drain:g}")
            self._deadline = self._reactor.callLater(self._drain, self.cut, CloseReason.DRAIN)
        for live in self.rules:
            live.when_empty = self._drained
        self._close_listeners().addCallback(self._ports_closed)
        return stopped

    def _ports_closed(self, _results: object) -> None:
        self._ports_open = False
        self._drained()

    def cut(self, reason: CloseReason) -> None:
        """Reset every session now, with `reason`."""
        for live in self.rules:
            live.close_all(reason)

    def _drained(self) -> None:
        """A rule has no session left, or the ports are closed; perhaps that was all."""
        if not self._stopping or self._ports_open or self.session_count:
            return
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        if self._pool is not None:
            self._pool.close()
        if self._poller is not None:
            self._poller.stop()
        stopping, self._stopping = self._stopping, []
        for stopped in stopping:
            stopped.callback(None)
