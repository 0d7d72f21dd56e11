# -*- test-case-name: tests.test_docs -*-
"""
Tables of the reference that are made from the code, so that they cannot be wrong.

Each is a function from a word of the page to Markdown, and `docs.generate` writes it
into the pages. Text that the code does not hold belongs to the page, not here.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable
from typing import get_args

from attrs import NOTHING, has
from attrs import fields as attrs_fields

from portfwd.admin.commands import COMMANDS
from portfwd.admin.web import reading
from portfwd.cli.main import make_parser
from portfwd.filters.api import FilterFactory, IFilterFactory, IStarting, Verdict
from portfwd.filters.events import EVENTS
from portfwd.filters.options import Declared, declared
from portfwd.filters.own_factory import first_line
from portfwd.filters.registry import BUILT_IN, Registry
from portfwd.metrics.names import NAMES
from portfwd.relay.ends import MEANINGS, MODES, Action, Ends, Event, reachable, step
from portfwd.relay.states import TRANSITIONS
from portfwd.rules.codes import CODES
from portfwd.rules.options import OPTIONS, Affects, Needs, Scope
from portfwd.rules.support import GAPS
from portfwd.service.tap import ForwarderOptions
from portfwd.upstreams.checks.registry import BUILT_IN as BUILT_IN_CHECKS
from portfwd.upstreams.checks.registry import CheckRegistry
from portfwd.upstreams.checks.timing import Timing
from portfwd.values import CloseReason


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table; a ``|`` in a cell is escaped."""
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)


def close_reasons(_word: str = "") -> str:
    """Every close reason: its two letters, and what they mean."""
    return table(("code", "meaning"), ((f"`{reason.code}`", f"{reason.meaning}.") for reason in CloseReason))


def rule_options(word: str) -> str:
    """The options of one scope (``listener``, ``rule`` or ``target``)."""
    scope = Scope(word)
    rows = []
    for option in OPTIONS:
        if option.scope is not scope:
            continue
        about = option.about
        if option.needs is not Needs.NOTHING:
            about += f"; needs {option.needs.value}"
        if option.affects is not Affects.ANY:
            about += f"; for {option.affects.value}"
        if option.name != option.key:
            about += f". In `default` lines and TOML files it is called `{option.name}`"
        value = f"{option.unit}, {option.bounds}" if option.bounds else option.unit
        rows.append((f"`{option.key}`", f"{about}.", value, option.default, f"`{option.undo}`"))
    return table(("option", "meaning", "value", "without it", "undone by"), rows)


def diagnostic_codes(_word: str = "") -> str:
    """Every code that a problem of a rules file can have."""
    return table(("code", "meaning"), ((f"`{code}`", meaning) for code, meaning in CODES.items()))


def not_yet(_word: str = "") -> str:
    """What can be written and is refused, with what to do instead."""
    rows = [(gap.what, f"{gap.way_out}.") for gap in GAPS]
    return table(("not yet", "until then"), rows)


def filters(_word: str = "") -> str:
    """Every filter that portfwd brings, with a link to its page beside the table's."""
    registry = Registry.installed()
    return table(
        ("filter", "what it does"),
        ((f"[`{name}`]({name}.md)", registry.find(name).summary) for name in sorted(BUILT_IN)),
    )


def filter_options(word: str) -> str:
    """The options of one filter."""
    found = Registry.installed().find(word)
    rows = []
    for one in found.options:
        about = one.help
        if one.positional:
            about += " The key may be omitted."
        if one.repeated:
            about += " It may be repeated."
        # An empty code span is no Markdown.
        without = "needed" if one.needed else f"`{one.default_text}`" if one.default_text else ""
        rows.append((f"`{one.key}`", about, one.kind.unit, without))
    return table(("option", "meaning", "value", "without it"), rows) if rows else "It has no options."


def checks(_word: str = "") -> str:
    """Every check that portfwd brings, with a link to its page beside the table's."""
    registry = CheckRegistry.installed()
    return table(
        ("check", "what it does"),
        ((f"[`{name}`]({name}.md)", registry.find(name).summary) for name in sorted(BUILT_IN_CHECKS)),
    )


def check_options(word: str) -> str:
    """The options of one check that others do not have."""
    return _declared_options(declared(CheckRegistry.installed().find(word).kind))


def check_timing(_word: str = "") -> str:
    """The options that all checks have."""
    return _declared_options(declared(Timing))


def _declared_options(options: Iterable[Declared]) -> str:
    rows = []
    for one in options:
        about = one.help
        if one.positional:
            about += " It stands as a plain word."
        without = "needed" if one.needed else f"`{one.default_text}`" if one.default_text else ""
        rows.append((f"`{one.key}`", about, one.kind.unit, without))
    return (
        table(("option", "meaning", "value", "without it"), rows) if rows else "It has no options of its own."
    )


