# -*- test-case-name: tests.rules.test_access -*-
"""
Access lists: the patterns of ``allow`` and ``deny``, evaluated in rinetd's order.

A pattern is an exact address (``192.168.1.66``, ``2001:db8::1``), a network (``10.0.0.0/8``,
``2001:db8::/32``) or rinetd's text glob (``192.168.1.*``; ``*`` matches any run of characters, ``?`` one),
which is compared with the text of the address. `AccessList` compiles the entries of a file and of one rule.
It evaluates them in rinetd's order:

1. some global ``allow`` exists and none matches: refused;
2. a global ``deny`` matches: refused;
3. and 4. the same with the rule's own entries.

Order within a level does not matter, and ``deny`` beats ``allow``. An
IPv4-mapped IPv6 address is judged as the IPv4 address it is, so a network of
IPv6 (``::/0``) never holds an IPv4 client. Zone ids (``%eth0``) are ignored.

The word ``unix`` matches the clients of unix sockets, which have no address. A level without this word does
not apply to them: the ``mode=`` of the socket file decides, as rinetd-uv documents. A client of a unix socket
that is announced by a PROXY header is always judged, because no ``mode=`` applies to it. Only ``unix`` and
the glob ``*`` match such clients.

Patterns are never host names; this module looks up no names.
"""

from __future__ import annotations

import fnmatch
import ipaddress
import re
from collections.abc import Iterable
from typing import Final

from attrs import define, frozen

from portfwd.rules import meant
from portfwd.rules.model import AclEntry
from portfwd.values import printable

#: Longest pattern in characters. Every address in any notation, with a star in every gap, is shorter.
MAX_PATTERN: Final = 128

#: The pattern for clients of unix sockets.
UNIX: Final = "unix"

#: Clients whose decision is cached, about 300 KiB.
REMEMBERED: Final = 1024

_MAPPED: Final = 0xFFFF  # RFC 4291 section 2.5.5.2: the upper 96 bits of ::ffff:a.b.c.d
_MAPPED_BITS: Final = 96
_GLOB_TEXT: Final = re.compile(r"[0-9A-Fa-f.:*?]+")
_MAPPED_GLOB: Final = re.compile(r"::ffff:(?=.*\.)")
_BITS: Final = {4: 32, 6: 128}


@frozen
class _Network:
    """An address or a network as a pattern: the bits of an address above `shift` must equal `prefix`."""

    version: int
    shift: int
    prefix: int


def _bare(text: str) -> str:
    """`text` without the brackets that rinetd's grammar allows around an IPv6 address."""
    return text[1:-1] if text.startswith("[") and text.endswith("]") else text


def _read_network(text: str) -> _Network:
    """
    Read an exact address or a network.

    :raises ValueError: with a message for the user.
    """
    address_text, slash, bits_text = text.partition("/")
    try:
        address = ipaddress.ip_address(_bare(address_text))
    except ValueError:
        raise ValueError(
            f"'{printable(text)}' is no address, no network and no glob: "
            + (meant.pattern(text) or "write 192.168.1.66, 2001:db8::1, 10.0.0.0/8 or 192.168.1.*")
        ) from None
    version, number, width = address.version, int(address), _BITS[address.version]
    bits = width
    if slash:
        if not (
            bits_text.isascii() and bits_text.isdigit() and len(bits_text) <= 3 and int(bits_text) <= width
        ):
            instead = meant.pattern(text)
            raise ValueError(
                f"the length of an IPv{version} network is a number from 0 to {width}"
                + (f": {instead}" if instead else "")
            )
        bits = int(bits_text)
        if number & ((1 << (width - bits)) - 1):
            network = ipaddress.ip_network((number, bits), strict=False)
            raise ValueError(
                f"'{text}' has bits set behind its first {bits}: write {network}, or one address"
            )
    if version == 6 and bits >= _MAPPED_BITS and number >> 32 == _MAPPED:
        version, number, bits, width = 4, number & 0xFFFFFFFF, bits - _MAPPED_BITS, 32
    shift = width - bits
    return _Network(version, shift, number >> shift)


