# -*- test-case-name: tests.cli.test_steering -*-
"""``portfwd kill``, ``drain``, ``pause``, ``resume``, ``faults``, ``log-level``, ``reload`` and ``stop``."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

from portfwd.cli.columns import table
from portfwd.cli.control import ask_and_print
from portfwd.cli.looking import add_command, add_filter
from portfwd.values import counted, printable

_RELOAD_CODES = """
exit codes:
  0  the new rules are in use; with --dry-run: they can be used
  1  the forwarder cannot be reached, or refuses: it has no rules file, or the socket has level=read
  2  the file is wrong or cannot be applied, and nothing was changed; or the command line is wrong
"""

_RULE_COMMANDS = (
    (
        "drain",
        "close a rule's listeners; its sessions finish",
        "Close the listeners of a rule. Its sessions may continue until the drain limit of a stop\n"
        "(--drain of twistd portfwd). 'resume' opens the listeners again.\n",
    ),
    (
        "pause",
        "stop accepting the clients of a rule",
        "Accept no clients of a rule until 'resume'. Connections wait in the backlog, datagrams in a\n"
        "queue as large as the receive buffer (rcvbuf=). Sessions continue.\n",
    ),
    ("resume", "accept the clients of a rule again", "Accept clients again after 'pause' or 'drain'.\n"),
)


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands to the command line."""
    parser = add_command(
        commands,
        "kill",
        "reset sessions",
        "Reset both sides of sessions, with the close reason KD: the sessions with these numbers, or\n"
        "all that match --rule, --client and --state together.\n",
        "portfwd kill --client 192.168.1.66",
    )
    parser.add_argument("ids", metavar="ID", nargs="*", help="number of a session")
    add_filter(parser)
    parser.set_defaults(run=run_kill)
    for name, about, description in _RULE_COMMANDS:
        parser = add_command(commands, name, about, description, f"portfwd {name} web")
        parser.add_argument("rule", metavar="RULE", help="a rule, or one port of its range")
        parser.set_defaults(run=partial(run_rule, name))
    parser = add_command(
        commands,
        "faults",
        "show, switch and set faults",
        "Show the faults of the filter 'faults', enable or disable them, or set their options. This\n"
        "affects open connections too. A reload that changes the rule restores the values of the file.\n",
        "portfwd faults lab set latency delay=300ms",
    )
    parser.add_argument("rule", metavar="RULE", nargs="?", help="only the faults of this rule")
    parser.add_argument(
        "what", nargs="?", choices=("on", "off", "set"), help="enable, disable or set options"
    )
    parser.add_argument(
        "which", metavar="WHICH", nargs="*", help="number or kind of the fault, or 'all'; KEY=VALUE with set"
    )
    parser.set_defaults(run=run_faults)
    parser = add_command(
        commands,
        "log-level",
        "show or set the minimum level of the log",
        "Show or set the minimum level of logged events. The access log is not affected.\n",
        "portfwd log-level warn",
    )
    parser.add_argument("level", metavar="LEVEL", nargs="?", help="debug, info, warn, error or critical")
    parser.set_defaults(run=run_log_level)
    parser = add_command(
        commands,
        "reload",
        "read the rules file again",
        "Read the rules file again, and apply it completely, or not at all after an error. Sessions\n"
        "continue, and unchanged listeners keep their waiting clients.\n",
        "portfwd reload --dry-run",
        _RELOAD_CODES,
    )
    parser.add_argument("--dry-run", action="store_true", help="only show what would change")
    parser.add_argument(
        "--code", action="store_true", help="import changed code of 'python:' filters for new sessions"
    )
    parser.set_defaults(run=run_reload)
    parser = add_command(
        commands,
        "stop",
        "drain and stop a forwarder",
        "Stop the forwarder like SIGTERM: it accepts no more clients, and sessions may continue until\n"
        "the drain limit. A second 'stop' resets them.\n",
        "portfwd stop",
    )
    parser.set_defaults(run=run_stop)


def run_kill(arguments: argparse.Namespace) -> int:
    """Run ``portfwd kill``."""
    options = {"rule": arguments.rule, "client": arguments.client, "state": arguments.state}
    return ask_and_print(
        arguments,
        "kill",
        arguments.ids,
        options,
        text=lambda result: f"{counted(result['killed'], 'session')} killed",
    )


def run_rule(command: str, arguments: argparse.Namespace) -> int:
    """Run ``portfwd drain``, ``pause`` or ``resume``."""
    done = {"drain": "draining", "pause": "paused", "resume": "accepting"}[command]
    return ask_and_print(
        arguments,
        command,
        (arguments.rule,),
        text=lambda result: "\n".join(f"{printable(name)}: {done}" for name in result["rules"]),
    )


def run_faults(arguments: argparse.Namespace) -> int:
    """Run ``portfwd faults``."""
    words = [word for word in (arguments.rule, arguments.what) if word]
    options: dict[str, str | None] = {}
    for word in arguments.which:
        key, equals, value = word.partition("=")
        if equals:
            options[key] = value
        else:
            words.append(word)
    return ask_and_print(arguments, "faults", words, options, text=_faults_text)


def _faults_text(result: dict[str, Any]) -> str:
    return table(
        ("RULE", "NUMBER", "FAULT", "STATE", "AFFECTED", "OPTIONS"),
        [
            (
                row["rule"],
                str(row["number"]),
                row["kind"],
                "on" if row["active"] else "off",
                f"{row['affected']} of {row['connections']}",
                " ".join(f"{key}={value}" for key, value in row["options"].items()),
            )
            for row in result["faults"]
        ],
        ("NUMBER", "AFFECTED"),
    )


def run_log_level(arguments: argparse.Namespace) -> int:
    """Run ``portfwd log-level``."""
    words = (arguments.level,) if arguments.level else ()
    return ask_and_print(arguments, "log-level", words, text=lambda result: printable(result["level"]))


def run_reload(arguments: argparse.Namespace) -> int:
    """Run ``portfwd reload``."""
    words = [word for word in ("dry-run", "code") if getattr(arguments, word.replace("-", "_"))]
    return ask_and_print(
        arguments,
        "reload",
        words,
        text=lambda result: "\n".join(printable(line) for line in result["lines"]),
    )


def run_stop(arguments: argparse.Namespace) -> int:
    """Run ``portfwd stop``."""
    return ask_and_print(arguments, "stop", text=lambda result: "stopping")
