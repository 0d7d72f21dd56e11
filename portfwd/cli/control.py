# -*- test-case-name: tests.cli.test_control -*-
"""
The client of a control socket, for commands.

It uses blocking calls and sends one request at a time, in the protocol of `portfwd.admin`. `Control` prints
nothing; each command formats its answers.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self

from portfwd.admin.answers import PROTOCOL
from portfwd.admin.requests import RequestError, write_request
from portfwd.cli.reading import FINE
from portfwd.values import printable

#: The default path of the control socket, and the environment variable that overrides it.
DEFAULT_PATH: Final = "/run/portfwd/admin.sock"
VARIABLE: Final = "PORTFWD_ADMIN"
#: Maximum seconds to wait for an answer; a reload of 10 000 rules takes three.
ANSWER_TIMEOUT: Final = 60.0
#: Maximum bytes of an answer, far more than `portfwd.admin.commands.MAX_ROWS` rows need.
MAX_ANSWER: Final = 64 * 1024 * 1024

#: Exit codes: the forwarder cannot be reached or refuses; the request is not valid.
REFUSED: Final = 1
WRONG: Final = 2


class ControlError(Exception):
    """
    There is no answer, or the forwarder refuses.

    :ivar code: code of the refusal, or an empty text.
    :ivar lines: further lines of the refusal.
    """

    def __init__(self, message: str, code: str = "", lines: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.lines = tuple(lines)

    @property
    def exit_code(self) -> int:
        """`WRONG` if the request is not valid, else `REFUSED`."""
        return WRONG if self.code in ("bad-request", "unknown-command", "bad-rules") else REFUSED


class Control:
    """
    A connection to a control socket.

    :ivar level: the permission level: ``read`` or ``operator``.
    """

    def __init__(self, path: str, timeout: float = ANSWER_TIMEOUT) -> None:
        """
        Connect.

        :raises ControlError: no forwarder listens there.
        """
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout)
        try:
            self._socket.connect(path)
        except OSError as problem:
            self._socket.close()
            raise ControlError(cannot_connect(path, problem)) from None
        self._buffer = b""
        try:
            hello = self._read()
            if hello.get("protocol") != PROTOCOL:
                raise ControlError(
                    f"the forwarder at {printable(path)} is portfwd {hello.get('portfwd', '?')} with protocol"
                    f" {hello.get('protocol')!r} of the control socket; this version has protocol {PROTOCOL}"
                )
        except ControlError:
            self.close()
            raise
        self.level = str(hello.get("level"))

    def __repr__(self) -> str:
        return f"<Control {self._path}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def fileno(self) -> int:
        """The descriptor of the socket. It is readable if bytes arrive that are not `pending` yet."""
        return self._socket.fileno()

    @property
    def pending(self) -> bool:
        """Whether `receive` returns without waiting."""
        return b"\n" in self._buffer

    def send(
        self, command: str, words: Sequence[str] = (), options: Mapping[str, str | None] | None = None
    ) -> None:
        """
        Send a request. Options with the value None are left out.

        :raises ControlError: the request is not valid, or the connection was closed.
        """
        given = {key: value for key, value in (options or {}).items() if value is not None}
        try:
            self._socket.sendall(write_request(command, words, given))
        except RequestError as problem:
            raise ControlError(str(problem), problem.code) from None
        except OSError as problem:
            raise ControlError(f"the connection to the forwarder is lost: {problem.strerror}") from None

    def receive(self) -> tuple[dict[str, Any] | None, dict[str, Any]]:
        """
        Receive an event or the result of the request.

        :returns: an event and an empty object, or None and the result.
        :raises ControlError: the forwarder refuses, or the connection was closed.
        """
        answer = self._read()
        if "event" in answer:
            return answer["event"], {}
        if answer.get("ok") is True:
            return None, answer["result"]
        lines = answer.get("lines", ())
        message = str(answer.get("message", "the forwarder refuses"))
        raise ControlError(message, str(answer.get("error", "")), lines)

    def ask(
        self, command: str, words: Sequence[str] = (), options: Mapping[str, str | None] | None = None
    ) -> dict[str, Any]:
        """
        Send a request, and wait for the result.

        :raises ControlError: there is no answer, or the forwarder refuses.
        """
        self.send(command, words, options)
        while True:
            event, result = self.receive()
            if event is None:
                return result

    def watch(
        self, command: str, words: Sequence[str] = (), options: Mapping[str, str | None] | None = None
    ) -> Iterator[dict[str, Any]]:
        """Send a request with events; yield the events, and last the result as ``{"result": …}``."""
        self.send(command, words, options)
        self._socket.settimeout(None)
        while True:
            event, result = self.receive()
            if event is None:
                yield {"result": result}
                return
            yield event

    def _read(self) -> dict[str, Any]:
        parts = [self._buffer]
        size = len(self._buffer)
        while b"\n" not in parts[-1]:
            try:
                more = self._socket.recv(65536)
            except TimeoutError:
                raise ControlError("the forwarder does not answer") from None
            except OSError as problem:
                raise ControlError(f"the connection to the forwarder is lost: {problem.strerror}") from None
            size += len(more)
            if not more:
                raise ControlError("the forwarder closed the connection")
            if size > MAX_ANSWER:
                raise ControlError(f"the answer has more than {MAX_ANSWER} bytes")
            parts.append(more)
        line, _, self._buffer = b"".join(parts).partition(b"\n")
        try:
            value = json.loads(line)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise ControlError(f"{printable(self._path)} is not a control socket of portfwd")
        return value


def cannot_connect(path: str, problem: OSError) -> str:
    """The message if no forwarder can be reached at `path`, with a hint."""
    text = f"cannot reach a forwarder at {printable(path)}: {problem.strerror or problem}"
    if isinstance(problem, FileNotFoundError | ConnectionRefusedError):
        return f"{text}; does it run, with the directive 'admin unix:{printable(path)}'?"
    if isinstance(problem, PermissionError):
        return f"{text}; only its user and users allowed by the socket's mode= may connect"
    return text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the common options of commands that use a control socket."""
    parser.add_argument(
        "--socket",
        metavar="PATH",
        default=os.environ.get(VARIABLE) or DEFAULT_PATH,
        help=f"the forwarder's control socket (${VARIABLE}, or {DEFAULT_PATH})",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def with_control(arguments: argparse.Namespace, work: Callable[[Control], int]) -> int:
    """Connect, call `work` and return its exit code. Errors are printed."""
    try:
        with Control(arguments.socket) as control:
            return work(control)
    except ControlError as problem:
        print(f"portfwd: {printable(str(problem))}", file=sys.stderr)
        for line in problem.lines[1:]:
            print(f"  {printable(line)}", file=sys.stderr)
        return problem.exit_code


def ask_and_print(
    arguments: argparse.Namespace,
    command: str,
    words: Sequence[str] = (),
    options: Mapping[str, str | None] | None = None,
    *,
    text: Callable[[dict[str, Any]], str],
) -> int:
    """Send one request, and print the result as JSON or formatted by `text`; return the exit code."""

    def work(control: Control) -> int:
        result = control.ask(command, words, options)
        print(json.dumps(result, indent=2) if arguments.json else text(result))
        return FINE

    return with_control(arguments, work)
