# -*- test-case-name: tests.logs.test_rotation -*-
"""
Moves a log file out of the way as Twisted does: ``NAME`` becomes ``NAME.1``, and that ``NAME.2``.

It removes nothing. Whoever has the file open goes on writing into it, under its new name.
"""

from __future__ import annotations

import os


def rotate(path: str) -> None:
    """
    Move the file at `path` to ``.1``, and those that were moved before one further.

    :raises OSError: it cannot be moved.
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
