"""A clock whose calls take turns as a reactor's do."""

from __future__ import annotations

from twisted.internet.task import Clock


class TurningClock(Clock):
    """A clock that is a reactor in this: calls that are made in a turn are called in the next one."""

    def turn(self, seconds: float = 0.0) -> None:
        """Let time pass, and call what is due then."""
        self.rightNow += seconds
        for call in [call for call in self.getDelayedCalls() if call.getTime() <= self.seconds()]:
            if call.active():
                self.calls.remove(call)
                call.called = 1
                call.func(*call.args, **call.kw)
