# -*- test-case-name: tests.rules.grammars.test_toml -*-
"""
oxidinetd's TOML form (realm's has `endpoints`). Native options, ``name`` and ``check`` are extra keys.

``tomllib`` gives no positions, so problems have the path of the key, and its line if
`portfwd.rules.grammars.toml_positions` finds it. Unknown keys are errors.
"""

from __future__ import annotations

import re
import sys
import tomllib
from typing import Any, Final

from portfwd.errors import Location
from portfwd.rules.access import check_pattern
from portfwd.rules.addresses import Place, Role, read_host, read_path, read_ports
from portfwd.rules.clauses import split_options
from portfwd.rules.draft import RuleDraft, TargetDraft
from portfwd.rules.findings import shown, suggestion
from portfwd.rules.grammars.realm import ENDPOINTS, RealmReader
from portfwd.rules.grammars.tables import Table, TableReader
from portfwd.rules.grammars.toml_positions import Path, TomlPositions
from portfwd.rules.model import DATAGRAM_IDLE, AccessLogFormat, AclEntry, CheckSpec, Kind
from portfwd.rules.options import BY_NAME
from portfwd.rules.reading import Reading
from portfwd.rules.steps import Steps
from portfwd.rules.tokens import NAME, Line, WordFault, find_bad_character

_AT = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_TOP: Final = frozenset({"log_file", "pid_file", "log_format", "global_rules", "forwarding_rules"})
_RULE: Final = frozenset(
    {
        "bind_address", "bind_port", "connect_address", "connect_port",
        "protocol", "timeout", "source_address", "rules", "name", "check",
    }
)  # fmt: skip
#: What a ``check`` may look like, for messages.
CHECK_EXAMPLE: Final = 'such as check = "tcp inter=1s"'
_ACCESS: Final = frozenset({"type", "pattern"})
#: Kinds of listener and target.
_PROTOCOLS: Final = {
    "tcp": (Kind.TCP, Kind.TCP),
    "udp": (Kind.UDP, Kind.UDP),
    "udptotcp": (Kind.UDP, Kind.TCP),
    "tcptoudp": (Kind.TCP, Kind.UDP),
}
#: Most parts of a dotted key. No known key has two, and the time of tomllib is quadratic in them. The test
#: does not distinguish texts from keys, so the bound is above the labels of any host name.
MAX_PARTS: Final = 64
_LONG_KEY = re.compile(
    rf"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*){{{MAX_PARTS}}}""", re.ASCII
)
_FORMATS: Final = {"rinetd": AccessLogFormat.RINETD, "common": AccessLogFormat.COMMON}
#: Option names as keys: oxidinetd writes ``_`` where the native grammar writes ``-``.
_OPTION_KEYS: Final = {key: name for name in BY_NAME for key in (name, name.replace("-", "_"))}


def read_toml(reading: Reading, name: str, text: str) -> Steps[None]:
    """Read a TOML file. The syntax is parsed in one step, then each rule in one."""
    text = text.removeprefix("\ufeff")
    long = _LONG_KEY.search(text)
    if long is not None:
        where = Location(name, text.count("\n", 0, long.start()) + 1)
        reading.findings.error(where, "toml-syntax", f"a key has at most {MAX_PARTS} parts")
        return
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        _complain_about_syntax(reading, name, text, error)
        return
    yield
    positions = TomlPositions(name, text)
    yield
    if ENDPOINTS in table and "forwarding_rules" not in table:
        yield from RealmReader(reading, positions).read(table)
    else:
        yield from _File(reading, positions).read(table)


def _complain_about_syntax(reading: Reading, name: str, text: str, error: Exception) -> None:
    """Convert an error of tomllib, which may also be one of `int`, to a problem with a place."""
    if type(error) is ValueError:  # of `int`; those of tomllib are of a class of their own
        digits = sys.get_int_max_str_digits()
        long = re.search(rf"[0-9](?:_?[0-9]){{{digits},}}+", text)
        where = Location(name) if long is None else Location(name, text.count("\n", 0, long.start()) + 1)
        hint = "no option needs so large a number; correct it"
        reading.findings.error(where, "toml-syntax", f"a number has at most {digits} digits", hint)
        return
    message = "it is nested too deep" if isinstance(error, RecursionError) else str(error).split("\n")[0]
    match = _AT.search(message)
    lines = text.split("\n")
    where = Location(name)
    if match is not None:
        message = message[: match.start()]
        number = int(match[1]) if match[1] else len(lines)
        line = lines[number - 1].removesuffix("\r")
        column = int(match[2]) if match[2] else len(line) + 1
        where = Location(name, number, column, 1, line)
    reading.findings.error(where, "toml-syntax", message[:1].lower() + message[1:])


