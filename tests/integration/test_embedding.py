"""Forwarders inside a program, under each reactor that the platform has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import TestCase

PROGRAM = Path(__file__).with_name("embedding.py")
ROOT = PROGRAM.parents[2]
EXPECTED = "hello\nTrue\nHELLO\nTrue\nhello\nTrue\ncalls: 0\nreaders: 0\n"


class EmbeddingTests(TestCase):
    """One program for each reactor."""

    def _run_under(self, reactor: str) -> None:
        done = subprocess.run(
            [sys.executable, str(PROGRAM), reactor], capture_output=True, text=True, timeout=60, cwd=ROOT
        )
        self.assertEqual(done.stdout, EXPECTED, done.stderr)

    def test_asyncio(self) -> None:
        """Under asyncio's event loop everything works, and a stop leaves nothing behind."""
        self._run_under("asyncio")

    def test_select(self) -> None:
        """Under select() as well."""
        self._run_under("select")

    def test_default(self) -> None:
        """Under the reactor that Twisted takes by itself as well."""
        self._run_under("default")
