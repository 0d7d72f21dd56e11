# -*- test-case-name: tests.bench.test_pictures -*-
"""
Two kinds of picture, as SVG text: lines over a logarithmic axis, and bars.

Small and plain on purpose: no dependency, no style sheet from elsewhere, and
readable on a light and on a dark page. The numbers are written out in bars; a
line's are in the table beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Final

from attrs import frozen

from bench.rounds import Spread

_COLOURS: Final = ("#0b6bcb", "#d9480f", "#2b8a3e", "#9c36b5", "#c2255c", "#0c8599", "#e67700", "#5c5f66")
_FONT: Final = 'font-family="system-ui, sans-serif" font-size="13"'
_INK: Final = "#777"


@frozen
class Line:
    """One relay's figure over sizes: pairs of bytes and spread."""

    name: str
    points: tuple[tuple[int, Spread], ...]


@frozen
class Bar:
    """One contestant's figure; `ours` is drawn in our colour."""

    name: str
    value: Spread
    ours: bool


def _text(x: float, y: float, said: str, anchor: str = "start", colour: str = _INK) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" {_FONT}>{escape(said)}</text>'
    )


def _rule(x1: float, y1: float, x2: float, y2: float, colour: str = _INK, width: float = 1) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
        f' stroke="{colour}" stroke-width="{width}"/>'
    )


def _svg(width: int, height: int, title: str, parts: Sequence[str]) -> str:
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">\n'
        f"<title>{escape(title)}</title>\n{_text(10, 22, title)}\n{body}\n</svg>\n"
    )


def nice_top(value: float) -> float:
    """The least of 1, 2, 2.5, 5 times a power of ten that is not below `value`."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= value * (1 - 1e-9))


def size_name(size: int) -> str:
    """4096 is ``4K``."""
    return f"{size // 2**20}M" if size >= 2**20 else f"{size // 1024}K"


def lines(title: str, unit: str, series: Sequence[Line]) -> str:
    """
    Lines over sizes; a thin vertical stroke at each point spans least and greatest.

    :param unit: of the vertical axis, which begins at 0.
    :raises ValueError: if there is no point at all.
    """
    sizes = sorted({size for line in series for size, _ in line.points})
    if not sizes:
        raise ValueError("nothing to draw")
    width, height, left, top, bottom = 760, 420, 60, 50, 370
    right = 590
    highest = nice_top(max(spread.high for line in series for _, spread in line.points))
    low, high = math.log2(sizes[0]), math.log2(sizes[-1])

    def x(size: int) -> float:
        return left + (right - left) * ((math.log2(size) - low) / (high - low) if high > low else 0.5)

    def y(value: float) -> float:
        return bottom - (bottom - top) * value / highest

    parts = []
    for step in range(6):
        value = highest * step / 5
        parts.append(_rule(left, y(value), right, y(value), "#7773"))
        parts.append(_text(left - 8, y(value) + 4, f"{value:g}", "end"))
    parts.append(_text(left - 8, top - 12, unit, "end"))
    parts += [_text(x(size), bottom + 20, size_name(size), "middle") for size in sizes]
    parts.append(_text((left + right) / 2, bottom + 42, "read size, bytes", "middle"))
    for number, line in enumerate(series):
        if not line.points:
            continue
        colour = _COLOURS[number % len(_COLOURS)]
        path = " ".join(f"{x(size):.1f},{y(spread.median):.1f}" for size, spread in line.points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2.5"/>')
        for size, spread in line.points:
            parts.append(_rule(x(size), y(spread.low), x(size), y(spread.high), colour))
            parts.append(f'<circle cx="{x(size):.1f}" cy="{y(spread.median):.1f}" r="3.5" fill="{colour}"/>')
        parts.append(_rule(right + 16, top + 22 * number, right + 40, top + 22 * number, colour, 2.5))
        parts.append(_text(right + 48, top + 4 + 22 * number, line.name))
    return _svg(width, height, title, parts)


def bars(title: str, bars_: Sequence[Bar], digits: int) -> str:
    """
    Horizontal bars from 0; a thin stroke spans least and greatest.

    :raises ValueError: if there is no bar.
    """
    if not bars_:
        raise ValueError("nothing to draw")
    width, left, right, top, pitch = 760, 150, 660, 40, 26
    height = top + pitch * len(bars_) + 12
    highest = max(bar.value.high for bar in bars_) or 1.0
    parts = []
    for number, bar in enumerate(bars_):
        at = top + pitch * number
        length = (right - left) * bar.value.median / highest
        colour = _COLOURS[0] if bar.ours else "#909296"
        parts.append(_text(left - 8, at + 14, bar.name, "end"))
        parts.append(f'<rect x="{left}" y="{at}" width="{max(length, 0):.1f}" height="18" fill="{colour}"/>')
        low, high = (left + (right - left) * end / highest for end in (bar.value.low, bar.value.high))
        parts.append(_rule(low, at + 9, high, at + 9, "#222"))
        parts.append(_text(max(left + length, high) + 8, at + 14, f"{bar.value.median:.{digits}f}"))
    return _svg(width, height, title, parts)
