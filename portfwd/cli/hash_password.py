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
#: Most characters of a password. SOCKS 5 sends at most 255 bytes (RFC 1929 section 2), HTTP seldom more.
MAX_PASSWORD: Final = 1024
#: Exit code after Ctrl-C: 128 and the number of SIGINT, as of a process that the signal ended.
INTERRUPTED: Final = 130

NOTHING_TYPED: Final = "there is no password"

DESCRIPTION = """\
Ask for a password, and print a line for the file of users that the filters
socks5 and http-connect read. If the input is not a terminal, its first line is
the password.

example:
  portfwd hash-password alice >> /etc/portfwd/users

exit codes:
  0  success
  1  there was no password, it is not UTF-8 or too long, or the two passwords
     differ
  2  NAME is not a valid user name, or the command line is wrong
  130  interrupted by Ctrl-C
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
    except KeyboardInterrupt:
        print(file=sys.stderr)  # the shell's prompt begins a line
        return INTERRUPTED
    print(hash_password(arguments.name, password, os.urandom(SALT)))
    return FINE


def ask_password() -> str:
    """
    Read the password.

    :raises ValueError: there is none, the two inputs differ, or it is not valid.
    :raises KeyboardInterrupt: Ctrl-C was pressed.
    """
    try:
        password = _read_password()
        password.encode()  # bytes that are not UTF-8 are surrogates
    except EOFError:
        raise ValueError(NOTHING_TYPED) from None
    except UnicodeError:
        raise ValueError("the password is not UTF-8; send it as UTF-8, as clients do") from None
    if not password:
        raise ValueError(NOTHING_TYPED)
    if len(password) > MAX_PASSWORD:
        raise ValueError(f"the password has more than {MAX_PASSWORD} characters; choose a shorter one")
    return password


def _read_password() -> str:
    if not sys.stdin.isatty():
        # Two characters more for the end of the line.
        return sys.stdin.readline(MAX_PASSWORD + 2).removesuffix("\n").removesuffix("\r")
    password = getpass.getpass("password: ")
    if password != getpass.getpass("password again: "):
        raise ValueError("the two passwords differ")
    return password
