# -*- test-case-name: tests.cli.test_control -*-
"""
The way from a command to a forwarder that runs: its control socket.

Plain blocking calls, one request at a time; what it speaks is `portfwd.admin`'s. It refuses to
print: what an answer means to people is each command's to say.
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

#: Where the control socket is unless ``--socket`` or the variable says otherwise.
DEFAULT_PATH: Final = "/run/portfwd/admin.sock"
VARIABLE: Final = "PORTFWD_ADMIN"
#: Seconds to wait for an answer; a reload of ten thousand rules takes three.
ANSWER_TIMEOUT: Final = 60.0
#: Bytes of an answer: far above `portfwd.admin.commands.MAX_ROWS` rows; beyond it is no control socket.
MAX_ANSWER: Final = 64 * 1024 * 1024

#: Exit codes: the forwarder cannot be reached or says no; it does not understand.
REFUSED: Final = 1
WRONG: Final = 2


class ControlError(Exception):
    """
    There is no answer, or it is no.

    :ivar code: the forwarder's word for it, or empty.
    :ivar lines: what else it says.
    """

    def __init__(self, message: str, code: str = "", lines: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.lines = tuple(lines)

    @property
    def exit_code(self) -> int:
        """`WRONG` where what was asked for makes no sense, else `REFUSED`."""
        return WRONG if self.code in ("bad-request", "unknown-command", "bad-rules") else REFUSED


class Control:
    """
    A connection to a control socket.

    :ivar level: what may be asked: ``read`` or ``operator``.
    """

    def __init__(self, path: str, timeout: float = ANSWER_TIMEOUT) -> None:
        """
        Connect.

        :raises ControlError: nobody listens there, or it is not portfwd.
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
                    f"{printable(path)} speaks protocol {hello.get('protocol')!r} of portfwd"
                    f" {hello.get('portfwd', '?')}; this is {PROTOCOL} of another version"
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
        """Leave."""
        self._socket.close()

    def fileno(self) -> int:
        """The socket's descriptor, readable when something comes that is not `pending` yet."""
        return self._socket.fileno()

    @property
    def pending(self) -> bool:
        """Whether `receive` has something at once."""
        return b"\n" in self._buffer

    def send(
        self, command: str, words: Sequence[str] = (), options: Mapping[str, str | None] | None = None
    ) -> None:
        """
        Ask; options that are None are left out.

        :raises ControlError: it cannot be asked so, or the forwarder is gone.
        """
        said = {key: value for key, value in (options or {}).items() if value is not None}
        try:
            self._socket.sendall(write_request(command, words, said))
        except RequestError as problem:
            raise ControlError(str(problem), problem.code) from None
        except OSError as problem:
            raise ControlError(f"the forwarder is gone: {problem.strerror}") from None

    def receive(self) -> tuple[dict[str, Any] | None, dict[str, Any]]:
        """
        The next thing that the forwarder says: an event and nothing, or None and the result.

        :raises ControlError: it refuses, or is gone.
        """
        answer = self._read()
        if "event" in answer:
            return answer["event"], {}
        if answer.get("ok") is True:
            return None, answer["result"]
        lines = answer.get("lines", ())
        raise ControlError(str(answer.get("message", "it says no")), str(answer.get("error", "")), lines)

    def ask(
        self, command: str, words: Sequence[str] = (), options: Mapping[str, str | None] | None = None
    ) -> dict[str, Any]:
        """
        Ask, and wait for the answer.

        :raises ControlError: there is none, or it is no.
        """
        self.send(command, words, options)
        while True:
            event, result = self.receive()
            if event is None:
                return result

    def watch(
        self, command: str, words: Sequence[str] = (), options: Mapping[str, str | None] | None = None
    ) -> Iterator[dict[str, Any]]:
        """Ask for what goes on: its events, and last the result as ``{"result": …}``."""
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
                raise ControlError(f"the forwarder is gone: {problem.strerror}") from None
            size += len(more)
            if not more or size > MAX_ANSWER:
                raise ControlError("the forwarder closed the connection" if not more else "an endless answer")
            parts.append(more)
        line, _, self._buffer = b"".join(parts).partition(b"\n")
        try:
            value = json.loads(line)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise ControlError(f"{printable(self._path)} is no control socket of portfwd")
        return value


def cannot_connect(path: str, problem: OSError) -> str:
    """Why no forwarder is reached at `path`, and what to look at."""
    text = f"cannot reach a forwarder at {printable(path)}: {problem.strerror or problem}"
    if isinstance(problem, FileNotFoundError | ConnectionRefusedError):
        return f"{text}; does it run, with the directive 'admin unix:{printable(path)}'?"
    if isinstance(problem, PermissionError):
        return f"{text}; only its user may, or who the socket's mode= lets in"
    return text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that every command has which speaks to a forwarder."""
    parser.add_argument(
        "--socket",
        metavar="PATH",
        default=os.environ.get(VARIABLE) or DEFAULT_PATH,
        help=f"the forwarder's control socket; else ${VARIABLE}, else {DEFAULT_PATH}",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def with_control(arguments: argparse.Namespace, work: Callable[[Control], int]) -> int:
    """The exit code of `work` with a connection; what goes wrong is printed."""
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
    """Ask one thing, and print the answer, as JSON or by `text`."""

    def work(control: Control) -> int:
        result = control.ask(command, words, options)
        print(json.dumps(result, indent=2) if arguments.json else text(result))
        return FINE

    return with_control(arguments, work)
