# -*- test-case-name: tests.logs.test_fields -*-
"""
The parts of a line: times, addresses, and words that cannot break it.

What stands in a summary comes from files, from peers and from their
certificates. Nothing of it may end a line, open a field, or move the cursor
of the terminal on which somebody reads the log.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from portfwd.values import Address, InetAddress, printable, unmapped

#: Stands for what is not known.
ABSENT: Final = "-"

# Printable ASCII without the blank, '"', '=' and the backslash.
_is_plain: Final = re.compile(r"[!#-<>-\[\]-~]+").fullmatch


# How a time ends. The last one is for what rounds up to a whole second: it is cut.
_THOUSANDTHS: Final = (*(f".{number:03d}Z" for number in range(1000)), ".999Z")


@lru_cache(maxsize=4)
def _utc_second(epoch: int) -> str:
    # Thousands of lines fall into one second, and a calendar is half of what a line costs.
    return datetime.fromtimestamp(epoch, UTC).isoformat(timespec="seconds")[:-6]


def utc_time(epoch: float) -> str:
    """``2026-01-31T12:00:00.000Z`` (RFC 3339), in UTC, cut to the millisecond; `epoch` is seconds."""
    second = int(epoch)
    # A float of our days is exact to a quarter of a microsecond: 0.123 must not become 0.122.
    return _utc_second(second) + _THOUSANDTHS[int((epoch - second) * 1000 + 0.0005)]


def seconds(value: float | None) -> str:
    """A length of time in seconds, to the microsecond; ``-`` when there is none."""
    return ABSENT if value is None else f"{value:.6f}"


def address(value: Address | None) -> str | None:
    """The address as people write it, an IPv4-mapped one as IPv4; None when it is not known."""
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
    One value behind ``key=``: bare where that cannot be misread, else in double quotes.

    Inside quotes `printable` has escaped what is not to be shown, and a quote
    is ``\\"``. None is ``-``; so the text ``-`` itself stands in quotes.
    """
    if value is None:
        return ABSENT
    if _is_plain(value) and value != ABSENT:
        return value
    return '"' + printable(value).replace('"', '\\"') + '"'


#: `word` of what comes again and again: names of rules and of relays.
known_word: Final = lru_cache(maxsize=1024)(word)


@lru_cache(maxsize=1024)
def _bare_host(host: str) -> str | None:
    """A host as it stands before the port in a bare word; None where it cannot."""
    if ":" in host:
        host = unmapped(host)
        if ":" in host:
            host = f"[{host}]"
    return host if _is_plain(host) else None


def address_word(value: Address | None) -> str:
    """`word` of an `address`; a third of a line is these, so what is known of a host is kept."""
    if isinstance(value, InetAddress):
        host = _bare_host(value.host)
        if host is not None:
            return f"{host}:{value.port}"
    return word(address(value))
