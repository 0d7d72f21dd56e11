# -*- test-case-name: tests.service.operators.test_operators -*-
"""
Makes the services of the ``admin``, ``web``, ``manhole`` and ``toxiproxy`` lines.

Without such lines nothing is made, and Twisted's SSH is not imported. Control sockets and web listeners share
`Turns`: one time slice limits the work for all operators together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred

from portfwd.admin.turns import Turns
from portfwd.kernel.reactor import Reactor
from portfwd.rules.admin_lines import admin_specs, manhole_specs, toxiproxy_spec, web_specs
from portfwd.rules.model import Ruleset
from portfwd.service.operators.changes import ChangeWatch
from portfwd.service.operators.control import ControlSockets
from portfwd.service.operators.forwarder_operator import ForwarderOperator
from portfwd.service.operators.web import WebListeners
from portfwd.service.run.forwarder import Forwarder


def add_operators(
    parent: MultiService,
    ruleset: Ruleset,
    forwarder: Forwarder,
    reactor: Reactor,
    *,
    reload: Callable[[bool, bool], Deferred[Any]] | None = None,
    stop: Callable[[], None] | None = None,
) -> list[Callable[[], Iterable[str]]]:
    """
    Add the services for operators to `parent`.

    :param reload: reads the rules file again and applies it. Its arguments: whether it is a dry run, and
        whether to import changed code of filters.
    :param stop: ends the program.
    :returns: functions that bind sockets again whose files are gone. Each yields one line per failure.
    :raises StartError: files of a manhole or a token cannot be used, or Twisted's SSH is not installed.
    """
    ports, shells, webs = admin_specs(ruleset), manhole_specs(ruleset), web_specs(ruleset)
    renewals: list[Callable[[], Iterable[str]]] = []
    toxiproxy = toxiproxy_spec(ruleset)
    if toxiproxy is not None:
        from portfwd.service.toxiproxy.server import ToxiproxyServer

        server = ToxiproxyServer(reactor, toxiproxy, forwarder)
        server.setServiceParent(parent)
        renewals.append(server.renew)
    if not ports and not shells and not webs:
        return renewals
    operator = ForwarderOperator(forwarder, reactor, reload=reload, stop=stop)
    if shells:
        from portfwd.service.operators.shells import make_shells

        made = make_shells(shells, operator, forwarder, reactor)
        made.setServiceParent(parent)
        renewals.append(made.renew)
    turns = Turns(reactor)
    ChangeWatch(operator.change_log).setServiceParent(parent)
    if webs:
        pages = WebListeners(reactor, webs, operator, forwarder, turns)
        pages.setServiceParent(parent)
        renewals.append(pages.renew)
    if ports:
        control = ControlSockets(reactor, ports, operator, forwarder.stopService, turns)
        control.setServiceParent(parent)
        renewals.append(control.renew)
    return renewals
