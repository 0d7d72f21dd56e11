"""Tests for `bench.processes`."""

import os
import sys
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from bench.processes import (
    LabError,
    StatLine,
    complaint,
    cpu_seconds,
    memory,
    parse_listening,
    parse_stat,
    run,
    start,
    tree,
)


class ParseTests(SynchronousTestCase):
    """Reading ``/proc``."""

    def test_stat(self) -> None:
        """A command name with blanks and parentheses does not shift the fields."""
        line = "42 (a) b) c) S 7 42 42 0 -1 4194560 1 2 3 4 11 22 33 44 20 0 1 0 5 6 7"
        self.assertEqual(parse_stat(line), StatLine(7, 33, 77))

    def test_listening(self) -> None:
        """Only sockets that listen count, by their local port."""
        text = (
            "  sl  local_address rem_address   st\n"
            "   0: 0100007F:1F90 00000000:0000 0A 0\n"
            "   1: 0100007F:1F91 0100007F:1F90 01 0\n"
            "   2: 00000000000000000000000000000000:0050 00000000000000000000000000000000:0000 0A 0\n"
        )
        self.assertEqual(parse_listening(text), {8080, 80})

    def test_complaint(self) -> None:
        """The line that names an error is quoted, else the last one, else that there is none."""
        self.assertEqual(complaint("hello\nx: error: bad\n   ^~~\n"), "x: error: bad")
        self.assertEqual(complaint("hello\nbye\n\n"), "bye")
        self.assertEqual(complaint(""), "it said nothing")


class ProgramTests(SynchronousTestCase):
    """Programs that really run."""

    def test_run_failing(self) -> None:
        """A failed program raises, with its words."""
        error = self.assertRaises(LabError, run, ["sh", "-c", "echo error: no luck >&2; exit 3"], 5)
        self.assertIn("exit 3: error: no luck", str(error))

    def test_run_too_long(self) -> None:
        """A program that does not end in time is ended."""
        self.assertIn("not finished", str(self.assertRaises(LabError, run, ["sleep", "30"], 0.1)))

    def test_accounts_for_children(self) -> None:
        """CPU time of children counts, of living ones and of those that were waited for."""
        burn = "n = 0\nwhile n < 3000000: n += 1\n"
        script = (
            "import subprocess, sys\n"
            f"subprocess.run([sys.executable, '-c', {burn!r}])\n"
            "print('burnt', flush=True); sys.stdin.read()"
        )
        program = start("burner", [sys.executable, "-c", script], None)
        self.addCleanup(program.stop)
        self.assertEqual(program.ask("", 30), "burnt")
        self.assertGreater(cpu_seconds(program.pid), 0.05)
        self.assertGreater(memory(program.pid).resident, 1 << 20)

    def test_pipes(self) -> None:
        """Bytes that lie in a pipe count once, though both ends are open."""
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        self.addCleanup(os.close, writing)
        before = memory(os.getpid())
        os.write(writing, b"x" * 1000)
        self.assertEqual(memory(os.getpid()).piped - before.piped, 1000)
        self.assertGreaterEqual(before.pipe_room, 4096)

    def test_stop_ends_children(self) -> None:
        """Stopping a program ends its children too, even those that ignore the polite signal."""
        program = start("parent", ["sh", "-c", "(trap '' TERM; sleep 60) & echo up; wait"], None)
        if program.popen.stdout is None:
            self.fail("no pipe")
        program.popen.stdout.readline()
        children = tree(program.pid)
        self.assertGreater(len(children), 1)
        program.stop(seconds=0.2)
        deadline = time.monotonic() + 5
        while any(_runs(pid) for pid in children) and time.monotonic() < deadline:
            os.sched_yield()
        self.assertFalse([pid for pid in children if _runs(pid)])

    def test_exit_is_noticed(self) -> None:
        """Waiting for output of a program that has exited fails at once, with its words."""
        log = Path(self.mktemp())
        program = start("quitter", ["sh", "-c", "echo error: gone; exit 7"], log)
        self.addCleanup(program.stop)
        error = self.assertRaises(LabError, program.wait_output, "ready", 10)
        self.assertEqual(str(error), "quitter exited with 7: error: gone")


def _runs(pid: int) -> bool:
    try:
        return parse_running(Path(f"/proc/{pid}/stat").read_text())
    except OSError:
        return False


def parse_running(text: str) -> bool:
    """Whether a process is neither dead nor waiting to be reaped."""
    return text.rpartition(")")[2].split()[0] not in "ZX"
