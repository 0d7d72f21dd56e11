# -*- test-case-name: tests.rules.test_addresses -*-
"""
Parses and formats LISTEN and TARGET, hosts, ports and ranges.

A `Fault` says what is wrong and where in the word. Names are not resolved; the port of a service comes from a
function that the caller passes in.
"""

from __future__ import annotations

import enum
import ipaddress
import posixpath
import re
from collections.abc import Callable
from typing import Final

from attrs import frozen

from portfwd.rules.model import (
    DATAGRAM_KINDS,
    SYSTEMD_KINDS,
    UNIX_KINDS,
    Kind,
    ListenSpec,
    PortRange,
    TargetSpec,
)
from portfwd.rules.tokens import NAME, Word, WordFault, quote, spell
from portfwd.values import ascii_host

#: Returns the port of a service (``http``) for a protocol (``tcp`` or ``udp``).
PortOfService = Callable[[str, str], int | None]

MAX_PORT: Final = 65535
#: ``sun_path`` of Linux' sockaddr_un has 108 bytes, the last of them NUL (unix(7)).
MAX_UNIX_PATH: Final = 107
#: RFC 1035 section 2.3.4: a name has 255 octets or less, 253 as text; a label 63.
MAX_NAME: Final = 253
MAX_LABEL: Final = 63

#: Host names without a dot that every machine has (Debian's /etc/hosts).
OWN_NAMES: Final = frozenset({"localhost", "ip6-localhost", "ip6-loopback"})
#: The prefixes of LISTEN and TARGET, before a colon.
PREFIXES: Final = {kind.value: kind for kind in Kind}
_INET: Final = frozenset({Kind.TCP, Kind.UDP, Kind.TLS})
_ADDRESS = re.compile(r"(?:(\[[^\[\]]*\]|[^\[\]:/]*):)?([^:/\[\]]+)(?:/(.*))?", re.DOTALL)
_IPV4 = re.compile(r"(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?:\.(?!$)|$)){4}", re.ASCII)
_NUMERIC = re.compile(r"[\d.]+", re.ASCII)
_HOST_NAME = re.compile(r"(?:[\w](?:[\w-]*[\w])?)(?:\.[\w](?:[\w-]*[\w])?)*\.?")
_PORTS = re.compile(r"(\d+)(?:-(\d+))?", re.ASCII)
_SERVICE = re.compile(r"[A-Za-z][A-Za-z0-9_.+-]*", re.ASCII)
_RANGE_SHAPE = re.compile(r"[^-]*\d-\d.*")


class Role(enum.Enum):
    """Whether an address is for listening or for connecting."""

    LISTEN = "listen"
    TARGET = "target"


@frozen
class Place:
    """
    A parsed LISTEN or TARGET. The fields are those of `ListenSpec`.

    :ivar written: host and port as the file writes them, for rinetd's logs.
    """

    kind: Kind
    host: str = ""
    ports: PortRange | None = None
    path: str = ""
    written: tuple[str, str] = ("", "")


#: Placeholder for an address that could not be parsed.
NO_PLACE: Final = Place(Kind.TCP)


def read_place(word: Word, role: Role, port_of_service: PortOfService) -> Place:
    """
    Parse LISTEN or TARGET of the native grammar.

    :raises Fault: it is not well-formed.
    """
    text = word.text
    prefix, colon, rest = text.partition(":")
    kind = PREFIXES.get(prefix) if colon and word.bare > len(prefix) else None
    if kind is None:
        if not colon and text in PREFIXES:
            raise WordFault("bad-address", f"'{text}' alone is no address", f"write {text}:ADDRESS")
        return _read_inet(text, Kind.TCP, False, role, port_of_service)
    if kind is Kind.TLS and (under := _under_tls(rest)) is not None:
        kind = under
        prefix = kind.value
        rest = text[len(prefix) + 1 :]
    start = len(prefix) + 1
    try:
        if kind in _INET:
            return _read_inet(rest, kind, True, role, port_of_service)
        if kind is Kind.ENDPOINT:
            return _read_endpoint(word.rest(start))
        return read_path(rest, kind, role)
    except WordFault as fault:
        raise fault.moved(start) from None


def _under_tls(rest: str) -> Kind | None:
    """
    Parse what follows ``tls:`` if it is not a host and ports.

    A host may also have the name unix or systemd.
    """
    under, _, name = rest.partition(":")
    if under == Kind.UNIX.value and (not name or "/" in name or name.startswith("@")):
        return Kind.TLS_UNIX
    if under == Kind.SYSTEMD.value and _PORTS.fullmatch(name) is None:
        return Kind.TLS_SYSTEMD
    return None


def _read_endpoint(word: Word) -> Place:
    if not word.quoted or word.bare or not word.text.strip():
        raise WordFault(
            "bad-endpoint",
            "the description of an endpoint stands in quotes",
            'write endpoint:"tcp:10.0.0.5:80", with a description that Twisted knows',
        )
    return Place(Kind.ENDPOINT, path=word.text, written=("endpoint:" + word.text, ""))


