# -*- test-case-name: tests.cli.test_options -*-
"""``portfwd options``: lists the options of rules, like the reference."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any, Final

from portfwd.cli.reading import FINE
from portfwd.rules.findings import nearest, shown
from portfwd.rules.options import OPTIONS, Affects, Needs, OptionSpec, Scope

#: The exit code for an unknown option.
UNKNOWN: Final = 1
#: Columns of the text: the default width of a terminal.
WIDTH: Final = 80
#: The heading of each group of options.
_TITLES: Final = {
    Scope.LISTENER: "options of a listener, before '->':",
    Scope.RULE: "options of a rule, after '->' and its targets:",
    Scope.TARGET: "options of a target, after '->', or on a 'target' line:",
}

DESCRIPTION = """\
List the options of rules with their values and defaults; with NAME only the options
with this name. 'default KEY=VALUE' sets an option for all rules below it. 'portfwd
help filter NAME' and 'portfwd help check NAME' list the options of filters and checks.

examples:
  portfwd options
  portfwd options idle

exit codes:
  0  success
  1  there is no option with that name
  2  the command line is wrong
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "options",
        help="list the options of rules",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", metavar="NAME", nargs="?", help="only the options with this name")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run ``portfwd options``."""
    chosen = [one for one in OPTIONS if arguments.name in (None, one.key, one.name)]
    if not chosen:
        hint = nearest(arguments.name, {one.key for one in OPTIONS}, "portfwd options")
        print(f"portfwd options: there is no option {shown(arguments.name)}; {hint}", file=sys.stderr)
        return UNKNOWN
    if arguments.json:
        print(json.dumps({"options": [_to_json(one) for one in chosen]}, indent=2))
    else:
        print("\n".join(_lines(chosen)))
    return FINE


def _lines(options: Sequence[OptionSpec]) -> Iterator[str]:
    groups = [(title, [one for one in options if one.scope is scope]) for scope, title in _TITLES.items()]
    width = max(len(one.key) for one in options)
    for number, (title, chosen) in enumerate((title, chosen) for title, chosen in groups if chosen):
        yield from ["", title] if number else [title]
        for one in chosen:
            first, *others = textwrap.wrap(_about(one), WIDTH - width - 4)
            yield f"  {one.key:{width}}  {first}"
            yield from (f"  {'':{width}}  {line}" for line in others)


def _about(one: OptionSpec) -> str:
    parts = [one.about, f"{one.unit}, {one.bounds}" if one.bounds else one.unit]
    if one.needs is not Needs.NOTHING:
        parts.append(f"needs {one.needs.value}")
    if one.affects is not Affects.ANY:
        parts.append(f"for {one.affects.value}")
    if one.name != one.key:
        parts.append(f"'{one.name}' in 'default' lines")
    return "; ".join((*parts, f"default: {one.default}"))


def _to_json(one: OptionSpec) -> dict[str, Any]:
    return {
        "key": one.key,
        "name": one.name,
        "scope": one.scope.value,
        "value": one.unit,
        "bounds": one.bounds or None,
        "help": one.about,
        "needs": one.needs.value or None,
        "for": one.affects.value or None,
        "default": one.default,
        "undone_by": one.undo,
    }
