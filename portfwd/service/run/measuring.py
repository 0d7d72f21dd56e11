# -*- test-case-name: tests.service.run.test_measuring -*-
"""
Collects the `Figures` of a running forwarder, and serves them.

Moving bytes has no cost for metrics: closed sessions are added up at their end (`portfwd.metrics.tally`), and
open sessions are read here in steps, so ten thousand of them cause no stall. A session that closes between
two steps is counted once.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from functools import partial
from typing import Any, Final, Protocol

from twisted.logger import Logger
from twisted.web.resource import Resource

from portfwd.admin.branch import Branch
from portfwd.admin.metrics_page import MOST_CONNECTIONS, PageOfMetrics, add_pages
from portfwd.admin.operator_port import OperatorPort, renew_all
from portfwd.admin.web.connection import BoundedFactory
from portfwd.errors import StartError
from portfwd.extras import how_to_install
from portfwd.kernel.pipes import PipePool
from portfwd.kernel.reactor import Reactor
from portfwd.limits.admission import AdmissionRegistry
from portfwd.limits.descriptors import DescriptorBudget
from portfwd.listen.binding import bind_first
from portfwd.listen.datagram_clients import DatagramClients
from portfwd.listen.listener import Listener
from portfwd.metrics.figures import Figures, RuleFigures
from portfwd.metrics.filter_metrics import FilterMetrics
from portfwd.metrics.lag import LagMeter
from portfwd.relay.live import LiveRule
from portfwd.relay.session import Session
from portfwd.rules.addresses import address_text
from portfwd.rules.model import ListenSpec
from portfwd.service.build.bind_failures import cannot_listen
from portfwd.service.tls.certificate_watch import sides_of
from portfwd.streams.datagrams.datagram_opening import DROP_CAUSES
from portfwd.values import FlowSummary
from portfwd.version import __version__

#: Sessions read in one step, some microseconds each.
SESSIONS_A_STEP: Final = 100

Steps = Generator[None, None, None]


class Measured(Protocol):
    """The used part of a forwarder."""

    reloads: int
    reload_failures: int
    reloaded_at: float | None

    @property
    def is_ready(self) -> bool:
        """Whether clients are accepted."""

    @property
    def every_rule(self) -> Iterable[LiveRule]:
        """The active rules, and those that only have sessions left."""

    @property
    def listeners(self) -> Iterable[tuple[LiveRule, Listener | DatagramClients]]:
        """The listening sockets of portfwd."""

    @property
    def budget(self) -> DescriptorBudget:
        """The budget of descriptors."""

    @property
    def pool(self) -> PipePool | None:
        """The pool of pipes."""

    @property
    def admissions(self) -> AdmissionRegistry:
        """The limits and their counts."""

    @property
    def filter_metrics(self) -> FilterMetrics:
        """The metrics that filters have defined."""


def measure(forwarder: Measured, figures: Figures) -> Steps:
    """Fill `figures`, in steps."""
    figures.ready = forwarder.is_ready
    for live in list(forwarder.every_rule):
        rule = figures.rule(live.name)
        yield from _add_rule(live, rule)
        figures.was_added(rule)
        yield
    for live, listener in list(forwarder.listeners):
        figures.listeners[listener.state] += 1
        figures.rule(live.name).pauses.update(listener.pauses_by_cause())
        figures.rule(live.name).dropped.update(listener.dropped_by_cause())
        yield
    figures.bound_targets()
    budget, pool, sources = forwarder.budget, forwarder.pool, forwarder.admissions.sources
    figures.descriptors, figures.descriptor_limit = budget.spent, budget.limit
    if pool is not None:
        figures.pipes, figures.pipe_bytes, figures.pipes_refused = pool.lent, pool.total_bytes, pool.refused
    figures.sources, figures.sources_forgotten = len(sources), sources.forgotten
    figures.reloads, figures.reload_failures = forwarder.reloads, forwarder.reload_failures
    figures.reloaded_at = forwarder.reloaded_at
    pairs = [pair for side in sides_of(forwarder.every_rule) for pair in side.pairs]
    figures.add_certificates((pair.cert, pair.until.timestamp()) for pair in pairs)


def _add_rule(live: LiveRule, figures: RuleFigures) -> Steps:
    # First in a separate object, because a partly read rule must not be visible.
    now_open = RuleFigures()
    if live.tally is not None:
        now_open.tally.known(*live.tally.targets)
    seen: dict[Session, tuple[FlowSummary, FlowSummary]] = {}
    dropped: dict[Session, Counter[str]] = {}
    told: dict[Session, tuple[bytes, bytes]] = {}
    for number, session in enumerate(list(live.sessions.values()), 1):
        seen[session] = session.flows()
        now_open.add_open(session.target, *seen[session])
        if live.has_datagrams:
            dropped[session] = +session.drops()
        if live.options.tcp_info and session.reached:
            told[session] = session.tcp_info()
        if not number % SESSIONS_A_STEP:
            yield
    # Without interruption from here on: sessions that have closed meanwhile are in the tally and must not be
    # counted twice.
    for session, flows in seen.items():
        if session.id not in live.sessions:
            now_open.take_open(session.target, *flows)
            dropped.pop(session, None)
            told.pop(session, None)
    if live.has_datagrams:
        # They start at 0, so the first event is an increase.
        now_open.tally.dropped.update(dict.fromkeys((*DROP_CAUSES, *(name for name, _ in live.filters)), 0))
    if live.options.tcp_info:
        now_open.tally.sent_again((b"", b""))  # both sides start at 0 as well
    for infos in told.values():
        now_open.tally.sent_again(infos)
    for counts in dropped.values():
        now_open.tally.dropped.update(counts)
    if live.tally is not None and id(live.tally) not in figures.seen:
        figures.seen.add(id(live.tally))
        figures.add_closed(live.tally)
    figures.add_closed(now_open.tally)
    figures.sessions += len(live.sessions)
    figures.target_sessions.update(now_open.target_sessions)
    for destination in live.every_destination:
        if id(destination.occupancy) not in figures.seen:
            figures.seen.add(id(destination.occupancy))
            figures.target_failures[destination.label] += destination.occupancy.failures
            figures.target_dials[destination.label] += destination.occupancy.dials
    if live.balancing.has_pools:
        _add_states(live, figures)
    if live.limits is not None and id(live.limits.refused) not in figures.seen:
        figures.seen.add(id(live.limits.refused))
        figures.refused.update(live.limits.refused)
    if id(live.counts) not in figures.seen:
        figures.seen.add(id(live.counts))
        figures.filter_failures += live.counts.filter_failures
        figures.pauses.update(live.counts.pauses)
        figures.dropped.update(live.counts.dropped)


def _add_states(live: LiveRule, figures: RuleFigures) -> None:
    names = {one.identity: one.name for one in live.balancing.checks}
    for _, destination, view in live.balancing.views():
        # A replaced rule comes after its heir, whose view counts.
        if view is None or destination.label in figures.target_states:
            continue
        health = view.member.health
        figures.target_states[destination.label] = view.state.value
        figures.target_changes[destination.label] += health.changes
        for identity, check in health.checks.items():
            if check.seconds is not None:
                figures.target_checks[destination.label, names.get(identity, identity)] = check.seconds


class FigurePages:
    """
    The pages with a forwarder's figures.

    :ivar content_type: content type of ``/metrics``.
    """

    def __init__(
        self, reactor: Reactor, forwarder: Measured, wall_clock: Callable[[], float] = time.time
    ) -> None:
        """
        Prepare the pages.

        :raises ImportError: prometheus-client is not installed.
        """
        from portfwd.metrics.exposition import CONTENT_TYPE, expose

        self.content_type = CONTENT_TYPE
        self._reactor: Any = reactor
        self._forwarder = forwarder
        self._expose = expose
        self._wall_clock = wall_clock
        self._started_at = 0.0
        self._lag = LagMeter(reactor)
        self._pages = PageOfMetrics(self._reactor, self._page)

    def __repr__(self) -> str:
        return f"<FigurePages {self._pages!r}>"

    def add_to(self, root: Resource) -> Resource:
        """Add them below `root`, and return it."""
        return add_pages(root, self._pages, self.content_type, lambda: self._forwarder.is_ready)

    def start(self) -> None:
        """Start to measure the lag of the reactor."""
        self._started_at = self._wall_clock()
        self._lag.start()

    def stop(self) -> None:
        """Stop. They cannot be started again."""
        self._lag.stop()
        self._pages.stop()

    def _page(self) -> Iterator[bytes]:
        figures = Figures(version=__version__, started_at=self._started_at, lags=self._lag.lags)
        figures.filters = self._forwarder.filter_metrics
        for _ in measure(self._forwarder, figures):
            yield b""
        yield from self._expose(figures)


class Watchers:
    """
    The listener of a ``metrics`` line, and its pages.

    :ivar address: its bound address, after binding.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Reactor,
        spec: ListenSpec,
        forwarder: Measured,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """
        Prepare the pages. Nothing is bound yet.

        :raises StartError: prometheus-client is not installed.
        """
        self._reactor: Any = reactor
        self._spec = spec
        self._make = partial(FigurePages, reactor, forwarder, wall_clock)
        self._port: OperatorPort | None = None
        self._make_pages()
        self.address = ""

    def __repr__(self) -> str:
        return f"<Watchers {self.address or 'not bound'} {self._pages!r}>"

    def _make_pages(self) -> None:
        try:
            self._pages = self._make()
        except ImportError as problem:
            raise StartError([missing(self._spec)]) from problem
        self._site = BoundedFactory(self._reactor, self._pages.add_to(Branch()))

    def bind(self) -> None:
        """
        Bind, unless it is bound already.

        :raises StartError: it cannot be bound.
        """
        if self._port is not None:
            return
        spec = self._spec
        again = partial(bind_first, spec)
        try:
            sock = again()
        except OSError as problem:
            where = address_text(spec, quoted=False)
            raise StartError([cannot_listen("metrics", where, problem, spec.where)]) from problem
        # Twisted's port would make the file of a unix socket accessible for all users.
        self._port = OperatorPort("metrics", sock, self._reactor, self._site.serve, MOST_CONNECTIONS, again)

    def renew(self) -> Iterator[str]:
        """See `portfwd.admin.operator_port.renew_all`."""
        return renew_all(() if self._port is None else (self._port,))

    def start(self) -> None:
        """
        Start to answer.

        :raises StartError: another program took the port since it was bound.
        """
        port = self._port
        assert port is not None
        try:
            port.open()
        except OSError as problem:
            address = address_text(self._spec, quoted=False)
            raise StartError([cannot_listen("metrics", address, problem, self._spec.where)]) from problem
        self.address = port.url("/metrics")
        self._pages.start()
        self._log.info("metrics: listening on {address}", address=self.address)

    def stop(self) -> None:
        """Stop answering."""
        self._pages.stop()
        port, self._port = self._port, None
        if port is not None:
            port.close()
        self.address = ""
        self._make_pages()  # it may be started again


def missing(spec: ListenSpec) -> str:
    """The hint if prometheus-client is not installed."""
    return (
        f"metrics: prometheus-client is not installed; {how_to_install('metrics')}, or delete the line"
        f" ({spec.where})"
    )
