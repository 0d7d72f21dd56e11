# -*- test-case-name: tests.cli.test_columns -*-
"""
Formats tables, sizes and times for terminals.

All cells are escaped, so that text of files and peers cannot control the terminal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from portfwd.values import printable

_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def table(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> str:
    """
    A table with a head and two blanks between columns.

    :param right: the heads of right-aligned columns.
    """
    lines = [list(head), *([printable(cell) for cell in row] for row in rows)]
    return _joined(head, lines, _widths(lines), right)


def fitted_table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    right: Sequence[str],
    width: int,
    *,
    shrink: Mapping[str, int],
    drop: Sequence[str],
) -> str:
    """
    A table of at most `width` characters, if possible.

    First, cells in the columns of `shrink` are shortened in the middle, down to the given width. Then columns
    of `drop` are left out, in this order. Then the columns of `shrink` are shortened further.
    """
    lines = [list(head), *([printable(cell) for cell in row] for row in rows)]
    left_out: set[str] = set()
    for name in ("", *drop):
        left_out.add(name)
        kept = [index for index, title in enumerate(head) if title not in left_out]
        shown = [[line[index] for index in kept] for line in lines]
        widths = _shrunk(shown[0], _widths(shown), shrink, width)
        if _total(widths) <= width:
            break
    else:
        widths = _shrunk(shown[0], widths, dict.fromkeys(shrink, 1), width)
    cut = [[shortened(cell, most) for cell, most in zip(line, widths, strict=True)] for line in shown]
    return _joined(shown[0], cut, widths, right)


def shortened(text: str, width: int) -> str:
    """`text` in at most `width` characters; a longer text is shortened in the middle."""
    if len(text) <= width:
        return text
    head = width // 2
    return text[:head] + "\u2026" + text[len(text) - (width - head - 1) :] if width > 1 else text[:width]


def _widths(lines: Sequence[Sequence[str]]) -> list[int]:
    return [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + 2 * (len(widths) - 1)


def _shrunk(head: Sequence[str], widths: Sequence[int], least: Mapping[str, int], width: int) -> list[int]:
    """The widths after the widest columns of `least` are reduced until they fit, each down to its least."""
    found = list(widths)
    while _total(found) > width:
        candidates = [i for i, name in enumerate(head) if name in least and found[i] > least[name]]
        if not candidates:
            break
        found[max(candidates, key=lambda index: found[index])] -= 1
    return found


def _joined(
    head: Sequence[str], lines: Sequence[Sequence[str]], widths: Sequence[int], right: Sequence[str]
) -> str:
    return "\n".join(
        "  ".join(
            cell.rjust(width) if name in right else cell.ljust(width)
            for cell, width, name in zip(line, widths, head, strict=True)
        ).rstrip()
        for line in lines
    )


def size_text(size: float | None) -> str:
    """A size in bytes as a short text: ``0 B``, ``1.5 KiB``, ``812 MiB``; ``-`` for None."""
    if size is None:
        return "-"
    unit = 0
    while size >= 1023.5 and unit < len(_UNITS) - 1:
        size /= 1024
        unit += 1
    return f"{size:.1f} {_UNITS[unit]}" if unit and size < 99.95 else f"{size:.0f} {_UNITS[unit]}"


def time_text(seconds: float) -> str:
    """A duration in its two largest units: ``3s``, ``2m05s``, ``4h12m``, ``3d07h``."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02}h"
