# -*- test-case-name: tests.rules.grammars.test_yaml -*-
"""
Reads rinetd-uv's YAML form: ``global:`` and ``rules:``.

A rule with several ``bind:`` becomes several rules named NAME, NAME-2 and so on. Settings without a
counterpart cause warnings, as in the conf form. Unknown keys are errors; rinetd-uv only warns about them.
"""

from __future__ import annotations

import re
from typing import Any, Final

from attrs import evolve

from portfwd.errors import Location
from portfwd.rules.access import check_pattern
from portfwd.rules.addresses import Place, Role, is_datagram, is_inet, read_place
from portfwd.rules.draft import RuleDraft, TargetDraft
from portfwd.rules.findings import nearest, shown, suggestion
from portfwd.rules.grammars.rinetd import never_again
from portfwd.rules.grammars.rinetd_directives import RINETD
from portfwd.rules.grammars.yaml_nodes import Items, Mapping, Node, Text, read_nodes
from portfwd.rules.model import UNIX_KINDS, AccessLogFormat, AclEntry, Kind
from portfwd.rules.options import BY_NAME
from portfwd.rules.reading import FileScope, Reading
from portfwd.rules.steps import Steps
from portfwd.rules.tokens import NAME, Line, Word, WordFault

#: Keys of ``global:`` and ``status:``, and the equivalent directives of the conf form.
_GLOBAL: Final = {
    "log_file": "logfile",
    "pid_file": "pidfile",
    "buffer_size": "buffersize",
    "dns_refresh": "dns-refresh",
    "dns_multi_ip_expand": "dns-multi-ip-expand",
    "dns_multi_ip_proto": "dns-multi-ip-proto",
    "connect_timeout": "connect-timeout",
    "listen_backlog": "listen-backlog",
    "max_udp_connections": "max-udp-connections",
    "pool_min_free": "pool-min-free",
    "pool_max_free": "pool-max-free",
    "pool_trim_delay": "pool-trim-delay",
    "stats_log_interval": "statsloginterval",
}
_STATUS: Final = {"file": "statusfile", "interval": "statusinterval", "format": "statusformat"}
_RULE: Final = frozenset(
    {"name", "bind", "connect", "load_balancing", "access", "timeout", "keepalive", "connect_timeout", "mode"}
)
_BACKEND: Final = frozenset({"dest", "name", "weight", "dns_refresh", "src"})
_BALANCING: Final = frozenset(
    {"algorithm", "health_threshold", "recovery_timeout", "affinity_ttl", "affinity_max_entries"}
)
_ALGORITHMS: Final = {
    "roundrobin": "roundrobin", "round-robin": "roundrobin", "leastconn": "leastconn",
    "least-conn": "leastconn", "random": "random", "iphash": "source", "ip-hash": "source",
}  # fmt: skip
_SWITCH: Final = {
    **dict.fromkeys(("true", "yes", "on", "1"), True),
    **dict.fromkeys(("false", "no", "off", "0"), False),
}
_PROTOCOL = re.compile(r"/(tcp|udp)\Z", re.ASCII | re.IGNORECASE)
_NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)
_NO_NAME = re.compile(r"[^A-Za-z0-9_.-]+", re.ASCII)

Settings = dict[str, tuple[Any, Location]]


def read_yaml(reading: Reading, name: str, text: str) -> Steps[None]:
    """Read a YAML file, in steps of one event and one rule."""
    root = yield from read_nodes(reading.findings, name, text.removeprefix("\ufeff"))
    if root is not None and (not isinstance(root, Text) or not root.empty):
        yield from _File(reading, name).read(root)


