# -*- test-case-name: tests.cli.test_tap -*-
"""``portfwd tap``: shows the bytes of one session in the form of ``hexdump -C``."""

from __future__ import annotations

import argparse
import base64
import json
import sys
from typing import Any

from portfwd.cli.control import Control, with_control
from portfwd.cli.looking import add_command
from portfwd.cli.reading import FINE
from portfwd.filters.builtin.direction_option import ARROWS
from portfwd.filters.builtin.hexdump import dump_lines
from portfwd.values import DIRECTION_WORDS, counted, direction_word

_ARROWS = {direction.value: arrow for direction, arrow in ARROWS.items()}


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = add_command(
        commands,
        "tap",
        "show the bytes of one session",
        "Show the bytes that both sides of a session send from now on, before its filters: '>' marks\n"
        "bytes of the client, '<' bytes of the upstream. The session is not delayed, and is relayed in\n"
        "the kernel again afterwards. The tap ends with the session, at --limit, or with Ctrl-C. The\n"
        "bytes are user data and may contain passwords.\n",
        "portfwd tap 7 --limit 1KiB",
    )
    parser.add_argument("id", metavar="ID", help="number of the session")
    parser.add_argument("--limit", metavar="SIZE", help="bytes to show, both directions together (64KiB)")
    parser.add_argument(
        "--direction",
        type=direction_word,
        choices=tuple(DIRECTION_WORDS),
        help="the direction to show; bytes of the client go to-upstream (both)",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run ``portfwd tap``."""

    def work(control: Control) -> int:
        options = {"limit": arguments.limit, "direction": arguments.direction}
        try:
            for event in control.watch("tap", (arguments.id,), options):
                _show(event, as_json=arguments.json)
        except KeyboardInterrupt:
            return FINE
        return FINE

    return with_control(arguments, work)


def _show(event: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(event), flush=True)
        return
    result = event.get("result")
    if result is None:
        for line in dump_lines(base64.b64decode(event["data"]), event["offset"]):
            print(f"{_ARROWS.get(event['direction'], '?')} {line}")
        sys.stdout.flush()
        return
    missed = f", {counted(result['missed'], 'byte')} missed" if result["missed"] else ""
    why = {"closed": "the session has ended", "limit": "the limit is reached"}.get(result["ended"], "")
    print(f"portfwd tap: {why}{missed}", file=sys.stderr)
