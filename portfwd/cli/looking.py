# -*- test-case-name: tests.cli.test_looking -*-
"""``portfwd status``, ``rules``, ``sessions`` and ``session``: show the state of a running forwarder."""

from __future__ import annotations

import argparse
import json
from typing import Any, Final

from portfwd.admin.picking import SORTS
from portfwd.cli.columns import size_text, table, time_text
from portfwd.cli.control import Control, add_arguments, ask_and_print, with_control
from portfwd.cli.reading import FINE
from portfwd.values import counted, direction_word, printable

#: Rows per request: the maximum of the forwarder.
PAGE: Final = 500
#: Most digits of a number of sessions: more than memory has room for.
MAX_DIGITS: Final = 12
#: Default of ``--limit`` for sessions.
LIMIT: Final = 100

EXIT_CODES = """
exit codes:
  0  success
  1  the forwarder cannot be reached, or refuses: there is no such session or rule
  2  the command line or the request is not valid
"""


def add_command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    about: str,
    description: str,
    example: str,
    codes: str = EXIT_CODES,
) -> argparse.ArgumentParser:
    """
    Add a command that uses a control socket, with the common options.

    :param codes: the text about its exit codes.
    """
    parser = commands.add_parser(
        name,
        help=about,
        description=f"{description}\nexample:\n  {example}\n{codes}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(parser)
    return parser


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands to the command line."""
    parser = add_command(
        commands,
        "status",
        "show figures of a running forwarder",
        "Show the state of a running forwarder in a few lines.\n",
        "portfwd status",
    )
    parser.set_defaults(run=run_status)
    parser = add_command(
        commands,
        "rules",
        "list the active rules",
        "List the active rules: addresses, state, sessions and targets.\n",
        "portfwd rules",
    )
    parser.set_defaults(run=run_rules)
    parser = add_command(
        commands,
        "sessions",
        "list open sessions",
        "List open sessions: the first --limit ones in the order of --sort. Sizes are the bytes of\n"
        "each direction so far.\n",
        "portfwd sessions --rule web --sort bytes --limit 20",
    )
    add_filter(parser)
    parser.add_argument(
        "--sort", type=direction_word, choices=tuple(SORTS), default="id", help="the sort key (id)"
    )
    parser.add_argument(
        "--limit", type=whole_number, default=LIMIT, metavar="N", help=f"number of sessions ({LIMIT}); 0: all"
    )
    parser.set_defaults(run=run_sessions)
    parser = add_command(
        commands,
        "session",
        "show one open session",
        "Show all details of one session.\n",
        "portfwd session 7",
    )
    parser.add_argument("id", metavar="ID", help="its number in 'portfwd sessions' and in the log")
    parser.set_defaults(run=run_session)


def whole_number(text: str) -> int:
    """
    Read a number that is 0 or more.

    :raises argparse.ArgumentTypeError: it is not one.
    """
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS):
        raise argparse.ArgumentTypeError(f"expected a number from 0 on, not '{text}'")
    return int(text)


def add_filter(parser: argparse.ArgumentParser) -> None:
    """Add the options that select sessions."""
    parser.add_argument("--rule", metavar="RULE", help="only sessions of this rule")
    parser.add_argument(
        "--client",
        metavar="PATTERN",
        help="only sessions of these clients: an address, a network or a glob, as in 'allow'; or 'unix'",
    )
    parser.add_argument(
        "--state",
        choices=("handshaking", "peeking", "dialing", "relaying", "closing"),
        help="only sessions in this state",
    )


def run_status(arguments: argparse.Namespace) -> int:
    """Run ``portfwd status``."""
    return ask_and_print(arguments, "status", text=_status_text)


def _status_text(status: dict[str, Any]) -> str:
    lines = [
        f"portfwd {status['version']} {status['state']}, pid {status['pid']},"
        f" up {time_text(status['uptime'])}",
        f"{counted(status['rules'], 'rule')}, {counted(status['sessions'], 'open session')},"
        f" {status['total']} in all, {counted(status['descriptors'], 'descriptor')},"
        f" log level {status['log_level']}",
    ]
    if status.get("targets_down"):
        lines.append(f"{counted(status['targets_down'], 'target')} down: 'portfwd targets' says why")
    if status["files"]:
        lines.append("rules of " + ", ".join(status["files"]))
    if status["reloads"] or status["reload_failures"]:
        last = f", the last at {status['reloaded_at']}" if status["reloaded_at"] else ""
        lines.append(f"{counted(status['reloads'], 'reload')}{last}, {status['reload_failures']} refused")
        if status.get("last_reload_refused"):
            lines.append("the last one was refused: the rules in use are not those of the file")
    lines += [f"shell at {shell['address']}" for shell in status["shells"]]
    return "\n".join(printable(line) for line in lines)


def run_rules(arguments: argparse.Namespace) -> int:
    """Run ``portfwd rules``. The rules are requested in pages."""

    def work(control: Control) -> int:
        rows: list[dict[str, Any]] = []
        while True:
            page = control.ask("rules", (), {"start": str(len(rows)), "limit": str(PAGE)})
            rows += page["rules"]
            if not page["rules"] or len(rows) >= page["count"]:
                break
        if arguments.json:
            print(json.dumps({"rules": rows}, indent=2))
        else:
            print(_rules_text(rows))
        return FINE

    return with_control(arguments, work)


def _rules_text(rows: list[dict[str, Any]]) -> str:
    return table(
        ("RULE", "ADDRESSES", "STATE", "SESSIONS", "TOTAL", "TARGETS"),
        [
            (
                row["name"],
                ", ".join(row["listen"]) or "-",
                row["state"],
                str(row["sessions"]),
                str(row["total"]),
                ", ".join(row["targets"]),
            )
            for row in rows
        ],
        ("SESSIONS", "TOTAL"),
    )


def run_sessions(arguments: argparse.Namespace) -> int:
    """Run ``portfwd sessions``. Without a small limit, all sessions are requested in pages, by number."""

    def work(control: Control) -> int:
        selection = {"rule": arguments.rule, "client": arguments.client, "state": arguments.state}
        every = arguments.limit <= 0 or arguments.limit > PAGE
        limit = PAGE if every else arguments.limit
        options = {**selection, "sort": "id" if every else arguments.sort, "limit": str(limit)}
        page = control.ask("sessions", (), options)
        rows, count = list(page["sessions"]), page["count"]
        while every and page["sessions"]:
            page = control.ask("sessions", (), {**options, "after": str(rows[-1]["id"])})
            rows += page["sessions"]
        if every:
            rows.sort(key=_order(arguments.sort))
            rows = rows[: arguments.limit] if arguments.limit > 0 else rows
        if arguments.json:
            print(json.dumps({"count": count, "sessions": rows}, indent=2))
        else:
            print(_sessions_text(rows))
            if count > len(rows):
                print(f"{len(rows)} of {counted(count, 'session')}; --limit 0 shows all")
        return FINE

    return with_control(arguments, work)


def _order(sort: str) -> Any:
    """The key by which the forwarder sorts rows."""
    keys = {
        "id": lambda row: row["id"],
        "age": lambda row: -row["duration"],
        "bytes": lambda row: -row["to_upstream"]["bytes"] - row["to_client"]["bytes"],
        "to-upstream": lambda row: -row["to_upstream"]["bytes"],
        "to-client": lambda row: -row["to_client"]["bytes"],
        "paused": lambda row: -row["to_upstream"]["paused"] - row["to_client"]["paused"],
    }
    return keys[sort]


def _sessions_text(rows: list[dict[str, Any]]) -> str:
    return table(
        ("ID", "RULE", "CLIENT", "UPSTREAM", "STATE", "AGE", "TO-UPSTREAM", "TO-CLIENT", "RELAY"),
        [
            (
                str(row["id"]),
                row["rule"],
                row["client"] or "-",
                row["upstream"] or "-",
                row["state"],
                time_text(row["duration"]),
                size_text(row["to_upstream"]["bytes"]),
                size_text(row["to_client"]["bytes"]),
                row["relay"] or "-",
            )
            for row in rows
        ],
        ("ID", "AGE", "TO-UPSTREAM", "TO-CLIENT"),
    )


#: Who let the client in, or refused it, by the number of the step (`portfwd.rules.access.Decision`).
ACCESS_STEPS: Final = (
    "allowed",
    "refused: no global 'allow' matches",
    "refused: a global 'deny' matches",
    "refused: no 'allow' of the rule matches",
    "refused: a 'deny' of the rule matches",
)


#: Keys of a session that are left out of the text.
STREAMS: Final = frozenset({"client_stream", "upstream_stream"})


def run_session(arguments: argparse.Namespace) -> int:
    """Run ``portfwd session``."""
    return ask_and_print(arguments, "session", (arguments.id,), text=_session_text)


def _session_text(result: dict[str, Any]) -> str:
    lines = []
    # The state of a stream in marks is for developers: --json has it.
    row = {key: value for key, value in result["session"].items() if key not in STREAMS}
    tcp_info = row.pop("tcp_info", {})
    row |= {f"tcp_{side}": info for side, info in tcp_info.items() if info is not None}
    for key, value in row.items():
        if key == "access_step":
            key, value = "access", ACCESS_STEPS[value]
        if isinstance(value, dict):
            value = "  ".join(f"{name} {'-' if one is None else one}" for name, one in value.items())
        lines.append(f"{key.replace('_', ' '):16} {'-' if value in (None, '') else printable(str(value))}")
    return "\n".join(lines)
