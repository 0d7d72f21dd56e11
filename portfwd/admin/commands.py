# -*- test-case-name: tests.admin.test_commands -*-
"""
The commands of the control socket: one table of their words, their level and what they do.

What an operator may ask, and what ``help``, the reference and the web API say of it, is
here and nowhere else.
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

#: Rows of one answer: a quarter of a megabyte, made in a few milliseconds. More are asked for by
#: ``start=`` and ``after=``.
MAX_ROWS: Final = 500
#: Rows of an answer unless said otherwise: a tall terminal.
ROWS: Final = 100
#: Rows that ``top`` tells of, a second.
MAX_TOP: Final = 200
#: Rows that may come before the first one of an answer.
MAX_START: Final = 10**9
#: Seconds between two looks of ``top``: a look at ten thousand sessions is a tenth of a second of work.
MIN_INTERVAL: Final = 0.5
MAX_INTERVAL: Final = 3600.0
#: Bytes of each direction that ``tap`` shows unless said otherwise, and most of them.
TAP_LIMIT: Final = 64 * 1024
MAX_TAP: Final = 16 * 1024 * 1024
#: Sessions that one ``kill`` names.
MAX_KILLED: Final = 100

_STATES: Final = ("handshaking", "peeking", "dialing", "relaying", "closing")

Result = dict[str, Any]
#: What was given, by the names of parameters.
Given = Mapping[str, Any]
Run = Callable[[Caller, Given], Awaitable[Result]]


@frozen
class Command:
    """
    One command.

    :ivar result: what its answer has, as a JSON schema.
    :ivar words: what stands behind it in this order.
    :ivar needed: how many of the words must be there.
    :ivar repeated: the last word may stand so often.
    :ivar flags: words that may be there, in any order.
    :ivar options: what is given as ``KEY=VALUE``.
    :ivar steers_from: only operators may give so many words; None: it never changes anything.
    :ivar event: what each of its events has; None: it does not go on.
    :ivar form: its words as help shows them, where more is to be said than the table does.
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
        """Its words, as help shows them."""
        words = [one.hint if place < self.needed else f"[{one.hint}]" for place, one in enumerate(self.words)]
        options = [f"[{one.name}={one.hint}]" for one in self.options]
        return self.form or " ".join([self.name, *words, *(f"[{one.name}]" for one in self.flags), *options])

    @property
    def level(self) -> Level:
        """Who may ask, without words or with those that are needed."""
        return Level.OPERATOR if self.steers_from == 0 else Level.READ

    def given(self, request: Request) -> Given:
        """
        What `request` gives.

        :raises OperatorError: something of it is not good.
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
    Do what is asked.

    :raises OperatorError: it cannot be done, or not understood.
    """
    command = COMMANDS.get(request.command)
    if command is None:
        hint = suggestion(request.command, COMMANDS) or "'help' lists all of them"
        raise OperatorError("unknown-command", f"there is no command {shown(request.command)}; {hint}")
    if command.steers_from is not None and len(request.words) >= command.steers_from:
        caller.require_operator()
    return await command.run(caller, command.given(request))


def _wanted(given: Given) -> Wanted:
    return Wanted(given.get("client"), given.get("state"))


