"""Connections for filters that are asked directly, and what their verdicts come to."""

from __future__ import annotations

from typing import Any

from portfwd.filters.api import (
    DONE,
    Bypass,
    Close,
    Connection,
    Copy,
    Delay,
    Forward,
    Verdict,
    Wake,
)
from portfwd.values import InetAddress


class Lines:
    """A log that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, text: str, **values: object) -> None:
        self.lines.append(text.format(**values))

    def warn(self, text: str, **values: object) -> None:
        self.lines.append("warn: " + text.format(**values))


def a_connection(number: int = 1, **values: Any) -> Connection:
    """A client's connection to a rule ``web``."""
    return Connection(
        number, "web", Lines(), InetAddress("192.0.2.1", 5000), InetAddress("192.0.2.9", 80), **values
    )


def lines_of(connection: Connection) -> list[str]:
    """What its filters have logged."""
    assert isinstance(connection.log, Lines)
    return connection.log.lines


def parts(verdict: Verdict) -> list[Any]:
    """A verdict as a list of single ones."""
    if isinstance(verdict, list | tuple):
        return [one for each in verdict for one in parts(each)]
    return [verdict]


def passed(verdict: Verdict, data: bytes = b"") -> bytes:
    """What goes on, sooner or later, of `data` that a filter was called with."""
    out = b""
    for one in parts(verdict):
        if one is None or one is DONE or (isinstance(one, Bypass) and one.data is None):
            out += data
        elif isinstance(one, bytes):
            out += one
        elif isinstance(one, Forward | Delay | Bypass):
            out += one.data or b""
        else:
            assert isinstance(one, Wake | Copy | Close), one
    return out


def the(kind: type[Any], verdict: Verdict) -> Any:
    """The one verdict of that kind."""
    found = [one for one in parts(verdict) if isinstance(one, kind)]
    assert len(found) == 1, verdict
    return found[0]
