# -*- test-case-name: tests.cli.test_convert -*-
"""
``portfwd convert``: converts a rules file to the native grammar.

Comments are lost, and included files become part of the result. A file with errors is not converted.
"""

from __future__ import annotations

import argparse
import errno
import os
import stat
import sys
import tempfile
from contextlib import suppress

from portfwd.cli.reading import CANNOT_READ, FINE, read_rules
from portfwd.errors import reason_of
from portfwd.rules.diagnostics import format_problem
from portfwd.rules.queries.render import render
from portfwd.values import printable

DESCRIPTION = """\
Read a rules file in any supported grammar (native, rinetd, rinetd-uv's conf and
YAML, oxidinetd's conf and TOML, realm), and write it in the native grammar.
Comments are lost; included files become part of the result.

example:
  portfwd convert /etc/rinetd.conf -o /etc/portfwd/rules.conf

exit codes:
  0  success
  1  FILE cannot be read, or OUT cannot be written
  2  FILE is wrong, and nothing is written; or the command line is wrong
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "convert",
        help="write a rules file in the native grammar",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", metavar="FILE", help="a rules file in any grammar; - for standard input")
    parser.add_argument(
        "-o", "--output", metavar="OUT", help="the file to write; without it, standard output"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run ``portfwd convert``."""
    read = read_rules(arguments.file, allow_empty=True)
    for problem in read.problems:
        print(format_problem(problem), file=sys.stderr)
    if read.ruleset is None:
        return read.exit_code
    text = render(read.ruleset)
    if arguments.output is None:
        sys.stdout.write(text)
        return FINE
    try:
        # The text is complete before OUT is opened, because OUT may be FILE.
        write_whole(arguments.output, text)
    except OSError as error:
        where = printable(arguments.output)
        print(f"portfwd convert: cannot write '{where}': {reason_of(error)}", file=sys.stderr)
        return CANNOT_READ
    return FINE


def write_whole(path: str, text: str) -> None:
    """
    Write a file, or leave the present one as it is if that fails.

    The text goes to a new file in the same directory, which then replaces the present one and has its mode
    and, if possible, its owner. A link stays, and the file to which it leads is replaced. A device or a FIFO
    is written to.

    :raises OSError: it cannot be written.
    """
    owner = None
    try:
        found = os.stat(path)
    except FileNotFoundError:
        umask = os.umask(0)
        os.umask(umask)
        mode = 0o666 & ~umask
    else:
        if not stat.S_ISREG(found.st_mode):
            with open(path, "w", encoding="utf-8", newline="\n") as file:
                file.write(text)
            return
        if not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        mode, owner = stat.S_IMODE(found.st_mode), (found.st_uid, found.st_gid)
    path = os.path.realpath(path)
    descriptor, part = tempfile.mkstemp(prefix=".portfwd-", dir=os.path.dirname(path))
    try:
        with open(descriptor, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            if owner is not None:
                with suppress(PermissionError):  # only root may give files away
                    os.fchown(file.fileno(), *owner)
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(part)
        raise
