# -*- test-case-name: tests.cli.test_explain -*-
"""
``portfwd explain``: shows the effect of rules on a connection, with the lines of the file.

It prints the result of `portfwd.rules.queries.explain` for a file or for the rules of a running forwarder. A
file with errors is refused.
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
Show which rule accepts a connection from CLIENT to LISTEN, which line allows or
denies it, which targets are tried, each with its place in the file, and which relay
moves the bytes, with the reason. The filters of the rule are imported for this.
Without a file the running forwarder is asked, which uses its active rules.

example:
  portfwd explain rules.conf 192.168.1.66 :8080
  portfwd explain 192.168.1.66 :8080

exit codes:
  0  success, whatever the answer is
  1  the file cannot be read, or the forwarder cannot be reached
  2  the file is wrong, CLIENT or LISTEN is not valid, or the command line is wrong
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "explain",
        help="show the effect of rules on a connection",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "file",
        metavar="FILE",
        nargs="?",
        help="a rules file in any grammar; without it the running forwarder is asked",
    )
    parser.add_argument(
        "client", metavar="CLIENT", help="an address, or 'unix' for a client of a unix socket"
    )
    parser.add_argument(
        "listen",
        metavar="LISTEN",
        help="a rule's name or listen address: :8080, 10.0.0.1:8080, [::1]:53/udp, unix:/run/db.sock",
    )
    add_arguments(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run ``portfwd explain``."""
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
