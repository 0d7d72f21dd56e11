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

from portfwd.rules.clauses import ReadLine
from portfwd.rules.findings import shown, suggestion
from portfwd.rules.grammars.rinetd import never_again
from portfwd.rules.model import AccessLogFormat
from portfwd.rules.options import BY_NAME
from portfwd.rules.reading import FileScope, Reading
from portfwd.rules.tokens import Line, Word, WordFault

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


@frozen
class _Meaningless:
    """
    A directive of rinetd-uv without a counterpart.

    :ivar words: its possible values; empty for a number, None for a file name.
    :ivar instead: what portfwd does instead.
    """

    words: tuple[str, ...] | None
    instead: str

    def __call__(self, reading: Reading, scope: FileScope, line: Line, words: list[Word]) -> None:
        """Check the line as rinetd-uv would, and warn."""
        expected = "the name of a file" if self.words is None else " or ".join(self.words) or "a number"
        word = one_word(reading, line, words, expected)
        if word is None:
            return
        name = words[0].text
        if self.words is not None and (
            word.text not in self.words if self.words else not _NUMBER.fullmatch(word.text)
        ):
            hint = suggestion(word.text, self.words)
            message = f"bad value for {shown(name)}: expected {expected}"
            reading.findings.error(line.at(word), "bad-value", message, hint)
            return
        reading.findings.warning(
            line.at(words[0]), "directive-without-meaning", f"{shown(name)} has no meaning here", self.instead
        )


_POOL = _Meaningless((), "memory is bounded by 'buffer' and 'max-conns' of each rule")
_STATUS = "'portfwd status' shows counters, and a 'metrics' line has them for Prometheus"

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
        "statusfile": _Meaningless(None, _STATUS),
        "statusinterval": _Meaningless((), _STATUS),
        "statusformat": _Meaningless(("json", "text"), _STATUS),
        "statsloginterval": _Meaningless((), _STATUS),
    }
)
