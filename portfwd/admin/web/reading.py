# -*- test-case-name: tests.admin.web.test_reading -*-
"""
Converts HTTP requests to requests of the control socket.

Each command is a resource with its name. Commands that only read use GET, with parameters in the query.
Commands that change something use POST, with parameters in a JSON object. A required session number is in the
path. Both are converted to the line of a control socket, so they have the same meaning.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qsl

from portfwd.admin.commands import COMMANDS, Command
from portfwd.admin.operator import OperatorError
from portfwd.admin.parameters import Parameter
from portfwd.admin.requests import Request, RequestError, read_request, write_request
from portfwd.rules.findings import shown, suggestion

#: Maximum parameters of one query.
MOST_PARAMETERS: Final = 32


def methods(command: Command) -> Sequence[str]:
    """The HTTP methods of a command."""
    if command.event is not None:
        return ("GET",)
    if command.steers_from is None:
        return ("GET", "HEAD")
    return ("POST",) if command.steers_from == 0 else ("GET", "HEAD", "POST")


def in_path(command: Command) -> tuple[Parameter[Any], ...]:
    """The parameters in the path: a required session number."""
    return tuple(one for one in command.words[: command.needed] if one.schema["type"] == "integer")


def in_query(command: Command) -> tuple[Parameter[Any], ...]:
    """The parameters of a GET."""
    place, steers = in_path(command), command.steers_from
    words = command.words if not steers else command.words[: steers - 1]
    options = () if steers and command.event is None else command.options
    return (*(one for one in words if one not in place), *options)


def in_body(command: Command) -> tuple[Parameter[Any], ...]:
    """The parameters of a POST."""
    return (*command.words, *command.flags, *command.options)


def needed_in_body(command: Command) -> tuple[str, ...]:
    """The names of the required parameters of a POST."""
    return tuple(one.name for one in command.words[: max(command.needed, command.steers_from or 0)])


def find_command(path: Sequence[bytes]) -> tuple[Command, Sequence[bytes]]:
    """
    The command that `path` names, and the rest of the path.

    :raises OperatorError: there is none.
    """
    name = path[0].decode("utf-8", "replace") if path else ""
    command = COMMANDS.get(name)
    if command is None:
        hint = suggestion(name, COMMANDS) or "'openapi.json' describes all resources"
        raise OperatorError("unknown-command", f"there is no resource {shown(name)}; {hint}")
    if len(path) - 1 != len(in_path(command)):
        raise OperatorError("unknown-command", f"there is no such resource below {shown(name)}")
    return command, path[1:]


def read_get(command: Command, path: Sequence[bytes], query: bytes) -> Request:
    """
    The request of a GET.

    :raises OperatorError: it is not valid.
    """
    try:
        pairs = parse_qsl(
            query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MOST_PARAMETERS
        )
        words = [one.decode("utf-8") for one in path]
    except ValueError as problem:
        raise OperatorError("bad-request", f"the query cannot be read: {problem}") from None
    values = {one.name: word for one, word in zip(in_path(command), words, strict=True)}
    return _request(command, in_query(command), pairs, values)


def read_post(command: Command, body: bytes) -> Request:
    """
    The request of a POST.

    :raises OperatorError: it is not valid.
    """
    try:
        value = json.loads(body, object_pairs_hook=_object) if body else {}
    except (ValueError, RecursionError):
        raise OperatorError("bad-request", "the body is not JSON") from None
    if not isinstance(value, dict):
        raise OperatorError("bad-request", "the body is not a JSON object")
    known = {one.name: one for one in in_body(command)}
    flags = [one.name for one in command.flags]
    pairs: list[tuple[str, str]] = []
    repeated: list[str] = []
    for key, given in value.items():
        if key not in known:
            raise _unknown(command, key, known)
        if key in flags:
            if not isinstance(given, bool):
                raise OperatorError("bad-request", f"bad value for {key}: expected true or false")
            repeated += [key] if given else []
        elif command.repeated > 1 and key == command.words[-1].name:
            repeated += _several(known[key], given)
        else:
            pairs.append((key, _text(known[key], given)))
    for key in needed_in_body(command):
        if key not in value:
            raise OperatorError("bad-request", f"{key} is missing; usage: {command.usage}")
    return _request(command, tuple(known.values()), pairs, {}, repeated)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise OperatorError("bad-request", "a key of the body is given twice")
    return found


def _several(parameter: Parameter[Any], given: object) -> list[str]:
    if not isinstance(given, list) or not given:
        raise OperatorError("bad-request", f"bad value for {parameter.name}: expected a list")
    return [_text(parameter, one) for one in given]


def _text(parameter: Parameter[Any], given: object) -> str:
    kind = parameter.schema["type"]
    if kind == "string" and isinstance(given, str):
        return given
    if kind == "integer" and isinstance(given, int) and not isinstance(given, bool):
        return str(given)
    raise OperatorError("bad-request", f"bad value for {parameter.name}: expected a JSON {kind}")


def _unknown(command: Command, key: str, known: Mapping[str, object]) -> OperatorError:
    hint = suggestion(key, known) or f"usage: {command.usage}"
    return OperatorError("bad-request", f"{shown(key)} is unknown; {hint}")


def _request(
    command: Command,
    known: Sequence[Parameter[Any]],
    pairs: Sequence[tuple[str, str]],
    values: dict[str, str],
    more: Sequence[str] = (),
) -> Request:
    """
    The request of the corresponding line of a control socket.

    :param known: the allowed parameters of `pairs`.
    :param values: the parameters in the path.
    :param more: words after the others.
    """
    names = {one.name for one in known}
    for key, value in pairs:
        if key not in names:
            raise _unknown(command, key, dict.fromkeys(names))
        if key in values:
            raise OperatorError("bad-request", f"{shown(key)} is given twice")
        values[key] = value
    words = [*_words(command, values), *more]
    options = {one.name: values[one.name] for one in command.options if one.name in values}
    try:
        request = read_request(write_request(command.name, words, options).removesuffix(b"\n"))
    except RequestError as problem:
        hint = f"; {problem.hint}" if problem.hint else ""
        raise OperatorError(problem.code, f"{problem}{hint}") from None
    assert request is not None
    return request


def _words(command: Command, values: Mapping[str, str]) -> Iterator[str]:
    missing = ""
    for one in command.words:
        if one.name not in values:
            missing = missing or one.name
        elif missing:
            raise OperatorError("bad-request", f"{one.name} needs {missing}; usage: {command.usage}")
        else:
            yield values[one.name]
