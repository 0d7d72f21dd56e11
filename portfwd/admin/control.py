# -*- test-case-name: tests.admin.test_control -*-
"""
The control socket: requests in, answers out, one client after the other's turn.

It serves one request of a client at a time, when it is its turn, and takes the next when the client
has read the answer. Whoever does not read for `STUCK` seconds, sends lines without end, or more of them
than it reads answers to, is dropped; that costs nobody else anything.
"""

from __future__ import annotations

from typing import Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import (
    IDelayedCall,
    IHalfCloseableProtocol,
    IPushProducer,
    IReactorTime,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from portfwd.admin.answers import answer, event, greeting, refusal
from portfwd.admin.caller import Caller
from portfwd.admin.commands import serve
from portfwd.admin.doors import Standing
from portfwd.admin.operator import Operator, OperatorError
from portfwd.admin.requests import MAX_LINE, RequestError, read_request
from portfwd.admin.turns import Turns
from portfwd.rules.admin_lines import Level
from portfwd.values import counted, printable

#: Bytes of requests that may wait while one is served.
MAX_WAITING: Final = 16 * MAX_LINE
#: Seconds for which a client may leave an answer unread.
STUCK: Final = 30.0
#: Seconds for which a client may ask nothing; scripts and people with a prompt are quicker.
IDLE: Final = 600.0


@implementer(IHalfCloseableProtocol, IPushProducer)
class ControlProtocol(Protocol):
    """One client."""

    _log = Logger()

    def __init__(
        self, operator: Operator, level: Level, clock: IReactorTime, who: str, turns: Turns | None = None
    ) -> None:
        """
        :param who: the client, for the log.
        :param turns: shared with other clients; None for its own.
        """
        self.who = who
        self._clock = clock
        self._level = level
        self._caller = Caller(
            operator,
            level,
            clock,
            lambda value: self._write(event(value)),
            self._listens,
            self._steered,
            turns,
        )
        self._buffer = b""
        self._asked = b""
        self._serving: Deferred[None] | None = None
        self._paused = False
        self._ended = False
        self._gone = False
        self._deadline: IDelayedCall | None = None

    def __repr__(self) -> str:
        state = "gone" if self._gone else "stuck" if self._paused else "serving" if self._serving else "idle"
        return f"<ControlProtocol {self.who} {self._level.value} {state}>"

    @property
    def standing(self) -> Standing:
        """See `portfwd.admin.doors.Standing`."""
        return Standing.SILENT if self._paused or self._serving is None else Standing.SERVED

    # What Twisted tells

    def connectionMade(self) -> None:
        """Somebody is there."""
        self.transport.registerProducer(self, True)  # type: ignore[union-attr]
        self._write(greeting(self._caller.operator.version, self._level.value))
        self._wait(IDLE)

    def dataReceived(self, data: bytes) -> None:
        """A part of a request, or several."""
        if self._ended or self._gone:
            return
        self._buffer += data
        if self._serving is not None and b"\n" in data:
            self._caller.interrupt()
        self._next()

    def readConnectionLost(self) -> None:
        """The client asks nothing more; what it asked is answered."""
        self._ended = True
        if self._buffer and not self._buffer.endswith(b"\n"):
            self._buffer += b"\n"
        self._next()

    def writeConnectionLost(self) -> None:
        """Never asked for."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The client is gone."""
        self._gone = True
        self._wait(None)
        self._buffer = b""
        self._caller.interrupt()
        serving = self._serving
        if serving is not None:
            serving.cancel()

    def finish(self) -> None:
        """Answer what is being served, then leave: the forwarder is gone, perhaps because of just that."""
        self._buffer = b""
        self._ended = True
        self._caller.interrupt()
        self._next()

    # What the transport tells of the client's reading

    def pauseProducing(self) -> None:
        """The client does not read what was sent."""
        self._paused = True
        self._wait(STUCK)

    def resumeProducing(self) -> None:
        """It has read all of it."""
        self._paused = False
        self._wait(None if self._serving else IDLE)
        self._next()

    def stopProducing(self) -> None:
        """It is gone; `connectionLost` says so too."""

    def _listens(self) -> bool:
        return not self._paused and not self._gone

    def _steered(self) -> None:
        self._log.info("control: {who}: {line}", who=self.who, line=printable(self._asked.decode("utf-8")))

    def _wait(self, seconds: float | None) -> None:
        """From here on the client has so long; None: for ever."""
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._deadline = None if seconds is None else self._clock.callLater(seconds, self._timed_out)

    def _timed_out(self) -> None:
        if self._paused:
            self._log.warn("control: {who} does not read its answers, and is dropped", who=self.who)
        self._drop()

    def _drop(self) -> None:
        """End it without waiting for anything to be read."""
        self._buffer = b""
        self._ended = True
        self.transport.abortConnection()  # type: ignore[union-attr]

    # Serving

    def _write(self, line: bytes) -> None:
        if not self._gone:
            self.transport.write(line)  # type: ignore[union-attr]

    def _next(self) -> None:
        """Serve the next request, if there is one and it is its turn."""
        while self._serving is None and not self._paused and not self._gone:
            line, newline, rest = self._buffer.partition(b"\n")
            if not newline:
                break
            self._buffer = rest
            self._serve(line.removesuffix(b"\r"))
        too_long = b"\n" not in self._buffer and len(self._buffer) > MAX_LINE
        if not self._gone and (too_long or len(self._buffer) > MAX_WAITING):
            self._buffer = b""
            self._ended = True
            most, what = (MAX_LINE, "a request has") if too_long else (MAX_WAITING, "what waits has")
            self._write(refusal("too-much", f"{what} at most {counted(most, 'byte')}"))
            self._caller.interrupt()
        if self._ended and self._serving is None and not self._gone and not self._buffer:
            self.transport.unregisterProducer()  # type: ignore[union-attr]
            self.transport.loseConnection()  # type: ignore[union-attr]

    def _serve(self, line: bytes) -> None:
        self._asked = line
        self._wait(None)
        self._caller.begin()
        if b"\n" in self._buffer:
            # What goes on is ended by the next line, which is there.
            self._caller.interrupt()
        self._serving = serving = Deferred.fromCoroutine(self._answer(line))
        serving.addBoth(self._served)

    async def _answer(self, line: bytes) -> None:
        try:
            # Whoever sends a thousand requests at once waits for a thousand turns; traffic does not.
            await self._caller.turn()
            request = read_request(line)
            if request is None:
                return
            said = answer(await serve(self._caller, request))
        except RequestError as problem:
            hint = f"; {problem.hint}" if problem.hint else ""
            said = refusal(problem.code, f"{problem}{hint}")
        except OperatorError as problem:
            said = refusal(problem.code, str(problem), problem.details)
        except CancelledError:
            return
        except Exception:
            self._log.failure("control: {who}: a command failed", who=self.who)
            said = refusal("internal", "an error in portfwd itself; its log has the traceback")
        self._write(said)

    def _failed(self, failure: Failure) -> None:
        self._log.failure("control: {who}: an answer could not be sent", failure, who=self.who)
        self._drop()

    def _served(self, result: object) -> None:
        self._serving = None
        if isinstance(result, Failure):
            self._failed(result)
        if not self._gone:
            self._wait(STUCK if self._paused else IDLE)
            self._next()
