# -*- test-case-name: tests.service.operators.test_operators -*-
"""
What the ``admin`` and ``manhole`` lines of a ruleset ask for, made and joined to the forwarder.

Without such lines nothing is made, and nothing of Twisted's SSH is imported.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred

from portfwd.kernel.reactor import Reactor
from portfwd.rules.admin_lines import admin_specs, manhole_specs
from portfwd.rules.model import Ruleset
from portfwd.service.operators.control import ControlSockets
from portfwd.service.operators.operating import Operating
from portfwd.service.run.forwarder import Forwarder


def add_operators(
    parent: MultiService,
    ruleset: Ruleset,
    forwarder: Forwarder,
    reactor: Reactor,
    *,
    reload: Callable[[bool], Deferred[Any]] | None = None,
    stop: Callable[[], None] | None = None,
) -> None:
    """
    Give `parent` the services that let operators in.

    :param reload: reads the rules file again and applies it; is told whether it is a dry run.
    :param stop: ends the program.
    :raises StartError: a manhole's files are not good, or Twisted's SSH is not installed.
    """
    doors, shells = admin_specs(ruleset), manhole_specs(ruleset)
    if not doors and not shells:
        return
    operating = Operating(forwarder, reactor, reload=reload, stop=stop)
    if shells:
        from portfwd.service.operators.shells import make_shells

        make_shells(shells, operating, forwarder, reactor).setServiceParent(parent)
    if doors:
        ControlSockets(reactor, doors, operating, forwarder.stopService).setServiceParent(parent)
