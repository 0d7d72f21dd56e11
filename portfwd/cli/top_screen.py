# -*- test-case-name: tests.cli.test_top_screen -*-
"""
Formats one update of ``portfwd top`` as lines of a terminal.

It does not use the terminal. All cells are escaped, and no line exceeds the given width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from attrs import frozen

from portfwd.cli.columns import fitted_table, size_text, time_text
from portfwd.values import counted, printable

#: Keys, and the sort key that each selects.
SORT_KEYS: Final[Mapping[str, str]] = {
    "r": "rate",
    "u": "to-upstream-rate",
    "d": "to-client-rate",
    "b": "bytes",
    "a": "age",
    "i": "id",
}
#: Lines besides the sessions: two of figures, a blank one, the heads, and the keys.
FRAME: Final = 5

_SHORT: Final = "q quit  r u d b a i sort  k kill  space pause  ? keys"
_LONG: Final = (
    "q quit  sort by: r rate  u to-upstream  d to-client  b bytes  a age  i number  k kill  space pause"
    "  ? keys"
)
#: The text of the key ``?``.
HELP: Final = (
    "q  quit",
    "r  sort by the rate of both directions",
    "u  sort by the rate to the upstream",
    "d  sort by the rate to the client",
    "b  sort by bytes",
    "a  sort by age",
    "i  sort by number",
    "k  kill a session: type its number, then Enter; Esc cancels",
    "space  pause the display; the forwarder continues",
    "?  show the keys, or the sessions again",
)
#: Columns of names, and the width down to which each is shortened before columns are left out. An IPv4
#: address with its port fits.
_SHRINK: Final[Mapping[str, int]] = MappingProxyType({"RULE": 10, "CLIENT": 21, "UPSTREAM": 21})
_DROP: Final = ("A CALL", "STATE", "RESENT", "RTT MS", "UPSTREAM")
_NUMBERS: Final = ("ID", "AGE", "TO-UPSTREAM", "TO-CLIENT", "BYTES", "A CALL", "RTT MS", "RESENT")


@frozen
class ScreenState:
    """
    The state of the display.

    :ivar paused: whether the display is paused.
    :ivar help: whether the help of keys is shown instead of the sessions.
    :ivar note: a question or a message that is shown instead of the keys, or an empty text.
    """

    paused: bool = False
    help: bool = False
    note: str = ""


def rate_text(rate: float) -> str:
    """Bytes per second; only ``0`` for none, so that other rates are easier to see."""
    return "0" if rate < 0.5 else f"{size_text(rate)}/s"


def head_lines(update: Mapping[str, Any], shown: ScreenState) -> list[str]:
    """The figures above the sessions."""
    status = update["status"]
    down = status.get("targets_down", 0)
    marks = f", {counted(down, 'target')} down" if down else ""
    marks += "  PAUSED" if shown.paused else ""
    return [
        f"portfwd {status['version']} {status['state']}, up {time_text(status['uptime'])},"
        f" {counted(status['rules'], 'rule')}, {counted(status['descriptors'], 'descriptor')}{marks}",
        f"{counted(update['sessions'], 'session')} of {status['total']} in all,"
        f" to-upstream {rate_text(update['to_upstream_rate'])},"
        f" to-client {rate_text(update['to_client_rate'])}, by {update['sort']}",
    ]


def session_table(update: Mapping[str, Any], width: int) -> list[str]:
    """The table of sessions. If needed, names are shortened, then less important columns are left out."""
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
        for row in update["rows"]
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
    """The figures of client and upstream; ``-`` for a side that is not a TCP connection."""
    both = ["-" if figure is None else text(figure) for figure in sides.values()]
    return "-" if both == ["-", "-"] else "/".join(both)


def _milliseconds(microseconds: int) -> str:
    return f"{microseconds / 1000:.1f}" if microseconds < 100_000 else f"{microseconds // 1000}"


def screen(update: Mapping[str, Any] | None, shown: ScreenState, width: int, height: int) -> list[str]:
    """At most `height` lines of at most `width` characters."""
    if shown.help:
        lines = list(HELP)
    elif update is None:
        lines = ["waiting for the forwarder"]
    else:
        lines = [*(printable(line) for line in head_lines(update, shown)), "", *session_table(update, width)]
    lines = lines[: max(0, height - 1)]
    lines += [""] * (height - 1 - len(lines))
    lines.append(printable(shown.note) or (_LONG if width >= len(_LONG) else _SHORT))
    return [line[:width] for line in lines]
