# -*- test-case-name: tests.cli.test_columns -*-
"""
Tables and figures for terminals: columns as wide as what is in them, sizes and times that fit.

Every cell is escaped: what comes from files and peers cannot move the cursor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from portfwd.values import printable

_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def table(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> str:
    """
    Rows under their heads, two blanks between columns.

    :param right: the heads of columns of numbers.
    """
    lines = [list(head), *([printable(cell) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if name in right else cell.ljust(width)
            for cell, width, name in zip(line, widths, head, strict=True)
        ).rstrip()
        for line in lines
    )


def size_text(size: float | None) -> str:
    """Bytes in three or four figures: ``0 B``, ``1.5 KiB``, ``812 MiB``; ``-`` for none."""
    if size is None:
        return "-"
    unit = 0
    while size >= 1023.5 and unit < len(_UNITS) - 1:
        size /= 1024
        unit += 1
    return f"{size:.1f} {_UNITS[unit]}" if unit and size < 99.95 else f"{size:.0f} {_UNITS[unit]}"


def time_text(seconds: float) -> str:
    """A length of time in its two largest units: ``3s``, ``2m05s``, ``4h12m``, ``3d07h``."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02}h"
