"""Runs the command line in this process, and writes files for it."""

from __future__ import annotations

import io
import os
import resource
import signal
import sys

from twisted.trial.unittest import SynchronousTestCase

from portfwd.cli.main import main

GOOD = """\
allow 10.0.0.0/8
web: :8080 -> 10.0.0.5:80, 10.0.0.6:80
    allow 10.1.*
    deny 10.1.0.1
"""


class CommandTestCase(SynchronousTestCase):
    """A test case with a command line."""

    def file(self, text: str | bytes, ending: str = ".conf") -> str:
        """Write a file and name it."""
        path = self.mktemp() + ending
        with open(path, "wb") as file:
            file.write(text if isinstance(text, bytes) else text.encode())
        return path

    def run_main(self, *words: str) -> tuple[int, str, str]:
        """Run a command: its exit code, standard output and standard error."""
        out, err = io.StringIO(), io.StringIO()
        self.patch(sys, "stdout", out)
        self.patch(sys, "stderr", err)
        try:
            code = main(words)
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else -1
        return code, out.getvalue(), err.getvalue()

    def limit_files(self, size: int) -> None:
        """Until the test ends, files cannot become larger than `size` bytes, as on a full disk."""
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        # Without this the signal ends the process.
        self.addCleanup(signal.signal, signal.SIGXFSZ, signal.signal(signal.SIGXFSZ, signal.SIG_IGN))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_FSIZE, before)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))

    def missing(self) -> str:
        """A path where nothing is."""
        return os.path.join(self.mktemp(), "none.conf")
