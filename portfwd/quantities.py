# -*- test-case-name: tests.test_quantities -*-
"""
Sizes and durations as texts: those of rules files, of command lines and of options of filters.

They are exact: `parse_size` and `parse_duration` read what `format_size` and `format_duration` write as the
same number.
"""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction
from typing import Final

# At most forty digits on either side of the point: enough for any size, and it bounds the work.
_SIZE = re.compile(r"(\d{1,40}(?:\.\d{1,40})?)(B|KiB|MiB|GiB|TiB|kB|KB|MB|GB|TB|K|M|G|T|)", re.ASCII)
_SIZE_UNITS: Final = {
    "": 1, "B": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4,
    "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4,
    "kB": 1000, "KB": 1000, "MB": 1000**2, "GB": 1000**3, "TB": 1000**4,
}  # fmt: skip
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", re.ASCII)
_SECONDS = re.compile(r"\d+(?:\.\d+)?", re.ASCII)
_DURATION_UNITS: Final = {
    "ms": Decimal("0.001"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
    "d": Decimal(86400),
}
#: Longest accepted duration, ten years.
MAX_DURATION: Final = 10 * 365 * 86400
#: Largest accepted size: that of a signed 64 bit number.
MAX_SIZE: Final = 2**63 - 1


def parse_size(text: str) -> int:
    """
    Parse ``64KiB``, ``1MiB``, ``1.5GB`` or a plain number of bytes.

    :raises ValueError: it is none of these; the message says what is expected.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError("expected a size such as 64KiB, 1MiB or 4096")
    number = Fraction(match[1]) * _SIZE_UNITS[match[2]]  # exact, where Decimal rounds at 28 digits
    if number.denominator != 1:
        raise ValueError("a size is a whole number of bytes")
    if number > MAX_SIZE:
        raise ValueError("that size is larger than any machine's memory")
    return int(number)


def format_size(size: int) -> str:
    """Format a size as the shortest exact text for `parse_size`."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size and size % _SIZE_UNITS[unit] == 0:
            return f"{size // _SIZE_UNITS[unit]}{unit}"
    return str(size)


def parse_duration(text: str) -> float:
    """
    Parse ``30s``, ``5m``, ``1h30m``, ``250ms`` or a plain number of seconds.

    :returns: seconds.
    :raises ValueError: it is none of these; the message says what is expected.
    """
    total = Decimal(0)
    if _SECONDS.fullmatch(text):
        total = Decimal(text)
    else:
        # `match` tries one position. `finditer` would try each digit of a long number.
        position = 0
        while (match := _DURATION_PART.match(text, position)) is not None:
            total += Decimal(match[1]) * _DURATION_UNITS[match[2]]
            position = match.end()
        if position != len(text) or not text:
            raise ValueError("expected a duration such as 30s, 5m, 1h or 250ms")
    if total > MAX_DURATION:
        raise ValueError("that duration is longer than ten years")
    return float(total)


def format_duration(seconds: float) -> str:
    """Format a duration as the shortest exact text for `parse_duration`."""
    if not seconds:
        return "0s"
    exact = Decimal(repr(float(seconds)))
    for unit in ("d", "h", "m", "s", "ms"):
        count = exact / _DURATION_UNITS[unit]
        if count == count.to_integral_value():
            return f"{int(count)}{unit}"
    return f"{exact:f}s"
