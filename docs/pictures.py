# -*- test-case-name: tests.test_docs -*-
"""
Pictures of the documentation, as SVG: an overview, and the architecture.

The overview shows the path of a connection, and below it what a terminal shows: the rules and
``portfwd top``, copied from a real run, without two of its columns.

The architecture is made from the import contract. Each row is a layer of ``pyproject.toml``: it imports the
layers below it, and none above. Beside the rows are three paths, with a number at each layer in which the
path has a step.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

#: The contents of a package, in words that fit its box.
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
    "quantities": "sizes, durations",
    "errors": "the exceptions",
    "extras": "missing libraries",
    "version": "",
}

#: Each path, its colour, and the layers of its steps in order; the page describes them.
WAYS: Final = (
    ("chunk", "#b3261e", ("kernel", "streams", "filters", "streams", "relay", "logs")),
    ("rule", "#1a6b3c", ("service", "rules", "service", "filters", "relay", "listen")),
    ("reload", "#1f4e9e", ("service", "rules", "service", "listen", "relay")),
)

#: The boxes of the overview, with their lines: what a connection passes.
STEPS: Final = (
    ("clients", ("TCP", "UDP", "unix sockets", "TLS")),
    ("listener", ("access list", "limits", "TLS, PROXY header")),
    ("filters", ("SNI, HTTP host, SOCKS", "faults, tee, record", "your own, in Python")),
    ("targets", ("balancing", "health checks", "failover")),
    ("upstreams", ("TCP", "UDP", "unix sockets", "TLS")),
)
#: What an operator gets, below the boxes.
OUTPUTS: Final = "access log · Prometheus metrics · control socket and portfwd top · reload without a restart"
#: A terminal.
TERMINAL: Final = """\
$ cat rules.conf
admin unix:/run/portfwd/admin.sock
web: 127.0.0.1:8080 -> 127.0.0.1:18081, 127.0.0.1:18082
    allow 127.0.0.0/8
db:  127.0.0.1:5432 -> 127.0.0.1:18083

$ portfwd run -c rules.conf &
$ portfwd top --count 1
portfwd 0.1.0.dev0 running, up 7s, 2 rules, 25 descriptors
2 sessions of 4 in all, to-upstream 23 B/s, to-client 2.7 MiB/s, by rate
ID  RULE  CLIENT           UPSTREAM         AGE  TO-UPSTREAM  TO-CLIENT     BYTES   A CALL  STATE
 2  web   127.0.0.1:49964  127.0.0.1:18081   6s       12 B/s  1.9 MiB/s  13.4 MiB  263 KiB  relaying
 1  web   127.0.0.1:49956  127.0.0.1:18081   6s       12 B/s  823 KiB/s   5.6 MiB  184 KiB  relaying"""

_ROW: Final = 64
_LEFT, _WIDTH, _TOP = 16, 700, 40
_FIRST_WAY, _WAY = 770, 70


def layers(root: Path) -> list[list[str]]:
    """The packages of each layer, the highest first."""
    contract = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
    return [[name.strip("() ") for name in layer.split(":")] for layer in contract["layers"]]


def architecture(root: Path) -> str:
    """
    The layers of packages.

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


def overview() -> str:
    """The path of a connection, and a terminal."""
    width, box, gap, lines = 940, 164, 20, TERMINAL.splitlines()
    top, terminal = 56, 228
    height = terminal + 34 + len(lines) * 18
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="sans-serif" font-size="13">',
        f'<rect width="{width}" height="{height}" rx="8" fill="#ffffff"/>',
        f'<rect x="{20 + box + gap // 2}" y="16" width="{3 * (box + gap)}" height="190" rx="8" '
        'fill="#f6f8fb" stroke="#1f4e9e"/>',
        f'<text x="{width // 2}" y="40" text-anchor="middle" font-weight="bold" font-size="16" '
        'fill="#1f4e9e">portfwd</text>',
        f'<text x="{width // 2}" y="194" text-anchor="middle" font-size="11">{OUTPUTS}</text>',
    ]
    for number, (name, words) in enumerate(STEPS):
        left = 20 + number * (box + gap)
        middle = left + box // 2
        drawn.append(
            f'<rect x="{left}" y="{top}" width="{box}" height="112" rx="5" fill="#eef1f6" stroke="#68707c"/>'
        )
        drawn.append(
            f'<text x="{middle}" y="{top + 24}" text-anchor="middle" font-weight="bold">{name}</text>'
        )
        for row, word in enumerate(words):
            drawn.append(f'<text x="{middle}" y="{top + 46 + row * 18}" text-anchor="middle">{word}</text>')
        if number:
            drawn.append(f'<text x="{left - gap // 2}" y="{top + 62}" text-anchor="middle">⇄</text>')
    drawn.append(
        f'<rect x="20" y="{terminal}" width="{width - 40}" height="{len(lines) * 18 + 16}" rx="6" '
        'fill="#1e2430"/>'
    )
    for row, line in enumerate(lines):
        colour = "#9ecbff" if line.startswith("$") else "#e6e9ef"
        text = line.replace("&", "&amp;").replace(">", "&gt;").replace(" ", "\u00a0")
        drawn.append(
            f'<text x="34" y="{terminal + 24 + row * 18}" font-family="monospace" font-size="13" '
            f'fill="{colour}">{text}</text>'
        )
    return "\n".join([*drawn, "</svg>", ""])


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
    """Write the pictures that are not current; yield what was written."""
    docs = root / "docs"
    for path, wanted in (
        (docs / "explanation" / "architecture.svg", architecture(root)),
        (docs / "overview.svg", overview()),
    ):
        if not path.exists() or path.read_text("utf-8") != wanted:
            path.write_text(wanted, "utf-8")
            yield path
