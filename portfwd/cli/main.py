# -*- test-case-name: tests.cli.test_main -*-
"""The command line of ``portfwd``: dispatches to a command and returns its exit code."""

from __future__ import annotations

import argparse
import errno
import io
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Final

from portfwd.cli import (
    check,
    checks,
    completing,
    convert,
    explain,
    filter_help,
    filters,
    hash_password,
    init,
    looking,
    new,
    options,
    replay,
    run,
    shell,
    steering,
    tap,
    targets,
    top,
    toxiproxy,
)
from portfwd.cli.parsing import WRONG, Parser, unknown_command
from portfwd.cli.reading import FINE
from portfwd.version import __version__

#: Errors of the system if the output cannot be written, because of a full or broken disk or a limit.
NOT_WRITTEN: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})

DESCRIPTION = """\
Forward ports, examine rules files and filters, and control running forwarders.
'portfwd run' runs in the foreground; 'twistd portfwd' can also run as a daemon.
"""
EPILOG = """\
examples:
  portfwd run --rule ':8080 -> 10.0.0.5:80'
  portfwd init forward -o rules.conf
  portfwd check rules.conf
  portfwd run -c rules.conf
  portfwd explain rules.conf 192.168.1.66 :8080
  portfwd convert /etc/rinetd.conf -o rules.conf
  portfwd filters
  portfwd help filter sniff
  portfwd hash-password alice >> /etc/portfwd/users
  portfwd new filter no-shouting
  portfwd replay web.record --to 127.0.0.1:8080
  portfwd status
  portfwd sessions --sort bytes
  portfwd top

'portfwd help COMMAND' describes a command.
"""


def make_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line. Each command sets ``run``."""
    return _build()[0]


def _build() -> tuple[Parser, Mapping[str, argparse.ArgumentParser]]:
    """The parser of the whole command line, and the parser of each command, which sets ``run``."""
    parser = Parser(
        prog="portfwd",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"portfwd {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in (
        run,
        init,
        check,
        explain,
        convert,
        options,
        filters,
        checks,
        filter_help,
        hash_password,
        replay,
        new,
        toxiproxy,
    ):
        command.add_parser(commands)
    for command in (looking, targets, top, tap, steering, shell, completing):
        command.add_parser(commands)
    return parser, commands.choices


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run one command.

    :param argv: the words after ``portfwd``; None for those of the process.
    :returns: the exit code.
    :raises SystemExit: for ``--help``, ``--version`` (0) and wrong options (2).
    """
    _fill_standard_descriptors()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # File names and the terminal need not be UTF-8. Characters that cannot be written are escaped.
            stream.reconfigure(errors="backslashreplace")
    words = sys.argv[1:] if argv is None else list(argv)
    parser, commands = _build()
    problem = unknown_command(parser.prog, words, commands)
    if problem:
        print(problem, file=sys.stderr)
        return WRONG
    asks_for_help = not words or (words[0] == "help" and len(words) < 3 and not words[-1].startswith("-"))
    try:
        if asks_for_help:
            return _help(parser, commands, words[1:])
        arguments = parser.parse_args(words)
        code: int = arguments.run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of the output has closed it ('| head'). The interpreter must not report this at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if error.errno not in NOT_WRITTEN:
            raise
        print(f"portfwd: the output cannot be written: {error.strerror}", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code


def _fill_standard_descriptors() -> None:
    """Open the null device for closed standard descriptors. A socket with that number would get output."""
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is not None:
            continue
        try:
            os.fstat(number)  # an import may have opened something since
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, number)
            if null != number:
                os.close(null)
        setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - as long as the process


def _help(parser: Parser, commands: Mapping[str, argparse.ArgumentParser], words: Sequence[str]) -> int:
    """Print the help of the command in `words`, or of the whole command line."""
    problem = unknown_command(parser.prog, words, commands)
    if problem:
        print(problem, file=sys.stderr)
        return WRONG
    print((commands[words[0]] if words else parser).format_help(), end="")
    sys.stdout.flush()
    return FINE


if __name__ == "__main__":
    raise SystemExit(main())