# Looking


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
            "bad-request", "kill takes numbers of sessions, or else one or more of rule, client and state"
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

    # First all are found: one that is killed may let another client in, who is not meant.
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
    choice("state", "where sessions stand", *_STATES),
)
_START: Final = whole("start", "so many rows are left out", 0, MAX_START, "N")
_LIMIT: Final = whole("limit", "most rows", 1, MAX_ROWS)
#: What ``faults … set`` may change: the options of the filter, but for what it is made for.
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
            Command("help", "this list", _help, shapes.HELP),
            Command("status", "figures of the whole forwarder", _status, shapes.STATUS),
            Command("rules", "the rules at work, in their order", _rules, shapes.RULES,
                    options=(_START, _LIMIT)),
            Command(
                "sessions", "open sessions: those that fit, the first by sort=", _sessions, shapes.SESSIONS,
                options=(
                    *_PICK, choice("sort", "what comes first; but for 'id' the largest", *SORTS),
                    whole("after", "only sessions with larger numbers", 0, MAX_ID, "ID"), _START, _LIMIT,
                ),
            ),
            Command("session", "one session, with what its filters and sockets say", _session, shapes.SESSION,
                    (_ID,), 1),
            Command(
                "top", "goes on: the first sessions by sort=, with their rates, once an interval", _top,
                shapes.TOP, event=shapes.TOP_EVENT,
                options=(
                    duration("interval", "between two looks", MIN_INTERVAL, MAX_INTERVAL,
                             f"{MIN_INTERVAL:g}s..1h"),
                    choice("sort", "what comes first; but for 'id' the largest", *watching.top_sorts()),
                    _START, whole("limit", "most rows", 1, MAX_TOP), *_PICK,
                    whole("count", "how many looks; 0: without end", 0, MAX_START, "N"),
                ),
            ),
            Command("changes", "the latest lines of the log: reloads, targets, what operators did", _changes,
                    shapes.CHANGES, options=(whole("after", "only later lines", 0, MAX_ID, "N"), _LIMIT)),
            Command(
                "explain", "what would happen to a connection, by the rules at work", _explain,
                shapes.EXPLAIN,
                (text("client", "who connects"), text("listen", "where it connects to")), 2,
            ),
            Command(
                "targets", "the targets of a rule, or of all: their states and why, sessions, dials, checks",
                _targets, shapes.TARGETS, (_RULE,), options=(_START, _LIMIT),
            ),
            Command(
                "target", "overrides what dials and checks say of a target, until 'auto'", _target,
                shapes.RULE_NAMES, (_RULE, text("target", "as 'targets' names it"),
                    choice("state", "what it is to be", "drain", "down", "up", "auto")), 3, steers_from=0,
            ),
            Command(
                "faults",
                "the faults of the filter 'faults'; an operator switches them, or sets their options",
                _faults, shapes.FAULTS,
                (_RULE, choice("what", "switches them, or sets options", "on", "off", "set"),
                 text("which", "a number, a kind or 'all'", "NUMBER|KIND|all")),
                options=_STRENGTHS, steers_from=2,
                form="faults [RULE [on|off|set [NUMBER|KIND|all] [KEY=VALUE...]]]",
            ),
            Command(
                "log-level", "the least level that is logged; an operator sets it", _log_level,
                shapes.LOG_LEVEL,
                (choice("level", "the least level", "debug", "info", "warn", "error", "critical"),),
                steers_from=1,
            ),
            Command(
                "tap", "goes on: the bytes of one session, as they are read", _tap, shapes.TAP, (_ID,), 1,
                options=(
                    size("limit", "ends when so much was seen, of both directions together", MAX_TAP),
                    choice("direction", "which bytes", *DIRECTION_WORDS),
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
                "pause", "accepts nobody; connections wait in the backlog, datagrams in a queue as large as"
                " the receive buffer", _of_rule("pause"), shapes.RULE_NAMES, (_RULE,), 1, steers_from=0,
            ),
            Command("resume", "accepts again", _of_rule("resume"), shapes.RULE_NAMES, (_RULE,), 1,
                    steers_from=0),
            Command(
                "reload", "reads the rules file again and applies it, with code also changed code of"
                " 'python:' filters; the difference", _reload, shapes.RELOAD,
                flags=(flag("dry-run", "only says what would change"),
                       flag("code", "with changed code of 'python:' filters")),
                steers_from=0,
            ),
            Command("stop", "as SIGTERM: drains and exits; the second time it cuts", _stop, shapes.STOP,
                    steers_from=0),
        )
    }
)  # fmt: skip
