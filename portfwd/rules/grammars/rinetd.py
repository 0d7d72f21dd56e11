# -*- test-case-name: tests.rules.grammars.test_rinetd -*-
"""
Reads a rule in the form of rinetd, rinetd-uv and oxidinetd: ``ADDR PORT ADDR PORT [OPTION=VALUE, …]``.

rinetd-uv's ``unix:/path`` replaces an address and its port. Blanks may surround ``[``, ``,`` and ``=``.
Native options in the brackets are refused, because rinetd could not read them.
"""

from __future__ import annotations

import re
from typing import Any, Final

from portfwd.errors import Location
from portfwd.rules.addresses import Place, Role, is_datagram, read_host, read_path, read_ports
from portfwd.rules.clauses import broken_rule
from portfwd.rules.draft import RuleDraft, TargetDraft
from portfwd.rules.findings import nearest, shown, suggestion
from portfwd.rules.model import DATAGRAM_IDLE, Kind
from portfwd.rules.options import BY_NAME
from portfwd.rules.reading import FileScope, Reading
from portfwd.rules.tokens import Line, Word, WordFault

_OPTION = re.compile(
    r'[ \t]*([A-Za-z][A-Za-z0-9_-]*)[ \t]*=[ \t]*("(?:[^"\\]|\\.)*"|\[[^\[\]]*\]|[^,\[\] \t]*)[ \t]*'
)
_SECONDS = re.compile(r"\d{1,9}", re.ASCII)
#: Options of rinetd and rinetd-uv, and their names in portfwd.
_OPTIONS: Final = {
    "timeout": "idle",
    "src": "src",
    "keepalive": "keepalive",
    "dns-refresh": "dns-refresh",
    "connect-timeout": "connect-timeout",
    "mode": "mode",
}


def read_rule(reading: Reading, scope: FileScope, line: Line, words: list[Word]) -> None:
    """Read a rule. If it has errors, it is added as a broken one."""
    findings = reading.findings
    failed_before, findings.failed = findings.failed, False
    scope.plain = scope.plain and len(words) == 4
    rest = list(words)
    listen_word, target_word = words[0], words[-1]
    listen = _read_address(reading, line, rest, Role.LISTEN)
    target = None
    if rest:
        target_word = rest[0]
        target = _read_address(reading, line, rest, Role.TARGET)
    elif not findings.failed:
        findings.error(line.at(words[-1]), "bad-rule", "this rule says nowhere to go", _SHAPE)
    settings = {}
    if rest and target is not None:
        settings = _read_options(reading, line, rest[0], words[-1], listen, target)
    if findings.failed or listen is None or target is None:
        draft = broken_rule(line, words[0])
    else:
        draft = RuleDraft(
            listen,
            line.at(listen_word),
            line.at(listen_word),
            targets=[TargetDraft(target, line.at(target_word))],
            settings=settings,
            defaults=scope.defaults,
        )
    findings.failed = findings.failed or failed_before
    reading.add(draft)


_SHAPE: Final = "write LISTEN -> TARGET, or rinetd's ADDRESS PORT ADDRESS PORT"


def _read_address(reading: Reading, line: Line, rest: list[Word], role: Role) -> Place | None:
    """Take an address and its port from `rest`. None if there was an error, or if one of them is missing."""
    word = rest.pop(0)
    if word.text.startswith("unix:"):
        try:
            return read_path(word.text[5:], Kind.UNIX, role)
        except WordFault as fault:
            reading.findings.fault(line, word, fault.moved(5))
            return None
    host: str | None = None
    place: Place | None = None
    try:
        host = read_host(word.text, role, brackets=False)
    except WordFault as fault:
        if ":" in word.text and role is Role.LISTEN and len(rest) < 3:
            # Rather a native rule that lacks its arrow than an IPv6 address.
            reading.findings.error(
                line.at(word), "bad-rule", "this is neither a rule nor a directive", _SHAPE
            )
            rest.clear()
            return None
        reading.findings.fault(line, word, fault)
    if rest and role is Role.TARGET and not rest[0].quoted:
        # rinetd lets its options follow the port without a blank.
        port, bracket, _ = rest[0].text.partition("[")
        if bracket and port:
            glued = rest[0]
            rest[:1] = [Word(port, glued.column, len(port), len(port)), glued.rest(len(port))]
    if not rest or rest[0].text.startswith("["):
        if not reading.findings.failed:
            reading.findings.error(line.at(word), "bad-rule", "a port is missing after this address", _SHAPE)
        return None
    port_word = rest.pop(0)
    try:
        place = _read_port(reading, word, port_word, host or "", role)
    except WordFault as fault:
        reading.findings.fault(line, port_word, fault)
    return None if host is None else place


