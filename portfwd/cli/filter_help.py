# -*- test-case-name: tests.cli.test_filter_help -*-
"""
``portfwd help filter`` and ``portfwd help check``: summary, options and an example of a plug-in.

All texts are the declarations of the plug-in.
"""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections.abc import Iterator
from typing import Any, Final

from portfwd.cli.reading import FINE
from portfwd.filters.clause_reading import example
from portfwd.filters.options import Declared
from portfwd.filters.registry import FoundPlugin, Registry, Unavailable
from portfwd.upstreams.checks.registry import CheckRegistry, FoundCheck

#: The exit code if the plug-in does not exist.
UNAVAILABLE: Final = 1
#: Columns of the text: the default width of a terminal.
WIDTH: Final = 80

DESCRIPTION = """\
Describe a filter or a check: its summary, its options with their defaults, and an
example. NAME is the name after 'filter' or 'check' in a rules file; 'portfwd filters'
and 'portfwd checks' list the names.
'portfwd help COMMAND' prints the help of a command, and 'portfwd help' the commands.

examples:
  portfwd help reload
  portfwd help filter sniff
  portfwd help check http

exit codes:
  0  success
  1  there is no plug-in with that name, or it cannot be imported
  2  the command line is wrong
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "help",
        help="describe a command, a filter or a check",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("topic", metavar="filter|check", choices=("filter", "check"), help="the kind of NAME")
    parser.add_argument("name", metavar="NAME", help="its name, or python:MODULE.CLASS")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run ``portfwd help filter`` or ``check``."""
    try:
        found: FoundPlugin | FoundCheck = (
            CheckRegistry.installed().find(arguments.name)
            if arguments.topic == "check"
            else Registry.installed().find(arguments.name)
        )
    except Unavailable as refusal:
        print(f"portfwd help: {refusal.message}", file=sys.stderr)
        if refusal.hint:
            print(f"    {refusal.hint}", file=sys.stderr)
        return UNAVAILABLE
    if arguments.json:
        print(json.dumps(filter_json(arguments.topic, arguments.name, found), indent=2))
    else:
        print("\n".join(filter_text(arguments.topic, arguments.name, found)))
    return FINE


def filter_text(topic: str, name: str, found: FoundPlugin | FoundCheck) -> Iterator[str]:
    """
    The lines of the text about a plug-in.

    :param topic: ``filter`` or ``check``.
    """
    yield from textwrap.wrap(f"{topic} {name}: {found.summary or '(no summary)'}", WIDTH)
    yield f"from {found.origin}"
    if isinstance(found, FoundPlugin) and found.takes_routes:
        yield "It chooses a target by the rule's 'route' lines."
    if found.options:
        yield ""
        yield "options:"
        width = max(len(one.key) for one in found.options)
        for one in found.options:
            about = "; ".join(part for part in (one.help.removesuffix("."), *_conditions(one)) if part)
            lines = textwrap.wrap(about, WIDTH - width - 4)
            yield f"  {one.key:{width}}  {lines[0]}"
            yield from (f"  {'':{width}}  {line}" for line in lines[1:])
    yield ""
    yield "example:"
    yield f"  {example(name, found.options, topic)}"


def _conditions(one: Declared) -> Iterator[str]:
    yield one.kind.unit
    if one.positional:
        yield "the key may be omitted"
    if one.repeated:
        yield "may be repeated"
    if one.needed:
        yield "required"
    elif one.default_text:
        yield f"default: {one.default_text}"


def filter_json(topic: str, name: str, found: FoundPlugin | FoundCheck) -> dict[str, Any]:
    """A plug-in as a JSON object. Defaults are texts in the form of a rules file, or None."""
    return {
        "name": name,
        "summary": found.summary or None,
        "package": found.origin.package or None,
        "version": found.origin.version or None,
        "path": found.origin.path,
        **({"takes_routes": found.takes_routes} if isinstance(found, FoundPlugin) else {}),
        "options": [
            {
                "key": one.key,
                "value": one.kind.unit,
                "help": one.help or None,
                "needed": one.needed,
                "default": one.default_text or None,
                "positional": one.positional,
                "repeated": one.repeated,
            }
            for one in found.options
        ],
        "example": example(name, found.options, topic),
    }
