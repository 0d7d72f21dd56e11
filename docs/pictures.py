# -*- test-case-name: tests.test_docs -*-
"""
The picture of the architecture, as SVG, made from the import contract so that it cannot be wrong.

Each row is a layer of ``pyproject.toml``: it imports what is below it, and nothing above. Beside the rows
three ways pass, with a number at each layer where the way has a step.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

#: What is in a package, in words that fit its box.
ABOUT: Final = {
    "testing": "for authors of filters",
    "cli": "the portfwd command",
    "service": "daemon, build, run, operators, tls",
    "admin": "control socket, manhole, metrics",
    "listen": "sockets that accept",
    "relay": "sessions, dials, ends",
    "streams": "sides and flows",
    "upstreams": "pools, names, connects",
    "filters": "contract, chain, built-in",
    "rules": "text to rules",
    "wire": "protocols",
    "limits": "counts, rates",
    "logs": "access log",
    "metrics": "counters",
    "kernel": "epoll, splice, pipes",
    "values": "addresses, reasons",
    "errors": "the exceptions",
    "version": "",
}

#: Each way, its colour, and the layers of its steps in their order; the page describes them.
WAYS: Final = (
    ("chunk", "#b3261e", ("kernel", "streams", "filters", "streams", "relay", "logs")),
    ("rule", "#1a6b3c", ("service", "rules", "service", "filters", "relay", "listen")),
    ("reload", "#1f4e9e", ("service", "rules", "service", "listen", "relay")),
)

_ROW: Final = 64
_LEFT, _WIDTH, _TOP = 16, 700, 40
_FIRST_WAY, _WAY = 770, 70


def layers(root: Path) -> list[list[str]]:
    """The packages of each layer, the highest first."""
    contract = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
    return [[name.strip("() ") for name in layer.split(":")] for layer in contract["layers"]]


def architecture(root: Path) -> str:
    """
    The picture.

    :raises KeyError: a package has no words in `ABOUT`.
    """
    rows = layers(root)
    at = {name: number for number, row in enumerate(rows) for name in row}
    width, height = _FIRST_WAY + len(WAYS) * _WAY, _TOP + len(rows) * _ROW + 8
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="sans-serif" font-size="13">',
        f'<rect width="{width}" height="{height}" rx="8" fill="#ffffff"/>',
    ]
    for number, row in enumerate(rows):
        lines += _boxes(row, _TOP + number * _ROW)
    for number, (name, colour, steps) in enumerate(WAYS):
        lines += _way(name, colour, [at[step] for step in steps], _FIRST_WAY + number * _WAY)
    return "\n".join([*lines, "</svg>", ""])


def _boxes(row: list[str], top: int) -> Iterator[str]:
    width = _WIDTH // len(row)
    for place, name in enumerate(row):
        left = _LEFT + place * width
        yield (
            f'<rect x="{left}" y="{top}" width="{width - 8}" height="{_ROW - 14}" rx="5" '
            'fill="#eef1f6" stroke="#68707c"/>'
        )
        middle = left + (width - 8) // 2
        yield f'<text x="{middle}" y="{top + 21}" text-anchor="middle" font-weight="bold">{name}</text>'
        words = ABOUT[name]
        size = 11 if len(row) < 6 else 9
        yield f'<text x="{middle}" y="{top + 38}" text-anchor="middle" font-size="{size}">{words}</text>'


def _way(name: str, colour: str, steps: list[int], x: int) -> Iterator[str]:
    middles = [_TOP + step * _ROW + (_ROW - 14) // 2 for step in steps]
    yield f'<text x="{x}" y="24" text-anchor="middle" font-weight="bold" fill="{colour}">{name}</text>'
    yield (
        f'<line x1="{x}" y1="{min(middles)}" x2="{x}" y2="{max(middles)}" stroke="{colour}" '
        'stroke-width="2"/>'
    )
    for middle in sorted(set(middles)):
        numbers = ", ".join(str(number) for number, one in enumerate(middles, 1) if one == middle)
        yield f'<circle cx="{x}" cy="{middle}" r="15" fill="#ffffff" stroke="{colour}" stroke-width="2"/>'
        yield f'<text x="{x}" y="{middle + 5}" text-anchor="middle" fill="{colour}">{numbers}</text>'


def write(root: Path) -> Iterator[Path]:
    """Write the picture if it is not current; yield what was written."""
    path = root / "docs" / "explanation" / "architecture.svg"
    wanted = architecture(root)
    if not path.exists() or path.read_text() != wanted:
        path.write_text(wanted)
        yield path
