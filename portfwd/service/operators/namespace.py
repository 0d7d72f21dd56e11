# -*- test-case-name: tests.service.operators.test_namespace -*-
"""
The namespace of a manhole's prompt: rules and sessions of the forwarder, and functions for operators.

Each log-in has its own namespace, so assignments are not visible in others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, Final, TypeVar

from twisted.internet.defer import Deferred, ensureDeferred

from portfwd.kernel.reactor import Reactor
from portfwd.relay.live import LiveRule
from portfwd.relay.session import Session
from portfwd.service.operators.forwarder_operator import ForwarderOperator
from portfwd.service.run.forwarder import Forwarder

#: Maximum lines in the `repr` of a `LiveMapping`: enough for a tall terminal.
SHOWN: Final = 50

BANNER: Final = """\
portfwd: a Python prompt inside the running forwarder. A blocking call here blocks all traffic.
  rules, sessions         rules['web'], sessions[7]: the live objects
  status(), explain(client, listen), faults()
  kill(id, ...), drain(rule), pause(rule), resume(rule)
  reload(), reload(dry_run=True), reload(code=True), stop()
  forwarder, reactor, help(thing), exit()"""

Key = TypeVar("Key")
Value = TypeVar("Value")


class LiveMapping(Mapping[Key, Value]):
    """The present objects by name. Each access reads them again."""

    def __init__(self, read: Callable[[], Mapping[Key, Value]]) -> None:
        self._read = read

    def __getitem__(self, key: Key) -> Value:
        return self._read()[key]

    def __iter__(self) -> Iterator[Key]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())

    def __repr__(self) -> str:
        things = self._read()
        lines = [f"{key!r}: {value!r}" for key, value in islice(things.items(), SHOWN)]
        if len(things) > SHOWN:
            lines.append(f"and {len(things) - SHOWN} more")
        return "\n".join(lines) or "nothing"


def make_namespace(forwarder: Forwarder, operator: ForwarderOperator, reactor: Reactor) -> dict[str, object]:
    """The namespace of one log-in."""

    def sessions() -> dict[int, Session]:
        return {number: one for live in forwarder.every_rule for number, one in live.sessions.items()}

    def rules() -> dict[str, LiveRule]:
        return {live.name: live for live in forwarder.rules}

    def kill(*numbers: int) -> int:
        """Reset sessions with the close reason KD, and return their number."""
        for session in [operator.session(number) for number in numbers]:
            operator.kill(session)
        return len(numbers)

    def reload(dry_run: bool = False, code: bool = False) -> Deferred[dict[str, Any]]:
        """Read the rules file again, and apply the rules unless `dry_run` is true."""
        return ensureDeferred(operator.reload(dry_run, code))

    def faults(rule: str | None = None) -> list[Any]:
        """The faults of one rule, or of all rules."""
        return operator.faults(rule)

    return {
        "rules": LiveMapping(rules),
        "sessions": LiveMapping(sessions),
        "status": operator.status,
        "explain": lambda client, listen: print(operator.explain(client, listen)["text"]),  # noqa: T201
        "faults": faults,
        "kill": kill,
        "drain": operator.drain,
        "pause": operator.pause,
        "resume": operator.resume,
        "reload": reload,
        "stop": operator.stop,
        "forwarder": forwarder,
        "reactor": reactor,
    }