def check_pattern(text: str) -> str | None:
    """
    Check a pattern of ``allow`` or ``deny``.

    :returns: None if `text` is a pattern, else an error message of one line.
    """
    if not text:
        return "a pattern is missing"
    if text == UNIX:
        return None
    if len(text) > MAX_PATTERN:
        return f"a pattern has at most {MAX_PATTERN} characters"
    if "%" in text:
        return "zone ids are not compared: leave out '%' and what follows it"
    if "*" in text or "?" in text:
        if "/" in text:
            return f"'{printable(text)}' is a glob with the length of a network: write 10.0.* or 10.0.0.0/16"
        if _GLOB_TEXT.fullmatch(_bare(text)) is None:
            return (
                "a glob is compared with an address: only hexadecimal digits, '.', ':', '*' and '?' can match"
            )
        return None
    try:
        _read_network(text)
    except ValueError as error:
        return str(error)
    return None


@frozen
class Decision:
    """
    The decision of an access list about one client.

    :ivar step: the step that refused, 1 to 4; 0 if none did. At an odd step no ``allow`` matched (rinetd logs
        ``not-allowed``), at an even one a ``deny`` did (``denied``).
    :ivar entry: the ``deny`` that refused, or the ``allow`` that admitted the client (the rule's own before a
        global one). None if no single entry decided.
    """

    allowed: bool
    step: int = 0
    entry: AclEntry | None = None


_ALLOWED: Final = Decision(allowed=True)


@frozen
class _Client:
    """The address of a client in the forms with which patterns are compared."""

    version: int
    number: int
    text: str


def _read_client(host: str) -> _Client:
    """
    The forms of `host`. If it is not a literal, it has only its text, and no network matches it.

    The text is what rinetd gets from ``getnameinfo``: lower case, compressed zeros, and dotted low 32 bits
    for the deprecated form ``::a.b.c.d``.
    """
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return _Client(0, 0, host.lower())
    number = int(address)
    if address.version == 4:
        return _Client(4, number, str(address))
    if number >> 32 == _MAPPED:
        inner = ipaddress.IPv4Address(number & 0xFFFFFFFF)
        return _Client(4, int(inner), str(inner))
    if 0xFFFF < number <= 0xFFFFFFFF:
        return _Client(6, number, f"::{ipaddress.IPv4Address(number)}")
    return _Client(6, number, str(address))


class _Patterns:
    """
    The compiled patterns of one level and one kind, such as global ``allow``.

    Networks are in one table for each prefix length, so matching costs one look-up per length in use,
    regardless of the number of networks. An exact address is a network of full length. Globs are tried last,
    one after the other.
    """

    __slots__ = ("_globs", "_networks", "_unix", "names_unix")

    def __init__(self, entries: Iterable[AclEntry]) -> None:
        tables: dict[tuple[int, int], dict[int, AclEntry]] = {}
        globs: list[tuple[re.Pattern[str], AclEntry]] = []
        unix = everything = None
        for entry in entries:
            if entry.pattern == UNIX:
                unix = unix or entry
            elif "*" in entry.pattern or "?" in entry.pattern:
                glob = _MAPPED_GLOB.sub("", _bare(entry.pattern.lower()), count=1)
                globs.append((re.compile(fnmatch.translate(glob)), entry))
                if not glob.strip("*"):
                    everything = everything or entry
            else:
                network = _read_network(entry.pattern)
                tables.setdefault((network.version, network.shift), {}).setdefault(network.prefix, entry)
        self._networks = tuple((version, shift, tables[version, shift]) for version, shift in sorted(tables))
        self._globs = tuple(globs)
        self._unix = unix or everything
        self.names_unix = unix is not None

    def __bool__(self) -> bool:
        return bool(self._networks or self._globs or self.names_unix)

    def match_unix(self) -> AclEntry | None:
        """The entry that matches clients of unix sockets: ``unix``, else ``*``, else None."""
        return self._unix

    def match(self, client: _Client) -> AclEntry | None:
        """The entry that matches `client`: the longest network, else the first glob, else None."""
        for version, shift, table in self._networks:
            if version == client.version:
                entry = table.get(client.number >> shift)
                if entry is not None:
                    return entry
        for glob, entry in self._globs:
            if glob.match(client.text):
                return entry
        return None


