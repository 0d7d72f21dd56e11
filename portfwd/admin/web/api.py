# -*- test-case-name: tests.admin.web.test_api -*-
"""
The resources of the web API: the commands of the control socket, and their description.

A request is served like one of a control socket, in turns that all operators share. Events of a command are
sent as server-sent events (WHATWG HTML section 9.2) while the client reads. Events are dropped while it does
not read, and its connection is closed after a time limit (`portfwd.admin.web.connection`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from portfwd.admin.answers import answer, encode, greeting, refusal
from portfwd.admin.caller import Caller
from portfwd.admin.commands import Command, serve
from portfwd.admin.operator import Operator, OperatorError
from portfwd.admin.requests import Request as Asked
from portfwd.admin.requests import write_request
from portfwd.admin.turns import Turns
from portfwd.admin.web.access import Access
from portfwd.admin.web.connection import BoundedRequest
from portfwd.admin.web.openapi import STATUSES, describe
from portfwd.admin.web.reading import find_command, methods, read_get, read_post
from portfwd.values import printable

#: Maximum bytes of a body: four times the longest request of a control socket, because of JSON escapes.
MAX_BODY: Final = 16 * 1024

#: Seconds without an event after which a stream sends a comment, so that proxies do not close it.
HEARTBEAT: Final = 15.0

#: The same after the client has ended its direction. If it has closed the connection instead, the kernel
#: reports this in reply to the first comment, and the second one fails.
HALF_CLOSED_HEARTBEAT: Final = 1.0

#: Seconds after which a stream without events sends its head. Refusals come earlier, and have their own
#: status.
OPENING: Final = 0.5

_JSON: Final = b"application/json"


def refuse(request: BoundedRequest, status: int, line: bytes) -> None:
    """Answer with a refusal."""
    request.setResponseCode(status)
    if status == 401:
        request.setHeader(b"www-authenticate", b'Bearer realm="portfwd"')
    _send_json(request, line)


def _send_json(request: BoundedRequest, line: bytes) -> None:
    request.setHeader(b"content-type", _JSON)
    request.setHeader(b"content-length", str(len(line)).encode("ascii"))
    request.write(line)
    request.finish()


@frozen
class ApiContext:
    """
    The shared objects of all requests of one listener.

    :ivar access: returns the access control, which changes when the token is read again.
    """

    operator: Operator
    clock: IReactorTime
    turns: Turns
    access: Callable[[], Access]


class Api(Resource):
    """The resource of all paths below ``/api/v1/``."""

    isLeaf = True
    _log = Logger()

    def __init__(self, context: ApiContext) -> None:
        super().__init__()
        self._context = context
        # Encoded once, as ASCII.
        self._description = encode(describe(context.operator.version))

    def render(self, request: BoundedRequest) -> int:
        """See `IResource`."""
        path = [one for one in request.postpath or () if one]
        try:
            if request.postpath in ([], [b""]):
                _require(request, ("GET", "HEAD"))
                _send_json(
                    request, greeting(self._context.operator.version, self._context.access().level.value)
                )
            elif path == [b"openapi.json"]:
                _require(request, ("GET", "HEAD"))
                _send_json(request, self._description)
            else:
                command, rest = find_command(path)
                _require(request, methods(command))
                _Serving(self._context, request, command, self._line(request, command, rest)).begin()
        except OperatorError as problem:
            refuse(request, STATUSES.get(problem.code, 400), _refusal(problem))
        return NOT_DONE_YET

    def _line(self, request: BoundedRequest, command: Command, rest: Sequence[bytes]) -> Asked:
        _, _, query = request.uri.partition(b"?")
        if request.method != b"POST":
            return read_get(command, rest, query)
        if query:
            raise OperatorError("bad-request", "the parameters of a POST are in its body, as a JSON object")
        body = request.content.read() if request.content is not None else b""
        kind = (request.getHeader(b"content-type") or b"").partition(b";")[0].strip().lower()
        if body and kind != _JSON:
            raise OperatorError("bad-type", "the body of a POST must be application/json")
        return read_post(command, body)


def _require(request: BoundedRequest, allowed: Sequence[str]) -> None:
    if request.method.decode("latin-1") not in allowed:
        request.setHeader(b"allow", ", ".join(allowed).encode("ascii"))
        raise OperatorError("bad-method", f"use {' or '.join(allowed)}")


def _refusal(problem: OperatorError) -> bytes:
    return refusal(problem.code, str(problem), problem.details)


class _Serving:
    """One request for a command, and its answer or stream of events."""

    _log = Logger()

    def __init__(self, context: ApiContext, request: BoundedRequest, command: Command, asked: Asked) -> None:
        self._request = request
        self._command = command
        self._asked = asked
        self._clock = context.clock
        self._gone = False
        self._streams = False
        self._heartbeat: IDelayedCall | None = None
        self._caller = Caller(
            context.operator,
            context.access().level,
            context.clock,
            self._tell,
            self._is_listening,
            self._steered,
            context.turns,
        )

    def begin(self) -> None:
        """Serve the request until it is finished or the client disconnects."""
        self._caller.begin()
        serving = Deferred.fromCoroutine(self._answer())

        def left(_: Failure) -> None:
            self._gone = True
            self._caller.interrupt()
            serving.cancel()

        self._request.notifyFinish().addErrback(left)
        if self._command.event is not None and not serving.called:
            self._heartbeat = self._clock.callLater(OPENING, self._beat)
            self._request.connection.on_end = self._beat_now
        serving.addCallback(self._done).addErrback(self._failed)

    async def _answer(self) -> tuple[int, bytes]:
        try:
            await self._caller.turn()
            return 200, answer(await serve(self._caller, self._asked))
        except OperatorError as problem:
            return STATUSES.get(problem.code, 400), _refusal(problem)
        except CancelledError:
            return 0, b""
        except Exception:
            self._log.failure("operator {who} (web): a command failed", who=self._request.connection.who)
            return 500, refusal("internal", "an error in portfwd itself; its log has the traceback")

    def _failed(self, failure: Failure) -> None:
        self._log.failure(
            "operator {who} (web): an answer could not be sent", failure, who=self._request.connection.who
        )
        self._request.connection.finish()

    def _done(self, result: tuple[int, bytes]) -> None:
        self._stop_beating()
        status, line = result
        if self._gone:
            return
        if self._command.event is None or (status != 200 and not self._streams):
            self._request.setResponseCode(status)
            _send_json(self._request, line)
            return
        self._send(b"event: end\ndata: " + line + b"\n")
        self._request.finish()

    # Events

    def _tell(self, event: Mapping[str, Any]) -> None:
        self._stop_beating()
        self._send(b"data: " + encode(event) + b"\n")
        self._wait()

    def _send(self, data: bytes) -> None:
        if not self._streams:
            self._streams = True
            self._request.setHeader(b"content-type", b"text/event-stream")
            # Without this nginx buffers events.
            self._request.setHeader(b"x-accel-buffering", b"no")
        self._request.write(data)

    def _is_listening(self) -> bool:
        return not self._gone and not self._request.connection.stuck

    def _wait(self) -> None:
        seconds = HALF_CLOSED_HEARTBEAT if self._request.connection.has_ended else HEARTBEAT
        self._heartbeat = self._clock.callLater(seconds, self._beat)

    def _beat_now(self) -> None:
        self._stop_beating()
        self._beat()

    def _beat(self) -> None:
        if self._is_listening():
            self._send(b": still here\n\n")
        self._wait()

    def _stop_beating(self) -> None:
        heartbeat, self._heartbeat = self._heartbeat, None
        if heartbeat is not None and heartbeat.active():
            heartbeat.cancel()

    def _steered(self) -> None:
        asked = self._asked
        self._log.info(
            "operator {who} (web): {line}",
            who=self._request.connection.who,
            line=printable(write_request(asked.command, asked.words, asked.options).decode().rstrip("\n")),
        )
