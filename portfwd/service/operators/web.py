# -*- test-case-name: tests.service.operators.test_web -*-
"""
The web listeners of a ruleset as a Twisted service.

They are bound before privileges are dropped, when the tokens are read too. Like control sockets they stay
open until all sessions have drained. A reload reads the tokens again, so access changes without a restart.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from attrs import define, evolve
from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger

from portfwd.admin.operator import Operator
from portfwd.admin.operator_port import OperatorPort, renew_all
from portfwd.admin.tight_files import LooseFile
from portfwd.admin.turns import Turns
from portfwd.admin.web.access import Access, read_token
from portfwd.admin.web.api import ApiContext
from portfwd.admin.web.connection import BoundedFactory
from portfwd.admin.web.site import MOST_CONNECTIONS, WebRoot, web_factory
from portfwd.errors import StartError, reason_of
from portfwd.kernel.reactor import Reactor
from portfwd.listen.binding import bind_first
from portfwd.rules.addresses import address_text
from portfwd.rules.admin_lines import WebSpec
from portfwd.rules.model import Kind
from portfwd.service.build.bind_failures import cannot_listen
from portfwd.service.run.forwarder import Forwarder
from portfwd.service.run.measuring import FigurePages


@define(eq=False)
class _WebListener:
    """
    One ``web`` line.

    :ivar spec: its specification with absolute paths, because twistd changes the directory later.
    :ivar access: the access control with the token that was read last.
    :ivar port: its listening port while it is bound.
    """

    spec: WebSpec
    access: Access
    port: OperatorPort | None = None

    @property
    def label(self) -> str:
        """The address in messages."""
        return address_text(self.spec.listen, quoted=False)

    def read_again(self) -> Iterator[str]:
        """Read the token again. If that fails, return one line; the old token stays valid."""
        try:
            self.access = _access(self.spec)
        except (OSError, LooseFile) as problem:
            yield f"web {self.label}: {_reason(problem)}; the token is not changed"


class WebListeners(Service):
    """All ``web`` lines of a ruleset."""

    name = "portfwd web"

    def __init__(
        self,
        reactor: Reactor,
        specs: Sequence[WebSpec],
        operator: Operator,
        forwarder: Forwarder,
        turns: Turns,
    ) -> None:
        """
        Read the tokens.

        :param turns: the time slices, shared with other kinds of operators.
        :raises StartError: tokens cannot be used; with one line for each.
        """
        self._reactor = reactor
        self._operator = operator
        self._forwarder = forwarder
        self._turns = turns
        self._log = Logger()
        self.listeners: list[_WebListener] = []
        self._figures: FigurePages | None = None
        failures = []
        for spec in map(_absolute, specs):
            try:
                self.listeners.append(_WebListener(spec, _access(spec)))
            except (OSError, LooseFile) as problem:
                failures.append(
                    f"web {address_text(spec.listen, quoted=False)}: {_reason(problem)} ({spec.where})"
                )
        if failures:
            raise StartError(failures)

    @property
    def addresses(self) -> list[str]:
        """The URLs of the bound listeners."""
        return [one.port.url("/") for one in self.listeners if one.port is not None]

    def privilegedStartService(self) -> None:
        """
        Bind the listeners.

        :raises StartError: listeners cannot be bound; with one line for each.
        """
        self._figures = self._make_figures()
        failures = []
        for one in self.listeners:
            again = partial(bind_first, one.spec.listen)
            try:
                sock = again()
            except OSError as problem:
                failures.append(cannot_listen("web", one.label, problem, one.spec.where))
                continue
            factory = self._factory(one)
            one.port = OperatorPort(
                f"web {one.label}", sock, self._reactor, factory.serve, MOST_CONNECTIONS, again
            )
        if failures:
            self._close()
            raise StartError(failures)

    def _make_figures(self) -> FigurePages | None:
        try:
            return FigurePages(self._reactor, self._forwarder)
        except ImportError:
            return None

    def _factory(self, one: _WebListener) -> BoundedFactory:
        clock: Any = self._reactor
        context = ApiContext(self._operator, clock, self._turns, lambda: one.access)
        add: Callable[[Any], object] | None = None if self._figures is None else self._figures.add_to
        return web_factory(clock, WebRoot(context, lambda: self._forwarder.is_ready, add))

    def startService(self) -> None:
        """
        Accept clients.

        :raises StartError: another process has taken an address since.
        """
        if any(one.port is None for one in self.listeners):
            self.privilegedStartService()
        for one in self.listeners:
            assert one.port is not None
            try:
                one.port.open()
            except OSError as problem:
                self._close()
                line = cannot_listen("web", one.label, problem, one.spec.where)
                raise StartError([line]) from problem
        super().startService()
        if self._figures is not None:
            self._figures.start()
        for one in self.listeners:
            assert one.port is not None
            who = f"{one.spec.level.value}{', with the token' if one.access.wants_token else ''}"
            self._log.info("web: listening on {address} for {who}", address=one.port.url("/"), who=who)

    def renew(self) -> Iterator[str]:
        """Read the tokens again, and call `portfwd.admin.operator_port.renew_all`."""
        for one in self.listeners:
            yield from one.read_again()
        yield from renew_all([one.port for one in self.listeners if one.port is not None])

    def stopService(self) -> Deferred[Any]:
        """Close the listeners after the forwarder has drained."""
        super().stopService()
        return self._forwarder.stopService().addBoth(lambda _: self._close())

    def _close(self) -> Deferred[Any]:
        figures, self._figures = self._figures, None
        if figures is not None:
            figures.stop()
        ports = [one.port for one in self.listeners if one.port is not None]
        for one in self.listeners:
            one.port = None
        return DeferredList([port.close() for port in ports])


def _absolute(spec: WebSpec) -> WebSpec:
    token = None if spec.token is None else os.path.abspath(spec.token)
    listen = spec.listen
    if listen.kind is Kind.UNIX:
        listen = evolve(listen, path=os.path.abspath(listen.path))
    return evolve(spec, listen=listen, token=token)


def _access(spec: WebSpec) -> Access:
    """:raises LooseFile, OSError: the token cannot be used."""
    return Access(spec.level, frozenset(spec.hosts), None if spec.token is None else read_token(spec.token))


def _reason(problem: OSError | LooseFile) -> str:
    named = isinstance(problem, OSError) and problem.strerror and problem.filename
    return f"{named}: {reason_of(problem)}" if named else reason_of(problem)
