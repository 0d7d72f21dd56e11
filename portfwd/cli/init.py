# -*- test-case-name: tests.cli.test_init -*-
"""
``portfwd init``: writes a commented example of a rules file.

The files are in the folder ``jobs`` beside this module. The first line of each is its summary. Addresses and
paths in them are examples and are not checked.
"""

from __future__ import annotations

import argparse
import os
import sys
from importlib.resources import files
from typing import Final

from portfwd.cli.reading import FINE
from portfwd.values import printable

#: Exit code if the file is not written.
NOT_WRITTEN: Final = 1

JOBS: Final = ("forward", "tls", "sni", "postgres", "dns", "toxiproxy")

DESCRIPTION = """\
Write a commented rules file for a job. Change its addresses and paths, then check
it with 'portfwd check'. An existing file is not overwritten.

{jobs}

examples:
  portfwd init forward -o rules.conf
  portfwd init postgres

exit codes:
  0  written
  1  OUT exists, or cannot be written
  2  the command line is wrong
"""


def template(job: str) -> str:
    """The text of the rules file for one of `JOBS`."""
    return files("portfwd.cli").joinpath("jobs", f"{job}.conf").read_text("utf-8")


def summary(job: str) -> str:
    """The summary of the rules file for a job: its first line."""
    return template(job).partition("\n")[0].removeprefix("# ").removesuffix(".")


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    jobs = "\n".join(f"  {job:<10} {summary(job)}" for job in JOBS)
    parser = commands.add_parser(
        "init",
        help="write an example of a rules file",
        description=DESCRIPTION.format(jobs=jobs),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("job", metavar="JOB", choices=JOBS, help=f"one of {', '.join(JOBS)}")
    parser.add_argument(
        "-o", "--output", metavar="OUT", help="the file to write; without it, standard output"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run ``portfwd init``."""
    text = template(arguments.job)
    if arguments.output is None:
        print(text, end="")
        return FINE
    try:
        with open(arguments.output, "x", encoding="utf-8") as file:
            try:
                file.write(text)
                file.flush()
            except BaseException:
                os.unlink(arguments.output)  # it is new, and part of an example is of no use
                raise
    except OSError as problem:
        reason = (
            "it exists; name another one, or remove it"
            if isinstance(problem, FileExistsError)
            else problem.strerror
        )
        print(f"portfwd init: {printable(arguments.output)}: {reason}", file=sys.stderr)
        return NOT_WRITTEN
    return FINE
