# -*- test-case-name: tests.service.operators.test_namespace -*-
"""
What a manhole's prompt knows: the forwarder's rules and sessions, and what an operator can ask.

Made anew for each log-in, so what one of them assigns no other sees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, Final, TypeVar

from twisted.internet.defer import Deferred, ensureDeferred

from portfwd.kernel.reactor import Reactor
from portfwd.relay.live import LiveRule
from portfwd.relay.session import Session
from portfwd.service.operators.operating import Operating
from portfwd.service.run.forwarder import Forwarder

#: Lines of a `Shelf` that is shown: a tall terminal.
SHOWN: Final = 50

BANNER: Final = """\
portfwd: a Python prompt inside the running forwarder. What blocks here blocks all traffic.
  rules, sessions         rules['web'], sessions[7]: the objects at work
  status(), explain(client, listen), faults()
  kill(id, ...), drain(rule), pause(rule), resume(rule)
  reload(), reload(dry_run=True), reload(code=True), stop()
  forwarder, reactor, help(thing), exit()"""

Key = TypeVar("Key")
Value = TypeVar("Value")


class Shelf(Mapping[Key, Value]):
    """What there is now, by name; looked at anew each time."""

    def __init__(self, look: Callable[[], Mapping[Key, Value]]) -> None:
        self._look = look

    def __getitem__(self, key: Key) -> Value:
        return self._look()[key]

    def __iter__(self) -> Iterator[Key]:
        return iter(self._look())

    def __len__(self) -> int:
        return len(self._look())

    def __repr__(self) -> str:
        things = self._look()
        lines = [f"{key!r}: {value!r}" for key, value in islice(things.items(), SHOWN)]
        if len(things) > SHOWN:
            lines.append(f"and {len(things) - SHOWN} more")
        return "\n".join(lines) or "nothing"


def make_namespace(forwarder: Forwarder, operating: Operating, reactor: Reactor) -> dict[str, object]:
    """The names of one log-in."""

    def sessions() -> dict[int, Session]:
        return {number: one for live in forwarder.every_rule for number, one in live.sessions.items()}

    def rules() -> dict[str, LiveRule]:
        return {live.name: live for live in forwarder.rules}

    def kill(*numbers: int) -> int:
        """Reset sessions, with the close reason KD; how many."""
        for session in [operating.session(number) for number in numbers]:
            operating.kill(session)
        return len(numbers)

    def reload(dry_run: bool = False, code: bool = False) -> Deferred[dict[str, Any]]:
        """Read the rules file again, and apply it unless `dry_run`."""
        return ensureDeferred(operating.reload(dry_run, code))

    def faults(rule: str | None = None) -> list[Any]:
        """The faults of a rule, or of all."""
        return operating.faults(rule)

    return {
        "rules": Shelf(rules),
        "sessions": Shelf(sessions),
        "status": operating.status,
        "explain": lambda client, listen: print(operating.explain(client, listen)["text"]),  # noqa: T201
        "faults": faults,
        "kill": kill,
        "drain": operating.drain,
        "pause": operating.pause,
        "resume": operating.resume,
        "reload": reload,
        "stop": operating.stop,
        "forwarder": forwarder,
        "reactor": reactor,
    }
