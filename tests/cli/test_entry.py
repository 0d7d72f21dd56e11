"""Tests of what the installed program calls."""

from __future__ import annotations

import signal
import subprocess
import sys

from tests.cli.running import CommandTestCase
from tests.integration.control_case import environment

#: Runs the words behind it, and tells whether the whole command line was imported.
ENTRY = """
import sys
from portfwd.cli.entry import main
code = main()
print("portfwd.cli.main" in sys.modules, file=sys.stderr)
raise SystemExit(code)
"""


class EntryTests(CommandTestCase):
    """The installed program."""

    def run_entry(self, *words: str) -> tuple[int, str]:
        """Its exit code, and whether the whole command line was imported."""
        done = subprocess.run(
            [sys.executable, "-c", ENTRY, *words],
            capture_output=True,
            text=True,
            env=environment() | {"PORTFWD_ADMIN": self.missing()},
            timeout=60,
            check=False,
        )
        return done.returncode, done.stderr.splitlines()[-1]

    def test_complete(self) -> None:
        """For the words of a shell little is imported, also where there is no forwarder."""
        self.assertEqual(self.run_entry("complete", "rules"), (0, "False"))

    def test_others(self) -> None:
        """Everything else is the command line's, mistakes too."""
        self.assertEqual(self.run_entry("init", "dns"), (0, "True"))
        code, said = self.run_entry("complete", "nonsense")
        self.assertEqual(code, 2)
        self.assertIn("invalid choice", said)


#: Runs a forwarder that gets a HUP and a USR1 before its modules are imported.
EARLY = """
import os
import signal
import sys
from portfwd.cli import entry
held = entry.hold_signals
def hold():
    held()
    for one in (signal.SIGHUP, signal.SIGUSR1):
        os.kill(os.getpid(), one)
entry.hold_signals = hold
raise SystemExit(entry.main())
"""


class EarlySignalTests(CommandTestCase):
    """Signals before a forwarder has handlers for them."""

    def test_held(self) -> None:
        """HUP and USR1 wait until the forwarder is ready, and INT then stops it in order."""
        rules = self.file("log access=off\n127.0.0.1:0 -> 127.0.0.1:9\n")
        process = subprocess.Popen(
            [sys.executable, "-c", EARLY, "run", "-c", rules],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment(),
        )
        self.addCleanup(process.kill)
        assert process.stdout is not None
        said = ""
        for line in process.stdout:
            said += line
            if "the rules are the same" in line or "nothing is different" in line:
                process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(60), 0, said)
        process.stdout.close()

    def test_interrupted(self) -> None:
        """An INT while the modules are imported ends it without a traceback."""
        code = "import os, signal; from portfwd.cli.entry import hold_signals; hold_signals();"
        done = subprocess.run(
            [sys.executable, "-c", code + "os.kill(os.getpid(), signal.SIGINT)"],
            capture_output=True,
            env=environment(),
            timeout=60,
            check=False,
        )
        self.assertEqual((done.returncode, done.stderr), (-signal.SIGINT, b""))
