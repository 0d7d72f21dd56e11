# -*- test-case-name: tests.admin.test_commands -*-
"""
The commands of the control socket: one table of their parameters, levels and functions.

``help``, the reference and the web API are generated from this table.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from itertools import islice
from types import MappingProxyType
from typing import Any, Final

from attrs import frozen

from portfwd.admin import shapes, watching
from portfwd.admin.answers import change_row, fault_row, rule_row, session_row, target_row
from portfwd.admin.caller import Caller
from portfwd.admin.operator import LiveSession, OperatorError, RuleView, TargetView
from portfwd.admin.parameters import (
    MAX_ID,
    Parameter,
    Schema,
    choice,
    duration,
    flag,
    number,
    size,
    text,
    whole,
)
from portfwd.admin.picking import SORTS, Largest, Wanted
from portfwd.admin.requests import Request
from portfwd.rules.admin_lines import Level
from portfwd.rules.findings import shown, suggestion
from portfwd.values import DIRECTION_WORDS

#: Maximum rows of one answer, which has 250 kB and takes a few milliseconds. ``start=`` and ``after=`` select
#: further rows.
MAX_ROWS: Final = 500
#: Default number of rows of an answer: a tall terminal.
ROWS: Final = 100
#: Maximum rows of one event of ``top``.
MAX_TOP: Final = 200
#: Maximum number of skipped rows.
MAX_START: Final = 10**9
#: Minimum seconds between two events of ``top``: an event over 10 000 sessions takes 0.1 s of work.
MIN_INTERVAL: Final = 0.5
MAX_INTERVAL: Final = 3600.0
#: Default and maximum number of bytes that ``tap`` shows, in both directions together.
TAP_LIMIT: Final = 64 * 1024
MAX_TAP: Final = 16 * 1024 * 1024
#: Maximum sessions that one ``kill`` names.
MAX_KILLED: Final = 100

_STATES: Final = ("handshaking", "peeking", "dialing", "relaying", "closing")

Result = dict[str, Any]
#: The values of a request, by parameter name.
Given = Mapping[str, Any]
Run = Callable[[Caller, Given], Awaitable[Result]]


@frozen
class Command:
    """
    One command.

    :ivar result: JSON schema of its result.
    :ivar words: the words after its name, in order.
    :ivar needed: number of required words.
    :ivar repeated: maximum repetitions of the last word.
    :ivar flags: optional words, in any order.
    :ivar options: parameters as ``KEY=VALUE``.
    :ivar steers_from: with this number of words or more, it changes something and needs the level
        ``operator``; None if it never changes anything.
    :ivar event: JSON schema of its events; None if it sends none.
    :ivar form: its usage text, if the generated one is not sufficient.
    """

    name: str
    about: str
    run: Run
    result: Schema
    words: tuple[Parameter[Any], ...] = ()
    needed: int = 0
    repeated: int = 1
    flags: tuple[Parameter[Any], ...] = ()
    options: tuple[Parameter[Any], ...] = ()
    steers_from: int | None = None
    event: Schema | None = None
    form: str = ""

    @property
    def usage(self) -> str:
        """Its usage text."""
        words = [one.hint if place < self.needed else f"[{one.hint}]" for place, one in enumerate(self.words)]
        options = [f"[{one.name}={one.hint}]" for one in self.options]
        return self.form or " ".join([self.name, *words, *(f"[{one.name}]" for one in self.flags), *options])

    @property
    def level(self) -> Level:
        """The required level, with only the required words."""
        return Level.OPERATOR if self.steers_from == 0 else Level.READ

    def given(self, request: Request) -> Given:
        """
        The values of `request`.

        :raises OperatorError: the request is not valid.
        """
        options = {one.name: one for one in self.options}
        flags = {one.name: True for one in self.flags}
        unknown = next((key for key in request.options if key not in options), None)
        words = [word for word in request.words if word not in flags]
        given: dict[str, Any] = {word: True for word in request.words if word in flags}
        if len(given) + len(words) < len(request.words):
            unknown = "a word is given twice"
        elif unknown is not None:
            unknown = f"{unknown}= is unknown"
        elif not self.needed <= len(words) <= max(len(self.words), self.repeated * bool(self.words)):
            unknown = "too many or too few words"
        if unknown is not None:
            raise OperatorError("bad-request", f"{unknown}; usage: {self.usage}")
        for parameter, word in zip(self.words, words, strict=False):
            given[parameter.name] = parameter.value(word)
        if self.repeated > 1 and words:
            given[self.words[-1].name] = tuple(map(self.words[-1].value, words))
        return given | {key: options[key].value(value) for key, value in request.options.items()}


async def serve(caller: Caller, request: Request) -> Result:
    """
    Run the command of a request.

    :raises OperatorError: the request is not valid, or the command failed.
    """
    command = COMMANDS.get(request.command)
    if command is None:
        hint = suggestion(request.command, COMMANDS) or "'help' lists all commands"
        raise OperatorError("unknown-command", f"there is no command {shown(request.command)}; {hint}")
    if command.steers_from is not None and len(request.words) >= command.steers_from:
        caller.require_operator()
    return await command.run(caller, command.given(request))


def _wanted(given: Given) -> Wanted:
    return Wanted(given.get("client"), given.get("state"))


# Reading


async def _status(caller: Caller, given: Given) -> Result:
    return caller.operator.status()


async def _help(caller: Caller, given: Given) -> Result:
    return {
        "commands": [
            {"name": one.name, "usage": one.usage, "about": one.about, "level": one.level.value}
            for one in COMMANDS.values()
        ]
    }


async def _rules(caller: Caller, given: Given) -> Result:
    start = given.get("start", 0)
    rows: list[Result] = []

    def visit(rule: RuleView) -> None:
        rows.append(rule_row(rule))

    await caller.each(islice(caller.operator.rules(start), given.get("limit", ROWS)), visit)
    return {"count": caller.operator.rule_count(), "start": start, "rules": rows}


async def _sessions(caller: Caller, given: Given) -> Result:
    wanted, key, after = _wanted(given), SORTS[given.get("sort", "id")], given.get("after", 0)
    start = given.get("start", 0)
    largest = Largest(given.get("limit", ROWS), start)

    def visit(session: LiveSession) -> None:
        if session.id > after:
            summary = wanted.summary_of(session)
            if summary is not None:
                largest.offer(key(summary), session.id, session)

    await caller.each(caller.operator.sessions(given.get("rule")), visit)
    rows: list[Result] = []
    await caller.each(largest.taken(), lambda session: rows.append(session_row(session)))
    return {"count": largest.offered, "start": start, "sessions": rows}


async def _session(caller: Caller, given: Given) -> Result:
    session = caller.operator.session(given["id"])
    return {"session": {**session_row(session), **caller.operator.detail(session)}}


async def _top(caller: Caller, given: Given) -> Result:
    return await watching.watch_top(
        caller,
        given.get("interval", 1.0),
        given.get("sort", "rate"),
        given.get("limit", 50),
        given.get("rule"),
        _wanted(given),
        given.get("count", 0),
        given.get("start", 0),
    )


async def _explain(caller: Caller, given: Given) -> Result:
    return caller.operator.explain(given["client"], given["listen"])


async def _changes(caller: Caller, given: Given) -> Result:
    last, changes = caller.operator.changes(given.get("after", 0))
    latest = deque(changes, given.get("limit", ROWS))
    return {"last": last, "changes": [change_row(one) for one in latest]}


# Steering


async def _tap(caller: Caller, given: Given) -> Result:
    session = caller.operator.session(given["id"])
    directions = DIRECTION_WORDS[given.get("direction", "both")]
    return await watching.watch_bytes(caller, session, given.get("limit", TAP_LIMIT), directions)


async def _kill(caller: Caller, given: Given) -> Result:
    operator, numbers = caller.operator, given.get("id", ())
    killed = 0
    if not given or (numbers and len(given) > 1):
        raise OperatorError(
            "bad-request", "kill needs session numbers, or else one or more of rule, client and state"
        )
    sessions = [operator.session(one) for one in numbers] if numbers else operator.sessions(given.get("rule"))
    wanted = _wanted(given)
    found: list[LiveSession] = []

    def pick(session: LiveSession) -> None:
        if session in wanted:
            found.append(session)

    def kill(session: LiveSession) -> None:
        nonlocal killed
        if session.state.value != "closed":
            operator.kill(session)
            killed += 1

    # All sessions are found first, because a killed session may let a new client in, which is not meant.
    await caller.each(sessions, pick)
    await caller.each(found, kill)
    return {"killed": killed}


def _of_rule(method: str) -> Run:
    async def run(caller: Caller, given: Given) -> Result:
        return {"rules": getattr(caller.operator, method)(given["rule"])}

    return run


async def _targets(caller: Caller, given: Given) -> Result:
    start, limit = given.get("start", 0), given.get("limit", ROWS)
    rows: list[Result] = []

    def visit(target: TargetView) -> None:
        rows.append(target_row(target))

    await caller.each(islice(caller.operator.targets(given.get("rule"), start), limit + 1), visit)
    return {"start": start, "more": len(rows) > limit, "targets": rows[:limit]}


async def _target(caller: Caller, given: Given) -> Result:
    return {"rules": caller.operator.order_target(given["rule"], given["target"], given["state"])}


async def _faults(caller: Caller, given: Given) -> Result:
    what, options = given.get("what"), {one.name: given[one.name] for one in _STRENGTHS if one.name in given}
    if (what == "set") != bool(options):
        raise OperatorError("bad-request", f"options go with 'set'; usage: {COMMANDS['faults'].usage}")
    if what is None:
        faults = caller.operator.faults(given.get("rule"))
    else:
        active = {"on": True, "off": False}.get(what)
        faults = caller.operator.set_faults(given["rule"], given.get("which", "all"), active, options)
    return {"faults": [fault_row(one) for one in faults]}


async def _log_level(caller: Caller, given: Given) -> Result:
    return {"level": caller.operator.log_level(given.get("level"))}


async def _reload(caller: Caller, given: Given) -> Result:
    return await caller.operator.reload(given.get("dry-run", False), given.get("code", False))


async def _stop(caller: Caller, given: Given) -> Result:
    caller.operator.stop()
    return {"stopping": True}


_ID: Final = number("id", "the number of a session")
_RULE: Final = text("rule", "a name of the rules file, or that of one port of a range")
_PICK: Final = (
    _RULE,
    text("client", "an address, a network or a pattern of 'allow', or 'unix'", "PATTERN"),
    choice("state", "the state of the sessions", *_STATES),
)
_START: Final = whole("start", "number of rows to skip", 0, MAX_START, "N")
_LIMIT: Final = whole("limit", "maximum number of rows", 1, MAX_ROWS)
#: The options of the filter ``faults`` that ``faults … set`` may change.
_STRENGTHS: Final = tuple(
    text(name, f"the option '{name}' of the faults", "VALUE")
    for name in (
        "delay", "jitter", "rate", "after", "size", "variation", "fraction", "abort", "probability", "seed",
    )
)  # fmt: skip

COMMANDS: Final[Mapping[str, Command]] = MappingProxyType(
    {
        one.name: one
        for one in (
            Command("help", "the list of commands", _help, shapes.HELP),
            Command("status", "figures of the whole forwarder", _status, shapes.STATUS),
            Command("rules", "the active rules, in the order of the file", _rules, shapes.RULES,
                    options=(_START, _LIMIT)),
            Command(
                "sessions", "the open sessions that match, in the order of sort=", _sessions, shapes.SESSIONS,
                options=(
                    *_PICK, choice("sort", "the sort key; the largest comes first, except for 'id'", *SORTS),
                    whole("after", "only sessions with larger numbers", 0, MAX_ID, "ID"), _START, _LIMIT,
                ),
            ),
            Command("session", "one session, with details of filters and sockets", _session, shapes.SESSION,
                    (_ID,), 1),
            Command(
                "top", "sends in each interval the first sessions by sort=, with their rates", _top,
                shapes.TOP, event=shapes.TOP_EVENT,
                options=(
                    duration("interval", "time between two events", MIN_INTERVAL, MAX_INTERVAL,
                             f"{MIN_INTERVAL:g}s..1h"),
                    choice("sort", "the sort key; the largest comes first, except for 'id'",
                           *watching.top_sorts()),
                    _START, whole("limit", "maximum number of rows", 1, MAX_TOP), *_PICK,
                    whole("count", "number of events; 0 for no limit", 0, MAX_START, "N"),
                ),
            ),
            Command("changes", "the latest lines of the log: reloads, targets, operators", _changes,
                    shapes.CHANGES, options=(whole("after", "only later lines", 0, MAX_ID, "N"), _LIMIT)),
            Command(
                "explain", "the effect of the active rules on a connection", _explain,
                shapes.EXPLAIN,
                (text("client", "the address of the client"),
                 text("listen", "the address of the listener")), 2,
            ),
            Command(
                "targets", "the targets of a rule, or of all: states and reasons, sessions, dials, checks",
                _targets, shapes.TARGETS, (_RULE,), options=(_START, _LIMIT),
            ),
            Command(
                "target", "sets the state of a target, regardless of dials and checks, until 'auto'", _target,
                shapes.RULE_NAMES, (_RULE, text("target", "the name of the target in 'targets'"),
                    choice("state", "the new state", "drain", "down", "up", "auto")), 3, steers_from=0,
            ),
            Command(
                "faults",
                "the faults of the filter 'faults'; an operator can switch them, or set their options",
                _faults, shapes.FAULTS,
                (_RULE, choice("what", "switch them, or set options", "on", "off", "set"),
                 text("which", "a number, a kind or 'all'", "NUMBER|KIND|all")),
                options=_STRENGTHS, steers_from=2,
                form="faults [RULE [on|off|set [NUMBER|KIND|all] [KEY=VALUE...]]]",
            ),
            Command(
                "log-level", "the minimum level of the log; an operator can set it", _log_level,
                shapes.LOG_LEVEL,
                (choice("level", "the minimum level", "debug", "info", "warn", "error", "critical"),),
                steers_from=1,
            ),
            Command(
                "tap", "sends the bytes of one session as they are read", _tap, shapes.TAP, (_ID,), 1,
                options=(
                    size("limit", "bytes, in both directions together, after which it ends", MAX_TAP),
                    choice("direction", "the direction of the bytes", *DIRECTION_WORDS),
                ),
                steers_from=0, event=shapes.TAP_EVENT,
            ),
            Command(
                "kill", "resets sessions, with the close reason KD", _kill, shapes.KILLED, (_ID,), 0,
                MAX_KILLED, options=_PICK, steers_from=0,
                form="kill ID... | kill [rule=RULE] [client=PATTERN] [state=STATE]",
            ),
            Command("drain", "closes the rule's listeners; its sessions finish", _of_rule("drain"),
                    shapes.RULE_NAMES, (_RULE,), 1, steers_from=0),
            Command(
                "pause", "stops accepting; connections wait in the backlog, datagrams in a queue as large as"
                " the receive buffer", _of_rule("pause"), shapes.RULE_NAMES, (_RULE,), 1, steers_from=0,
            ),
            Command("resume", "accepts clients again", _of_rule("resume"), shapes.RULE_NAMES, (_RULE,), 1,
                    steers_from=0),
            Command(
                "reload", "reads the rules file again, applies it and shows the difference; with 'code' it"
                " also imports changed code of 'python:' filters", _reload, shapes.RELOAD,
                flags=(flag("dry-run", "only show what would change"),
                       flag("code", "import changed code of 'python:' filters")),
                steers_from=0,
            ),
            Command("stop", "drains and exits, as after SIGTERM; the second time it resets sessions", _stop,
                    shapes.STOP,
                    steers_from=0),
        )
    }
)  # fmt: skip