def verdicts(_word: str = "") -> str:
    """Every verdict, as it is written and what it does."""
    rows = [
        ("`None`", "Pass the bytes unchanged."),
        ("`bytes`", 'Pass these instead; `b""` drops.'),
        ("`DONE`", "Pass the bytes and never call again in this direction."),
        ("`DROP`", 'Drop a datagram; there `b""` is an empty one.'),
    ]
    for cls in sorted((one for one in get_args(Verdict) if has(one)), key=lambda one: one.__name__):
        written = ", ".join(
            one.name if one.default is NOTHING else f"{one.name}={one.default!r}" for one in attrs_fields(cls)
        )
        rows.append((f"`{cls.__name__}({written})`", first_line(cls).replace("`", "")))
    return table(("verdict", "what the relay does"), rows)


def filter_events(_word: str = "") -> str:
    """The methods of a filter: when each is called, and where its verdict leads."""
    rows = [(f"`{one.call}`", *one[1:]) for one in EVENTS]
    head = ("method", "when", "judges", "bytes and `Forward` go", "`Reply` goes", "an `Await` pauses")
    return table(head, rows)


def factory_attributes(_word: str = "") -> str:
    """What a factory says of itself, or does."""
    described = {**dict(IFilterFactory.namesAndDescriptions()), **dict(IStarting.namesAndDescriptions())}
    told = {name: " ".join(one.getDoc().split()) for name, one in described.items()}
    more = {
        "on_overflow": "beyond max_hold: 'close', or 'pass': what is held passes, and the filter is done",
        "announces": "it may return Announce; filters behind it are opened afterwards",
        "starts_tls": "the sides on which it may return StartTLS, and for each the options of TLS by name",
    }
    defaults = {
        name: repr(getattr(FilterFactory, name))
        for name in (*described, *more)
        if hasattr(FilterFactory, name)
    }
    rows = []
    for name, about in {**told, **more}.items():
        default = defaults.get(name, "")
        value = "" if "<" in default or "frozenset" in default else f"`{default}`"
        if name == "directions":
            value = "both"
        if name == "starts_tls":
            value = "none"
        rows.append(
            (f"`{name}`", about.replace("`", ""), value if name not in ("build", "start", "stop") else "")
        )
    return table(("name", "meaning", "default of `FilterFactory`"), rows)


def metric_names(_word: str = "") -> str:
    """Every metric, with its labels."""
    rows = [
        (f"`{one.name}`", one.kind.value, ", ".join(f"`{label}`" for label in one.labels), f"{one.about}.")
        for one in NAMES
    ]
    return table(("metric", "kind", "labels", "meaning"), rows)


def session_states(_word: str = "") -> str:
    """The states of a session and what may follow each."""
    return table(
        ("state", "may be followed by"),
        (
            (f"`{state.value}`", ", ".join(f"`{after.value}`" for after in TRANSITIONS if after in following))
            for state, following in TRANSITIONS.items()
        ),
    )


def flow_states(_word: str = "") -> str:
    """The states of one direction of a session."""
    return table(("state", "meaning"), ((f"`{one.value}`", f"{text}.") for one, text in MEANINGS.items()))


def closing_modes(_word: str = "") -> str:
    """The ways in which a side is closed."""
    return table(("mode", "what is done"), ((f"`{one.value}`", f"{text}.") for one, text in MODES.items()))


#: The columns of `end_steps`; the other events mean the same in every state.
_STEPS = {
    Event.END_DUE: "it ends",
    Event.END_SENT: "its own end is written",
    Event.REFUSED: "it takes no more",
    Event.RESET: "it resets",
    Event.CLOSED: "it closes in order",
}


def end_steps(_word: str = "") -> str:
    """What the events of one side mean in each state of both directions."""
    rows = []
    for ends in reachable():
        row = [f"`{ends.to_upstream.value}`", f"`{ends.to_client.value}`"]
        rows.append(row + [_step(ends, event) for event in _STEPS])
    return table(("from it", "to it", *_STEPS.values()), rows)


def _step(ends: Ends, event: Event) -> str:
    after = step(*ends, event)
    if after.action is Action.FINISH:
        gone = event in (Event.RESET, Event.CLOSED)
        this = "" if gone else f"it: {after.this.value}; "
        return f"over; {this}other: {after.other.value}"
    said = [] if after.action is Action.NOTHING else [after.action.value]
    for before, now, where in (
        (ends.to_upstream, after.mine, "from"),
        (ends.to_client, after.theirs, "to"),
    ):
        if now is not before:
            said.append(f"{where} it: `{now.value}`")
    return "; ".join(said) or "-"


def control_commands(_word: str = "") -> str:
    """Every command of the control socket."""
    return table(
        ("request", "what it does", "level"),
        ((f"`{one.usage}`", f"{one.about}.", one.level.value) for one in COMMANDS.values()),
    )


