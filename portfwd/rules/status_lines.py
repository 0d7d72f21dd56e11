# -*- test-case-name: tests.rules.test_status_lines -*-
"""
The directives ``status-file`` and ``stats-log``: counters of the whole process, written again and again.

::

    status-file /run/portfwd/status.json interval=30s format=json mode=0644
    stats-log   interval=1m

Of several lines of a name the last one counts, as a whole. rinetd-uv's ``statusfile``, ``statusinterval``,
``statusformat`` and ``statsloginterval`` become such lines (`portfwd.rules.reading.StatusState`).
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, Final

from attrs import field, frozen

from portfwd.errors import Location
from portfwd.rules import readers
from portfwd.rules.clauses import split_options
from portfwd.rules.line_options import read_line_option
from portfwd.rules.model import NOWHERE, Directive, Ruleset
from portfwd.rules.readers import ValueKind
from portfwd.rules.reading import FileScope, Reading
from portfwd.rules.tokens import Line, Word

#: Seconds between two writings of the file, as in rinetd-uv.
FILE_INTERVAL: Final = 30.0
#: Seconds between two lines of statistics, as in rinetd-uv.
LOG_INTERVAL: Final = 60.0
#: Others may read the file, whatever the umask, as that of rinetd-uv: programs that watch it have users of
#: their own. It has names of rules and addresses of targets, and nothing of clients.
FILE_MODE: Final = 0o644


class StatusFormat(enum.Enum):
    """What the status file looks like."""

    JSON = "json"
    TEXT = "text"


@frozen
class StatusFileSpec:
    """
    What a ``status-file`` line says.

    :ivar path: as written.
    :ivar interval: seconds.
    :ivar mode: permission bits of the file.
    """

    path: str
    interval: float = FILE_INTERVAL
    format: StatusFormat = StatusFormat.JSON
    mode: int = FILE_MODE
    where: Location = field(default=NOWHERE, eq=False, repr=False)


_FILE: Final[Mapping[str, ValueKind]] = {
    "interval": readers.duration(1, None),
    "format": readers.choice(StatusFormat),
    "mode": readers.mode(),
}
_LOG: Final[Mapping[str, ValueKind]] = {"interval": readers.duration(1, None)}
#: What these lines may say.
STATUS_FILE_OPTIONS: Final = tuple(_FILE)
STATS_LOG_OPTIONS: Final = tuple(_LOG)


def status_file(ruleset: Ruleset) -> StatusFileSpec | None:
    """The status file of `ruleset`; None without such a line."""
    line = _last(ruleset, "status-file")
    if line is None:
        return None
    return StatusFileSpec(line.words[0], **_values(_FILE, line), where=line.where)


def stats_interval(ruleset: Ruleset) -> float | None:
    """Seconds between two lines of statistics; None: there are none."""
    line = _last(ruleset, "stats-log")
    if line is None:
        return None
    return float(_values(_LOG, line).get("interval", LOG_INTERVAL))


def _last(ruleset: Ruleset, name: str) -> Directive | None:
    return next((one for one in reversed(ruleset.directives) if one.name == name), None)


def _values(kinds: Mapping[str, ValueKind], line: Directive) -> dict[str, Any]:
    return {key: kinds[key].read(text) for key, text in line.options}


def read_status_file(reading: Reading, scope: FileScope, line: Line, words: list[Word]) -> None:
    """Read ``status-file PATH [interval=TIME] [format=json|text] [mode=BITS]``."""
    path = next((word for word in words[1:] if word.option() is None), None)
    if path is None or not path.text:
        example = "such as status-file /run/portfwd/status.json"
        reading.findings.error(
            line.at(words[0]), "missing-argument", "'status-file' needs the name of a file", example
        )
        return
    _read(reading, line, words, path, _FILE)


def read_stats_log(reading: Reading, scope: FileScope, line: Line, words: list[Word]) -> None:
    """Read ``stats-log [interval=TIME]``."""
    _read(reading, line, words, None, _LOG)


def _read(
    reading: Reading, line: Line, words: list[Word], plain: Word | None, kinds: Mapping[str, ValueKind]
) -> None:
    values: dict[str, Any] = {}
    read = [read_line_option(reading, line, word, kinds, values) for word in words[1:] if word is not plain]
    if all(read):
        name, where = words[0].text, line.at(words[0])
        reading.say(name, where)
        reading.directives.append(Directive(name, *split_options(words[1:]), where))
