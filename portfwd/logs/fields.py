# -*- test-case-name: tests.logs.test_fields -*-
"""
The fields of a log line: times, addresses, and escaped words.

The values of a summary come from files, from peers and from certificates. None of them may end a line, add a
field, or control the terminal on which the log is read.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from portfwd.values import Address, InetAddress, printable, unmapped

#: The text of an unknown value.
ABSENT: Final = "-"

# Printable ASCII without the blank, '"', '=' and the backslash.
_is_plain: Final = re.compile(r"[!#-<>-\[\]-~]+").fullmatch


# The ends of a time, by milliseconds. The last one is for values that round up to a whole second; they are
# cut.
_THOUSANDTHS: Final = (*(f".{number:03d}Z" for number in range(1000)), ".999Z")


@lru_cache(maxsize=4)
def _utc_second(epoch: int) -> str:
    # Thousands of lines may have the same second, and formatting a date is half of the cost of a line.
    return datetime.fromtimestamp(epoch, UTC).isoformat(timespec="seconds")[:-6]


def utc_time(epoch: float) -> str:
    """Format `epoch`, in seconds, as ``2026-01-31T12:00:00.000Z`` (RFC 3339, UTC), cut to the millisecond."""
    second = int(epoch)
    # A float of this size is exact to a quarter of a microsecond. 0.123 must not become 0.122.
    return _utc_second(second) + _THOUSANDTHS[int((epoch - second) * 1000 + 0.0005)]


def seconds(value: float | None) -> str:
    """Format a duration in seconds with six decimals; ``-`` for None."""
    return ABSENT if value is None else f"{value:.6f}"


def address(value: Address | None) -> str | None:
    """The text of an address, an IPv4-mapped one as IPv4; None if it is unknown."""
    if isinstance(value, InetAddress):
        host = value.host
        if ":" in host:
            host = unmapped(host)
            if ":" in host:
                return f"[{host}]:{value.port}"
        return f"{host}:{value.port}"
    return None if value is None else str(value)


def word(value: str | None) -> str:
    r"""
    Format the value after ``key=``, in double quotes if it would otherwise be ambiguous.

    Inside quotes, `printable` escapes unprintable characters, and a quote is ``\\"``. None is ``-``, so the
    text ``-`` itself is in quotes.
    """
    if value is None:
        return ABSENT
    if _is_plain(value) and value != ABSENT:
        return value
    return '"' + printable(value).replace('"', '\\"') + '"'


#: `word` with a cache, for names of rules and relays.
known_word: Final = lru_cache(maxsize=1024)(word)


@lru_cache(maxsize=1024)
def _bare_host(host: str) -> str | None:
    """The host as text before the port in a word without quotes; None if it needs quotes."""
    if ":" in host:
        host = unmapped(host)
        if ":" in host:
            host = f"[{host}]"
    return host if _is_plain(host) else None


def address_word(value: Address | None) -> str:
    """`word` of an `address`. Addresses are a third of a line, so texts of hosts are cached."""
    if isinstance(value, InetAddress):
        host = _bare_host(value.host)
        if host is not None:
            return f"{host}:{value.port}"
    return word(address(value))
