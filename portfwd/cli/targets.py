# -*- test-case-name: tests.cli.test_targets -*-
"""``portfwd targets`` and ``portfwd target``: the targets of a running forwarder."""

from __future__ import annotations

import argparse
import json
from typing import Any, Final

from portfwd.cli.columns import table, time_text
from portfwd.cli.control import Control, ask_and_print, with_control
from portfwd.cli.looking import PAGE, add_command
from portfwd.cli.reading import FINE
from portfwd.values import printable

#: The orders, and the state of the target after each.
_DONE: Final = {"drain": "draining", "down": "down", "up": "up", "auto": "under dials and checks again"}


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands to the command line."""
    parser = add_command(
        commands,
        "targets",
        "list targets and their states",
        "List targets: state, time since the last change and its reason, share of new sessions, sessions,\n"
        "dials, failed dials, and the duration of the last check.\n"
        "CHECK is 'failed' if the last check failed without an effect on the state; WHY has its cause.\n",
        "portfwd targets web",
    )
    parser.add_argument("rule", metavar="RULE", nargs="?", help="only the targets of this rule")
    parser.set_defaults(run=run_targets)
    parser = add_command(
        commands,
        "target",
        "drain a target, or set it down or up",
        "Set the state of a target of a rule, regardless of its dials and checks:\n"
        "  drain  it gets no new sessions; its sessions continue\n"
        "  down   the same, and with on-down=close its sessions are closed\n"
        "  up     it gets sessions\n"
        "  auto   dials and checks decide again\n"
        "The state stays over reloads until 'auto', or until the forwarder is restarted.\n",
        "portfwd target web 10.0.0.5:80 drain",
    )
    parser.add_argument("rule", metavar="RULE", help="a rule, or one port of its range")
    parser.add_argument("target", metavar="TARGET", help="a target, as in 'portfwd targets'")
    parser.add_argument("order", choices=tuple(_DONE), help="the new state")
    parser.set_defaults(run=run_target)


def run_targets(arguments: argparse.Namespace) -> int:
    """Run ``portfwd targets``. The targets are requested in pages."""
    words = (arguments.rule,) if arguments.rule else ()

    def work(control: Control) -> int:
        rows: list[dict[str, Any]] = []
        more = True
        while more:
            page = control.ask("targets", words, {"start": str(len(rows)), "limit": str(PAGE)})
            rows += page["targets"]
            more = page["more"]
        print(json.dumps({"targets": rows}, indent=2) if arguments.json else targets_text(rows))
        return FINE

    return with_control(arguments, work)


def targets_text(rows: list[dict[str, Any]]) -> str:
    """The table of targets."""
    return table(
        ("RULE", "TARGET", "STATE", "SINCE", "SHARE", "SESSIONS", "DIALS", "FAILED", "CHECK", "WHY"),
        [
            (
                f"{row['rule']} {row['name']}".rstrip(),
                row["target"],
                row["state"],
                "-" if row["since"] is None else time_text(row["since"]),
                "backup" if row["backup"] and not row["share"] else f"{row['share']:.0%}",
                str(row["sessions"]),
                str(row["dials"]),
                str(row["failures"]),
                _last_check(row["checks"]),
                _why(row),
            )
            for row in rows
        ],
        ("SINCE", "SHARE", "SESSIONS", "DIALS", "FAILED", "CHECK"),
    )


def _why(row: dict[str, Any]) -> str:
    """The cause of the state, and problems of the last checks that have not changed it."""
    problems = [one["problem"] for one in row["checks"] if one["problem"]]
    return "; ".join([row["cause"]] * bool(row["cause"]) + [f"now {one}" for one in problems]) or "-"


def _last_check(checks: list[dict[str, Any]]) -> str:
    """The duration of the slowest of the last checks; 'failed' if one failed without effect."""
    if any(one["problem"] for one in checks):
        return "failed"
    times = [one["seconds"] for one in checks if one["seconds"] is not None]
    return f"{max(times) * 1000:.1f} ms" if times else "-"


def run_target(arguments: argparse.Namespace) -> int:
    """Run ``portfwd target``."""
    words = (arguments.rule, arguments.target, arguments.order)
    return ask_and_print(
        arguments,
        "target",
        words,
        text=lambda result: "\n".join(
            f"{printable(name)}: {printable(arguments.target)} is {_DONE[arguments.order]}"
            for name in result["rules"]
        ),
    )
