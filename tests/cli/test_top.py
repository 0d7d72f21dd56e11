"""Tests of ``portfwd top``: looks one behind the other, and a terminal with keys."""

from __future__ import annotations

import argparse
import io
import json
import os
import pty
import signal
import sys
import termios
from typing import Any, TextIO

from portfwd.cli import top
from portfwd.cli.control import Control
from portfwd.cli.main import make_parser
from tests.cli.scripted import ControlTestCase
from tests.cli.test_top_screen import LOOK


class PrintTests(ControlTestCase):
    """Where there is no terminal."""

    def test_looks(self) -> None:
        """Each look is printed behind the one before."""
        self.forwarder.says("top", {"looks": 2}, events=[LOOK, LOOK])
        code, out, _ = self.run_there(
            "top", "-n", "2", "--interval", "2s", "--rule", "web", "--sort", "up-rate", "--limit", "5"
        )
        self.assertEqual(code, 0)
        self.assertEqual(out.count("portfwd 1.2.3 running"), 2)
        self.assertNotIn("\x1b", out)
        (asked,) = self.forwarder.lines()
        self.assertEqual(
            asked[2],
            {"sort": "to-upstream-rate", "interval": "2s", "limit": "5", "rule": "web", "count": "2"},
        )

    def test_json(self) -> None:
        """For programs: a line for each, and the end."""
        self.forwarder.says("top", {"looks": 1}, events=[LOOK])
        _, out, _ = self.run_there("top", "--json")
        one, two = map(json.loads, out.splitlines())
        self.assertEqual((one["sessions"], two["result"]["looks"]), (1, 1))

    def test_interrupted(self) -> None:
        """Ctrl-C is how it usually ends."""

        def interrupted(*arguments: object) -> None:
            raise KeyboardInterrupt

        self.patch(Control, "watch", interrupted)
        self.assertEqual(self.run_there("top"), (0, "", ""))


class Scripted:
    """
    A control connection that the test speaks for.

    :ivar asked: options of each ``top``.
    :ivar coming: what `receive` gives, one after the other.
    """

    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []
        self.coming: list[tuple[dict[str, Any] | None, dict[str, Any]]] = []
        self.reader, self._writer = os.pipe()

    def send(self, command: str, words: object, options: dict[str, str]) -> None:
        self.asked.append(options)

    def look(self, look: dict[str, Any] | None = None) -> None:
        """Something comes: a look, or None for the end of one ``top``."""
        self.coming.append((look, {}))
        os.write(self._writer, b"x")

    def fileno(self) -> int:
        return self.reader

    @property
    def pending(self) -> bool:
        return False

    def receive(self) -> tuple[dict[str, Any] | None, dict[str, Any]]:
        os.read(self.reader, 1)
        return self.coming.pop(0)

    def close(self) -> None:
        os.close(self.reader)
        os.close(self._writer)


class KeyTests(ControlTestCase):
    """A terminal."""

    def setUp(self) -> None:
        super().setUp()
        self.scripted = Scripted()
        self.addCleanup(self.scripted.close)
        self.keys, self.typed = os.pipe()
        self.addCleanup(os.close, self.keys)
        self.addCleanup(lambda: self.typed >= 0 and os.close(self.typed))
        self.output = io.StringIO()
        self.patch(top.shutil, "get_terminal_size", lambda: os.terminal_size((100, 10)))

    def watch(self, *words: str, keys: str = "q") -> str:
        """Look and type; what was drawn."""
        arguments: argparse.Namespace = make_parser().parse_args(
            ["top", "--socket", self.forwarder.path, *words]
        )
        os.write(self.typed, keys.encode())
        made = top.Top(self.scripted, arguments, self.keys, self.output)  # type: ignore[arg-type]
        self.assertEqual(made.watch(), 0)
        return self.output.getvalue()

    def test_quit(self) -> None:
        """Any key for it quits."""
        self.scripted.look(LOOK)
        for key in ("q", "Q", "\x03", "\x04"):
            self.watch(keys=key)
        self.assertEqual(len(self.scripted.asked), 4)

    def test_terminal_gone(self) -> None:
        """So does a terminal that is closed."""
        os.close(self.typed)
        self.typed = -1
        arguments = make_parser().parse_args(["top", "--socket", self.forwarder.path])
        made = top.Top(self.scripted, arguments, self.keys, self.output)  # type: ignore[arg-type]
        self.assertIn("by rate", repr(made))
        self.assertEqual(made.watch(), 0)

    def test_size(self) -> None:
        """As many sessions are asked for as fit, unless it is said how many."""
        self.watch()
        self.watch("--limit", "3")
        self.assertEqual([one["limit"] for one in self.scripted.asked], ["5", "3"])

    def test_sort(self) -> None:
        """A key for an order asks anew; the answer of the ``top`` before is no end."""
        self.scripted.look(LOOK)
        self.watch(keys="bdq")
        self.assertEqual([one["sort"] for one in self.scripted.asked], ["rate", "bytes", "to-client-rate"])

    def test_ends(self) -> None:
        """It ends when the forwarder says that it was the last look."""
        arguments = make_parser().parse_args(["top", "--socket", self.forwarder.path, "-n", "1"])
        made = top.Top(self.scripted, arguments, self.keys, self.output)  # type: ignore[arg-type]
        os.write(self.typed, b"u")
        # Two are under way then: the end of the first is none.
        made.ask()
        self.assertTrue(made.read_keys())
        for look in (LOOK, None, LOOK):
            self.scripted.look(look)
            self.assertTrue(made.receive())
        self.scripted.look(None)
        self.assertFalse(made.receive())

    def test_ends_by_itself(self) -> None:
        """So it does in the loop."""
        self.scripted.look(LOOK)
        self.scripted.look(None)
        drawn = self.watch("-n", "1", keys="")
        self.assertIn("1 session of 9 in all", drawn)
        self.assertEqual(self.scripted.asked[0]["count"], "1")

    def test_pause(self) -> None:
        """While it is paused the look stays."""
        arguments = make_parser().parse_args(["top", "--socket", self.forwarder.path])
        made = top.Top(self.scripted, arguments, self.keys, self.output)  # type: ignore[arg-type]
        self.scripted.look(LOOK)
        self.scripted.look(LOOK | {"sessions": 99})
        made.receive()
        made.pressed(" ")
        made.receive()
        made.draw()
        self.assertIn("PAUSED", self.output.getvalue())
        self.assertNotIn("99 sessions", self.output.getvalue())

    def test_kill(self) -> None:
        """A number is asked for, can be mended, and the session is killed by another connection."""
        self.forwarder.says("kill", {"killed": 1})
        arguments = make_parser().parse_args(["top", "--socket", self.forwarder.path])
        made = top.Top(self.scripted, arguments, self.keys, self.output)  # type: ignore[arg-type]
        for key in "k19x\x7f7":
            self.assertTrue(made.pressed(key))
        made.draw()
        self.assertIn("kill session number: 17", self.output.getvalue())
        made.pressed("\r")
        made.draw()
        self.assertIn("session 17 is killed", self.output.getvalue())
        self.assertEqual(self.forwarder.lines(), [("kill", ("17",), {})])

    def test_kill_not(self) -> None:
        """An empty number or Escape kills no session; a refusal of the forwarder is shown."""
        arguments = make_parser().parse_args(["top", "--socket", self.forwarder.path])
        made = top.Top(self.scripted, arguments, self.keys, self.output)  # type: ignore[arg-type]
        for keys in ("k\r", "k1\x1b", "k1q"):
            for key in keys:
                self.assertTrue(made.pressed(key))
        self.assertEqual(self.forwarder.lines(), [])
        self.forwarder.refuses("kill", "not-found", "there is no open session 1")
        for key in "k1\n":
            made.pressed(key)
        made.draw()
        self.assertIn("there is no open session 1", self.output.getvalue())