def _read_port(reading: Reading, address: Word, word: Word, host: str, role: Role) -> Place:
    port, slash, protocol = word.text.partition("/")
    if slash and protocol not in {"tcp", "udp"}:
        raise WordFault(
            "bad-protocol",
            "a protocol is tcp or udp",
            "write /tcp or /udp, or neither",
            start=len(port) + 1,
            length=max(len(protocol), 1),
        )
    ports = read_ports(port, protocol or "tcp", role, reading.port_of_service)
    kind = Kind.UDP if protocol == "udp" else Kind.TCP
    return Place(kind, host, ports, written=(address.text, port))


def _read_options(
    reading: Reading, line: Line, first: Word, last: Word, listen: Place | None, target: Place
) -> dict[str, tuple[Any, Location]]:
    """Read ``[ … ]`` from the text of the line, because blanks do not separate words there."""
    findings = reading.findings
    settings: dict[str, tuple[Any, Location]] = {}
    position = first.column - 1
    end = last.column - 1 + last.length
    if line.text[position] != "[":
        hint = "rinetd's options stand in brackets: [timeout=72]" if "=" in first.text else _SHAPE
        findings.error(line.at(first), "unexpected-word", f"{shown(first.text)} is a word too many", hint)
        return settings
    position += 1
    while True:
        match = _OPTION.match(line.text, position, end)
        if match is None:
            length = end - position
            findings.error(
                line.span(position + 1, length),
                "bad-rule",
                "expected an option in these brackets",
                "[timeout=72]",
            )
            return settings
        key, text = match[1], match[2]
        _read_option(reading, line, match, settings, (listen, target))
        position = match.end()
        following = line.text[position : min(position + 1, end)]
        if following == ",":
            position += 1
            continue
        if following != "]":
            findings.error(
                line.span(position + 1, max(end - position, 1)),
                "missing-bracket",
                f"expected ',' or ']' after '{key}={text}'",
            )
        elif line.text[position + 1 : end].strip(" \t"):
            findings.error(
                line.span(position + 2, end - position - 1),
                "unexpected-word",
                "nothing may follow the options",
            )
        return settings


def _read_option(
    reading: Reading,
    line: Line,
    match: re.Match[str],
    settings: dict[str, tuple[Any, Location]],
    places: tuple[Place | None, Place],
) -> None:
    findings = reading.findings
    key, text = match[1], match[2]
    if text.startswith('"'):
        text = re.sub(r'\\(["\\])', r"\1", text[1:-1])
    where = line.span(match.start(1) + 1, len(key))
    name = _OPTIONS.get(key)
    if name is None:
        hint = nearest(key, _OPTIONS)
        if key in BY_NAME and not suggestion(key, _OPTIONS):
            hint = "native options stand after LISTEN -> TARGET"
        findings.error(where, "unknown-option", f"unknown option {shown(key)}", hint)
        return
    if name in settings:
        findings.error(where, "duplicate-option", f"{shown(key)} is given twice", "delete one of the two")
        return
    whole = line.span(match.start(1) + 1, match.end(2) - match.start(1))
    try:
        if key == "timeout":
            _read_timeout(reading, whole, text, settings, places)
        elif key == "dns-refresh" and text == "0":
            findings.warning(whole, "option-without-meaning", *never_again())
        else:
            settings[name] = (BY_NAME[name].value(text), whole)
    except WordFault as fault:
        place = line.span(match.start(2) + 1, match.end(2) - match.start(2))
        findings.error(place, fault.code, f"bad value for {shown(key)}: {fault.message}", fault.hint)


def never_again() -> tuple[str, str]:
    """Message and hint for a refresh of 0, which turns rinetd-uv's look-ups off."""
    return (
        "names are always looked up again here, so dns-refresh=0 has no meaning",
        f"the default, {BY_NAME['dns-refresh'].default}, holds",
    )


def _read_timeout(
    reading: Reading,
    where: Location,
    text: str,
    settings: dict[str, tuple[Any, Location]],
    places: tuple[Place | None, Place],
) -> None:
    if not _SECONDS.fullmatch(text):
        raise WordFault("bad-value", "expected a number of seconds")
    if not any(place is not None and is_datagram(place) for place in places):
        reading.findings.warning(
            where,
            "option-without-meaning",
            "rinetd's timeout has a meaning for UDP only",
            "to end silent TCP sessions write LISTEN -> TARGET idle=…",
        )
    elif int(text):
        settings["idle"] = (BY_NAME["idle"].value(text), where)
    else:
        settings["idle"] = (DATAGRAM_IDLE, where)
