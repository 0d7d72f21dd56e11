# -*- test-case-name: tests.cli.test_top -*-
"""
``portfwd top``: who moves how much, live and in place.

On a terminal keys sort, pause and kill; elsewhere each look is printed behind the one before. The
forwarder looks at its sessions once an interval and sends those that fit on the screen.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, Final

from portfwd.admin.commands import MAX_TOP
from portfwd.admin.watching import top_sorts
from portfwd.cli.control import Control, ControlError, with_control
from portfwd.cli.looking import add_command, add_filter
from portfwd.cli.reading import FINE
from portfwd.cli.top_screen import FRAME, SORT_KEYS, ScreenState, head_lines, screen, session_table
from portfwd.values import direction_word, printable

#: The alternate screen without a cursor, and back (xterm; every terminal of today).
_ENTER: Final = "\x1b[?1049h\x1b[?25l"
_LEAVE: Final = "\x1b[?25h\x1b[?1049l"
_HOME: Final = "\x1b[H"
_REST_OF_LINE: Final = "\x1b[K"
#: Characters of a line where the output is no terminal and COLUMNS does not say: nothing is shortened.
WIDE: Final = 250
_QUIT: Final = ("q", "Q", "\x03", "\x04")
_ENTERED: Final = ("\r", "\n")
_ERASE: Final = ("\x7f", "\x08")
_ESCAPE: Final = "\x1b"


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = add_command(
        commands,
        "top",
        "who moves how much, live",
        "Show the sessions that move most, once a second, with their rates and the bytes that a\n"
        "system call moves. On a terminal: r u d b a i choose the order, space pauses, k and a\n"
        "number kill a session, q quits. Elsewhere one look is printed behind the other.\n",
        "portfwd top --rule web --sort to-client-rate",
    )
    add_filter(parser)
    parser.add_argument(
        "--sort", type=direction_word, choices=top_sorts(), default="rate", help="what comes first (rate)"
    )
    parser.add_argument("--interval", metavar="TIME", default="1s", help="between two looks (1s)")
    parser.add_argument("--limit", type=int, metavar="N", help="how many sessions; as many as fit")
    parser.add_argument("-n", "--count", type=int, default=0, metavar="N", help="how many looks; 0: endless")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Look until somebody has seen enough."""

    def work(control: Control) -> int:
        live = not arguments.json and sys.stdout.isatty() and sys.stdin.isatty()
        try:
            if live:
                with _raw_terminal(sys.stdin):
                    return Top(control, arguments, sys.stdin.fileno(), sys.stdout).watch()
            return _print_looks(control, arguments)
        except KeyboardInterrupt:
            return FINE

    return with_control(arguments, work)


def _options(arguments: argparse.Namespace, sort: str, rows: int) -> dict[str, str | None]:
    return {
        "sort": sort,
        "interval": arguments.interval,
        "limit": str(min(MAX_TOP, max(1, rows))),
        "rule": arguments.rule,
        "client": arguments.client,
        "state": arguments.state,
        "count": str(max(0, arguments.count)),
    }


def _print_looks(control: Control, arguments: argparse.Namespace) -> int:
    for look in control.watch("top", (), _options(arguments, arguments.sort, arguments.limit or 20)):
        if arguments.json:
            print(json.dumps(look), flush=True)
        elif "result" not in look:
            width = shutil.get_terminal_size((WIDE, 24)).columns
            lines = [*map(printable, head_lines(look, ScreenState())), *session_table(look, width)]
            print("\n".join(lines), flush=True)
    return FINE


@contextmanager
def _raw_terminal(stdin: IO[str]) -> Iterator[None]:
    """Keys come at once and are not shown; everything is as before afterwards."""
    import termios
    import tty

    before = termios.tcgetattr(stdin)
    tty.setcbreak(stdin)
    sys.stdout.write(_ENTER)
    try:
        yield
    finally:
        termios.tcsetattr(stdin, termios.TCSADRAIN, before)
        sys.stdout.write(_LEAVE)
        sys.stdout.flush()


class Top:
    """One terminal that looks."""

    def __init__(self, control: Control, arguments: argparse.Namespace, keys: int, output: IO[str]) -> None:
        """:param keys: the descriptor they come from."""
        self._control = control
        self._arguments = arguments
        self._keys = keys
        self._output = output
        self._sort: str = arguments.sort
        self._look: dict[str, Any] | None = None
        self._paused = False
        self._help = False
        self._question: str | None = None
        self._note = ""
        self._unanswered = 0

    def __repr__(self) -> str:
        return f"<Top by {self._sort}>"

    def watch(self) -> int:
        """Look until ``q``, or until the forwarder is gone."""
        self.ask()
        while True:
            self.draw()
            looks = self._control.fileno()
            ready = [looks] if self._control.pending else select.select([looks, self._keys], [], [])[0]
            if looks in ready and not self.receive():
                return FINE
            if self._keys in ready and not self.read_keys():
                return FINE

    def read_keys(self) -> bool:
        """Do what the keys mean that were pressed; False to quit."""
        keys = os.read(self._keys, 64).decode("utf-8", "replace")
        return bool(keys) and all(self.pressed(key) for key in keys)

    def _size(self) -> tuple[int, int]:
        width, height = shutil.get_terminal_size()
        return width, height

    def ask(self) -> None:
        """Ask for the next look."""
        rows = self._arguments.limit or self._size()[1] - FRAME
        self._control.send("top", (), _options(self._arguments, self._sort, rows))
        self._unanswered += 1

    def receive(self) -> bool:
        """Take a look; say whether there will be more."""
        event, _ = self._control.receive()
        if event is None:
            self._unanswered -= 1
            return self._unanswered > 0
        if not self._paused:
            self._look = event
        return True

    def draw(self) -> None:
        """Draw the last look over what is on the terminal."""
        width, height = self._size()
        note = self._note if self._question is None else f"kill session number: {self._question}"
        lines = screen(self._look, ScreenState(self._paused, self._help, note), width, height)
        self._output.write(_HOME + "\n".join(line + _REST_OF_LINE for line in lines))
        self._output.flush()

    def pressed(self, key: str) -> bool:
        """Do what a key means; False to quit."""
        if self._question is not None:
            return self._answered(key)
        self._note = ""
        if key in _QUIT:
            return False
        if key in SORT_KEYS:
            self._sort = SORT_KEYS[key]
            self.ask()
        elif key == " ":
            self._paused = not self._paused
        elif key == "?":
            self._help = not self._help
        elif key == "k":
            self._question = ""
        return True

    def _answered(self, key: str) -> bool:
        """One more key of the number of a session to kill."""
        question = self._question or ""
        if key in _ENTERED:
            self._question = None
            if question:
                self._note = self._kill(question)
        elif key in _ERASE:
            self._question = question[:-1]
        elif key.isdigit() and key.isascii():
            self._question = question + key
        elif key == _ESCAPE or key in _QUIT:
            self._question = None
        return True

    def _kill(self, number: str) -> str:
        """Kill a session by another connection, so that the looks go on; the outcome in words."""
        try:
            with Control(self._arguments.socket) as other:
                other.ask("kill", (number,))
        except ControlError as problem:
            return str(problem)
        return f"session {number} is killed"
