# -*- test-case-name: tests.admin.test_control -*-
"""
The protocol of the control socket.

It serves one request of a client at a time, in turn with other clients, and the next one after the client has
read the answer. A client that does not read for `STUCK` seconds, sends a line that is too long, or sends too
many requests without reading the answers, is disconnected. Other clients are not affected.
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
from portfwd.admin.operator import Operator, OperatorError
from portfwd.admin.operator_port import Priority
from portfwd.admin.requests import MAX_LINE, RequestError, read_request
from portfwd.admin.turns import Turns
from portfwd.rules.admin_lines import Level
from portfwd.values import counted, printable

#: Maximum bytes of waiting requests while one is served.
MAX_WAITING: Final = 16 * MAX_LINE
#: Maximum seconds for which a client may leave an answer unread.
STUCK: Final = 30.0
#: Maximum seconds without a request. Scripts and people at a prompt send requests earlier.
IDLE: Final = 600.0


@implementer(IHalfCloseableProtocol, IPushProducer)
class ControlProtocol(Protocol):
    """One client."""

    _log = Logger()

    def __init__(
        self, operator: Operator, level: Level, clock: IReactorTime, who: str, turns: Turns | None = None
    ) -> None:
        """
        :param who: name of the client in the log.
        :param turns: the turns, shared with other clients; None to make them.
        """
        self.who = who
        self._clock = clock
        self._level = level
        self._caller = Caller(
            operator,
            level,
            clock,
            lambda value: self._write(event(value)),
            self._is_listening,
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
    def priority(self) -> Priority:
        """See `portfwd.admin.operator_port.Priority`."""
        return Priority.INACTIVE if self._paused or self._serving is None else Priority.SERVED

    # Calls of Twisted

    def connectionMade(self) -> None:
        """See `IProtocol`."""
        self.transport.registerProducer(self, True)  # type: ignore[union-attr]
        self._write(greeting(self._caller.operator.version, self._level.value))
        self._wait(IDLE)

    def dataReceived(self, data: bytes) -> None:
        """See `IProtocol`."""
        if self._ended or self._gone:
            return
        self._buffer += data
        if self._serving is not None and b"\n" in data:
            self._caller.interrupt()
        self._next()

    def readConnectionLost(self) -> None:
        """See `IHalfCloseableProtocol`. Requests that were received are answered."""
        self._ended = True
        if self._buffer and not self._buffer.endswith(b"\n"):
            self._buffer += b"\n"
        self._next()

    def writeConnectionLost(self) -> None:
        """See `IHalfCloseableProtocol`. Not used."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """See `IProtocol`."""
        self._gone = True
        self._wait(None)
        self._buffer = b""
        self._caller.interrupt()
        serving = self._serving
        if serving is not None:
            serving.cancel()

    def finish(self) -> None:
        """Answer the present request, which may be ``stop``, and close: the forwarder has stopped."""
        self._buffer = b""
        self._ended = True
        self._caller.interrupt()
        self._next()

    # Whether the client reads

    def pauseProducing(self) -> None:
        """See `IPushProducer`: the client does not read."""
        self._paused = True
        self._wait(STUCK)

    def resumeProducing(self) -> None:
        """See `IPushProducer`: the client has read all bytes."""
        self._paused = False
        self._wait(None if self._serving else IDLE)
        self._next()

    def stopProducing(self) -> None:
        """See `IPushProducer`. `connectionLost` follows."""

    def _is_listening(self) -> bool:
        return not self._paused and not self._gone

    def _steered(self) -> None:
        line = printable(self._asked.decode("utf-8"))
        self._log.info("operator {who} (control): {line}", who=self.who, line=line)

    def _wait(self, seconds: float | None) -> None:
        """Set the time limit of the client to `seconds` from now; None for no limit."""
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._deadline = None if seconds is None else self._clock.callLater(seconds, self._timed_out)

    def _timed_out(self) -> None:
        if self._paused:
            self._log.warn("operator {who} (control): answers are not read, disconnected", who=self.who)
        self._drop()

    def _drop(self) -> None:
        """Abort the connection, without waiting until the client has read."""
        self._buffer = b""
        self._ended = True
        self.transport.abortConnection()  # type: ignore[union-attr]

    # Serving

    def _write(self, line: bytes) -> None:
        if not self._gone:
            self.transport.write(line)  # type: ignore[union-attr]

    def _next(self) -> None:
        """Serve the next request if none is being served and the client has read its answers."""
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
            most, what = (MAX_LINE, "a request has") if too_long else (MAX_WAITING, "waiting requests have")
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
            # The next line is received already, and ends a request with events.
            self._caller.interrupt()
        self._serving = serving = Deferred.fromCoroutine(self._answer(line))
        serving.addBoth(self._served)

    async def _answer(self, line: bytes) -> None:
        try:
            # Each request waits for a turn, so that many requests at once do not delay traffic.
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
            self._log.failure("operator {who} (control): a command failed", who=self.who)
            said = refusal("internal", "an error in portfwd itself; its log has the traceback")
        self._write(said)

    def _failed(self, failure: Failure) -> None:
        self._log.failure("operator {who} (control): an answer could not be sent", failure, who=self.who)
        self._drop()

    def _served(self, result: object) -> None:
        self._serving = None
        if isinstance(result, Failure):
            self._failed(result)
        if not self._gone:
            self._wait(STUCK if self._paused else IDLE)
            self._next()
