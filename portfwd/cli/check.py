# -*- test-case-name: tests.cli.test_check -*-
"""
``portfwd check``: what is wrong with rules files, all of it, and what may not be meant.

Errors and warnings of the files, what this version cannot do yet, what filters say
of their clauses, and the advice of `portfwd.rules.advice`. It asks which directories exist,
imports the filters that the rules name, and reads the files that their options name, certificates too.
"""

from __future__ import annotations

import argparse
import json
import os
from collections import Counter
from typing import Any

from attrs import evolve, frozen

from portfwd.cli.reading import BAD_FILE, ReadRules, read_rules, tally
from portfwd.errors import Severity
from portfwd.kernel.platform import find_platform
from portfwd.relay.plan import plan_relay
from portfwd.rules.advice import advise, advise_of_end
from portfwd.rules.diagnostics import format_problem, problem_to_json
from portfwd.service.build.factories import Factories
from portfwd.service.build.judging import judge, merged
from portfwd.values import RelayPlan, counted, printable

DESCRIPTION = """\
Judge rules files without binding or resolving anything. Every problem is
printed with its place, then a line for each file, with the number of rules that
each relay serves. Warnings do not fail a file.
The filters that the rules name are imported, as they are when forwarding starts.

example:
  portfwd check /etc/portfwd/rules.conf && systemctl restart portfwd

exit codes:
  0  all files are fine, though there may be warnings
  1  a file cannot be read
  2  a file is wrong, or the command line
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "check",
        help="say what is wrong with rules files",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "files", metavar="FILE", nargs="+", help="a rules file in any grammar; - for standard input"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="print errors only, no warnings or counts")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    parser.add_argument("--allow-empty", action="store_true", help="take a file without any rule")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Check the files; the worst exit code of them."""
    results = [_judge(read_rules(path, allow_empty=arguments.allow_empty)) for path in arguments.files]
    if arguments.json:
        print(json.dumps({"files": [_to_json(result) for result in results]}, indent=2))
    else:
        for result in results:
            _print(result, arguments.quiet)
    codes = {result.read.exit_code for result in results}
    return BAD_FILE if BAD_FILE in codes else max(codes)


@frozen
class Judged:
    """
    What is said of one file.

    :ivar plans: each rule's name, and the relay that serves it.
    """

    read: ReadRules
    plans: tuple[tuple[str, RelayPlan], ...] = ()


def _judge(read: ReadRules) -> Judged:
    """Add what the rules that could be read may still have wrong."""
    if read.readable is None:
        return Judged(read)
    filters = Factories().select()
    plans: tuple[tuple[str, RelayPlan], ...] = ()
    others = judge(read.readable, filters)
    if read.ruleset is not None:
        others = (*others, *advise(read.ruleset, os.path.isdir))
        platform = find_platform()
        plans = tuple(
            (rule.name, plan_relay(rule, platform, filters.clauses(rule.name))) for rule in read.ruleset.rules
        )
    others = (*others, *map(advise_of_end, read.unended))
    return Judged(evolve(read, problems=merged(read.problems, others, read.readable.files)), plans)


def _print(result: Judged, quiet: bool) -> None:
    read = result.read
    for problem in read.problems:
        if not quiet or problem.severity is Severity.ERROR:
            print(format_problem(problem))
    if quiet:
        return
    rules = "" if read.ruleset is None else counted(len(read.ruleset.rules), "rule")
    kinds = Counter(plan.kind for _, plan in result.plans)
    rules += f" ({', '.join(f'{kind}: {kinds[kind]}' for kind in sorted(kinds))})" if kinds else ""
    print(f"{printable(read.path)}: {', '.join(part for part in (rules, tally(read.problems)) if part)}")


def _to_json(result: Judged) -> dict[str, Any]:
    read = result.read
    plans = [{"rule": name, "relay": plan.kind, "why": plan.why} for name, plan in result.plans]
    return {
        "file": read.path,
        "ok": read.exit_code == 0,
        "rules": None if read.ruleset is None else len(read.ruleset.rules),
        "relays": None if read.ruleset is None else plans,
        "problems": [problem_to_json(problem) for problem in read.problems],
    }