@define(init=False)
class _Level:
    """One level, global or a rule's own: its ``allow`` and its ``deny`` entries."""

    allow: _Patterns
    deny: _Patterns

    def __init__(self, entries: tuple[AclEntry, ...]) -> None:
        self.allow = _Patterns(entry for entry in entries if entry.allow)
        self.deny = _Patterns(entry for entry in entries if not entry.allow)

    @property
    def names_unix(self) -> bool:
        """Whether an entry is ``unix``."""
        return self.allow.names_unix or self.deny.names_unix


class AccessList:
    """
    The compiled entries that apply to one rule.

    A decision costs some microseconds, mostly for parsing the address, so the decisions of the last clients
    are cached, at most `REMEMBERED`.

    :ivar empty: whether there are no entries; `decide` need not be called then.
    """

    __slots__ = ("_levels", "_size", "empty", "remembered")

    def __init__(self, everywhere: Iterable[AclEntry] = (), own: Iterable[AclEntry] = ()) -> None:
        """
        Compile.

        :param everywhere: the file's global entries.
        :param own: the rule's own entries.
        :raises ValueError: a pattern is refused by `check_pattern`.
        """
        everywhere, own = tuple(everywhere), tuple(own)
        self._levels = (_Level(everywhere), _Level(own))
        self._size = (len(everywhere), len(own))
        self.remembered: dict[str, Decision] = {}
        self.empty = not (everywhere or own)

    def with_own(self, own: Iterable[AclEntry]) -> AccessList:
        """
        Make the list of another rule with the same global entries, which are not compiled again.

        :param own: the entries of that rule. They replace those of this one.
        """
        other = AccessList((), own)
        other._levels = (self._levels[0], other._levels[1])
        other._size = (self._size[0], other._size[1])
        other.empty = not any(other._size)
        return other

    def decide(self, host: str) -> Decision:
        """
        Judge a client.

        :param host: its address, a literal as from the kernel. Any other text is matched by globs only.
        """
        if self.empty:
            return _ALLOWED
        decision = self.remembered.get(host)
        if decision is None:
            decision = self._judge(_read_client(host))
            if len(self.remembered) >= REMEMBERED:
                self.remembered.clear()
            self.remembered[host] = decision
        return decision

    def decide_unix(self, *, announced: bool = False) -> Decision:
        """
        Judge a client of a unix socket.

        :param announced: whether a PROXY header announced it. If not, only levels with ``unix`` apply.
        """
        return self._judge(None, announced=announced)

    def _judge(self, client: _Client | None, *, announced: bool = False) -> Decision:
        """Evaluate rinetd's four steps. `client` is None for a client of a unix socket."""
        admitted: AclEntry | None = None
        step = 1
        for level in self._levels:
            if client is None and not announced and not level.names_unix:
                step += 2
                continue
            if level.allow:
                matched = level.allow.match_unix() if client is None else level.allow.match(client)
                if matched is None:
                    return Decision(allowed=False, step=step)
                admitted = matched
            if level.deny:
                refused = level.deny.match_unix() if client is None else level.deny.match(client)
                if refused is not None:
                    return Decision(allowed=False, step=step + 1, entry=refused)
            step += 2
        return _ALLOWED if admitted is None else Decision(allowed=True, entry=admitted)

    def __repr__(self) -> str:
        return f"<AccessList: {self._size[0]} global, {self._size[1]} own>"
