# -*- test-case-name: tests.rules.test_settings -*-
"""
Reads the options of a line and reports errors with their places.

Whether an option fits the rule is checked when the rule is complete (`portfwd.rules.draft`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from portfwd.errors import Location
from portfwd.rules.addresses import Role
from portfwd.rules.findings import nearest, shown
from portfwd.rules.options import BY_NAME, LISTENER, RULE, TARGET, OptionSpec, Scope
from portfwd.rules.reading import Reading
from portfwd.rules.tokens import Line, Word, WordFault

_TLS: Final = "TLS is written before the address: tls:HOST:PORT"
_BY_ITSELF: Final = "delete it: a listener does so by itself"

#: Options of HAProxy, nginx, socat and rinetd, if the most similar name of portfwd has another meaning.
ELSEWHERE: Final = {
    "timeout": "write idle= for silent sessions, connect-timeout= for dials",
    "proxy-timeout": "write idle=",
    "bind": "write src=, the source address",
    "check": "write a line 'check tcp' beneath the rule",
    "send-proxy": "write a line 'filter proxy-out' beneath the rule",
    "send-proxy-v2": "write a line 'filter proxy-out' beneath the rule",
    "accept-proxy": "write a line 'filter proxy-in' beneath the rule",
    "ssl": _TLS,
    "tls": _TLS,
    "fork": _BY_ITSELF,
    "reuseaddr": _BY_ITSELF,
}


def read_settings(
    reading: Reading,
    line: Line,
    words: list[Word],
    side: Role | None,
    rule: bool = False,
    *,
    of: Mapping[str, OptionSpec] | None = None,
) -> dict[str, tuple[Any, Location]]:
    """
    Read the options of a line and report errors.

    :param side: before ``->``, after it, or None for ``default``, which accepts all options by their unique
        names.
    :param rule: whether the line is a rule and not a ``target`` clause, for options after ``->``.
    :param of: the options of a directive, if `side` is None.
    :returns: the valid options by unique name.
    """
    settings: dict[str, tuple[Any, Location]] = {}
    if not words:
        return settings
    if side is None:
        table = BY_NAME if of is None else of
    else:
        table = LISTENER if side is Role.LISTEN else RULE if rule else TARGET
    for word in words:
        item = word.option()
        if item is None:
            _complain_about_word(reading, line, word)
            continue
        key, value = item
        option = table.get(key)
        if option is None:
            _complain_about_key(reading, line.span(word.column, len(key)), key, table, side)
        elif option.name in settings:
            where = line.span(word.column, len(key))
            reading.findings.error(
                where, "duplicate-option", f"{shown(key)} is given twice", "delete one of the two"
            )
        else:
            try:
                settings[option.name] = (_value(reading, option, value.text), line.at(word))
            except WordFault as fault:
                message = f"bad value for {shown(key)}: {fault.message}"
                reading.findings.error(line.place(value, fault), fault.code, message, fault.hint)
    return settings


def _value(reading: Reading, option: OptionSpec, text: str) -> Any:
    """The value of an option. Texts that many rules repeat are parsed once."""
    try:
        return reading.values[option.name, text]
    except KeyError:
        value = reading.values[option.name, text] = option.value(text)
        return value


def _complain_about_word(reading: Reading, line: Line, word: Word) -> None:
    text = word.text
    hint = way_out(text) or "options are written KEY=VALUE"
    reading.findings.error(line.at(word), "unexpected-word", f"{shown(text)} is no option", hint)


def way_out(text: str) -> str:
    """A suggestion for `text`, a word without a value that is an option of some program; else empty."""
    return f"write {text}=VALUE" if text in BY_NAME or text in RULE else ELSEWHERE.get(text, "")


def _complain_about_key(
    reading: Reading, where: Location, key: str, table: Mapping[str, OptionSpec], side: Role | None
) -> None:
    elsewhere = None
    if side is not None:
        elsewhere = (RULE if side is Role.LISTEN else LISTENER).get(key) or RULE.get(key)
    if elsewhere is None:
        hint = ELSEWHERE.get(key.lower().replace("_", "-")) or nearest(key, table, "portfwd options")
        reading.findings.error(where, "unknown-option", f"unknown option {shown(key)}", hint)
        return
    if elsewhere.scope is Scope.LISTENER:
        message, hint = "belongs to the listener", "put it before '->'"
    elif side is Role.LISTEN:
        message, hint = "belongs to the rule", "put it after '->' and the targets"
    else:
        message, hint = "belongs to the whole rule, not to one target", "put it on the rule's line"
    reading.findings.error(where, "misplaced-option", f"{shown(key)} {message}", hint)
