# -*- test-case-name: tests.admin.web.test_openapi -*-
"""Generates the OpenAPI 3.1 description of the web API from the table of commands."""

from __future__ import annotations

from typing import Any, Final

from portfwd.admin.answers import PROTOCOL
from portfwd.admin.commands import COMMANDS, Command
from portfwd.admin.parameters import Parameter, Schema
from portfwd.admin.shapes import REFUSAL, TEXT, WHOLE, answer_of, record
from portfwd.admin.web.reading import in_body, in_path, in_query, methods, needed_in_body

#: The path of the resources.
PREFIX: Final = f"/api/v{PROTOCOL}"

#: The HTTP status code of each code of a refusal.
STATUSES: Final = {
    "bad-request": 400,
    "bad-host": 421,
    "bad-method": 405,
    "bad-origin": 403,
    "bad-rules": 422,
    "bad-type": 415,
    "forbidden": 403,
    "internal": 500,
    "line-too-long": 400,
    "not-found": 404,
    "refused": 409,
    "unauthorized": 401,
    "unknown-command": 404,
}

_ABOUT: Final = (
    "The commands of portfwd's control socket as resources, with the same names and the same JSON. Commands"
    " with events send server-sent events: each `data` is one event, and an event `end` has the answer."
)


def describe(version: str) -> dict[str, Any]:
    """The description as a JSON object."""
    paths: dict[str, Any] = {
        f"{PREFIX}/": {
            "get": _look("greeting", "the version, and the permission level of the caller", _GREETING)
        },
        f"{PREFIX}/openapi.json": {"get": _look("description", "this description", {"type": "object"})},
    }
    for command in COMMANDS.values():
        place = "/".join([PREFIX, command.name, *(f"{{{one.name}}}" for one in in_path(command))])
        paths[place] = {method.lower(): _operation(command, method) for method in methods(command)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "portfwd",
            "version": version,
            "description": _ABOUT,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "security": [{}, {"token": []}],
        "paths": paths,
        "components": {
            "schemas": {"Refusal": REFUSAL},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "responses": {
                "Refusal": {
                    "description": "The request failed; `error` is a code for programs, `message` a text.",
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Refusal"}}},
                }
            },
        },
    }


_GREETING: Final = record(portfwd=TEXT, protocol=WHOLE, level=TEXT)


def _look(name: str, about: str, shape: Schema) -> dict[str, Any]:
    return {
        "operationId": name,
        "summary": about,
        "responses": {
            "200": {"description": "The result.", "content": {"application/json": {"schema": shape}}},
            "default": {"$ref": "#/components/responses/Refusal"},
        },
    }


def _operation(command: Command, method: str) -> dict[str, Any]:
    operation = _look(f"{method.lower()}-{command.name}", command.about, answer_of(command.result))
    place = [_parameter(one, "path", True) for one in in_path(command)]
    if command.event is not None:
        # Media types of streams have no schema of one event before OpenAPI 3.2.
        stream = {"schema": {"type": "string"}, "x-event": command.event, "x-end": answer_of(command.result)}
        operation["responses"]["200"]["content"] = {"text/event-stream": stream}
    if method == "POST":
        operation["requestBody"] = _body(command)
    else:
        needed = command.words[: command.needed]
        place += [_parameter(one, "query", one in needed) for one in in_query(command)]
    if method == "HEAD":
        del operation["responses"]["200"]["content"]
    if place:
        operation["parameters"] = place
    if command.steers_from == 0 or method == "POST":
        operation["x-level"] = "operator"
    return operation


def _parameter(parameter: Parameter[Any], place: str, required: bool) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": place,
        "required": required,
        "description": parameter.about,
        "schema": parameter.schema,
    }


def _body(command: Command) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    for one in in_body(command):
        shape: Schema = {**one.schema, "description": one.about}
        if command.repeated > 1 and one in command.words:
            shape = {"type": "array", "minItems": 1, "maxItems": command.repeated, "items": shape}
        properties[one.name] = shape
    needed = needed_in_body(command)
    schema = {
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
        **({"required": list(needed)} if needed else {}),
    }
    return {"required": bool(needed), "content": {"application/json": {"schema": schema}}}