def web_resources(_word: str = "") -> str:
    """Every resource of the web API."""
    rows = []
    for one in COMMANDS.values():
        place = "/".join([one.name, *(f"{{{each.name}}}" for each in reading.in_path(one))])
        for method in reading.methods(one):
            if method == "HEAD":
                continue
            posted = method == "POST"
            taken = reading.in_body(one) if posted else reading.in_query(one)
            needed = (
                reading.needed_in_body(one) if posted else [each.name for each in one.words[: one.needed]]
            )
            names = ", ".join(f"`{each.name}`{'' if each.name in needed else '?'}" for each in taken)
            level = "operator" if posted or one.steers_from == 0 else "read"
            rows.append((f"`{method} {place}`", names, level))
    return table(("resource below `/api/v1/`", "parameters; those with `?` may be left out", "level"), rows)


def command_help(word: str) -> str:
    """
    What ``--help`` of a command says: ``portfwd``, one of its commands, or ``twistd``.

    argparse lays its text out differently in each version of Python, so its parts are put together here.
    """
    if word == "twistd":
        options = ForwarderOptions()
        return block(f"twistd {options.synopsis}\n{options.getUsage(width=100)}")
    parser = make_parser()
    commands = subcommands(parser)
    if word == "portfwd":
        rows = ((f"`{one.dest}`", f"{one.help}") for one in commands._choices_actions)
        return f"{block(parser.description or '')}\n\n{table(('command', 'what it does'), rows)}"
    parser = commands.choices[word]
    rows = (
        (f"`{_spelling(action)}`", action.help or "")
        for action in parser._actions
        if action.help != argparse.SUPPRESS and action.dest != "help"
    )
    return (
        f"{block(f'{usage(parser)}{chr(10) * 2}{parser.description}')}\n\n{table(('word', 'meaning'), rows)}"
    )


def usage(parser: argparse.ArgumentParser) -> str:
    """The usage line of a command: its words, and that there are options."""
    words = (_word(one) for one in parser._actions if not one.option_strings)
    return " ".join([f"{parser.prog} [OPTIONS]", *words])


#: Of ``twistd portfwd``, whose parser has no place for them.
_DAEMON_CODES = """exit codes:
  0  stopped by a signal or by 'portfwd stop'; --help and --version
  1  the rules file cannot be read; a rule, or something else that it asks for, could not be started;
     a stop had to be cut off; or the command line is wrong
  2  the rules, or files that they name, are wrong, and nothing was bound
  70  the event loop is lost: nothing would move any more
"""


def subcommands(parser: argparse.ArgumentParser) -> argparse._SubParsersAction[argparse.ArgumentParser]:
    """The commands of a command line."""
    (found,) = (one for one in parser._actions if isinstance(one, argparse._SubParsersAction))
    return found


def exit_codes(_word: str = "") -> str:
    """Every exit code of every command, as its ``--help`` tells them; those with the same ones together."""
    parser = make_parser()
    commands = subcommands(parser)
    alike: dict[tuple[tuple[str, str], ...], list[str]] = {
        tuple(_codes_of(_DAEMON_CODES)): ["twistd portfwd"]
    }
    for name, one in commands.choices.items():
        codes = tuple(_codes_of(f"{one.description or ''}\n{one.epilog or ''}"))
        alike.setdefault(codes, []).append(f"portfwd {name}")
    rows = []
    for told, names in alike.items():
        cell = ", ".join(f"`{name}`" for name in names)
        for code, about in told:
            rows.append((cell, code, f"{about}."))
            cell = ""
    return table(("command", "code", "meaning"), rows)


def _codes_of(description: str) -> list[tuple[str, str]]:
    """The codes that a description ends with, and their meanings."""
    _, _, text = description.partition("exit codes:")
    found: list[tuple[str, str]] = []
    for line in text.splitlines():
        told = re.fullmatch(r"\s+(\d+)\s+(.*)", line)
        if told is not None:
            found.append((told[1], told[2]))
        elif line.strip():
            found[-1] = (found[-1][0], f"{found[-1][1]} {line.strip()}")
    return found


def _word(action: argparse.Action) -> str:
    """A positional word as a usage line writes it."""
    name = str(action.metavar or action.dest)
    forms = {"?": f"[{name}]", "*": f"[{name} ...]", "+": f"{name} [{name} ...]"}
    return forms.get(str(action.nargs), name)


def _spelling(action: argparse.Action) -> str:
    """An option with its value, or a positional word."""
    if not action.option_strings:
        return str(action.metavar or action.dest)
    value = action.metavar or ("|".join(map(str, action.choices)) if action.choices else action.dest.upper())
    return ", ".join(action.option_strings) + ("" if action.nargs == 0 else f" {value}")


def block(text: str) -> str:
    """`text` as it is."""
    return f"```text\n{text.strip()}\n```"
