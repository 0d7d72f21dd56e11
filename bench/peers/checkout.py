# -*- test-case-name: tests.bench.test_peers -*-
"""Checkouts that are measured: places, commits, and the environment in which their Python runs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent.parent


def environment(root: Path = ROOT) -> dict[str, str]:
    """The lab's environment with the checkout at `root` first on Python's path."""
    path = os.pathsep.join(filter(None, (str(root), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


def commit(root: Path = ROOT) -> str:
    """Short name of the commit at `root`, with ``+`` when tracked files differ from it."""
    done = subprocess.run(
        ["git", "describe", "--always", "--abbrev=10", "--exclude=*", "--dirty=+"],
        cwd=root,
        capture_output=True,
        timeout=10,
        check=False,
    )
    return done.stdout.decode().strip() or "uncommitted"