def read_path(path: str, kind: Kind, role: Role) -> Place:
    """
    Read what follows ``unix:``, ``unix-dgram:``, ``systemd:`` or ``systemd-dgram:``.

    :raises Fault: when it is empty, too long, or cannot be connected to.
    """
    if kind in SYSTEMD_KINDS and role is Role.TARGET:
        raise WordFault(
            "listener-only", f"{kind.value}: hands over listening sockets, nothing can be connected to it"
        )
    if not path or path == "@":
        raise WordFault("bad-path", f"a name is missing after {kind.value}:")
    if kind in UNIX_KINDS and len(path.encode("utf-8", "surrogatepass")) > MAX_UNIX_PATH:
        raise WordFault(
            "bad-path",
            f"the name of a unix socket has at most {MAX_UNIX_PATH} bytes",
            "that is the kernel's limit, unix(7)",
        )
    return Place(kind, path=path, written=(f"{kind.value}:{path}", ""))


def _read_inet(text: str, kind: Kind, prefixed: bool, role: Role, port_of_service: PortOfService) -> Place:
    match = _ADDRESS.fullmatch(text)
    if match is None:
        raise _not_an_address(text)
    host, ports, protocol = match.group(1, 2, 3)
    if protocol is not None:
        kind = _read_protocol(protocol, kind, prefixed, match.start(3))
    start = match.start(2)
    protocol = "udp" if kind is Kind.UDP else "tcp"
    if host is None and _is_host(ports) and port_of_service(ports, protocol) is None:
        raise WordFault("missing-port", "this address has no port", f"write {ports}:PORT", start, len(ports))
    spec = read_ports(ports, protocol, role, port_of_service, start)
    bare = read_host(host or "", role, brackets=True)
    return Place(kind, bare, spec, written=(host.strip("[]") if host else "*", ports))


def _is_host(text: str) -> bool:
    """Whether a single word is more likely a host without a port than a port or a range."""
    return _HOST_NAME.fullmatch(text) is not None and _PORTS.fullmatch(text) is None


def _not_an_address(text: str) -> WordFault:
    host, _, port = text.rpartition(":")
    if _is_ipv6(host):
        return WordFault("unbracketed-ipv6", "an IPv6 address needs brackets", f"write [{host}]:{port}")
    if _is_ipv6(text):
        return WordFault(
            "unbracketed-ipv6", "an IPv6 address needs brackets and a port", f"write [{text}]:PORT"
        )
    if text.startswith("[") and text.endswith("]"):
        return WordFault("missing-port", "this address has no port", f"write {text}:PORT")
    if text.endswith(":"):
        return WordFault("missing-port", "this address has no port", f"write {text}PORT", length=0)
    scheme = re.fullmatch(r"[a-z]+://([^/]+)/?", text)
    if scheme is not None:
        return WordFault("bad-address", "a URL is not an address", f"write {scheme[1]}")
    if text.startswith(("/", "./")):
        return WordFault("bad-address", "a path is not an address", f"write unix:{text}")
    return WordFault(
        "bad-address", "expected HOST:PORT", "such as 10.0.0.5:80, [2001:db8::1]:80 or unix:/run/a.sock"
    )


def target_host(host: str) -> str:
    """
    Read the host of a target from a program, which needs no brackets.

    :raises ValueError: it is none; with one sentence.
    """
    try:
        return read_host(host, Role.TARGET, brackets=False)
    except WordFault as fault:
        raise ValueError(str(fault)) from None


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _read_protocol(text: str, kind: Kind, prefixed: bool, start: int) -> Kind:
    if text not in {"tcp", "udp"}:
        hint = (
            f"write /{text.lower()}" if text.lower() in {"tcp", "udp"} else "write /tcp or /udp, or neither"
        )
        raise WordFault("bad-protocol", "a protocol is tcp or udp", hint, start, max(len(text), 1))
    said = Kind.UDP if text == "udp" else Kind.TCP
    if prefixed and said is not (Kind.TCP if kind is Kind.TLS else kind):
        raise WordFault(
            "bad-protocol", f"/{text} contradicts {kind.value}:", "write only one of them", start, len(text)
        )
    return kind if prefixed else said


