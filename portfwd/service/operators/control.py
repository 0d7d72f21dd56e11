# -*- test-case-name: tests.service.operators.test_control -*-
"""
The control sockets of a ruleset as a Twisted service.

They are bound with the privileges of the start, and open until all sessions have drained: who
stops the forwarder can still look at what is left, and cut it.
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
from portfwd.admin.doors import Door, renew_all
from portfwd.admin.operator import Operator
from portfwd.admin.turns import Turns
from portfwd.errors import StartError
from portfwd.kernel.reactor import Reactor
from portfwd.listen.binding import bind
from portfwd.rules.admin_lines import AdminSpec, Level
from portfwd.rules.model import Kind, ListenOptions, ListenSpec, Options
from portfwd.service.build.bind_failures import cannot_listen


class ControlSockets(Service):
    """Every ``admin`` line of a ruleset."""

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
        :param specs: their paths are made absolute here: twistd changes directory later.
        :param drain: fires when the forwarder has stopped, which it starts to do then.
        :param turns: shared with other operators; None for their own.
        """
        self._reactor = reactor
        self._specs = [(os.path.abspath(spec.path), spec) for spec in specs]
        self._operator = operator
        self._drain = drain
        self.doors: list[Door] = []
        self._turns = Turns(reactor) if turns is None else turns
        self._log = Logger()

    def privilegedStartService(self) -> None:
        """
        Bind.

        :raises StartError: with a line for each that cannot be.
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
            self.doors.append(Door(f"admin unix:{path}", sock, self._reactor, make, bind=again))
        if failures:
            self._close()
            raise StartError(failures)

    def _maker(self, level: Level) -> Callable[[str], ControlProtocol]:
        return lambda who: ControlProtocol(self._operator, level, self._reactor, who, self._turns)

    def startService(self) -> None:
        """
        Let operators in.

        :raises StartError: somebody else took the place since.
        """
        if not self.doors:
            self.privilegedStartService()
        for door, (path, spec) in zip(self.doors, self._specs, strict=True):
            try:
                door.open()
            except OSError as problem:
                self._close()
                line = cannot_listen("admin", f"unix:{path}", problem, spec.where)
                raise StartError([line]) from problem
        super().startService()
        for path, spec in self._specs:
            self._log.info("control: listening on unix:{path} for {who}", path=path, who=spec.level.value)

    def renew(self) -> Iterator[str]:
        """See `portfwd.admin.doors.renew_all`."""
        return renew_all(self.doors)

    def stopService(self) -> Deferred[Any]:
        """Stay until the forwarder has drained."""
        super().stopService()
        return self._drain().addBoth(lambda _: self._close())

    def _close(self) -> Deferred[Any]:
        doors, self.doors = self.doors, []
        return DeferredList([door.close() for door in doors])


def _bind(path: str, spec: AdminSpec) -> socket.socket:
    listen = ListenSpec(Kind.UNIX, path=path, options=ListenOptions(mode=spec.mode))
    (sock,) = bind(listen, 0, Options())
    return sock
