# -*- test-case-name: tests.cli.test_run -*-
"""``portfwd run``: runs a forwarder in the foreground until a signal ends it."""

from __future__ import annotations

import argparse
import sys

from twisted.python.usage import UsageError

from portfwd.cli.parsing import WRONG
from portfwd.cli.reading import FINE
from portfwd.quantities import parse_duration
from portfwd.values import printable

DESCRIPTION = """\
Forward by a rules file, in the foreground. TERM and INT stop it: it accepts no more
clients, and sessions may continue for --drain. HUP reads the rules file again, and so does
--watch after a change of the file; USR1 reopens the logs. 'twistd portfwd' does the same,
and can also run as a daemon, change its user and change its root.

examples:
  portfwd run -c /etc/portfwd/rules.conf --watch
  portfwd run --rule ':8080 -> 10.0.0.5:80' --rule ':2222 -> 10.0.0.5:22'

exit codes:
  0  a signal stopped it
  1  the rules file cannot be read, a rule could not be started, or a stop did not end in time
  2  the rules, files that they name, or the command line are wrong
  70 the event loop is lost
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "run",
        help="run a forwarder in the foreground",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    rules = parser.add_mutually_exclusive_group(required=True)
    rules.add_argument("-c", "--config", metavar="FILE", help="the rules file, in any grammar")
    rules.add_argument(
        "-r", "--rule", metavar="TEXT", action="append", help="a rule in the native grammar; repeatable"
    )
    parser.add_argument(
        "--drain",
        metavar="TIME",
        type=_duration,
        help="how long sessions may continue after a signal to stop (10s)",
    )
    parser.add_argument("--watch", action="store_true", help="reload after changes of the rules file (Linux)")
    parser.add_argument("--allow-empty", action="store_true", help="accept a rules file without rules")
    parser.set_defaults(run=run)


def _duration(text: str) -> str:
    try:
        parse_duration(text)
    except ValueError as problem:
        raise argparse.ArgumentTypeError(str(problem)) from None
    return text


def run(arguments: argparse.Namespace) -> int:
    """Run ``portfwd run``. The options are passed to ``twistd portfwd``."""
    # The import loads the code of twistd, which few commands need.
    from portfwd.service.foreground import run_in_foreground

    words = [] if arguments.config is None else [f"--config={arguments.config}"]
    words += [f"--rule={rule}" for rule in arguments.rule or ()]
    if arguments.drain is not None:
        words.append(f"--drain={arguments.drain}")
    words += [f"--{flag}" for flag in ("watch", "allow-empty") if getattr(arguments, flag.replace("-", "_"))]
    try:
        run_in_foreground(words)
    except UsageError as problem:
        print(f"portfwd run: {printable(str(problem))}; see 'portfwd run --help'", file=sys.stderr)
        return WRONG
    return FINE