def read_host(text: str, role: Role, brackets: bool) -> str:
    """
    Read a host: name, IPv4, IPv6, ``*`` or ``0`` or nothing for any.

    :param brackets: whether IPv6 must stand in brackets, as native addresses do.
    :returns: the host without brackets, ``""`` for any.
    :raises Fault: when it is none of these; a target must have a host.
    """
    if _IPV4.fullmatch(text):
        return text
    if text in {"", "*"}:
        if role is Role.TARGET:
            raise WordFault(
                "missing-host", "a target needs a host", "for this machine write 127.0.0.1", length=1
            )
        return ""
    if text == "0":
        # getaddrinfo converts "0" to 0.0.0.0: any address for a listener, this host for a target.
        return "" if role is Role.LISTEN else "0.0.0.0"  # noqa: S104
    inner = text[1:-1] if text.startswith("[") and text.endswith("]") else None
    if inner is not None or (":" in text and not brackets):
        if not _is_ipv6(text if inner is None else inner):
            raise WordFault("bad-host", "this is not an IPv6 address", length=len(text))
        return text if inner is None else inner
    if _NUMERIC.fullmatch(text):
        raise WordFault(
            "bad-host", "this is not an IPv4 address", "four numbers from 0 to 255", length=len(text)
        )
    longest = max(map(len, text.split(".")))
    if longest > MAX_LABEL:
        raise WordFault(
            "bad-host",
            f"a part of a host's name has at most {MAX_LABEL} characters, and one here has {longest}",
            length=len(text),
        )
    if len(text) > MAX_NAME or not _HOST_NAME.fullmatch(text):
        raise WordFault("bad-host", "this is neither an address nor the name of a host", length=len(text))
    try:
        return ascii_host(text)
    except ValueError as problem:
        raise WordFault("bad-host", str(problem), length=len(text)) from None


def read_ports(
    text: str, protocol: str, role: Role, port_of_service: PortOfService, start: int = 0
) -> PortRange:
    """
    Read a port, a range or the name of a service.

    :raises Fault: placed `start` characters into the word.
    """
    match = _PORTS.fullmatch(text)
    if match is None:
        if _SERVICE.fullmatch(text) and not _RANGE_SHAPE.fullmatch(text):
            port = port_of_service(text, protocol)
            if port is None:
                raise WordFault(
                    "unknown-service", "no service of this name is known here", "write its number",
                    start, len(text),
                )  # fmt: skip
            return PortRange(port, port)
        raise WordFault(
            "bad-port", f"a port is a number from 0 to {MAX_PORT}, a range or a service", "", start, len(text)
        )
    first = _number(match[1], start)
    last = first if match[2] is None else _number(match[2], start + match.start(2))
    if first == 0 and (role is Role.TARGET or last != first):
        why = (
            "nothing can be reached at port 0" if role is Role.TARGET else "a range cannot begin with port 0"
        )
        hint = "write the port of the service" if role is Role.TARGET else "port 0 alone means any free port"
        raise WordFault("port-zero", why, hint, start, len(text))
    if last < first:
        raise WordFault("bad-range", "this range runs backwards", f"write {last}-{first}", start, len(text))
    return PortRange(first, last)


def _number(text: str, start: int) -> int:
    digits = text.lstrip("0")
    port = int(digits or "0") if len(digits) <= len(str(MAX_PORT)) else MAX_PORT + 1
    if port > MAX_PORT:
        hint = f"write a port from 1 to {MAX_PORT}"
        raise WordFault("bad-port", f"the last port is {MAX_PORT}", hint, start, len(text))
    return port


def address_text(spec: Place | ListenSpec | TargetSpec, quoted: bool = True) -> str:
    """
    Format an address for the native grammar. Without `quoted` it is the name of a rule that has no other.

    :param quoted: whether to quote what must be quoted in a file.
    """
    if spec.ports is not None:
        host = f"[{spec.host}]" if ":" in spec.host else spec.host
        prefix = "tls:" if spec.kind is Kind.TLS else ""
        if spec.host in PREFIXES and not prefix:
            prefix = "udp:" if spec.kind is Kind.UDP else "tcp:"
        return f"{prefix}{host}:{spec.ports}{'/udp' if spec.kind is Kind.UDP else ''}"
    prefix = spec.kind.value + ":"
    if not quoted:
        return prefix + spec.path
    if spec.kind is Kind.ENDPOINT or "," in spec.path or spell(spec.path) != spec.path:
        return prefix + quote(spec.path)
    return prefix + spec.path


def resembles_name(spec: Place | ListenSpec) -> bool:
    """
    Whether the host before the colon could also be the name of a rule, as in ``web:8080``.

    As the first word of a rule it needs a prefix (``tcp:web:8080``) to be read as a host.
    """
    host = spec.host
    plain = is_inet(spec) and spec.kind is not Kind.TLS and host not in PREFIXES and host not in OWN_NAMES
    return plain and "." not in host and NAME.fullmatch(host) is not None


def is_inet(spec: Place | ListenSpec | TargetSpec) -> bool:
    """Whether it is a host and ports, so TCP, UDP or TLS."""
    return spec.kind in _INET


def is_datagram(spec: Place | ListenSpec | TargetSpec) -> bool:
    """Whether it is for datagrams."""
    return spec.kind in DATAGRAM_KINDS


def plain_path(path: str) -> str:
    """Normalise the name of a unix socket for comparison: without ``.``, ``..`` and superfluous slashes."""
    plain = path if path.startswith("@") else posixpath.normpath(path)
    # POSIX does not define the meaning of two slashes at the beginning. For Linux they are one.
    return "/" + plain.lstrip("/") if plain.startswith("//") else plain
