# -*- test-case-name: tests.cli.test_checks -*-
"""``portfwd checks``: which checks of targets a rules file can name, and from which package."""

from __future__ import annotations

import argparse

from portfwd.cli.plugin_list import add_list_parser, show_plugins
from portfwd.upstreams.checks.registry import CheckRegistry

DESCRIPTION = """\
List the checks of targets that rules files can name: portfwd's own, and those that
installed packages bring. 'portfwd help check NAME' explains one.

example:
  portfwd checks

exit codes:
  0  all of them can be used
  1  one cannot be imported, or two have the same name; the reason is listed
  2  the command line is wrong
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    add_list_parser(commands, "checks", DESCRIPTION).set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """List what is installed."""
    return show_plugins("checks", CheckRegistry.installed(), as_json=arguments.json)
