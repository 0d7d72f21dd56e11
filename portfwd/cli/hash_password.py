# -*- test-case-name: tests.cli.test_hash_password -*-
"""
``portfwd hash-password``: prints a line for the file of users of the filters socks5 and http-connect.

On a terminal the password is read twice without echo; from a pipe, the first line is read. It is not an
argument, because other users of the machine can read arguments.
"""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from typing import Final

from portfwd.cli.parsing import WRONG
from portfwd.cli.reading import CANNOT_READ, FINE
from portfwd.filters.builtin.users import hash_password, wrong_name

#: Bytes of salt: RFC 8018 section 4.1 requires at least 8, NIST SP 800-132 section 5.1 at least 16.
SALT: Final = 16

DESCRIPTION = """\
Ask for a password, and print a line for the file of users that the filters
socks5 and http-connect read. If the input is not a terminal, its first line is
the password.

example:
  portfwd hash-password alice >> /etc/portfwd/users

exit codes:
  0  success
  1  there was no password, or the two passwords differ
  2  NAME is not a valid user name, or the command line is wrong
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "hash-password",
        help="print a line for a file of users",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", metavar="NAME", help="the user's name")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run ``portfwd hash-password``."""
    wrong = wrong_name(arguments.name)
    if wrong:
        print(f"portfwd hash-password: {wrong}", file=sys.stderr)
        return WRONG
    try:
        password = ask_password()
    except ValueError as error:
        print(f"portfwd hash-password: {error}", file=sys.stderr)
        return CANNOT_READ
    print(hash_password(arguments.name, password, os.urandom(SALT)))
    return FINE


def ask_password() -> str:
    """
    Read the password.

    :raises ValueError: there is none, or the two inputs differ.
    """
    if sys.stdin.isatty():
        password = getpass.getpass("password: ")
        if password != getpass.getpass("password again: "):
            raise ValueError("the two passwords differ")
    else:
        password = sys.stdin.readline().removesuffix("\n").removesuffix("\r")
    if not password:
        raise ValueError("there is no password")
    return password
