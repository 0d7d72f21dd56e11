# -*- test-case-name: tests.rules.test_admin_lines -*-
"""
The directives ``admin``, ``web``, ``manhole`` and ``toxiproxy``: where those come in who look and steer.

::

    admin   unix:/run/portfwd/admin.sock mode=0660 level=operator
    web     127.0.0.1:8080
    web     127.0.0.1:8081 level=operator token-file=/etc/portfwd/web-token host=portfwd.example.com
    manhole ssh:127.0.0.1:2222 keys=/etc/portfwd/shell-keys host-key=/etc/portfwd/shell-host-key
    manhole unix:/run/portfwd/shell/ssh.sock keys=/etc/portfwd/shell-keys
    toxiproxy localhost:8474 config=proxies.json seed=7

All but the last may be repeated. A line that would let every user of the machine or of the network control
the forwarder is refused. The permissions of files and directories are checked when they are opened.
"""

from __future__ import annotations

import enum
import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from attrs import field, frozen

from portfwd.errors import Location
from portfwd.rules import readers
from portfwd.rules.addresses import Role, read_path, read_place
from portfwd.rules.clauses import split_options
from portfwd.rules.findings import shown
from portfwd.rules.line_options import read_line_option
from portfwd.rules.model import NOWHERE, Directive, Kind, ListenOptions, ListenSpec, Ruleset
from portfwd.rules.readers import ValueKind
from portfwd.rules.reading import FileScope, Reading
from portfwd.rules.tokens import Line, Word, WordFault
from portfwd.values import Address, InetAddress, UnixAddress

#: Permission bits: only the owner, as for a unix socket of a rule.
ADMIN_MODE: Final = 0o600
_OTHERS_WRITE: Final = 0o002
_HOST_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?")


class Level(enum.Enum):
    """What a client of a control socket may do: read only, or operate."""

    READ = "read"
    OPERATOR = "operator"


@frozen
class AdminSpec:
    """
    One control socket.

    :ivar path: as written.
    :ivar mode: permission bits of its file.
    """

    path: str
    mode: int = ADMIN_MODE
    level: Level = Level.OPERATOR
    where: Location = field(default=NOWHERE, eq=False, repr=False)


@frozen
class ManholeSpec:
    """
    One SSH server with a Python prompt behind it.

    :ivar address: a literal of the loopback and its port, or a unix socket.
    :ivar keys: file with the admitted public keys, as written.
    :ivar host_key: file with the key of the server; it is created if it does not exist. None: a new key at
        each start.
    """

    address: Address
    keys: str
    host_key: str | None = None
    where: Location = field(default=NOWHERE, eq=False, repr=False)


@frozen
class WebSpec:
    """
    One listener of HTTP.

    :ivar listen: one port, or a unix socket.
    :ivar level: what those may do whom it serves.
    :ivar token: the file of the token that they need, as written; None: they need none.
    :ivar hosts: names that it is known by, beside ``localhost`` and literal addresses.
    """

    listen: ListenSpec
    level: Level = Level.READ
    token: str | None = None
    hosts: tuple[str, ...] = ()
    where: Location = field(default=NOWHERE, eq=False, repr=False)


@frozen
class ToxiproxySpec:
    """
    The API of toxiproxy.

    :ivar address: a literal and its port, or a unix socket.
    :ivar config: file with proxies to begin with, JSON, as written.
    :ivar seed: the chances of its toxics follow from it.
    :ivar hosts: names by which clients may call it, besides those that the public DNS does not have.
    """

    address: Address
    config: str | None = None
    seed: int = 0
    hosts: tuple[str, ...] = ()
    where: Location = field(default=NOWHERE, eq=False, repr=False)


def admin_specs(ruleset: Ruleset) -> tuple[AdminSpec, ...]:
    """The control sockets of `ruleset`."""
    return tuple(_again(_admin_spec, one) for one in ruleset.directives if one.name == "admin")


def manhole_specs(ruleset: Ruleset) -> tuple[ManholeSpec, ...]:
    """The manholes of `ruleset`."""
    return tuple(_again(_manhole_spec, one) for one in ruleset.directives if one.name == "manhole")


def web_specs(ruleset: Ruleset) -> tuple[WebSpec, ...]:
    """The web listeners of `ruleset`."""
    return tuple(_again(_web_spec, one) for one in ruleset.directives if one.name == "web")


def toxiproxy_spec(ruleset: Ruleset) -> ToxiproxySpec | None:
    """The toxiproxy API of `ruleset`: that of the last line; None if there is none."""
    lines = [one for one in ruleset.directives if one.name == "toxiproxy"]
    return _again(_toxiproxy_spec, lines[-1]) if lines else None


def read_admin(reading: Reading, scope: FileScope, line: Line, words: list[Word]) -> None:
    """Read ``admin unix:PATH [mode=BITS] [level=read|operator]``."""
    _read(reading, line, words, _ADMIN, _admin_spec)


