# -*- test-case-name: tests.cli.test_check -*-
"""
``portfwd check``: reports all errors and warnings of rules files.

It reports problems of the files, unsupported features, problems of filters with their clauses, and the advice
of `portfwd.rules.advice`. It checks which directories exist, imports the filters of the rules, and reads the
files of their options, including certificates.
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
Check rules files without binding or resolving anything. All problems are
printed with their places, then a line for each file, with the number of rules
per relay. Warnings do not change the exit code.
The filters that the rules name are imported, as at a start.

example:
  portfwd check /etc/portfwd/rules.conf && systemctl restart portfwd

exit codes:
  0  no file has an error; there may be warnings
  1  a file cannot be read
  2  a file has an error, or the command line is wrong
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "check",
        help="check rules files",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "files", metavar="FILE", nargs="+", help="a rules file in any grammar; - for standard input"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="print errors only, no warnings or counts")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    parser.add_argument("--allow-empty", action="store_true", help="accept a file without rules")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Check the files, and return the worst exit code."""
    results = [_check(read_rules(path, allow_empty=arguments.allow_empty)) for path in arguments.files]
    if arguments.json:
        print(json.dumps({"files": [_to_json(result) for result in results]}, indent=2))
    else:
        for result in results:
            _print(result, arguments.quiet)
    codes = {result.read.exit_code for result in results}
    return BAD_FILE if BAD_FILE in codes else max(codes)


@frozen
class CheckedFile:
    """
    The result for one file.

    :ivar plans: the name of each rule with its relay.
    """

    read: ReadRules
    plans: tuple[tuple[str, RelayPlan], ...] = ()


def _check(read: ReadRules) -> CheckedFile:
    """Check the rules that could be read, and add their problems."""
    if read.readable is None:
        return CheckedFile(read)
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
    return CheckedFile(evolve(read, problems=merged(read.problems, others, read.readable.files)), plans)


def _print(result: CheckedFile, quiet: bool) -> None:
    read = result.read
    for problem in read.problems:
        if not quiet or problem.severity is Severity.ERROR:
            print(format_problem(problem))
    if quiet:
        return
    rules = "" if read.ruleset is None else counted(len(read.ruleset.rules), "rule")
    kinds = Counter(plan.summary for _, plan in result.plans)
    rules += f" ({', '.join(f'{kind}: {kinds[kind]}' for kind in sorted(kinds))})" if kinds else ""
    print(f"{printable(read.path)}: {', '.join(part for part in (rules, tally(read.problems)) if part)}")


def _to_json(result: CheckedFile) -> dict[str, Any]:
    read = result.read
    plans = [{"rule": name, "relay": plan.kind, "why": plan.why} for name, plan in result.plans]
    return {
        "file": read.path,
        "ok": read.exit_code == 0,
        "rules": None if read.ruleset is None else len(read.ruleset.rules),
        "relays": None if read.ruleset is None else plans,
        "problems": [problem_to_json(problem) for problem in read.problems],
    }
