# -*- test-case-name: tests.rules.grammars.test_rinetd_directives -*-
"""
Reads the directives of rinetd and rinetd-uv.

A directive without a counterpart in portfwd is checked, and a warning says that it has no effect.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from attrs import frozen

from portfwd.quantities import MAX_DURATION
from portfwd.rules import readers
from portfwd.rules.clauses import ReadLine
from portfwd.rules.findings import shown, suggestion
from portfwd.rules.grammars.rinetd import never_again
from portfwd.rules.model import AccessLogFormat
from portfwd.rules.options import BY_NAME
from portfwd.rules.reading import FileScope, Reading
from portfwd.rules.status_lines import StatusFormat
from portfwd.rules.tokens import Line, Word, WordFault

_FORMAT = readers.choice(StatusFormat)
_NUMBER = re.compile(r"\d{1,18}", re.ASCII)


def one_word(reading: Reading, line: Line, words: list[Word], what: str) -> Word | None:
    """The single word of a directive. None if there is not exactly one, which is reported."""
    if len(words) < 2 or not words[1].text:
        reading.findings.error(line.at(words[0]), "missing-argument", f"'{words[0].text}' needs {what}")
        return None
    for extra in words[2:]:
        reading.findings.error(
            line.at(extra),
            "unexpected-word",
            f"{shown(extra.text)} is a word too many",
            "put a value with blanks in quotes",
        )
    return words[1]


def _read_logfile(reading: Reading, scope: FileScope, line: Line, words: list[Word]) -> None:
    word = one_word(reading, line, words, "the name of a file")
    if word is not None:
        reading.say("log file", line.at(words[0]))
        reading.log.file, reading.log.rinetd, reading.log.where = word.text, True, line.at(words[0])


def _read_logcommon(reading: Reading, scope: FileScope, line: Line, words: list[Word]) -> None:
    for extra in words[1:]:
        reading.findings.error(line.at(extra), "unexpected-word", "'logcommon' stands alone")
    reading.say("log access", line.at(words[0]))
    reading.log.access, reading.log.where = AccessLogFormat.COMMON, line.at(words[0])


def _read_pid_file(reading: Reading, scope: FileScope, line: Line, words: list[Word]) -> None:
    word = one_word(reading, line, words, "the name of a file")
    if word is not None:
        reading.say("pidfile", line.at(words[0]))
        reading.pid_file = word.text


def _setting(name: str) -> ReadLine:
    """A directive that sets an option for all rules of all files."""

    def read(reading: Reading, scope: FileScope, line: Line, words: list[Word]) -> None:
        option = BY_NAME[name]
        word = one_word(reading, line, words, "a number")
        if word is None:
            return
        directive = words[0].text
        if name == "dns-refresh" and word.text == "0":
            reading.findings.warning(line.at(word), "directive-without-meaning", *never_again())
            return
        try:
            value = option.value(word.text)
        except WordFault as fault:
            message = f"bad value for {shown(directive)}: {fault.message}"
            reading.findings.error(line.place(word, fault), fault.code, message, fault.hint)
            return
        reading.say(directive, line.at(words[0]))
        reading.with_setting(name, value, line.at(words[0]))

    return read


def _read_status_file(reading: Reading, scope: FileScope, line: Line, words: list[Word]) -> None:
    word = one_word(reading, line, words, "the name of a file")
    if word is not None:
        reading.say("status-file", line.at(words[0]))
        reading.status.file, reading.status.where = word.text, line.at(words[0])


def _seconds(reading: Reading, line: Line, words: list[Word]) -> int | None:
    """A number of seconds, or None after reporting that it is none; 0 turns something off."""
    word = one_word(reading, line, words, "a number")
    if word is None:
        return None
    if not _NUMBER.fullmatch(word.text) or int(word.text) > MAX_DURATION:
        message = f"bad value for {shown(words[0].text)}: expected a number of seconds"
        reading.findings.error(line.at(word), "bad-value", message)
        return None
    return int(word.text)


def _read_status_interval(reading: Reading, scope: FileScope, line: Line, words: list[Word]) -> None:
    seconds = _seconds(reading, line, words)
    if seconds is not None:
        reading.say(words[0].text, line.at(words[0]))
        reading.status.interval = seconds


def _read_status_format(reading: Reading, scope: FileScope, line: Line, words: list[Word]) -> None:
    word = one_word(reading, line, words, "json or text")
    if word is None:
        return
    try:
        reading.status.form = _FORMAT.read(word.text).value
    except WordFault as fault:
        message = f"bad value for {shown(words[0].text)}: {fault.message}"
        reading.findings.error(line.place(word, fault), fault.code, message, fault.hint)
    else:
        reading.say(words[0].text, line.at(words[0]))


def _read_stats_log_interval(reading: Reading, scope: FileScope, line: Line, words: list[Word]) -> None:
    seconds = _seconds(reading, line, words)
    if seconds is not None:
        reading.say("stats-log", line.at(words[0]))
        reading.status.log_interval, reading.status.log_where = seconds, line.at(words[0])


@frozen
class _Meaningless:
    """
    A directive of rinetd-uv without a counterpart.

    :ivar words: its possible values; empty for a number, None for a file name.
    :ivar instead: what portfwd does instead.
    """

    words: tuple[str, ...]
    instead: str

    def __call__(self, reading: Reading, scope: FileScope, line: Line, words: list[Word]) -> None:
        """Check the line as rinetd-uv would, and warn."""
        expected = " or ".join(self.words) or "a number"
        word = one_word(reading, line, words, expected)
        if word is None:
            return
        name = words[0].text
        if word.text not in self.words if self.words else not _NUMBER.fullmatch(word.text):
            hint = suggestion(word.text, self.words)
            message = f"bad value for {shown(name)}: expected {expected}"
            reading.findings.error(line.at(word), "bad-value", message, hint)
            return
        reading.findings.warning(
            line.at(words[0]), "directive-without-meaning", f"{shown(name)} has no meaning here", self.instead
        )


_POOL = _Meaningless((), "memory is bounded by 'buffer' and 'max-conns' of each rule")

RINETD: Final[Mapping[str, ReadLine]] = MappingProxyType(
    {
        "logfile": _read_logfile,
        "logcommon": _read_logcommon,
        "pidlogfile": _read_pid_file,
        "pidfile": _read_pid_file,
        "buffersize": _setting("buffer"),
        "dns-refresh": _setting("dns-refresh"),
        "connect-timeout": _setting("connect-timeout"),
        "listen-backlog": _setting("backlog"),
        "dns-multi-ip-expand": _Meaningless(("on", "off"), "every address of a name is tried, in order"),
        "dns-multi-ip-proto": _Meaningless(
            ("ipv4", "ipv6", "any"), "both families are tried; write an address to choose one"
        ),
        "pool-min-free": _POOL,
        "pool-max-free": _POOL,
        "pool-trim-delay": _POOL,
        # rinetd-uv's limit is for all rules together. A limit for each rule is the nearest equivalent.
        "max-udp-connections": _setting("max-assocs"),
        "statusfile": _read_status_file,
        "statusinterval": _read_status_interval,
        "statusformat": _read_status_format,
        "statsloginterval": _read_stats_log_interval,
    }
)
