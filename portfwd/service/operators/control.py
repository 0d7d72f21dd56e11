# -*- test-case-name: tests.service.operators.test_control -*-
"""
The control sockets of a ruleset as a Twisted service.

They are bound before privileges are dropped, and stay open until all sessions have drained. So an operator
can list and reset the remaining sessions during a stop.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger

from portfwd.admin.control import ControlProtocol
from portfwd.admin.operator import Operator
from portfwd.admin.operator_port import OperatorPort, renew_all
from portfwd.admin.turns import Turns
from portfwd.errors import StartError
from portfwd.kernel.reactor import Reactor
from portfwd.listen.binding import bind
from portfwd.rules.admin_lines import AdminSpec, Level
from portfwd.rules.model import Kind, ListenOptions, ListenSpec, Options
from portfwd.service.build.bind_failures import cannot_listen


class ControlSockets(Service):
    """All ``admin`` lines of a ruleset."""

    name = "portfwd control"

    def __init__(
        self,
        reactor: Reactor,
        specs: Sequence[AdminSpec],
        operator: Operator,
        drain: Callable[[], Deferred[None]],
        turns: Turns | None = None,
    ) -> None:
        """
        :param specs: the lines. Paths are made absolute here, because twistd changes the directory later.
        :param drain: starts to stop the forwarder; its Deferred fires when the forwarder has stopped.
        :param turns: the time slices, shared with other kinds of operators; None to make them.
        """
        self._reactor = reactor
        self._specs = [(os.path.abspath(spec.path), spec) for spec in specs]
        self._operator = operator
        self._drain = drain
        self.ports: list[OperatorPort] = []
        self._turns = Turns(reactor) if turns is None else turns
        self._log = Logger()

    def privilegedStartService(self) -> None:
        """
        Bind the sockets.

        :raises StartError: sockets cannot be bound; with one line for each.
        """
        failures = []
        for path, spec in self._specs:
            again = partial(_bind, path, spec)
            try:
                sock = again()
            except OSError as problem:
                failures.append(cannot_listen("admin", f"unix:{path}", problem, spec.where))
                continue
            make = self._maker(spec.level)
            self.ports.append(OperatorPort(f"admin unix:{path}", sock, self._reactor, make, bind=again))
        if failures:
            self._close()
            raise StartError(failures)

    def _maker(self, level: Level) -> Callable[[str], ControlProtocol]:
        return lambda who: ControlProtocol(self._operator, level, self._reactor, who, self._turns)

    def startService(self) -> None:
        """
        Accept clients.

        :raises StartError: another process has taken an address since.
        """
        if not self.ports:
            self.privilegedStartService()
        for port, (path, spec) in zip(self.ports, self._specs, strict=True):
            try:
                port.open()
            except OSError as problem:
                self._close()
                line = cannot_listen("admin", f"unix:{path}", problem, spec.where)
                raise StartError([line]) from problem
        super().startService()
        for path, spec in self._specs:
            self._log.info("control: listening on unix:{path} for {who}", path=path, who=spec.level.value)

    def renew(self) -> Iterator[str]:
        """See `portfwd.admin.operator_port.renew_all`."""
        return renew_all(self.ports)

    def stopService(self) -> Deferred[Any]:
        """Close the sockets after the forwarder has drained."""
        super().stopService()
        return self._drain().addBoth(lambda _: self._close())

    def _close(self) -> Deferred[Any]:
        ports, self.ports = self.ports, []
        return DeferredList([port.close() for port in ports])


def _bind(path: str, spec: AdminSpec) -> socket.socket:
    listen = ListenSpec(Kind.UNIX, path=path, options=ListenOptions(mode=spec.mode))
    (sock,) = bind(listen, 0, Options())
    return sock
