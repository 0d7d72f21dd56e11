# -*- test-case-name: tests.cli.test_top -*-
"""
``portfwd top``: shows the busiest sessions, updated at intervals.

On a terminal keys sort, pause and kill. Otherwise each update is printed after the previous one. The
forwarder sends the sessions that fit on the screen once per interval.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any, Final

from portfwd.admin.commands import MAX_TOP
from portfwd.admin.watching import top_sorts
from portfwd.cli.control import Control, ControlError, with_control
from portfwd.cli.looking import add_command, add_filter, whole_number
from portfwd.cli.reading import FINE
from portfwd.cli.top_screen import FRAME, SORT_KEYS, ScreenState, head_lines, screen, session_table
from portfwd.values import direction_word, printable

#: Enter and leave the alternate screen without a cursor (xterm; supported by all current terminals).
ENTER: Final = "\x1b[?1049h\x1b[?25l"
LEAVE: Final = "\x1b[?25h\x1b[?1049l"
_HOME: Final = "\x1b[H"
_REST_OF_LINE: Final = "\x1b[K"
#: Signals that end the process, besides INT, which Python raises as an exception.
ENDING: Final = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGQUIT") if hasattr(signal, name)
)
#: Width in characters if the output is not a terminal and COLUMNS is not set, so that nothing is shortened.
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
        "show the busiest sessions, live",
        "Show the sessions with the highest rates once per second, with their rates and the bytes per\n"
        "system call. On a terminal: r u d b a i choose the order, space pauses, k and a number kill a\n"
        "session, q quits. Otherwise the updates are printed one after the other.\n",
        "portfwd top --rule web --sort to-client-rate",
    )
    add_filter(parser)
    parser.add_argument(
        "--sort", type=direction_word, choices=top_sorts(), default="rate", help="the sort key (rate)"
    )
    parser.add_argument("--interval", metavar="TIME", default="1s", help="time between two updates (1s)")
    parser.add_argument("--limit", type=whole_number, metavar="N", help="number of sessions (as many as fit)")
    parser.add_argument(
        "-n", "--count", type=whole_number, default=0, metavar="N", help="number of updates (0: no limit)"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run ``portfwd top``."""

    def work(control: Control) -> int:
        live = not arguments.json and sys.stdout.isatty() and sys.stdin.isatty()
        try:
            if live:
                with raw_terminal(sys.stdin):
                    return Top(control, arguments, sys.stdin.fileno(), sys.stdout).watch()
            return _print_updates(control, arguments)
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


def _print_updates(control: Control, arguments: argparse.Namespace) -> int:
    for update in control.watch("top", (), _options(arguments, arguments.sort, arguments.limit or 20)):
        if arguments.json:
            print(json.dumps(update), flush=True)
        elif "result" not in update:
            width = shutil.get_terminal_size((WIDE, 24)).columns
            lines = [*map(printable, head_lines(update, ScreenState())), *session_table(update, width)]
            print("\n".join(lines), flush=True)
    return FINE


class _Ended(BaseException):
    """A signal ends the process."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def raw_terminal(stdin: IO[str]) -> Iterator[None]:
    """
    Read keys without buffering or echo; restore the terminal afterwards.

    A signal of `ENDING` ends the process as it would without this, after the terminal is restored.
    """
    import termios
    import tty

    handlers: dict[int, Any] = {}
    received = 0

    def end(number: int, frame: object) -> None:
        for one in handlers:
            signal.signal(one, signal.SIG_IGN)  # HUP often follows TERM and must not interrupt the rest
        raise _Ended(number)

    before = termios.tcgetattr(stdin)
    try:
        for number in ENDING:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as after nohup
                handlers[number] = signal.signal(number, end)
        tty.setcbreak(stdin)
        sys.stdout.write(ENTER)
        yield
    except _Ended as ended:
        received = ended.number
    finally:
        with suppress(OSError, termios.error):  # after a HUP there may be no terminal any more
            termios.tcsetattr(stdin, termios.TCSADRAIN, before)
        with suppress(OSError):
            sys.stdout.write(LEAVE)
            sys.stdout.flush()
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if received:
        signal.raise_signal(received)
        raise SystemExit(128 + received)  # if the handler has not ended the process


class Top:
    """The interactive display on a terminal."""

    def __init__(self, control: Control, arguments: argparse.Namespace, keys: int, output: IO[str]) -> None:
        """:param keys: the descriptor from which keys are read."""
        self._control = control
        self._arguments = arguments
        self._keys = keys
        self._output = output
        self._sort: str = arguments.sort
        self._update: dict[str, Any] | None = None
        self._paused = False
        self._help = False
        self._question: str | None = None
        self._note = ""
        self._unanswered = 0

    def __repr__(self) -> str:
        return f"<Top by {self._sort}>"

    def watch(self) -> int:
        """Show updates until ``q``, or until the forwarder closes the connection."""
        self.ask()
        while True:
            self.draw()
            updates = self._control.fileno()
            ready = [updates] if self._control.pending else select.select([updates, self._keys], [], [])[0]
            if updates in ready and not self.receive():
                return FINE
            if self._keys in ready and not self.read_keys():
                return FINE

    def read_keys(self) -> bool:
        """Handle the pressed keys; return False to quit."""
        keys = os.read(self._keys, 64).decode("utf-8", "replace")
        return bool(keys) and all(self.pressed(key) for key in keys)

    def _size(self) -> tuple[int, int]:
        width, height = shutil.get_terminal_size()
        return width, height

    def ask(self) -> None:
        """Request updates with the present options."""
        rows = self._arguments.limit or self._size()[1] - FRAME
        self._control.send("top", (), _options(self._arguments, self._sort, rows))
        self._unanswered += 1

    def receive(self) -> bool:
        """Receive an update; return whether more follow."""
        event, _ = self._control.receive()
        if event is None:
            self._unanswered -= 1
            return self._unanswered > 0
        if not self._paused:
            self._update = event
        return True

    def draw(self) -> None:
        """Draw the last update."""
        width, height = self._size()
        note = self._note if self._question is None else f"kill session number: {self._question}"
        lines = screen(self._update, ScreenState(self._paused, self._help, note), width, height)
        self._output.write(_HOME + "\n".join(line + _REST_OF_LINE for line in lines))
        self._output.flush()

    def pressed(self, key: str) -> bool:
        """Handle one key; return False to quit."""
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
        """Handle one key of the number of a session to kill."""
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
        """Kill a session over a second connection, so that the updates continue; return a message."""
        try:
            with Control(self._arguments.socket) as other:
                other.ask("kill", (number,))
        except ControlError as problem:
            return str(problem)
        return f"session {number} is killed"
