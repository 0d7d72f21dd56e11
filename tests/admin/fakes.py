"""What stands for the forwarder and for Twisted in tests of the admin room."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from attrs import define
from twisted.internet.base import DelayedCall
from twisted.internet.task import Clock

from portfwd.admin.caller import Caller
from portfwd.admin.changes import LoggedLine
from portfwd.admin.operator import CheckView, FaultView, LiveSession, OperatorError, RuleView, TargetView
from portfwd.relay.states import State
from portfwd.rules.admin_lines import Level
from portfwd.values import Address, CloseReason, Direction, FlowSummary, SessionSummary
from tests.logs.summaries import PLAIN

RULE = RuleView(
    "web", "web", ("127.0.0.1:80",), ("10.0.0.5:80",), "accepting", 1, 9, ("sniff",), 0, "rules.conf:3"
)
UP, DOWN = FlowSummary(100, 1, 1), FlowSummary(200, 2, 2)
TARGET = TargetView(
    "web", "", "10.0.0.5:80", "down", "check tcp: refused", 75.0, False, 0.0, False, 3, 9, 4,
    (CheckView("tcp", False, "refused", 0.0012),),
)  # fmt: skip
FAULT = FaultView("lab", 1, "latency", True, (("delay", "10ms"),), 4, 2)


@define(eq=False)
class FakeSession:
    """A session that says what a test set."""

    id: int
    state: State = State.RELAYING
    client: Address | None = PLAIN.client
    up: FlowSummary = UP
    down: FlowSummary = DOWN
    duration: float = 2.0
    killed: CloseReason | None = None
    info: tuple[bytes, bytes] = (b"", b"")

    def tcp_info(self) -> tuple[bytes, bytes]:
        return self.info

    def summary(self) -> SessionSummary:
        return PLAIN._replace(
            id=self.id,
            client=self.client,
            to_upstream=self.up,
            to_client=self.down,
            duration=self.duration,
            reason=None,
        )

    def kill(self, reason: CloseReason) -> None:
        self.killed = reason
        self.state = State.CLOSED


class FakeOperator:
    """
    A forwarder that notes what it is asked.

    :ivar asked: that.
    :ivar open: its sessions.
    :ivar broken: raised by ``status``, if set.
    :ivar saw: given by who taps.
    """

    version = "1.2.3"

    def __init__(self, *sessions: FakeSession) -> None:
        self.open = list(sessions)
        self.rule_views = [RULE]
        self.target_views = [TARGET, TARGET]
        self.fault_views = [FAULT]
        self.log = [LoggedLine(number, 1.5, "info", f"line {number}") for number in (1, 2, 3)]
        self.asked: list[tuple[object, ...]] = []
        self.broken: Exception | None = None
        self.saw: Callable[[Direction, bytes], None] | None = None

    def status(self) -> dict[str, Any]:
        if self.broken is not None:
            raise self.broken
        return {"state": "running"}

    def rule_count(self) -> int:
        return len(self.rule_views)

    def rules(self, start: int = 0) -> Iterator[RuleView]:
        return iter(self.rule_views[start:])

    def sessions(self, rule: str | None = None) -> Iterator[LiveSession]:
        if rule not in (None, "web"):
            raise OperatorError("not-found", f"there is no rule called {rule!r}")
        return iter(self.open)

    def session(self, number: int) -> LiveSession:
        for session in self.open:
            if session.id == number:
                return session
        raise OperatorError("not-found", f"there is no open session {number}")

    def detail(self, session: LiveSession) -> dict[str, Any]:
        return {"client_stream": "<stream>"}

    def kill(self, session: LiveSession) -> None:
        session.kill(CloseReason.KILLED)

    def drain(self, rule: str) -> list[str]:
        self.asked.append(("drain", rule))
        return [rule]

    def pause(self, rule: str) -> list[str]:
        self.asked.append(("pause", rule))
        return [rule]

    def resume(self, rule: str) -> list[str]:
        self.asked.append(("resume", rule))
        return [rule]

    def targets(self, rule: str | None, start: int = 0) -> Iterator[TargetView]:
        self.asked.append(("targets", rule, start))
        return iter(self.target_views[start:])

    def order_target(self, rule: str, target: str, state: str) -> list[str]:
        self.asked.append(("order_target", rule, target, state))
        return [rule]

    def faults(self, rule: str | None) -> list[FaultView]:
        self.asked.append(("faults", rule))
        return self.fault_views

    def set_faults(
        self, rule: str, which: str, active: bool | None, options: Mapping[str, str]
    ) -> list[FaultView]:
        self.asked.append(("set_faults", rule, which, active, dict(options)))
        return [FAULT]

    def log_level(self, level: str | None) -> str:
        self.asked.append(("log_level", level))
        return level or "info"

    def changes(self, after: int) -> tuple[int, Iterator[LoggedLine]]:
        return len(self.log), (one for one in self.log if one.number > after)

    def explain(self, client: str, listen: str) -> dict[str, Any]:
        return {"explanation": {}, "text": f"{client} to {listen}"}

    def tap(self, session: LiveSession, saw: Callable[[Direction, bytes], None]) -> Callable[[], None]:
        self.saw = saw

        def end() -> None:
            self.saw = None

        return end

    async def reload(self, dry_run: bool, code: bool = False) -> dict[str, Any]:
        self.asked.append(("reload", dry_run, code))
        return {"applied": not dry_run, "lines": []}

    def stop(self) -> None:
        self.asked.append(("stop",))


class Client:
    """
    A caller and what it was told.

    :ivar events: those that were sent.
    :ivar listening: whether it reads.
    :ivar steered: how often it was noted that it changes something.
    """

    def __init__(self, operator: FakeOperator, level: Level = Level.OPERATOR) -> None:
        self.operator = operator
        self.clock = Clock()
        self.events: list[Mapping[str, Any]] = []
        self.listening = True
        self.steered = 0
        self.caller = Caller(
            operator, level, self.clock, self.events.append, lambda: self.listening, self._steered
        )
        self.caller.begin()

    def _steered(self) -> None:
        self.steered += 1


def objects(data: bytes) -> list[dict[str, Any]]:
    """The lines of a control socket."""
    assert data.endswith(b"\n") or not data, data
    return [json.loads(line) for line in data.splitlines()]


def one_turn(clock: Clock) -> None:
    """Make the calls that are due, as a reactor does in one turn; what comes of them waits."""
    due = [call for call in clock.calls if call.time <= clock.rightNow]
    clock.calls = [call for call in clock.calls if call not in due]
    for call in due:
        call.called = 1
        call.func(*call.args, **call.kw)


#: Seconds of a turn of `Turning`.
TURN = 0.001


class Turning(Clock):
    """A clock that, like a reactor, calls nothing in the turn in which it was asked to."""

    def callLater(self, delay: float, *args: Any, **kwargs: Any) -> DelayedCall:
        return super().callLater(max(delay, TURN), *args, **kwargs)
