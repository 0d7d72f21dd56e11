# -*- test-case-name: tests.rules.test_meant -*-
"""
Suggestions for values and patterns in the spelling of other programs.

Each function returns the spelling of portfwd, or an empty text. The value is refused in any case, because
``64kb`` could also mean kilobits.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from portfwd.quantities import format_size

_UNIT: Final = {
    "sec": "s", "secs": "s", "second": "s", "seconds": "s",
    "min": "m", "mins": "m", "minute": "m", "minutes": "m",
    "hr": "h", "hrs": "h", "hour": "h", "hours": "h",
    "day": "d", "days": "d", "msec": "ms", "msecs": "ms", "millis": "ms",
}  # fmt: skip
_DURATION = re.compile(r"(\d{1,9}) ?([a-z]+)", re.ASCII | re.IGNORECASE)
_SIZE = re.compile(r"(\d{1,9}) ?([kmg])(?:i?b)?", re.ASCII | re.IGNORECASE)
_BITS = re.compile(r"(\d{1,9}) ?([kmg]?)(?:bits?/s|bit|bps)", re.ASCII | re.IGNORECASE)
_THOUSANDS: Final = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
_PARTIAL = re.compile(r"(?:\d{1,3}\.){1,3}|\d{1,3}(?:\.\d{1,3}){1,2}", re.ASCII)
#: Most networks in a suggestion. More would not help the reader.
_MOST_NETWORKS: Final = 4
_MOST_PATTERN: Final = 64


def duration(text: str) -> str:
    """``2min`` is ``2m``."""
    match = _DURATION.fullmatch(text)
    unit = None if match is None else _UNIT.get(match[2].lower())
    return "" if match is None or unit is None else f"write {match[1]}{unit}"


def size(text: str) -> str:
    """``64kb`` is ``64KiB``."""
    match = _SIZE.fullmatch(text)
    return "" if match is None else f"write {match[1]}{match[2].upper()}iB"


def bandwidth(text: str) -> str:
    """``10Mbit/s`` is ``1250000/s``, since bandwidth is in bytes."""
    match = _BITS.fullmatch(text)
    if match is None:
        return size(text.removesuffix("/s").removesuffix("ps"))
    number = int(match[1]) * _THOUSANDS[match[2].lower()] // 8
    return f"bandwidth is in bytes: write {format_size(number)}/s"


def number(text: str) -> str:
    """``1k`` is ``1000``."""
    match = re.fullmatch(r"(\d{1,9}) ?([kmg])", text, re.ASCII | re.IGNORECASE)
    return "" if match is None else f"write {int(match[1]) * _THOUSANDS[match[2].lower()]}"


def pattern(text: str) -> str:
    """Convert an ``allow`` or ``deny`` pattern that is a word, a range, a netmask, or incomplete."""
    if text.lower() in {"all", "any", "everyone"}:
        return "write * for every address"
    if text.lower() == "unix" or text.lower().startswith(("unix:", "unix-dgram:", "@")):
        return "write unix for every client of a unix socket"
    if len(text) > _MOST_PATTERN:
        return ""
    if _PARTIAL.fullmatch(text):
        return f"write {text.rstrip('.')}.*"
    for read in (_netmask, _range):
        try:
            found = read(text)
        except ValueError:
            continue
        if found:
            return f"write {found}"
    if re.fullmatch(r"[A-Za-z][\w.-]*", text, re.ASCII):
        return "names are not looked up: write the address"
    return ""


def _netmask(text: str) -> str:
    address, slash, mask = text.partition("/")
    if not slash or "." not in mask:
        return ""
    return str(ipaddress.IPv4Network(f"{ipaddress.IPv4Address(address)}/{mask}", strict=False))


def _range(text: str) -> str:
    first, dash, last = text.partition("-")
    if not dash:
        return ""
    networks = []
    for network in ipaddress.summarize_address_range(
        ipaddress.IPv4Address(first.strip()), ipaddress.IPv4Address(last.strip())
    ):
        networks.append(str(network).removesuffix("/32"))
        if len(networks) > _MOST_NETWORKS:
            return "networks such as 10.0.0.0/28, with blanks between"
    return " ".join(networks)
