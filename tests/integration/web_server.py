"""
A web listener with ten thousand sessions that are not there, for a browser.

It prints its port, then the numbers of the sessions that are killed.

Names are as a hostile client would write them. Each second every session has moved some bytes more.
"""

from __future__ import annotations

import sys
from typing import Any

from attrs import define, evolve
from twisted.internet import reactor as twisted_reactor
from twisted.internet.protocol import Factory
from twisted.internet.task import LoopingCall

from portfwd.admin.changes import LoggedLine
from portfwd.admin.turns import Turns
from portfwd.admin.web.access import Access
from portfwd.admin.web.api import ApiContext
from portfwd.admin.web.site import WebRoot, web_factory
from portfwd.rules.admin_lines import Level
from portfwd.values import CloseReason, FlowSummary, InetAddress, SessionSummary, TLSInfo
from tests.admin.fakes import FAULT, RULE, TARGET, FakeOperator, FakeSession

COUNT = 10_000
#: Where it stands as markup, the page's title changes.
HOSTILE = "<img src=x onerror=\"document.title='owned'\">"
STATUS = {
    "version": "1.2.3", "pid": 1, "uptime": 5.0, "state": "running", "rules": 1, "targets_down": 1,
    "sessions": 0, "total": COUNT, "descriptors": 9, "files": [f"/etc/{HOSTILE}.conf"],
    "reloads": 0, "reload_failures": 0,
    "last_reload_refused": False, "reloaded_at": None, "log_level": "info", "shells": [],
}  # fmt: skip


@define(eq=False)
class HostileSession(FakeSession):
    """A session whose names are markup."""

    def summary(self) -> SessionSummary:
        named = TLSInfo(server_name=HOSTILE, version="TLSv1.3", cipher="AES", alpn="h2")
        return super().summary()._replace(rule=f"{HOSTILE} {self.id}", tls=named, notes={"user": HOSTILE})

    def kill(self, reason: CloseReason) -> None:
        print("killed", self.id, flush=True)
        super().kill(reason)


class BusyOperator(FakeOperator):
    """A forwarder whose sessions move."""

    def status(self) -> dict[str, Any]:
        return {**STATUS, "sessions": sum(one.killed is None for one in self.open)}

    def move(self) -> None:
        for one in self.open:
            one.up = FlowSummary(one.up.bytes + one.id, 1, 1)

    async def reload(self, dry_run: bool, code: bool = False) -> dict[str, Any]:
        return {"applied": not dry_run, "lines": [f"rules: {HOSTILE}"]}


def main() -> None:
    """Serve until the end of standard input."""
    reactor: Any = twisted_reactor
    sessions = [
        HostileSession(number, client=InetAddress(f"10.0.{number // 250}.{number % 250}", 1000))
        for number in range(1, COUNT + 1)
    ]
    operator = BusyOperator(*sessions)
    operator.rule_views = [evolve(RULE, name=HOSTILE, file_rule=HOSTILE, listen=(HOSTILE,))]
    operator.log = [LoggedLine(1, 1.0, "warn", HOSTILE)]
    operator.fault_views = [evolve(FAULT, rule=HOSTILE, options=(("delay", HOSTILE),))]
    operator.target_views = [evolve(TARGET, rule=HOSTILE, target=HOSTILE, cause=HOSTILE)]
    access = Access(Level.OPERATOR)
    context = ApiContext(operator, reactor, Turns(reactor), lambda: access)
    site = web_factory(reactor, WebRoot(context, lambda: True, None))
    made = Factory()
    made.buildProtocol = lambda _: site.serve("a browser")  # type: ignore[method-assign]
    port = reactor.listenTCP(0, made, interface="127.0.0.1")
    LoopingCall(operator.move).start(1.0)
    print(port.getHost().port, flush=True)
    reactor.callInThread(lambda: (sys.stdin.read(), reactor.callFromThread(reactor.stop)))
    reactor.run()


if __name__ == "__main__":
    main()
