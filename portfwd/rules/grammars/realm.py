# -*- test-case-name: tests.rules.grammars.test_realm -*-
"""
Reads realm's files in TOML or JSON: ``endpoints`` with ``listen`` and ``remote``, and ``network``.

An endpoint becomes a rule for TCP unless ``no_tcp`` is set, and one for UDP if ``use_udp`` is set. Settings
that would change the transmitted bytes are refused: WebSocket and TLS of realm's transports, and network
interfaces.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from portfwd.errors import Location
from portfwd.rules.addresses import Place, Role, read_place
from portfwd.rules.draft import RuleDraft, TargetDraft
from portfwd.rules.findings import shown, suggestion
from portfwd.rules.grammars.json_positions import JsonPositions
from portfwd.rules.grammars.tables import Table, TableReader
from portfwd.rules.grammars.toml_positions import Path
from portfwd.rules.model import FilterSpec
from portfwd.rules.options import BY_NAME
from portfwd.rules.reading import Reading
from portfwd.rules.steps import Steps
from portfwd.rules.tokens import Word, WordFault
from portfwd.values import counted

#: A key that only realm's files have.
ENDPOINTS: Final = "endpoints"
_TOP: Final = {
    "log": "the program's own log goes to --logfile, and 'log access=' writes a line for each session",
    "dns": "names are looked up by the system's resolver, again after dns-refresh=",
}
_ENDPOINT: Final = frozenset({"listen", "remote", "extra_remotes", "balance", "through", "network"})
#: Keys of an endpoint that cannot be ignored, because they change how bytes are sent.
_REFUSED: Final = {
    "listen_transport": (
        "WebSocket and TLS of realm's transports are not spoken",
        "tls:ADDRESS listens with TLS",
    ),
    "remote_transport": (
        "WebSocket and TLS of realm's transports are not spoken",
        "tls:HOST:PORT is a target with TLS",
    ),
    "interface": ("no socket is bound to a network interface", "write the interface's address in 'through'"),
    "listen_interface": (
        "no socket is bound to a network interface",
        "write the interface's address in 'listen'",
    ),
}
#: Keys of ``network`` that are true or false.
SWITCHES: Final = frozenset({"no_tcp", "use_udp", "ipv6_only", "send_proxy", "accept_proxy"})
#: Keys of ``network`` that are numbers.
NUMBERS: Final = frozenset(
    {
        "send_proxy_version", "accept_proxy_timeout", "tcp_timeout", "udp_timeout",
        "tcp_keepalive", "tcp_keepalive_probe",
    }
)  # fmt: skip
#: Switches of ``network`` that have no meaning here, and what portfwd does.
POINTLESS: Final = {
    "zero_copy": "bytes are spliced wherever they can be: relay=",
    "fast_open": "TCP Fast Open is not used",
    "send_mptcp": "Multipath TCP is not used",
    "accept_mptcp": "Multipath TCP is not used",
}
_NETWORK: Final = SWITCHES | NUMBERS | POINTLESS.keys()
_ALGORITHMS: Final = {"roundrobin": "roundrobin", "iphash": "source"}
_BALANCE: Final = re.compile(r"[ ]*([A-Za-z]+)[ ]*(?::([ 0-9,]*))?", re.ASCII)
_SOURCE: Final = re.compile(r"(?:\[([^\]]*)\]|([0-9.]+))(:[0-9]+)?", re.ASCII)

#: Keys of ``network``: the value and the path of its key.
Network = dict[str, tuple[Any, Path]]
Settings = dict[str, tuple[Any, Location]]


def read_json(reading: Reading, name: str, text: str) -> Steps[None]:
    """Read a JSON file. The syntax is parsed in one step, then each endpoint in one."""
    text = text.removeprefix("\ufeff")
    try:
        table = json.loads(text)
    except json.JSONDecodeError as error:
        line = text.split("\n")[error.lineno - 1].removesuffix("\r")
        where = Location(name, error.lineno, error.colno, 1, line)
        reading.findings.error(where, "json-syntax", error.msg[:1].lower() + error.msg[1:])
        return
    except (ValueError, RecursionError):
        reading.findings.error(
            Location(name), "json-syntax", "it is nested too deep, or a number is too long"
        )
        return
    yield
    if not isinstance(table, dict):
        reading.findings.error(Location(name, 1), "json-type", "expected an object with 'endpoints'")
        return
    positions = JsonPositions(name, text)
    for key, where in positions.repeated:
        reading.findings.error(
            where, "duplicate-option", f"{shown(key)} is given twice", "delete one of the two"
        )
    yield
    yield from RealmReader(reading, positions, "json").read(table)


class RealmReader(TableReader):
    """The reading of one file of realm."""

    def read(self, table: Table) -> Steps[None]:
        """Read the endpoints, in steps of one."""
        known = frozenset({*_TOP, "network", ENDPOINTS})
        for key in table:
            if key not in known:
                self._unknown((key,), known)
            elif key in _TOP:
                self._warn((key,), "directive-without-meaning", f"'{key}' has no meaning here", _TOP[key])
        network = self._network(table, ())
        if ENDPOINTS not in table:
            self._error((), "missing-key", f"'{ENDPOINTS}' is missing")
        for index, endpoint in enumerate(self._tables(table, (), ENDPOINTS)):
            self._endpoint(endpoint, (ENDPOINTS, index), network)
            yield

    def _network(self, table: Table, path: Path) -> Network:
        """Read a ``network``. Settings without a meaning here are reported once."""
        found: Network = {}
        path = (*path, "network")
        network = table.get("network", {})
        if not isinstance(network, dict):
            self._bad_type(path, "expected keys and values")
            return found
        for key, value in network.items():
            where = (*path, key)
            if key not in _NETWORK:
                self._unknown(where, _NETWORK)
            elif key in NUMBERS:
                if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 10**9:
                    self._bad_type(where, "expected a whole number")
                else:
                    found[key] = (value, where)
            elif not isinstance(value, bool):
                self._bad_type(where, "expected true or false")
            elif key not in POINTLESS:
                found[key] = (value, where)
            elif value:
                message = f"'{key}' has no meaning here"
                self._warn(where, "directive-without-meaning", message, POINTLESS[key])
        if found.get("accept_proxy", (False,))[0]:
            self._warn(
                found["accept_proxy"][1],
                "trusts-everyone",
                "realm believes the PROXY header of every peer, and so does this rule",
                "write a native rule with filter proxy-in trust=NETWORK of the load balancers",
            )
        return found

    def _endpoint(self, table: Table, path: Path, network: Network) -> None:
        failed_before, self._findings.failed = self._findings.failed, False
        for key in table:
            if key in _REFUSED:
                self._error((*path, key), "not-yet", *_REFUSED[key])
            elif key not in _ENDPOINT:
                self._unknown((*path, key), _ENDPOINT)
        for key in ("listen", "remote"):
            if key not in table:
                self._error(path, "missing-key", f"'{key}' is missing")
        network = {**network, **self._network(table, path)}
        targets = self._targets(table, path)
        settings: Settings = {}
        self._balance(table, path, targets, settings)
        self._through(table, path, settings)
        listen = self._text(table, path, "listen")
        protocols = []
        if not network.get("no_tcp", (False,))[0]:
            protocols.append("tcp")
        if network.get("use_udp", (False,))[0]:
            protocols.append("udp")
        if not protocols:
            self._error(path, "bad-value", "this endpoint forwards neither TCP nor UDP")
        for protocol in protocols:
            place = None if listen is None else self._place(listen, (*path, "listen"), Role.LISTEN, protocol)
            drafts = []
            for text, where, own in targets:
                target = self._place(text, where, Role.TARGET, protocol)
                if target is not None:
                    drafts.append(TargetDraft(target, self._positions.at(where), settings=own))
            chosen = {**settings, **self._of_network(network, protocol, place)}
            if place is None or self._findings.failed:
                break
            self._reading.add(
                RuleDraft(
                    place,
                    self._positions.at(path),
                    self._positions.at((*path, "listen")),
                    targets=drafts,
                    settings=chosen,
                    filters=_filters(network, self) if protocol == "tcp" else [],
                )
            )
        self._findings.failed = self._findings.failed or failed_before

    def _place(self, text: str, path: Path, role: Role, protocol: str) -> Place | None:
        word = f"{text}/{protocol}"
        try:
            return read_place(Word(word, 1, len(word), len(word)), role, self._reading.port_of_service)
        except WordFault as fault:
            self._error(path, fault.code, fault.message, fault.hint)
            return None

    def _targets(self, table: Table, path: Path) -> list[tuple[str, Path, Settings]]:
        found: list[tuple[str, Path, Settings]] = []
        remote = self._text(table, path, "remote")
        if remote is not None:
            found.append((remote, (*path, "remote"), {}))
        extra = table.get("extra_remotes", [])
        if not isinstance(extra, list):
            self._bad_type((*path, "extra_remotes"), "expected a list of addresses")
            return found
        if extra and "balance" not in table:
            self._warn(
                (*path, "extra_remotes"),
                "option-without-meaning",
                "without 'balance' realm uses 'remote' only, and so does this rule",
                'write balance = "roundrobin"',
            )
            return found
        for index, value in enumerate(extra):
            where = (*path, "extra_remotes", index)
            text = self._value(value, where)
            if text is not None:
                found.append((text, where, {}))
        return found

    def _balance(
        self, table: Table, path: Path, targets: list[tuple[str, Path, Settings]], settings: Settings
    ) -> None:
        text = self._text(table, path, "balance")
        if text is None:
            return
        where = (*path, "balance")
        match = _BALANCE.fullmatch(text)
        word = text if match is None else match[1].lower()
        if match is None or word not in {*_ALGORITHMS, "off"}:
            self._bad(
                where,
                "expected roundrobin, iphash or off, and weights: 'roundrobin: 4, 2, 1'",
                suggestion(word, _ALGORITHMS),
            )
            return
        if word == "off":
            del targets[1:]
            return
        place = self._positions.at(where)
        settings["balance"] = (BY_NAME["balance"].value(_ALGORITHMS[word]), place)
        weights = (
            [weight.strip() for weight in (match[2] or "").split(",")] if (match[2] or "").strip() else []
        )
        if weights and len(weights) != len(targets):
            found = f"{counted(len(targets), 'target')} and {counted(len(weights), 'weight')}"
            self._bad(where, f"{found}: each target needs one")
            return
        for index, weight in enumerate(weights):
            # The first target stands on its rule's line, so its weight is the rule's.
            self._set(settings if not index else targets[index][2], "weight", where, weight)

    def place(self, path: Path) -> Location:
        """The place of a key."""
        return self._positions.at(path)

    def _through(self, table: Table, path: Path, settings: Settings) -> None:
        text = self._text(table, path, "through")
        if text is None:
            return
        where = (*path, "through")
        match = _SOURCE.fullmatch(text)
        if match is not None:
            text = match[1] or match[2]
            if match[3]:
                message = "the port in 'through' has no meaning here"
                self._warn(where, "option-without-meaning", message, "the kernel chooses one")
        if text not in {"0.0.0.0", "::"}:  # noqa: S104
            self._set(settings, "src", where, text)

    def _of_network(self, network: Network, protocol: str, place: Place | None) -> Settings:
        settings: Settings = {}
        if "ipv6_only" in network and place is not None and ":" in place.host:
            value, where = network["ipv6_only"]
            self._set(settings, "v6only", where, "on" if value else "off")
        timeout, name = ("tcp_timeout", "connect-timeout") if protocol == "tcp" else ("udp_timeout", "idle")
        if timeout in network and network[timeout][0]:
            self._set(settings, name, network[timeout][1], str(network[timeout][0]))
        if protocol == "tcp" and "tcp_keepalive" in network:
            value, where = network["tcp_keepalive"]
            probes = network.get("tcp_keepalive_probe", (0,))[0]
            self._set(settings, "keepalive", where, f"{value}:{value}:{probes or ''}" if value else "off")
        return settings

    def _set(self, settings: Settings, name: str, path: Path, text: str) -> None:
        try:
            settings[name] = (BY_NAME[name].value(text), self._positions.at(path))
        except WordFault as fault:
            message = f"bad value for {shown(str(path[-1]))}: {fault.message}"
            self._error(path, fault.code, message, fault.hint)


def _filters(network: Network, reader: RealmReader) -> list[FilterSpec]:
    """The clauses that read and write PROXY headers; realm does so for TCP only."""
    filters = []
    if network.get("accept_proxy", (False,))[0]:
        options = [("trust", "0.0.0.0/0,::/0")]
        if seconds := network.get("accept_proxy_timeout", (0,))[0]:
            options.append(("timeout", f"{seconds}s"))
        filters.append(FilterSpec("proxy-in", (), tuple(options), reader.place(network["accept_proxy"][1])))
    if network.get("send_proxy", (False,))[0]:
        version = str(network.get("send_proxy_version", (2,))[0])
        where = reader.place(network["send_proxy"][1])
        filters.append(FilterSpec("proxy-out", (), (("version", version),), where))
    return filters
