# -*- test-case-name: tests.cli.test_top_screen -*-
"""
What ``portfwd top`` shows: one look of the forwarder as lines of a terminal.

Lines in, lines out; no terminal is touched here. Every cell is escaped, and no line is wider than asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from attrs import frozen

from portfwd.cli.columns import fitted_table, size_text, time_text
from portfwd.values import counted, printable

#: Keys, and what ``top`` sorts by then.
SORT_KEYS: Final[Mapping[str, str]] = {
    "r": "rate",
    "u": "to-upstream-rate",
    "d": "to-client-rate",
    "b": "bytes",
    "a": "age",
    "i": "id",
}
#: Lines above and below the sessions: two of figures, a blank one, the heads, and the keys.
FRAME: Final = 5

_SHORT: Final = "q quit  r u d b a i sort  k kill  space pause  ? keys"
_LONG: Final = (
    "q quit  sort by: r rate  u to-upstream  d to-client  b bytes  a age  i number  k kill  space pause"
    "  ? keys"
)
#: What ``?`` shows.
HELP: Final = (
    "q  quit",
    "r  sort by the rate of both directions",
    "u  sort by the rate to the upstream",
    "d  sort by the rate to the client",
    "b  sort by bytes",
    "a  sort by age",
    "i  sort by number",
    "k  kill a session: type its number, then Enter; Esc gives up",
    "space  pause the display; the forwarder goes on",
    "?  show the keys, or the sessions again",
)
#: Columns of names, and the width down to which each is shortened before others are left out: an IPv4 address
#: with its port is shown whole.
_SHRINK: Final[Mapping[str, int]] = MappingProxyType({"RULE": 10, "CLIENT": 21, "UPSTREAM": 21})
_DROP: Final = ("A CALL", "STATE", "RESENT", "RTT MS", "UPSTREAM")
_NUMBERS: Final = ("ID", "AGE", "TO-UPSTREAM", "TO-CLIENT", "BYTES", "A CALL", "RTT MS", "RESENT")


@frozen
class ScreenState:
    """
    What the screen shows beside the look.

    :ivar paused: the look is an old one.
    :ivar help: the keys are explained in the place of the sessions.
    :ivar note: stands in the place of the keys, if there is one: a question or an outcome.
    """

    paused: bool = False
    help: bool = False
    note: str = ""


def rate_text(rate: float) -> str:
    """Bytes a second; a plain 0 for none, so that what moves stands out."""
    return "0" if rate < 0.5 else f"{size_text(rate)}/s"


def head_lines(look: Mapping[str, Any], shown: ScreenState) -> list[str]:
    """The figures above the sessions."""
    status = look["status"]
    down = status.get("targets_down", 0)
    marks = f", {counted(down, 'target')} down" if down else ""
    marks += "  PAUSED" if shown.paused else ""
    return [
        f"portfwd {status['version']} {status['state']}, up {time_text(status['uptime'])},"
        f" {counted(status['rules'], 'rule')}, {counted(status['descriptors'], 'descriptor')}{marks}",
        f"{counted(look['sessions'], 'session')} of {status['total']} in all,"
        f" to-upstream {rate_text(look['to_upstream_rate'])}, to-client {rate_text(look['to_client_rate'])},"
        f" by {look['sort']}",
    ]


def session_table(look: Mapping[str, Any], width: int) -> list[str]:
    """The heads, and a line for each session: names are shortened, then the least needed columns left out."""
    rows = [
        (
            str(row["id"]),
            row["rule"],
            row["client"] or "-",
            row["upstream"] or "-",
            time_text(row["duration"]),
            rate_text(row["to_upstream_rate"]),
            rate_text(row["to_client_rate"]),
            size_text(row["bytes"]),
            size_text(row["bytes_per_call"]),
            _pair(row["rtt_us"], _milliseconds),
            _pair(row["retransmits"], str),
            row["state"],
        )
        for row in look["rows"]
    ]
    heads = (
        "ID",
        "RULE",
        "CLIENT",
        "UPSTREAM",
        "AGE",
        "TO-UPSTREAM",
        "TO-CLIENT",
        "BYTES",
        "A CALL",
        "RTT MS",
        "RESENT",
        "STATE",
    )
    return fitted_table(heads, rows, _NUMBERS, width, shrink=_SHRINK, drop=_DROP).split("\n")


def _pair(sides: Mapping[str, int | None], text: Callable[[int], str]) -> str:
    """The client's figure and the upstream's; ``-`` for what is no TCP connection."""
    both = ["-" if figure is None else text(figure) for figure in sides.values()]
    return "-" if both == ["-", "-"] else "/".join(both)


def _milliseconds(microseconds: int) -> str:
    return f"{microseconds / 1000:.1f}" if microseconds < 100_000 else f"{microseconds // 1000}"


def screen(look: Mapping[str, Any] | None, shown: ScreenState, width: int, height: int) -> list[str]:
    """At most `height` lines of at most `width` characters."""
    if shown.help:
        lines = list(HELP)
    elif look is None:
        lines = ["waiting for the forwarder"]
    else:
        lines = [*(printable(line) for line in head_lines(look, shown)), "", *session_table(look, width)]
    lines = lines[: max(0, height - 1)]
    lines += [""] * (height - 1 - len(lines))
    lines.append(printable(shown.note) or (_LONG if width >= len(_LONG) else _SHORT))
    return [line[:width] for line in lines]
