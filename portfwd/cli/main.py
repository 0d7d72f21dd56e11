# -*- test-case-name: tests.cli.test_main -*-
"""
The command line of ``portfwd``: dispatches to a command and returns its exit code.

Only the module of the command is imported, because importing all takes 0.8 seconds, and operators call
commands such as ``portfwd sessions`` often. Help imports all.
"""

from __future__ import annotations

import argparse
import errno
import io
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Final

from portfwd.cli.parsing import WRONG, Parser, unknown_command
from portfwd.cli.reading import FINE
from portfwd.version import __version__

#: The modules of the commands, in the order of the help, and the commands of each.
MODULES: Final[Mapping[str, tuple[str, ...]]] = {
    "run": ("run",),
    "init": ("init",),
    "check": ("check",),
    "explain": ("explain",),
    "convert": ("convert",),
    "options": ("options",),
    "filters": ("filters",),
    "checks": ("checks",),
    "filter_help": ("help",),
    "hash_password": ("hash-password",),
    "replay": ("replay",),
    "new": ("new",),
    "toxiproxy": ("toxiproxy",),
    "looking": ("status", "rules", "sessions", "session"),
    "targets": ("targets", "target"),
    "top": ("top",),
    "tap": ("tap",),
    "steering": ("kill", "drain", "pause", "resume", "faults", "log-level", "reload", "stop"),
    "shell": ("shell",),
    "completing": ("complete",),
}

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


def _build(words: Sequence[str] = ()) -> tuple[Parser, Mapping[str, argparse.ArgumentParser]]:
    """
    The parser of the command line, and the parser of each command, which sets ``run``.

    :param words: the command line. If it begins with a command, only the module of that command is used.
    """
    parser = Parser(
        prog="portfwd",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"portfwd {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    chosen: list[str] = []
    if not _asks_for_help(words):
        chosen = [module for module, names in MODULES.items() if words[0] in names]
    for module in chosen or MODULES:
        import_module(f"portfwd.cli.{module}").add_parser(commands)
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
    parser, commands = _build(words)
    problem = unknown_command(parser.prog, words, commands, _meant)
    if problem:
        print(problem, file=sys.stderr)
        return WRONG
    try:
        if _asks_for_help(words):
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


def _asks_for_help(words: Sequence[str]) -> bool:
    """Whether the help of a command, or of the whole command line, is wanted."""
    return not words or (words[0] == "help" and len(words) < 3 and not words[-1].startswith("-"))


def _meant(word: str) -> str:
    """The command for a word that is an option, a job, a filter, a check or an option of rules."""
    # The imports load what only this message needs.
    from portfwd.cli.init import JOBS
    from portfwd.filters.registry import BUILT_IN as FILTERS
    from portfwd.rules.options import BY_NAME
    from portfwd.upstreams.checks.registry import BUILT_IN as CHECKS

    word = word.lower()
    if word == "version":
        return "did you mean '--version'?"
    if word in JOBS:
        return f"it is a template: 'portfwd init {word}' writes it"
    for known, command in ((FILTERS, "help filter"), (CHECKS, "help check"), (BY_NAME, "options")):
        if word in known:
            return f"'portfwd {command} {word}' describes it"
    return ""


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
    problem = unknown_command(parser.prog, words, commands, _meant)
    if problem:
        print(problem, file=sys.stderr)
        return WRONG
    print((commands[words[0]] if words else parser).format_help(), end="")
    sys.stdout.flush()
    return FINE


if __name__ == "__main__":
    raise SystemExit(main())
