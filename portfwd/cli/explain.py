# -*- test-case-name: tests.cli.test_explain -*-
"""
``portfwd explain``: what would happen to a connection, by which lines of the file.

It prints what `portfwd.rules.queries.explain` finds in a file, or a forwarder that runs in its rules; it
refuses a file that is wrong.
"""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial

from portfwd.cli.control import Control, add_arguments, with_control
from portfwd.cli.reading import BAD_FILE, FINE, read_rules
from portfwd.filters.registry import Registry
from portfwd.kernel.platform import find_platform
from portfwd.relay.plan import plan_relay
from portfwd.rules.diagnostics import format_problem
from portfwd.rules.queries.explain import explain
from portfwd.rules.queries.explain_text import explanation_json, explanation_text
from portfwd.service.build.filters import configure
from portfwd.values import printable

DESCRIPTION = """\
Say which rule takes a connection from CLIENT to LISTEN, which line lets it in
or refuses it, and which targets would be tried, each with its place in the file;
and which relay moves the bytes, and why, for which the rule's filters are imported.
Without a file the forwarder that runs is asked: by the rules at work.

example:
  portfwd explain rules.conf 192.168.1.66 :8080
  portfwd explain 192.168.1.66 :8080

exit codes:
  0  here is the answer, whatever it is
  1  the file cannot be read, or the forwarder not be reached
  2  the file is wrong, CLIENT or LISTEN cannot be understood, or the command line is wrong
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "explain",
        help="say what would happen to a connection",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "file",
        metavar="FILE",
        nargs="?",
        help="a rules file, in any grammar that is accepted; without it a forwarder that runs is asked",
    )
    parser.add_argument(
        "client", metavar="CLIENT", help="an address, or 'unix' for a client of a unix socket"
    )
    parser.add_argument(
        "listen",
        metavar="LISTEN",
        help="a rule's name, or where it listens: :8080, 10.0.0.1:8080, [::1]:53/udp, unix:/run/db.sock",
    )
    add_arguments(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Explain one connection."""
    if arguments.file is None:
        return with_control(arguments, partial(_ask, arguments))
    read = read_rules(arguments.file, allow_empty=True)
    if read.ruleset is None:
        for problem in read.problems:
            print(format_problem(problem), file=sys.stderr)
        return read.exit_code
    try:
        explanation = explain(read.ruleset, arguments.client, arguments.listen)
    except ValueError as error:
        print(f"portfwd explain: {error}", file=sys.stderr)
        return BAD_FILE
    plan = None
    if explanation.rule is not None:
        rule = explanation.rule
        filters = configure(rule, Registry.installed()).clauses if rule.filters else ()
        plan = plan_relay(rule, find_platform(), filters)
    if arguments.json:
        print(json.dumps(explanation_json(explanation, plan), indent=2))
    else:
        print(explanation_text(explanation, plan))
    return FINE


def _ask(arguments: argparse.Namespace, control: Control) -> int:
    answer = control.ask("explain", (arguments.client, arguments.listen))
    if arguments.json:
        print(json.dumps(answer["explanation"], indent=2))
    else:
        print("\n".join(map(printable, str(answer["text"]).split("\n"))))
    return FINE