class _File(TableReader):
    """The reading of one TOML file. Paths are tuples of keys and indices."""

    def read(self, table: Table) -> Steps[None]:
        for key in table:
            if key not in _TOP:
                self._unknown((key,), _TOP)
        log = self._reading.log
        if (file := self._text(table, (), "log_file")) is not None:
            log.file, log.rinetd, log.where = file, True, self._positions.at(("log_file",))
        if (form := self._text(table, (), "log_format")) is not None:
            if form in _FORMATS:
                log.access, log.where = _FORMATS[form], self._positions.at(("log_format",))
            else:
                self._bad(("log_format",), "expected rinetd or common", suggestion(form, _FORMATS))
        self._reading.pid_file = self._text(table, (), "pid_file")
        self._reading.access.extend(self._access(table, (), "global_rules"))
        for index, rule in enumerate(self._tables(table, (), "forwarding_rules")):
            self._rule(rule, ("forwarding_rules", index))
            yield

    def _access(self, table: Table, path: Path, key: str) -> list[AclEntry]:
        entries = []
        for index, item in enumerate(self._tables(table, path, key)):
            where = (*path, key, index)
            for extra in item:
                if extra not in _ACCESS:
                    self._unknown((*where, extra), _ACCESS)
            for needed in ("type", "pattern"):
                if needed not in item:
                    self._error(where, "missing-key", f"'{needed}' is missing")
            kind = self._text(item, where, "type")
            pattern = self._text(item, where, "pattern")
            if kind is not None and kind not in {"allow", "deny"}:
                self._bad((*where, "type"), "expected allow or deny", suggestion(kind, ("allow", "deny")))
            wrong = None if pattern is None else check_pattern(pattern)
            if wrong is not None:
                self._error((*where, "pattern"), "bad-pattern", wrong)
            elif pattern is not None and kind is not None:
                entries.append(AclEntry(kind == "allow", pattern, self._positions.at((*where, "pattern"))))
        return entries

    def _rule(self, table: Table, path: Path) -> None:
        failed_before, self._findings.failed = self._findings.failed, False
        kinds = _PROTOCOLS["tcp"]
        if (protocol := self._text(table, path, "protocol")) is not None:
            if protocol in _PROTOCOLS:
                kinds = _PROTOCOLS[protocol]
            else:
                self._bad(
                    (*path, "protocol"),
                    "expected tcp, udp, udptotcp or tcptoudp",
                    suggestion(protocol, _PROTOCOLS),
                )
        name = self._text(table, path, "name") or ""
        if name and not NAME.fullmatch(name):
            self._error((*path, "name"), "bad-name", f"{shown(name)} is no name for a rule")
        listen = self._place(table, path, "bind", kinds[0], Role.LISTEN)
        target = self._place(table, path, "connect", kinds[1], Role.TARGET)
        settings = self._settings(table, path, Kind.UDP in kinds)
        access = self._access(table, path, "rules")
        checks = self._checks(table, path)
        if listen is not None and target is not None and not self._findings.failed:
            where = self._positions.at(path)
            targets = [TargetDraft(target, self._positions.at((*path, "connect_address")))]
            draft = RuleDraft(
                listen,
                where,
                self._positions.at((*path, "bind_address")),
                name,
                targets,
                settings,
                access=access,
                checks=checks,
            )
            self._reading.add(draft)
        self._findings.failed = self._findings.failed or failed_before

    def _checks(self, table: Table, path: Path) -> list[CheckSpec]:
        """Read ``check``: what follows that word in a native rule, one text or a list of them."""
        value = table.get("check", [])
        several = isinstance(value, list)
        checks = []
        for index, item in enumerate(value if several else [value]):
            where = (*path, "check", index) if several else (*path, "check")
            text = self._value(item, where)
            if text is None:
                continue
            try:
                words = Line("", 1, text).words()
            except WordFault as fault:
                self._error(where, fault.code, fault.message, fault.hint)
                continue
            if not words or words[0].option() is not None or not words[0].text:
                self._error(where, "missing-argument", "'check' needs the name of a check", CHECK_EXAMPLE)
                continue
            plain, options = split_options(words[1:])
            checks.append(CheckSpec(words[0].text, plain, options, self._positions.at(where)))
        return checks

    def _place(self, table: Table, path: Path, side: str, kind: Kind, role: Role) -> Place | None:
        key, port_key = f"{side}_address", f"{side}_port"
        address = self._text(table, path, key)
        port = self._text(table, path, port_key, numbers=True)
        unix = address is not None and address.startswith("unix:")
        for needed in (key,) if unix else (key, port_key):
            if needed not in table:
                self._error(path, "missing-key", f"'{needed}' is missing")
        if address is None or (port is None and not unix):
            return None
        at = key
        try:
            if unix:
                if port_key in table or kind is Kind.UDP:
                    self._bad((*path, key), "a unix socket has no port and no datagrams here")
                return read_path(address[5:], Kind.UNIX, role)
            host = read_host(address, role, brackets=False)
            assert port is not None
            at = port_key
            ports = read_ports(
                port, "udp" if kind is Kind.UDP else "tcp", role, self._reading.port_of_service
            )
        except WordFault as fault:
            self._error((*path, at), fault.code, fault.message, fault.hint)
            return None
        return Place(kind, host, ports, written=(address, port))

    def _settings(self, table: Table, path: Path, datagrams: bool) -> dict[str, tuple[Any, Location]]:
        settings: dict[str, tuple[Any, Location]] = {}
        for key in table:
            if key in _RULE:
                continue
            where = (*path, key)
            if key not in _OPTION_KEYS:
                self._unknown(where, _RULE | frozenset(_OPTION_KEYS), "portfwd options")
                continue
            name = _OPTION_KEYS[key]
            if name in settings:
                self._error(
                    where, "duplicate-option", f"{shown(name)} is given twice", "delete one of the two"
                )
                continue
            self._setting(settings, where, name, _option_text(name, table[key]))
        if (source := self._text(table, path, "source_address")) is not None:
            self._once(settings, (*path, "source_address"), "src", source)
        timeout = self._text(table, path, "timeout", numbers=True)
        if timeout is not None:
            where = (*path, "timeout")
            if datagrams:
                self._once(settings, where, "idle", f"{DATAGRAM_IDLE:g}" if timeout == "0" else timeout)
            else:
                self._findings.warning(
                    self._positions.at(where),
                    "option-without-meaning",
                    "oxidinetd's timeout has a meaning for UDP only",
                    "to end silent TCP sessions write idle",
                )
        return settings

    def _once(self, settings: dict[str, tuple[Any, Location]], path: Path, name: str, text: str) -> None:
        if name in settings:
            self._error(
                path, "duplicate-option", f"{shown(str(path[-1]))} and {shown(name)} say the same thing"
            )
        else:
            self._setting(settings, path, name, text)

    def _setting(
        self,
        settings: dict[str, tuple[Any, Location]],
        path: Path,
        name: str,
        text: str | None,
    ) -> None:
        if text is None:
            self._error(path, "toml-type", "expected text, a number, true or false, as the option has it")
            return
        wrong = find_bad_character(text)
        if wrong is not None or "\t" in text:
            self._error(path, "bad-character", "this text has an invisible character in it")
            return
        try:
            settings[name] = (BY_NAME[name].value(text), self._positions.at(path))
        except WordFault as fault:
            message = f"bad value for {shown(str(path[-1]))}: {fault.message}"
            self._error(path, fault.code, message, fault.hint)


def _option_text(name: str, value: Any) -> str | None:
    """The text of an option from a typed value of TOML; None for a type that no option has."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, int):
        # TOML has already converted permission bits such as 0o660 to a number.
        return oct(value) if name == "mode" else str(value) if abs(value) < 10**18 else "9" * 18
    if isinstance(value, float):
        return f"{value:f}".rstrip("0").removesuffix(".")
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ",".join(value)
    return None
