"""Directories whose paths are short enough for the names of unix sockets, wherever the tests run."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase


def short_directory(case: SynchronousTestCase) -> Path:
    """
    A new directory, removed when the test ends.

    The name of a unix socket has at most 107 bytes (unix(7)). Paths of `mktemp` lie under the directory where
    trial was started and have the name of the test, so they fit on one machine and not on another.
    """
    made = tempfile.mkdtemp(prefix="portfwd-")
    case.addCleanup(shutil.rmtree, made, ignore_errors=True)  # a test may have removed it
    return Path(made)
