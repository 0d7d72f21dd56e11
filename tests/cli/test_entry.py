"""Tests of what the installed program calls."""

from __future__ import annotations

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