class _File:
    """The reading of one YAML file."""

    def __init__(self, reading: Reading, name: str) -> None:
        self._reading = reading
        self._findings = reading.findings
        self._name = name

    def read(self, root: Node) -> Steps[None]:
        top = self._mapping(root, frozenset({"global", "rules"}))
        if "global" in top:
            self._global(top["global"][1])
        if "rules" in top:
            for node in self._items(top["rules"][1], "a list of rules"):
                self._rule(node)
                yield

    # the parts of any mapping

    def _mapping(self, node: Node, known: frozenset[str]) -> dict[str, tuple[Location, Node]]:
        if not isinstance(node, Mapping):
            self._findings.error(
                node.where,
                "yaml-type",
                "expected keys and values",
                ", ".join(sorted(known)) + " are known here",
            )
            return {}
        for key, (where, _) in node.nodes.items():
            if key not in known:
                self._findings.error(where, "unknown-key", f"unknown key {shown(key)}", nearest(key, known))
        return {key: item for key, item in node.nodes.items() if key in known}

    def _items(self, node: Node, what: str) -> list[Node]:
        if isinstance(node, Items):
            return node.nodes
        self._findings.error(node.where, "yaml-type", f"expected {what}")
        return []

    def _text(self, node: Node) -> str | None:
        if not isinstance(node, Text):
            self._findings.error(node.where, "yaml-type", "expected one value")
            return None
        value = node.value
        if not value.isprintable():
            self._findings.error(node.where, "bad-character", "this text has an invisible character in it")
            return None
        if not value:
            self._findings.error(node.where, "bad-value", "expected something")
            return None
        return value

    def _switch(self, node: Node) -> bool | None:
        text = self._text(node)
        if text is None:
            return None
        if text.lower() not in _SWITCH:
            self._findings.error(node.where, "bad-value", "expected true or false")
        return _SWITCH.get(text.lower())

    def _access(self, node: Node) -> list[AclEntry]:
        entries = []
        for key, (_, patterns) in self._mapping(node, frozenset({"allow", "deny"})).items():
            for item in self._items(patterns, "a list of patterns"):
                pattern = self._text(item)
                if pattern is None:
                    continue
                wrong = check_pattern(pattern)
                if wrong is None:
                    entries.append(AclEntry(key == "allow", pattern, item.where))
                else:
                    self._findings.error(item.where, "bad-pattern", wrong)
        return entries

    def _set(self, settings: Settings, name: str, key: str, node: Node, text: str | None = None) -> None:
        """Set an option to the value of `node`, or to `text`."""
        text = self._text(node) if text is None else text
        if text is None:
            return
        try:
            settings[name] = (BY_NAME[name].value(text), node.where)
        except WordFault as fault:
            message = f"bad value for {shown(key)}: {fault.message}"
            self._findings.error(node.where, fault.code, message, fault.hint)

    def _number(self, node: Node, key: str) -> str | None:
        text = self._text(node)
        if text is not None and not _NUMBER.fullmatch(text):
            self._findings.error(node.where, "bad-value", f"bad value for {shown(key)}: expected a number")
            return None
        return text

    def _seconds(self, settings: Settings, name: str, key: str, node: Node) -> None:
        """Set an option to a number of seconds; 0 leaves it unchanged."""
        text = self._number(node, key)
        if text is not None and text.strip("0"):
            self._set(settings, name, key, node, text)

    def _refresh(self, settings: Settings, node: Node) -> None:
        text = self._number(node, "dns_refresh")
        if text is not None and not text.strip("0"):
            self._findings.warning(node.where, "option-without-meaning", *never_again())
        elif text is not None:
            self._set(settings, "dns-refresh", "dns_refresh", node, text)

    # global

    def _global(self, node: Node) -> None:
        known = frozenset({*_GLOBAL, "log_common", "status", "access"})
        for key, (where, value) in self._mapping(node, known).items():
            if key == "access":
                self._reading.access.extend(self._access(value))
            elif key == "status":
                status = self._mapping(value, frozenset({*_STATUS, "enabled"}))
                if "enabled" not in status or self._switch(status["enabled"][1]):
                    for part in status.keys() & _STATUS.keys():
                        self._directive(_STATUS[part], f"status.{part}", *status[part])
            elif key == "log_common":
                if self._switch(value):
                    self._reading.log.access, self._reading.log.where = AccessLogFormat.COMMON, where
            else:
                self._directive(_GLOBAL[key], key, where, value)

    def _directive(self, directive: str, key: str, where: Location, node: Node) -> None:
        """Pass a key and its value to the reader of the equivalent directive."""
        text = self._text(node)
        if text is None:
            return
        if key == "dns_multi_ip_expand" and text.lower() in _SWITCH:
            text = "on" if _SWITCH[text.lower()] else "off"
        if key == "connect_timeout" and not text.strip("0"):
            return
        place = node.where if node.where.line == where.line else where
        words = [
            Word(key, where.column, where.length, where.length),
            Word(text, place.column, place.length, 0),
        ]
        line = Line(where.file, where.line, where.text)
        RINETD[directive](self._reading, FileScope(self._name, (self._name,)), line, words)

    # rules

    def _rule(self, node: Node) -> None:
        failed_before, self._findings.failed = self._findings.failed, False
        keys = self._mapping(node, _RULE)
        binds = self._several(keys, node, "bind")
        connects = self._several(keys, node, "connect")
        listens = [(self._place(item, Role.LISTEN), item.where) for item in binds]
        places = [place for place, _ in listens if place is not None]
        targets = [target for item in connects if (target := self._target(item)) is not None]
        settings = self._settings(keys, places, len(targets))
        mode: Settings = {}
        if "mode" in keys:
            self._set(mode, "mode", "mode", keys["mode"][1])
            if mode and not any(place.kind in UNIX_KINDS for place in places):
                self._pointless("mode", keys["mode"][1], "no bind of this rule is a unix socket")
        access = self._access(keys["access"][1]) if "access" in keys else []
        name = self._name_of(keys)
        if not self._findings.failed:
            self._share([draft for draft, _ in targets], settings)
            for number, (place, where) in enumerate(listens, 1):
                assert place is not None
                self._reading.add(
                    RuleDraft(
                        place,
                        node.where if number == 1 else where,
                        where,
                        f"{name}-{number}" if name and number > 1 else name,
                        [self._for(target, place) for target in targets],
                        {**settings, **(mode if place.kind in UNIX_KINDS else {})},
                        access=list(access),
                    )
                )
        self._findings.failed = self._findings.failed or failed_before

    def _share(self, targets: list[TargetDraft], settings: Settings) -> None:
        """
        Make the options of the first target those of the rule, and restore the defaults for the others.

        A native rule has its first target on its own line, so that target has the options of the rule.
        """
        before = {**self._reading.settings, **settings}
        for name, item in targets[0].settings.items():
            settings[name] = item
            for target in targets[1:]:
                if name not in target.settings and (name != "src" or is_inet(target.place)):
                    value = before[name][0] if name in before else BY_NAME[name].initial
                    target.settings = {**target.settings, name: (value, target.where)}
        targets[0].settings = {}

    def _name_of(self, keys: dict[str, tuple[Location, Node]]) -> str:
        if "name" not in keys:
            return ""
        node = keys["name"][1]
        name = self._text(node) or "_"
        if NAME.fullmatch(name):
            return name
        plain = _NO_NAME.sub("-", name)
        plain = plain if NAME.fullmatch(plain) else "_" + plain
        self._findings.warning(
            node.where, "bad-name", f"{shown(name)} is no name for a rule here", f"it is called {plain}"
        )
        return plain

    def _several(self, keys: dict[str, tuple[Location, Node]], rule: Node, key: str) -> list[Node]:
        if key not in keys:
            if isinstance(rule, Mapping):
                self._findings.error(rule.where, "missing-key", f"'{key}' is missing")
            return []
        node = keys[key][1]
        if not isinstance(node, Items):
            return [node]
        if not node.nodes:
            self._findings.error(node.where, "missing-key", f"'{key}' has no address")
        return node.nodes

    def _place(self, node: Node, role: Role) -> Place | None:
        text = self._text(node)
        if text is None:
            return None
        text = _PROTOCOL.sub(lambda match: match[0].lower(), text)
        try:
            return read_place(Word(text, 1, len(text), len(text)), role, self._reading.port_of_service)
        except WordFault as fault:
            self._findings.error(_within(node.where, text, fault), fault.code, fault.message, fault.hint)
            return None

    def _target(self, node: Node) -> tuple[TargetDraft, bool] | None:
        """A target, and whether its protocol is written in the file."""
        settings: Settings = {}
        dest = node
        if not isinstance(node, Text):
            keys = self._mapping(node, _BACKEND)
            if "dest" not in keys:
                self._findings.error(node.where, "missing-key", "'dest' is missing")
                return None
            dest = keys["dest"][1]
            if "name" in keys:
                self._pointless("name", keys["name"][1], "a target is called by its address here")
            if "weight" in keys:
                self._set(settings, "weight", "weight", keys["weight"][1])
            if "src" in keys:
                self._set(settings, "src", "src", keys["src"][1])
            if "dns_refresh" in keys:
                self._refresh(settings, keys["dns_refresh"][1])
        place = self._place(dest, Role.TARGET)
        if place is None:
            return None
        written = isinstance(dest, Text) and _PROTOCOL.search(dest.value) is not None
        return TargetDraft(place, dest.where, settings=settings), written

    @staticmethod
    def _for(target: tuple[TargetDraft, bool], listen: Place) -> TargetDraft:
        """The target for one bind. Without a protocol it has that of the bind."""
        draft, written = target
        if is_datagram(listen) and not written and draft.place.kind is Kind.TCP:
            return evolve(draft, place=evolve(draft.place, kind=Kind.UDP))
        return draft

    def _settings(
        self, keys: dict[str, tuple[Location, Node]], places: list[Place], targets: int
    ) -> Settings:
        settings: Settings = {}
        if targets > 1:
            settings["balance"] = (BY_NAME["balance"].value("roundrobin"), keys["connect"][0])
        if "load_balancing" in keys:
            self._balancing(settings, keys["load_balancing"][1], targets)
        if "keepalive" in keys:
            node = keys["keepalive"][1]
            if (on := self._switch(node)) is not None:
                self._set(settings, "keepalive", "keepalive", node, "on" if on else "off")
        if "connect_timeout" in keys:
            self._seconds(settings, "connect-timeout", "connect_timeout", keys["connect_timeout"][1])
        if "timeout" in keys:
            node = keys["timeout"][1]
            if any(is_datagram(place) for place in places):
                self._seconds(settings, "idle", "timeout", node)
            elif self._number(node, "timeout") is not None:
                self._findings.warning(
                    node.where,
                    "option-without-meaning",
                    "rinetd-uv's timeout has a meaning for UDP only",
                    "to end silent TCP sessions write LISTEN -> TARGET idle=…",
                )
        return settings

    def _balancing(self, settings: Settings, node: Node, targets: int) -> None:
        keys = self._mapping(node, _BALANCING)
        if "algorithm" in keys:
            word = keys["algorithm"][1]
            text = (self._text(word) or "roundrobin").lower()
            if text not in _ALGORITHMS:
                hint = suggestion(text, _ALGORITHMS)
                message = "expected roundrobin, leastconn, random or iphash"
                self._findings.error(word.where, "bad-value", message, hint)
            elif targets > 1:
                self._set(settings, "balance", "algorithm", word, _ALGORITHMS[text])
        if "health_threshold" in keys:
            self._set(settings, "max-fails", "health_threshold", keys["health_threshold"][1])
        if "recovery_timeout" in keys:
            self._seconds(settings, "fail-timeout", "recovery_timeout", keys["recovery_timeout"][1])
        if "affinity_ttl" in keys:
            self._seconds(settings, "stick", "affinity_ttl", keys["affinity_ttl"][1])
        if "affinity_max_entries" in keys:
            key, node = "affinity_max_entries", keys["affinity_max_entries"][1]
            if self._number(node, key) is not None:
                self._pointless(key, node, "portfwd bounds what it remembers by itself")

    def _pointless(self, key: str, node: Node, instead: str) -> None:
        message = f"{shown(key)} has no meaning here"
        self._findings.warning(node.where, "option-without-meaning", message, instead)


def _within(where: Location, text: str, fault: WordFault) -> Location:
    """The place of a fault in a text, if it stands in the file as it is."""
    start = where.text.find(text, where.column - 1, where.column + where.length - 1)
    if start < 0:
        return where
    length = max(1, fault.length or len(text) - fault.start)
    return evolve(where, column=start + fault.start + 1, length=length)
