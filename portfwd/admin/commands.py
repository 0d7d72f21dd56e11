# -*- test-case-name: tests.admin.test_commands -*-
"""
The commands of the control socket: one table of their words, their level and what they do.

What an operator may ask, and what ``help`` and the reference say of it, is here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from itertools import islice
from types import MappingProxyType
from typing import Any, Final, TypeVar

from attrs import frozen

from portfwd.admin import watching
from portfwd.admin.answers import fault_row, rule_row, session_row, target_row
from portfwd.admin.caller import Caller
from portfwd.admin.operator import LiveSession, OperatorError, RuleView, TargetView
from portfwd.admin.picking import SORTS, Largest, Wanted
from portfwd.admin.requests import Request
from portfwd.rules.admin_lines import Level
from portfwd.rules.findings import shown, suggestion
from portfwd.values import DIRECTION_WORDS, direction_word, parse_duration, parse_size

#: Rows of one answer: a quarter of a megabyte, made in a few milliseconds. More are asked for by
#: ``start=`` and ``after=``.
MAX_ROWS: Final = 500
#: Rows of an answer unless said otherwise: a tall terminal.
ROWS: Final = 100
#: Rows that ``top`` tells of, a second.
MAX_TOP: Final = 200
#: Seconds between two looks of ``top``: a look at ten thousand sessions is a tenth of a second of work.
MIN_INTERVAL: Final = 0.5
MAX_INTERVAL: Final = 3600.0
#: Bytes of each direction that ``tap`` shows unless said otherwise, and most of them.
TAP_LIMIT: Final = 64 * 1024
MAX_TAP: Final = 16 * 1024 * 1024

_STATES: Final = ("handshaking", "peeking", "dialing", "relaying", "closing")

T = TypeVar("T")
Result = dict[str, Any]
Run = Callable[[Caller, Request], Awaitable[Result]]


@frozen
class Command:
    """
    One command.

    :ivar usage: its words, as help shows them.
    :ivar words: how few and how many there are.
    :ivar options: keys that it takes.
    :ivar level: who may ask; a command may ask for more by its words.
    """

    name: str
    usage: str
    about: str
    run: Run
    words: tuple[int, int] = (0, 0)
    options: tuple[str, ...] = ()
    level: Level = Level.READ


async def serve(caller: Caller, request: Request) -> Result:
    """
    Do what is asked.

    :raises OperatorError: it cannot be done, or not understood.
    """
    command = COMMANDS.get(request.command)
    if command is None:
        hint = suggestion(request.command, COMMANDS) or "'help' lists all of them"
        raise OperatorError("unknown-command", f"there is no command {shown(request.command)}; {hint}")
    if command.level is Level.OPERATOR:
        caller.require_operator()
    least, most = command.words
    unknown = [key for key in request.options if key not in command.options]
    if not least <= len(request.words) <= most or unknown:
        what = f"{unknown[0]}= is unknown" if unknown else "too many or too few words"
        raise OperatorError("bad-request", f"{what}; usage: {command.usage}")
    return await command.run(caller, request)


# What options say


def _option(request: Request, key: str, read: Callable[[str], T], default: T) -> T:
    text = request.options.get(key)
    if text is None:
        return default
    try:
        return read(text)
    except ValueError as error:
        raise OperatorError("bad-request", f"bad value for {key}=: {error}") from None


def _whole(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) <= 18 and least <= int(text) <= most):
            raise ValueError(f"expected a number from {least} to {most}")
        return int(text)

    return read


def _word(*words: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        word = direction_word(text)
        if word not in words:
            raise ValueError(f"expected one of {', '.join(words)}")
        return word

    return read


def _interval(text: str) -> float:
    seconds = parse_duration(text)
    if not MIN_INTERVAL <= seconds <= MAX_INTERVAL:
        raise ValueError(f"expected {MIN_INTERVAL:g} to {MAX_INTERVAL:g} seconds")
    return seconds


def _tap_limit(text: str) -> int:
    size = parse_size(text)
    if not 1 <= size <= MAX_TAP:
        raise ValueError(f"expected 1 to {MAX_TAP} bytes")
    return size


def _wanted(request: Request) -> Wanted:
    state = _option(request, "state", _word(*_STATES), "")
    return Wanted(request.options.get("client"), state or None)


# Looking


async def _status(caller: Caller, request: Request) -> Result:
    return caller.operator.status()


async def _help(caller: Caller, request: Request) -> Result:
    return {
        "commands": [
            {"name": one.name, "usage": one.usage, "about": one.about, "level": one.level.value}
            for one in COMMANDS.values()
        ]
    }


async def _rules(caller: Caller, request: Request) -> Result:
    start = _option(request, "start", _whole(0, 10**9), 0)
    limit = _option(request, "limit", _whole(1, MAX_ROWS), ROWS)
    rows: list[Result] = []

    def visit(rule: RuleView) -> None:
        rows.append(rule_row(rule))

    await caller.each(islice(caller.operator.rules(start), limit), visit)
    return {"count": caller.operator.rule_count(), "start": start, "rules": rows}


async def _sessions(caller: Caller, request: Request) -> Result:
    wanted, rule = _wanted(request), request.options.get("rule")
    sort = _option(request, "sort", _word(*SORTS), "id")
    after = _option(request, "after", _whole(0, 10**18), 0)
    largest = Largest(_option(request, "limit", _whole(1, MAX_ROWS), ROWS))

    def visit(session: LiveSession) -> None:
        if session.id > after:
            summary = wanted.summary_of(session)
            if summary is not None:
                largest.offer(SORTS[sort](summary), session.id, session)

    await caller.each(caller.operator.sessions(rule), visit)
    rows: list[Result] = []
    await caller.each(largest.taken(), lambda session: rows.append(session_row(session)))
    return {"count": largest.offered, "sessions": rows}


async def _session(caller: Caller, request: Request) -> Result:
    session = caller.operator.session(watching.number_of(request.words[0]))
    return {"session": {**session_row(session), **caller.operator.detail(session)}}


async def _top(caller: Caller, request: Request) -> Result:
    return await watching.watch_top(
        caller,
        _option(request, "interval", _interval, 1.0),
        _option(request, "sort", _word(*watching.top_sorts()), "rate"),
        _option(request, "limit", _whole(1, MAX_TOP), 50),
        request.options.get("rule"),
        _wanted(request),
        _option(request, "count", _whole(0, 10**9), 0),
    )


async def _explain(caller: Caller, request: Request) -> Result:
    return caller.operator.explain(*request.words)


# Steering


async def _tap(caller: Caller, request: Request) -> Result:
    session = caller.operator.session(watching.number_of(request.words[0]))
    limit = _option(request, "limit", _tap_limit, TAP_LIMIT)
    directions = DIRECTION_WORDS[_option(request, "direction", _word(*DIRECTION_WORDS), "both")]
    return await watching.watch_bytes(caller, session, limit, directions)


async def _kill(caller: Caller, request: Request) -> Result:
    operator, rule = caller.operator, request.options.get("rule")
    killed = 0
    if bool(request.words) == bool(request.options):
        raise OperatorError(
            "bad-request", "kill takes numbers of sessions, or else one or more of rule, client and state"
        )
    numbers = [watching.number_of(word) for word in request.words]
    sessions = [operator.session(number) for number in numbers] if numbers else operator.sessions(rule)
    wanted = _wanted(request)
    found: list[LiveSession] = []

    def pick(session: LiveSession) -> None:
        if session in wanted:
            found.append(session)

    def kill(session: LiveSession) -> None:
        nonlocal killed
        if session.state.value != "closed":
            operator.kill(session)
            killed += 1

    # First all are found: one that is killed may let another client in, who is not meant.
    await caller.each(sessions, pick)
    await caller.each(found, kill)
    return {"killed": killed}


def _of_rule(method: str) -> Run:
    async def run(caller: Caller, request: Request) -> Result:
        return {"rules": getattr(caller.operator, method)(request.words[0])}

    return run


async def _targets(caller: Caller, request: Request) -> Result:
    start = _option(request, "start", _whole(0, 10**9), 0)
    limit = _option(request, "limit", _whole(1, MAX_ROWS), ROWS)
    rows: list[Result] = []

    def visit(target: TargetView) -> None:
        rows.append(target_row(target))

    views = caller.operator.targets(request.words[0] if request.words else None, start)
    await caller.each(islice(views, limit + 1), visit)
    return {"start": start, "more": len(rows) > limit, "targets": rows[:limit]}


async def _target(caller: Caller, request: Request) -> Result:
    rule, target, state = request.words
    if state not in _ORDERS:
        raise OperatorError("bad-request", f"usage: {COMMANDS['target'].usage}")
    return {"rules": caller.operator.order_target(rule, target, state)}


async def _faults(caller: Caller, request: Request) -> Result:
    words = request.words
    if len(words) < 2:
        if request.options:
            raise OperatorError("bad-request", f"usage: {COMMANDS['faults'].usage}")
        return {"faults": [fault_row(one) for one in caller.operator.faults(words[0] if words else None)]}
    caller.require_operator()
    rule, what = words[:2]
    if what not in ("on", "off", "set") or (what == "set") != bool(request.options):
        raise OperatorError("bad-request", f"usage: {COMMANDS['faults'].usage}")
    active = {"on": True, "off": False}.get(what)
    changed = caller.operator.set_faults(rule, words[2] if len(words) > 2 else "all", active, request.options)
    return {"faults": [fault_row(one) for one in changed]}


async def _log_level(caller: Caller, request: Request) -> Result:
    if request.words:
        caller.require_operator()
    return {"level": caller.operator.log_level(request.words[0] if request.words else None)}


async def _reload(caller: Caller, request: Request) -> Result:
    words = set(request.words)
    if words - {"dry-run", "code"} or len(words) < len(request.words):
        raise OperatorError("bad-request", f"usage: {COMMANDS['reload'].usage}")
    return await caller.operator.reload("dry-run" in words, "code" in words)


async def _stop(caller: Caller, request: Request) -> Result:
    caller.operator.stop()
    return {"stopping": True}


_ORDERS: Final = ("drain", "down", "up", "auto")
_PICK: Final = ("rule", "client", "state")
#: What ``faults … set`` may change: the options of the filter, but for what it is made for.
_STRENGTHS: Final = (
    "delay", "jitter", "rate", "after", "size", "variation", "fraction", "abort", "probability", "seed",
)  # fmt: skip
_READ, _OPERATOR = Level.READ, Level.OPERATOR

COMMANDS: Final[Mapping[str, Command]] = MappingProxyType(
    {
        one.name: one
        for one in (
            Command("help", "help", "this list", _help),
            Command("status", "status", "figures of the whole forwarder", _status),
            Command(
                "rules", f"rules [start=N] [limit=1..{MAX_ROWS}]", "the rules at work, in their order",
                _rules, options=("start", "limit"),
            ),
            Command(
                "sessions",
                f"sessions [rule=RULE] [client=PATTERN] [state={'|'.join(_STATES)}] [sort={'|'.join(SORTS)}]"
                f" [after=ID] [limit=1..{MAX_ROWS}]",
                "open sessions: those that fit, the first by sort=", _sessions,
                options=(*_PICK, "sort", "after", "limit"),
            ),
            Command("session", "session ID", "one session, with what its filters and sockets say", _session,
                    (1, 1)),
            Command(
                "top",
                f"top [interval={MIN_INTERVAL:g}s..1h] [sort={'|'.join(watching.top_sorts())}]"
                f" [limit=1..{MAX_TOP}] [rule=RULE] [client=PATTERN] [state=STATE] [count=N]",
                "goes on: the first sessions by sort=, with their rates, once an interval", _top,
                options=(*_PICK, "interval", "sort", "limit", "count"),
            ),
            Command("explain", "explain CLIENT LISTEN",
                    "what would happen to a connection, by the rules at work", _explain, (2, 2)),
            Command(
                "targets", f"targets [RULE] [start=N] [limit=1..{MAX_ROWS}]",
                "the targets of a rule, or of all: their states and why, sessions, dials, checks", _targets,
                (0, 1), ("start", "limit"),
            ),
            Command("target", f"target RULE TARGET {'|'.join(_ORDERS)}",
                    "overrides what dials and checks say of a target, until 'auto'", _target, (3, 3), (),
                    _OPERATOR),
            Command(
                "faults", "faults [RULE [on|off|set [NUMBER|KIND|all] [KEY=VALUE...]]]",
                "the faults of the filter 'faults'; an operator switches them, or sets their options",
                _faults, (0, 3), _STRENGTHS,
            ),
            Command("log-level", "log-level [debug|info|warn|error|critical]",
                    "the least level that is logged; an operator sets it", _log_level, (0, 1)),
            Command(
                "tap", f"tap ID [limit=SIZE] [direction={'|'.join(DIRECTION_WORDS)}]",
                "goes on: the bytes of one session, as they are read", _tap, (1, 1),
                ("limit", "direction"), _OPERATOR,
            ),
            Command("kill", "kill ID... | kill [rule=RULE] [client=PATTERN] [state=STATE]",
                    "resets sessions, with the close reason KD", _kill, (0, 100), _PICK, _OPERATOR),
            Command("drain", "drain RULE", "closes the rule's listeners; its sessions finish",
                    _of_rule("drain"), (1, 1), (), _OPERATOR),
            Command("pause", "pause RULE",
                    "accepts nobody; connections wait in the backlog, datagrams in a queue as large as the"
                    " receive buffer", _of_rule("pause"), (1, 1), (), _OPERATOR),
            Command("resume", "resume RULE", "accepts again", _of_rule("resume"), (1, 1), (), _OPERATOR),
            Command("reload", "reload [dry-run] [code]",
                    "reads the rules file again and applies it, with code also changed code of 'python:'"
                    " filters; the difference", _reload, (0, 2), (), _OPERATOR),
            Command("stop", "stop", "as SIGTERM: drains and exits; the second time it cuts", _stop,
                    level=_OPERATOR),
        )
    }
)  # fmt: skip
