# -*- test-case-name: tests.rules.test_directives -*-
"""
The native directives ``default`` and ``log``, and the table of all directives.

`portfwd.rules.whole_process` reads ``limits`` and ``metrics``; `portfwd.rules.admin_lines` reads ``admin``,
``web``, ``manhole`` and ``toxiproxy``.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from portfwd.rules import readers
from portfwd.rules.admin_lines import read_admin, read_manhole, read_toxiproxy, read_web
from portfwd.rules.clauses import ReadLine
from portfwd.rules.findings import nearest, shown
from portfwd.rules.model import AccessLogFormat
from portfwd.rules.reading import FileScope, Reading
from portfwd.rules.settings import read_settings
from portfwd.rules.status_lines import read_stats_log, read_status_file
from portfwd.rules.tokens import Line, Word, WordFault
from portfwd.rules.whole_process import read_limits, read_metrics

_ACCESS = readers.choice(AccessLogFormat)
_SWITCH = readers.switch()

#: The options of a ``log`` line.
LOG_OPTIONS: Final = ("access", "file", "opened", "probes", "repeats")


def read_default(reading: Reading, scope: FileScope, line: Line, words: list[Word]) -> None:
    """Read defaults for the rules below, to the end of this file and of the files that it includes."""
    if len(words) == 1:
        reading.findings.error(
            line.at(words[0]), "missing-argument", "'default' needs an option", "such as default idle=1h"
        )
    scope.defaults = {**scope.defaults, **read_settings(reading, line, words[1:], None)}


def read_log(reading: Reading, scope: FileScope, line: Line, words: list[Word]) -> None:
    """Read ``log access=FORM file=PATH opened=on|off probes=on|off repeats=on|off``."""
    findings = reading.findings
    log = reading.log
    if len(words) == 1:
        message = "'log' needs access=, file=, opened=, probes= or repeats="
        findings.error(line.at(words[0]), "missing-argument", message)
    seen = set()
    for word in words[1:]:
        item = word.option()
        if item is None:
            findings.error(
                line.at(word), "unexpected-word", f"{shown(word.text)} is no option", "write log access=text"
            )
            continue
        key, value = item
        where = line.span(word.column, len(key))
        if key in seen:
            findings.error(where, "duplicate-option", f"{shown(key)} is given twice", "delete one of the two")
        elif key == "access":
            try:
                log.access = _ACCESS.read(value.text)
            except WordFault as fault:
                message = f"bad value for 'access': {fault.message}"
                findings.error(line.place(value, fault), fault.code, message, fault.hint)
            reading.say("log access", where)
        elif key in ("opened", "probes", "repeats"):
            try:
                setattr(log, key, _SWITCH.read(value.text))
            except WordFault as fault:
                message = f"bad value for '{key}': {fault.message}"
                findings.error(line.place(value, fault), fault.code, message, fault.hint)
            reading.say(f"log {key}", where)
        elif key == "file" and value.text:
            log.file, log.rinetd = value.text, False
            reading.say("log file", where)
        elif key == "file":
            findings.error(where, "bad-value", "bad value for 'file': expected a file")
        else:
            findings.error(where, "unknown-option", f"unknown option {shown(key)}", nearest(key, LOG_OPTIONS))
        seen.add(key)
    log.where = line.at(words[0])


NATIVE: Final[Mapping[str, ReadLine]] = MappingProxyType(
    {
        "default": read_default,
        "log": read_log,
        "admin": read_admin,
        "web": read_web,
        "metrics": read_metrics,
        "manhole": read_manhole,
        "toxiproxy": read_toxiproxy,
        "limits": read_limits,
        "status-file": read_status_file,
        "stats-log": read_stats_log,
    }
)
