# -*- test-case-name: tests.admin.test_shapes -*-
"""
JSON schemas (draft 2020-12) of answers, for the description of the web API.

`portfwd.admin.answers` makes the rows; tests compare both. Keys may be added to an answer later, so no schema
forbids additional ones.
"""

from __future__ import annotations

from typing import Any, Final

from portfwd.admin.parameters import Schema

TEXT: Final[Schema] = {"type": "string"}
WHOLE: Final[Schema] = {"type": "integer"}
NUMBER: Final[Schema] = {"type": "number"}
TRUTH: Final[Schema] = {"type": "boolean"}
ANYTHING: Final[Schema] = {"type": "object"}


def maybe(shape: Schema) -> Schema:
    """`shape`, or null."""
    return {**shape, "type": [shape["type"], "null"]}


def many(shape: Schema) -> Schema:
    """A list."""
    return {"type": "array", "items": shape}


def record(optional: Schema | None = None, **keys: Schema) -> Schema:
    """
    An object with `keys`.

    :param optional: optional keys.
    """
    properties: dict[str, Any] = {**keys, **(optional or {})}
    return {"type": "object", "required": list(keys), "properties": properties}


STATUS: Final = record(
    version=TEXT, pid=WHOLE, uptime=NUMBER, state=TEXT, rules=WHOLE, targets_down=WHOLE, sessions=WHOLE,
    total=WHOLE, descriptors=WHOLE, files=many(TEXT), reloads=WHOLE, reload_failures=WHOLE,
    last_reload_refused=TRUTH, reloaded_at=maybe(TEXT), log_level=TEXT, shells=many(ANYTHING),
)  # fmt: skip

HELP: Final = record(commands=many(record(name=TEXT, usage=TEXT, about=TEXT, level=TEXT)))

_RULE: Final = record(
    name=TEXT, rule=TEXT, listen=many(TEXT), targets=many(TEXT), state=TEXT, sessions=WHOLE, total=WHOLE,
    filters=many(TEXT), filter_failures=WHOLE, where=TEXT,
)  # fmt: skip
RULES: Final = record(count=WHOLE, start=WHOLE, rules=many(_RULE))

_FLOW: Final = record(
    bytes=WHOLE, reads=WHOLE, writes=WHOLE, bytes_per_call=maybe(NUMBER), spliced=WHOLE,
    share_spliced=maybe(NUMBER), paused=NUMBER, paced=NUMBER,
)  # fmt: skip
_TLS: Final = record({"client_name": TEXT}, version=TEXT, cipher=TEXT, alpn=TEXT, server_name=TEXT,
                     resumed=TRUTH)  # fmt: skip
_SESSION_KEYS: Final[dict[str, Schema]] = {
    **dict.fromkeys(("time", "opened", "rule", "relay", "detail", "state"), TEXT),
    **dict.fromkeys(("client", "local", "upstream", "reason", "meaning", "ended_first"), maybe(TEXT)),
    **dict.fromkeys(("connect_time", "first_byte"), maybe(NUMBER)),
    **dict.fromkeys(("id", "access_step"), WHOLE),
    "duration": NUMBER,
    **dict.fromkeys(("to_upstream", "to_client"), _FLOW),
}
_FIGURES: Final[Schema] = {"type": ["object", "null"], "additionalProperties": maybe(WHOLE)}
_SESSION_MORE: Final[dict[str, Schema]] = {
    "tcp_info": record(client=_FIGURES, upstream=_FIGURES),
    "plan": record(relay=TEXT, why=TEXT),
    "tls": _TLS,
    "upstream_tls": _TLS,
    "attempts": many(record(target=TEXT, address=maybe(TEXT), cause=TEXT)),
    **dict.fromkeys(("dropped", "notes"), ANYTHING),
}
SESSIONS: Final = record(
    count=WHOLE, start=WHOLE, sessions=many(record(_SESSION_MORE, **_SESSION_KEYS))
)  # fmt: skip
SESSION: Final = record(
    session=record(
        {**_SESSION_MORE, "client_stream": maybe(TEXT), "upstream_stream": maybe(TEXT)}, **_SESSION_KEYS
    )
)

_BOTH: Final = record(client=maybe(WHOLE), upstream=maybe(WHOLE))
#: One event of ``top``.
TOP_EVENT: Final = record(
    sessions=WHOLE, to_upstream_rate=NUMBER, to_client_rate=NUMBER, sort=TEXT, start=WHOLE, status=STATUS,
    rows=many(
        record(
            id=WHOLE, rule=TEXT, client=maybe(TEXT), upstream=maybe(TEXT), state=TEXT, duration=NUMBER,
            to_upstream_rate=NUMBER, to_client_rate=NUMBER, bytes=WHOLE, bytes_per_call=maybe(NUMBER),
            rtt_us=_BOTH, retransmits=_BOTH,
        )
    ),
)  # fmt: skip
TOP: Final = record(looks=WHOLE, missed=WHOLE)

#: One event of ``tap``.
TAP_EVENT: Final = record(direction=TEXT, offset=WHOLE, data=TEXT)
TAP: Final = record(ended=TEXT, missed=WHOLE, to_upstream=WHOLE, to_client=WHOLE)

CHANGES: Final = record(last=WHOLE, changes=many(record(number=WHOLE, time=TEXT, level=TEXT, text=TEXT)))

EXPLAIN: Final = record(explanation=ANYTHING, text=TEXT)

TARGETS: Final = record(
    start=WHOLE, more=TRUTH,
    targets=many(
        record(
            rule=TEXT, name=TEXT, target=TEXT, state=TEXT, cause=TEXT, since=maybe(NUMBER), ordered=TRUTH,
            share=NUMBER, backup=TRUTH, sessions=WHOLE, dials=WHOLE, failures=WHOLE,
            checks=many(
                record(
                    name=TEXT, passing=maybe(TRUTH), cause=TEXT, seconds=maybe(NUMBER), problem=TEXT
                )
            ),
        )
    ),
)  # fmt: skip

FAULTS: Final = record(
    faults=many(
        record(
            rule=TEXT, number=WHOLE, kind=TEXT, active=TRUTH, options=ANYTHING, connections=WHOLE,
            affected=WHOLE,
        )
    )
)  # fmt: skip

#: The result of ``drain``, ``pause``, ``resume`` and ``target``: the names of the rules.
RULE_NAMES: Final = record(rules=many(TEXT))
LOG_LEVEL: Final = record(level=TEXT)
KILLED: Final = record(killed=WHOLE)
RELOAD: Final = record(applied=TRUTH, lines=many(TEXT))
STOP: Final = record(stopping=TRUTH)

#: The answer to a request that failed.
REFUSAL: Final = record({"lines": many(TEXT)}, ok={"const": False}, error=TEXT, message=TEXT)


def answer_of(result: Schema) -> Schema:
    """An answer that contains `result`."""
    return record(ok={"const": True}, result=result)