def read_manhole(reading: Reading, scope: FileScope, line: Line, words: list[Word]) -> None:
    """Read ``manhole ssh:HOST:PORT | unix:PATH keys=FILE [host-key=FILE]``."""
    _read(reading, line, words, _MANHOLE, _manhole_spec)


def read_web(reading: Reading, scope: FileScope, line: Line, words: list[Word]) -> None:
    """Read ``web ADDRESS|unix:PATH [mode=BITS] [level=read|operator] [token-file=FILE] [host=NAME,…]``."""
    count = len(reading.directives)
    _read(reading, line, words, _WEB, _web_spec)
    for spec in web_specs(Ruleset(directives=tuple(reading.directives[count:]))):
        if spec.token is None and spec.listen.kind is Kind.TCP and not _is_local(spec.listen.host):
            reading.findings.warning(
                line.at(words[1]),
                "open-listener",
                "whoever reaches this port sees clients, targets and rates",
                "listen on 127.0.0.1 or on a unix socket, or ask for a token: token-file=FILE",
            )


def _is_local(host: str) -> bool:
    """Whether only this machine reaches `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def read_toxiproxy(reading: Reading, scope: FileScope, line: Line, words: list[Word]) -> None:
    """Read ``toxiproxy HOST:PORT | unix:PATH [config=FILE] [seed=N] [remote=on] [host=NAME,…]``."""
    _read(reading, line, words, _TOXIPROXY, _toxiproxy_spec)


_ADMIN: Final[Mapping[str, ValueKind]] = {"mode": readers.mode(), "level": readers.choice(Level)}
_WEB: Final[Mapping[str, ValueKind]] = {
    **_ADMIN,
    "token-file": readers.text("file"),
    "host": readers.text("name"),
}
_MANHOLE: Final[Mapping[str, ValueKind]] = {"keys": readers.text("file"), "host-key": readers.text("file")}
_TOXIPROXY: Final[Mapping[str, ValueKind]] = {
    "config": readers.text("file"),
    "seed": readers.whole(0, 2**63 - 1),
    "remote": readers.switch(),
    "host": readers.text("name"),
}
_KINDS: Final = {"admin": _ADMIN, "web": _WEB, "manhole": _MANHOLE, "toxiproxy": _TOXIPROXY}
#: The options of these lines.
ADMIN_OPTIONS: Final = tuple(_ADMIN)
WEB_OPTIONS: Final = tuple(_WEB)
MANHOLE_OPTIONS: Final = tuple(_MANHOLE)
TOXIPROXY_OPTIONS: Final = tuple(_TOXIPROXY)
_EXAMPLES: Final = {
    "admin": "such as admin unix:/run/portfwd/admin.sock",
    "web": "such as web 127.0.0.1:8080",
    "manhole": "such as manhole ssh:127.0.0.1:2222 keys=/etc/portfwd/shell-keys",
    "toxiproxy": "such as toxiproxy localhost:8474",
}

_Spec = Callable[[Word, Mapping[str, Any], Location], Any]


def _read(
    reading: Reading, line: Line, words: list[Word], kinds: Mapping[str, ValueKind], spec: _Spec
) -> None:
    """Report the errors of a line. Keep the line as text if there are none."""
    findings, name = reading.findings, words[0].text
    address: Word | None = None
    values: dict[str, Any] = {}
    good = True
    for word in words[1:]:
        item = word.option()
        if item is None and address is None:
            address = word
            continue
        good = read_line_option(reading, line, word, kinds, values) and good
    if address is None:
        findings.error(line.at(words[0]), "missing-argument", f"'{name}' needs an address", _EXAMPLES[name])
        return
    try:
        spec(address, values, line.at(words[0]))
    except WordFault as fault:
        findings.fault(line, address, fault)
        return
    if good:
        plain, options = split_options(words[1:])
        reading.directives.append(Directive(name, plain, options, line.at(words[0])))


def _again(spec: _Spec, directive: Directive) -> Any:
    """Parse a directive that was checked before."""
    kinds = _KINDS[directive.name]
    text = directive.words[0]
    values = {key: kinds[key].read(value) for key, value in directive.options}
    return spec(Word(text, 1, len(text), len(text)), values, directive.where)


def _unix_path(text: str) -> str:
    """
    The file name after ``unix:``.

    :raises Fault: it is not a file name, or an abstract name, which has no permission bits.
    """
    try:
        path = read_path(text, Kind.UNIX, Role.LISTEN).path
    except WordFault as fault:
        raise fault.moved(len("unix:")) from None
    if path.startswith("@"):
        raise WordFault(
            "bad-path",
            "an abstract name has no permission bits: everybody on this machine could connect",
            "write unix:/run/portfwd/NAME.sock",
            len("unix:"),
        )
    return path


def _admin_spec(address: Word, values: Mapping[str, Any], where: Location) -> AdminSpec:
    prefix, _, rest = address.text.partition(":")
    if prefix != "unix":
        raise WordFault(
            "bad-address", "operators come by a unix socket, whose file says who may", _EXAMPLES["admin"]
        )
    mode, level = values.get("mode", ADMIN_MODE), values.get("level", Level.OPERATOR)
    path = _unix_path(rest)
    _check_mode(mode, level)
    return AdminSpec(path, mode, level, where)


def _check_mode(mode: int, level: Level) -> None:
    """:raises WordFault: everybody could steer."""
    if level is Level.OPERATOR and mode & _OTHERS_WRITE:
        raise WordFault(
            "bad-value",
            f"with mode={mode:04o} everybody on this machine could steer the forwarder",
            "write mode=0660 and give the file to a group, or level=read",
        )


def _hosts(values: Mapping[str, Any]) -> tuple[str, ...]:
    """
    The names of ``host=``, in lower case.

    :raises WordFault: one is not a name.
    """
    hosts = tuple(values["host"].lower().split(",")) if "host" in values else ()
    for name in hosts:
        if not _HOST_NAME.fullmatch(name):
            raise WordFault(
                "bad-host",
                f"{shown(name)} in host= is no name",
                "write host=NAME, or NAMES with commas between",
            )
    return hosts


def _web_spec(address: Word, values: Mapping[str, Any], where: Location) -> WebSpec:
    level, token = values.get("level", Level.READ), values.get("token-file")
    hosts = _hosts(values)
    if address.text.startswith("unix:"):
        mode = values.get("mode", ADMIN_MODE)
        if token is None:
            _check_mode(mode, level)
        path = _unix_path(address.text.removeprefix("unix:"))
        listen = ListenSpec(Kind.UNIX, path=path, options=ListenOptions(mode=mode), where=where)
        return WebSpec(listen, level, token, hosts, where)
    place = read_place(address, Role.LISTEN, lambda name, protocol: None)
    if place.kind is not Kind.TCP or place.ports is None or len(place.ports) > 1:
        raise WordFault("bad-address", "web listens on one TCP port or unix socket", _EXAMPLES["web"])
    if "mode" in values:
        raise WordFault("option-does-not-fit", "'mode' has no meaning here: it needs a unix: address")
    if level is Level.OPERATOR and token is None:
        raise WordFault(
            "missing-argument",
            "level=operator needs token-file=FILE here: everybody who reaches the port could steer",
            "a file with one word, such as 'openssl rand -base64 24' prints; or write web unix:PATH",
        )
    listen = ListenSpec(place.kind, place.host, place.ports, where=where)
    return WebSpec(listen, level, token, hosts, where)


def _manhole_spec(address: Word, values: Mapping[str, Any], where: Location) -> ManholeSpec:
    prefix, _, rest = address.text.partition(":")
    place: Address
    if prefix == "unix":
        place = UnixAddress(_unix_path(rest))
    elif prefix == "ssh":
        place = _loopback(address.rest(len("ssh:")))
    else:
        raise WordFault("bad-address", "expected ssh:HOST:PORT or unix:PATH", _EXAMPLES["manhole"])
    if "keys" not in values:
        raise WordFault(
            "missing-argument",
            "'manhole' needs keys=FILE",
            "a file of public keys, one a line, as ~/.ssh/authorized_keys has them",
        )
    return ManholeSpec(place, values["keys"], values.get("host-key"), where)


def _loopback(word: Word) -> InetAddress:
    """
    Parse an address of the loopback interface.

    :raises Fault: it is not one.
    """
    start = len("ssh:")
    try:
        place = read_place(word, Role.LISTEN, lambda name, protocol: None)
    except WordFault as fault:
        raise fault.moved(start) from None
    try:
        is_loopback = place.kind is Kind.TCP and ipaddress.ip_address(place.host).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback or place.ports is None or len(place.ports) != 1:
        raise WordFault(
            "bad-address",
            "a manhole listens on one port of the loopback",
            "write ssh:127.0.0.1:2222, and reach it from elsewhere through this machine's own sshd",
            start,
        )
    return InetAddress(place.host, place.ports.first)


def _toxiproxy_spec(address: Word, values: Mapping[str, Any], where: Location) -> ToxiproxySpec:
    config, seed, hosts = values.get("config"), values.get("seed", 0), _hosts(values)
    if address.text.startswith("unix:"):
        path = _unix_path(address.text.removeprefix("unix:"))
        return ToxiproxySpec(UnixAddress(path), config, seed, hosts, where)
    place = read_place(address, Role.LISTEN, lambda name, protocol: None)
    host = "127.0.0.1" if place.host == "localhost" else place.host or "::"
    try:
        literal = ipaddress.ip_address(host)
    except ValueError:
        literal = None
    if place.kind is not Kind.TCP or place.ports is None or len(place.ports) != 1 or literal is None:
        raise WordFault("bad-address", "expected a literal and a port, or unix:PATH", _EXAMPLES["toxiproxy"])
    if not literal.is_loopback and not values.get("remote", False):
        raise WordFault(
            "bad-address",
            "whoever reaches this address can let portfwd listen anywhere and connect to anything",
            "write localhost:8474, or add remote=on if only the right people can reach it",
        )
    return ToxiproxySpec(InetAddress(host, place.ports.first), config, seed, hosts, where)