class TerminalTests(ControlTestCase):
    """A terminal as it is."""

    def test_terminal(self) -> None:
        """It is put into the state that keys need, and back, also after an accident."""
        controller, terminal = pty.openpty()
        self.addCleanup(os.close, controller)
        stdin: TextIO = os.fdopen(terminal)
        self.addCleanup(stdin.close)
        before, during = termios.tcgetattr(terminal), []

        class Screen(io.StringIO):
            """Standard output that looks at the terminal's state whenever something is written."""

            def isatty(self) -> bool:
                return True

            def write(self, text: str) -> int:
                during.append(termios.tcgetattr(terminal))
                return super().write(text)

        screen = Screen()
        self.patch(sys, "stdin", stdin)
        self.patch(sys, "stdout", screen)
        self.patch(sys, "stderr", io.StringIO())
        arguments = make_parser().parse_args(["top", "--socket", self.forwarder.path])
        self.assertEqual(top.run(arguments), 1)  # the forwarder answers nothing and leaves
        self.assertNotEqual(during[0], before)
        self.assertEqual(termios.tcgetattr(terminal), before)
        self.assertIn("\x1b[?1049l", screen.getvalue())

    def test_signals(self) -> None:
        """A signal that ends the process restores the terminal first; a second one does not disturb that."""
        controller, terminal = pty.openpty()
        self.addCleanup(os.close, controller)
        stdin: TextIO = os.fdopen(terminal)
        self.addCleanup(stdin.close)
        before = termios.tcgetattr(terminal)
        screens: list[str] = []
        for number in top.ENDING:
            screen = io.StringIO()
            self.patch(sys, "stdout", screen)

            def note(number: int, frame: object, screen: io.StringIO = screen) -> None:
                screens.append(screen.getvalue())
                self.assertEqual(termios.tcgetattr(terminal), before)

            kept = signal.signal(number, note)
            try:
                with self.assertRaises(SystemExit) as ended, top.raw_terminal(stdin):
                    try:
                        signal.raise_signal(number)
                    finally:
                        signal.raise_signal(signal.SIGTERM)
                self.assertIs(signal.getsignal(number), note)
            finally:
                signal.signal(number, kept)
            self.assertEqual(ended.exception.code, 128 + number)
        self.assertEqual(screens, [top.ENTER + top.LEAVE] * len(top.ENDING))

    def test_whole(self) -> None:
        """On a terminal it runs until ``q``."""
        controller, terminal = pty.openpty()
        self.addCleanup(os.close, controller)
        stdin, stdout = os.fdopen(terminal), io.StringIO()
        self.addCleanup(stdin.close)
        stdout.isatty = lambda: True  # type: ignore[method-assign]
        self.forwarder.says("top", {"looks": 1}, events=[LOOK])
        self.patch(sys, "stdin", stdin)
        self.patch(sys, "stdout", stdout)
        arguments = make_parser().parse_args(["top", "--socket", self.forwarder.path])
        self.assertEqual(top.run(arguments), 0)
        self.assertIn("1 session of 9 in all", stdout.getvalue())
