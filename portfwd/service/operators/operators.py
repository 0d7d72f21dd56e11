# -*- test-case-name: tests.service.operators.test_operators -*-
"""
What the ``admin``, ``web``, ``manhole`` and ``toxiproxy`` lines ask for, made and joined to the forwarder.

Without such lines nothing is made, and nothing of Twisted's SSH is imported. Control sockets and web
listeners share their turns: all operators together get one slice of time.
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
from portfwd.service.operators.operating import Operating
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
    Give `parent` the services that let operators in.

    :param reload: reads the rules file again and applies it; is told whether it is a dry run, and whether
        changed code of filters is wanted.
    :param stop: ends the program.
    :returns: what makes files of their sockets again that are gone; each says what it cannot make.
    :raises StartError: files of a manhole or a token are not good, or Twisted's SSH is not installed.
    """
    doors, shells, webs = admin_specs(ruleset), manhole_specs(ruleset), web_specs(ruleset)
    renewals: list[Callable[[], Iterable[str]]] = []
    toxiproxy = toxiproxy_spec(ruleset)
    if toxiproxy is not None:
        from portfwd.service.toxiproxy.server import ToxiproxyServer

        server = ToxiproxyServer(reactor, toxiproxy, forwarder)
        server.setServiceParent(parent)
        renewals.append(server.renew)
    if not doors and not shells and not webs:
        return renewals
    operating = Operating(forwarder, reactor, reload=reload, stop=stop)
    if shells:
        from portfwd.service.operators.shells import make_shells

        made = make_shells(shells, operating, forwarder, reactor)
        made.setServiceParent(parent)
        renewals.append(made.renew)
    turns = Turns(reactor)
    ChangeWatch(operating.change_log).setServiceParent(parent)
    if webs:
        pages = WebListeners(reactor, webs, operating, forwarder, turns)
        pages.setServiceParent(parent)
        renewals.append(pages.renew)
    if doors:
        control = ControlSockets(reactor, doors, operating, forwarder.stopService, turns)
        control.setServiceParent(parent)
        renewals.append(control.renew)
    return renewals
