# -*- test-case-name: tests.bench.test_peers -*-
"""The checkout that is measured: where it is, its commit, and the environment in which its Python runs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent.parent


def environment() -> dict[str, str]:
    """The lab's environment with this checkout first on Python's path."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


def commit() -> str:
    """Short name of its commit, with ``+`` when tracked files differ from it."""
    done = subprocess.run(
        ["git", "describe", "--always", "--abbrev=10", "--exclude=*", "--dirty=+"],
        cwd=ROOT,
        capture_output=True,
        timeout=10,
        check=False,
    )
    return done.stdout.decode().strip() or "uncommitted"
