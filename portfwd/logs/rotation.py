# -*- test-case-name: tests.logs.test_rotation -*-
"""
Rotates a log file as Twisted does: ``NAME`` becomes ``NAME.1``, ``NAME.1`` becomes ``NAME.2``, and so on.

No file is removed. A process that has the file open continues to write into it under its new name.
"""

from __future__ import annotations

import os


def rotate(path: str) -> None:
    """
    Rename the file at `path` to ``.1``, and each older one to the next number.

    :raises OSError: a file cannot be renamed.
    """
    folder, name = os.path.split(path)
    numbers = []
    for other in os.listdir(folder or "."):
        stem, _, number = other.rpartition(".")
        if stem == name and number.isdecimal():
            numbers.append(int(number))
    for moved in sorted(numbers, reverse=True):
        os.rename(f"{path}.{moved}", f"{path}.{moved + 1}")
    os.rename(path, f"{path}.1")
