# -*- test-case-name: tests.cli.test_checks -*-
"""``portfwd checks``: lists the checks of targets that a rules file can name, with their packages."""

from __future__ import annotations

import argparse

from portfwd.cli.plugin_list import add_list_parser, show_plugins
from portfwd.upstreams.checks.registry import CheckRegistry

DESCRIPTION = """\
List the checks of targets that rules files can name: portfwd's own, and those of
installed packages. 'portfwd help check NAME' describes one.

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
    """Run ``portfwd checks``."""
    return show_plugins("checks", CheckRegistry.installed(), as_json=arguments.json)
