# -*- test-case-name: tests.test_values -*-
"""
The small values that every room shares: sides, directions, addresses, reasons, units.

All are immutable and know how to print themselves; sizes and durations are
read here too. Nothing here touches a socket, a clock or a file.
"""

from __future__ import annotations

import enum
import ipaddress
import re
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Final, NamedTuple

import idna
from attrs import frozen


class Side(enum.Enum):
    """One of the two ends of a session."""

    # Members are single objects: their identity hashes faster than their name.
    __hash__ = object.__hash__

    CLIENT = "client"
    UPSTREAM = "upstream"

    @property
    def other(self) -> Side:
        """The opposite side."""
        return Side.UPSTREAM if self is Side.CLIENT else Side.CLIENT

    @property
    def sends(self) -> Direction:
        """The direction of the bytes that this side sends."""
        return TO_UPSTREAM if self is Side.CLIENT else TO_CLIENT


class Direction(enum.Enum):
    """The way bytes of a flow go."""

    TO_UPSTREAM = "to-upstream"
    TO_CLIENT = "to-client"

    @property
    def source(self) -> Side:
        """The side whose bytes these are."""
        return Side.CLIENT if self is Direction.TO_UPSTREAM else Side.UPSTREAM

    @property
    def destination(self) -> Side:
        """The side that gets them."""
        return self.source.other


TO_UPSTREAM: Final = Direction.TO_UPSTREAM
TO_CLIENT: Final = Direction.TO_CLIENT

#: What a ``direction=`` may say, and the directions that it stands for.
DIRECTION_WORDS: Final[dict[str, frozenset[Direction]]] = {
    TO_UPSTREAM.value: frozenset({TO_UPSTREAM}),
    TO_CLIENT.value: frozenset({TO_CLIENT}),
    "both": frozenset(Direction),
}
_SHORT: Final = {"up": TO_UPSTREAM.value, "down": TO_CLIENT.value}


def direction_word(word: str) -> str:
    """`word` written out: ``up`` is short for ``to-upstream``, ``down-rate`` for ``to-client-rate``."""
    head, dash, rest = word.partition("-")
    return f"{_SHORT.get(head, head)}{dash}{rest}"


class CloseReason(enum.Enum):
    """
    Why a session ended: who and when, in two letters after HAProxy's.

    The first letter is who (``C`` client, ``S`` upstream, a small one means
    its time ran out), the second when (``D`` data, ``H`` half-closed, ``C``
    connecting). This is the only table of them: log, metrics, status and
    tests use these members.
    """

    NORMAL = ("--", "both sides ended in order")
    CLIENT_RESET = ("CD", "the client reset the connection, or vanished, while bytes were relayed")
    UPSTREAM_RESET = ("SD", "the upstream reset the connection, or vanished, while bytes were relayed")
    CLIENT_RESET_HALF_CLOSED = (
        "CH",
        "the client reset the connection, or vanished, after one side had ended",
    )
    UPSTREAM_RESET_HALF_CLOSED = (
        "SH",
        "the upstream reset the connection, or vanished, after one side had ended",
    )
    BOTH_RESET = ("BD", "both sides reset the connection before either could be told of the other")
    CLIENT_IDLE = ("cD", "idle limit: the client was the one to speak")
    UPSTREAM_IDLE = ("sD", "idle limit: the upstream was the one to speak")
    CLIENT_HALF_CLOSE_IDLE = ("cH", "the upstream had ended and the client stayed silent for half-close")
    UPSTREAM_HALF_CLOSE_IDLE = ("sH", "the client had ended and the upstream stayed silent for half-close")
    CLIENT_GONE_EARLY = ("CC", "the client reset the connection before an upstream was reached")
    CONNECT_REFUSED = ("SC", "no target could be reached: refused, or the network failed")
    CONNECT_TIMEOUT = ("sC", "no target answered in time")
    ALL_DOWN = (
        "UN",
        "no target was to be tried: all were down, with all-down=close, or drained by an operator",
    )
    TARGET_DOWN = ("UD", "the target went down, and on-down=close")
    NAME_NOT_RESOLVED = ("DC", "the target's name could not be resolved")
    CLIENT_TLS_FAILED = ("CT", "the TLS handshake with the client failed")
    CLIENT_TLS_TIMEOUT = ("cT", "the client did not finish the TLS handshake in time")
    TLS_FAILED = ("TC", "the TLS handshake with the upstream failed, or its certificate is not good")
    LOOP = ("OC", "the connection came back to a rule that it had come through already")
    RESOURCES = ("RC", "this process had no descriptor, memory or local port left for the upstream's socket")
    LIMIT = ("LC", "a limit was reached")
    ACCESS = ("AC", "refused by the access list")
    FILTER = ("FD", "closed by a filter")
    KILLED = ("KD", "killed by an operator")
    DRAIN = ("TD", "the drain deadline came")
    MAX_TIME = ("MD", "the session had lasted for max-time")
    INTERNAL = ("ID", "an error in portfwd itself; its log has the traceback")

    def __init__(self, code: str, meaning: str) -> None:
        self.code = code
        self.meaning = meaning

    def __str__(self) -> str:
        return self.code


#: Reasons that close with FIN even though they refuse, as rinetd's users expect
#: (``on-deny=rst`` changes it for the rule).
REFUSALS: Final = frozenset({CloseReason.ACCESS, CloseReason.LIMIT})


@frozen
class InetAddress:
    """
    An IP address or host name, and a port.

    :ivar host: a literal without brackets or a name; ``""`` means every address.
    :ivar port: 0 to 65535.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@frozen
class UnixAddress:
    """
    The name of a unix socket.

    :ivar path: file name, or ``@name`` for Linux' abstract names; ``""`` for
        a peer that has none.
    """

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"

    @property
    def sockaddr(self) -> str:
        """What ``bind`` and ``connect`` take: the abstract ``@`` becomes NUL."""
        return "\0" + self.path[1:] if self.path.startswith("@") else self.path


Address = InetAddress | UnixAddress


@frozen
class TLSInfo:
    """
    What a TLS handshake said.

    :ivar server_name: of its SNI (RFC 6066 section 3), or empty.
    :ivar alpn: the protocol agreed on (RFC 7301), or empty.
    :ivar client_name: common name of its verified certificate, or empty.
    :ivar version: ``TLSv1.3`` and its like, or empty.
    :ivar cipher: the cipher suite, by OpenSSL's name, or empty.
    :ivar resumed: an earlier session was resumed, so no certificate was shown this time.
    """

    server_name: str = ""
    alpn: str = ""
    client_name: str = ""
    version: str = ""
    cipher: str = ""
    resumed: bool = False


# Two summaries of flows and one of the session are made for every line: a tuple is made in half
# the time of a frozen attrs class with a dict, in a sixth of that of one with slots.
class FlowSummary(NamedTuple):
    """
    What one direction of a session did.

    :ivar bytes: bytes handed to the destination's kernel.
    :ivar reads: system calls that took bytes from the source.
    :ivar writes: system calls that gave bytes to the destination.
    :ivar spliced: those of `bytes` that never left the kernel.
    :ivar paused: seconds for which the source was not read because the destination did not take more.
    :ivar paced: seconds for which it was not read because ``bandwidth=`` had nothing left for it.
    """

    bytes: int = 0
    reads: int = 0
    writes: int = 0
    spliced: int = 0
    paused: float = 0.0
    paced: float = 0.0


class FailedAttempt(NamedTuple):
    """
    An attempt to reach an upstream that failed.

    :ivar target: the target as the file writes it.
    :ivar address: where it was tried, or the name that was asked for; None if nothing was tried.
    :ivar cause: the error's text.
    """

    target: str
    address: Address | None
    cause: str


#: What a filter may say of a session in its closing line.
Note = str | int | float | bool | None


class RelayPlan(NamedTuple):
    """
    Which relay serves a rule.

    :ivar kind: ``splice``, ``copy``, ``pair`` or ``datagrams``.
    :ivar why: what decided it, in a few words.
    """

    kind: str
    why: str


class SessionSummary(NamedTuple):
    """
    One session as its closing line tells it.

    :ivar id: counts from 1 within the process.
    :ivar rule: the rule's name.
    :ivar written: bind host, bind port, connect host and connect port as the file writes them.
    :ivar client: the client's address; None where the kernel could not tell it any more.
    :ivar local: the address it was accepted on.
    :ivar upstream: the address that was reached, or tried last; None before any dial.
    :ivar opened_at: seconds since the epoch, UTC.
    :ivar connect_time: seconds from the start of the dial to the connection; None if it never came.
    :ivar first_byte: seconds from the connection to the upstream's first byte; None if none came.
    :ivar duration: seconds from accept to close, or until now.
    :ivar reason: None while the session is open.
    :ivar ended_first: the side whose end, reset or silence came first; None if neither's.
    :ivar relay: the kind of relay that moved most of the bytes; empty if none moved.
    :ivar detail: the error's text where there was one.
    :ivar access_step: 1 to 4, the step of the access list that refused the client; else 0
        (`portfwd.rules.access.Decision`).
    :ivar tls: what the TLS handshake with the client said; None where there was none of ours, or it failed.
    :ivar upstream_tls: the same of the upstream.
    :ivar attempts: attempts to reach an upstream that failed, in their order.
    :ivar repeated: how many sessions of this client that failed alike the line stands for; 0 for this one
        only.
    :ivar dropped: datagrams that were dropped, by cause: the name of a filter, ``buffer`` (a socket took no
        more, or the datagram was too large for it) or ``queue`` (nobody took them yet).
    :ivar notes: what filters say of it, by key: text, numbers, truth or None.
    :ivar plan: the relay that the rule's ends, its options and the platform allow.
    :ivar tcp_info: what the kernel told at last of both connections (`portfwd.wire.tcp_info`), the client's
        first; None where ``tcp-info=`` is off, no upstream was reached, or the session is open.
    """

    id: int
    rule: str
    written: tuple[str, str, str, str]
    client: Address | None
    local: Address | None
    upstream: Address | None
    opened_at: float
    connect_time: float | None = None
    first_byte: float | None = None
    duration: float = 0.0
    to_upstream: FlowSummary = FlowSummary()
    to_client: FlowSummary = FlowSummary()
    reason: CloseReason | None = None
    ended_first: Side | None = None
    relay: str = ""
    detail: str = ""
    access_step: int = 0
    dropped: tuple[tuple[str, int], ...] = ()
    repeated: int = 0
    tls: TLSInfo | None = None
    upstream_tls: TLSInfo | None = None
    attempts: Sequence[FailedAttempt] = ()
    notes: tuple[tuple[str, Note], ...] = ()
    plan: RelayPlan | None = None
    tcp_info: tuple[bytes, bytes] | None = None


def counted(number: int, noun: str) -> str:
    """``1 rule``, ``2 rules``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def printable(text: str) -> str:
    r"""
    Escape every character of `text` that could break a line, a field or a terminal.

    Control characters, separators of lines and paragraphs, lone surrogates
    (file names that are not UTF-8) and what turns the direction of writing
    become ``\xNN``, ``\uNNNN`` or ``\UNNNNNNNN``, a backslash ``\\``, so that the
    text can be read back. Blanks stay.
    """
    if text.isascii() and text.isprintable() and "\\" not in text:
        return text
    return "".join(
        character if character.isprintable() and character != "\\" else _escape(character)
        for character in text
    )


def _escape(character: str) -> str:
    """One character as Python would write it in a literal, newline and tab included."""
    if character == "\\":
        return "\\\\"
    code = ord(character)
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def is_literal(host: str) -> bool:
    """Whether `host` is an IPv4 or IPv6 literal (a zone, ``%eth0``, allowed), so needs no resolver."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def ascii_host(name: str) -> str:
    """
    The name of a host as DNS and TLS have it: labels with other letters in their ``xn--`` form.

    IDNA 2008 (RFC 5891), with the mapping of UTS 46 for large letters and wide forms. Python's own codec is
    IDNA 2003, by which ``straße.example`` is ``strasse.example``, a name of somebody else. Labels in ASCII
    stay as they are, underscores too.

    :raises ValueError: a label cannot be one.
    """
    if name.isascii():
        return name
    labels = []
    for label in name.split("."):
        try:
            labels.append(label if label.isascii() else idna.encode(label, uts46=True).decode("ascii"))
        except idna.IDNAError as problem:
            raise ValueError(f"'{printable(label)}' cannot be part of a name in DNS: {problem}") from problem
    return ".".join(labels)


def unmapped(host: str) -> str:
    """
    The IPv4 address inside an IPv4-mapped IPv6 literal, else `host` itself.

    RFC 4291 section 2.5.5.2: a dual-stack socket shows an IPv4 client as
    ``::ffff:a.b.c.d``; people write rules and read logs in the IPv4 form.
    """
    if host[:7].lower() != "::ffff:":
        return host
    inner = host[7:]
    if "." in inner:  # as every kernel writes it
        return inner
    try:
        address = ipaddress.IPv6Address(host).ipv4_mapped
    except ValueError:
        return host
    return host if address is None else str(address)


# Forty digits on either side of the point are more than any size needs, and bound the work.
_SIZE = re.compile(r"(\d{1,40}(?:\.\d{1,40})?)(B|KiB|MiB|GiB|TiB|kB|KB|MB|GB|TB|K|M|G|T|)", re.ASCII)
_SIZE_UNITS: Final = {
    "": 1, "B": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4,
    "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4,
    "kB": 1000, "KB": 1000, "MB": 1000**2, "GB": 1000**3, "TB": 1000**4,
}  # fmt: skip
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", re.ASCII)
_SECONDS = re.compile(r"\d+(?:\.\d+)?", re.ASCII)
_DURATION_UNITS: Final = {
    "ms": Decimal("0.001"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
    "d": Decimal(86400),
}
#: The longest duration that is taken (ten years): beyond it is a slip of the keyboard.
MAX_DURATION: Final = 10 * 365 * 86400
#: The largest size that is taken: what a signed 64 bit number holds.
MAX_SIZE: Final = 2**63 - 1


def parse_size(text: str) -> int:
    """
    Read ``64KiB``, ``1MiB``, ``1.5GB`` or a plain number of bytes.

    :raises ValueError: for anything else; the message says what is expected.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError("expected a size such as 64KiB, 1MiB or 4096")
    number = Fraction(match[1]) * _SIZE_UNITS[match[2]]  # exact, where Decimal rounds at 28 digits
    if number.denominator != 1:
        raise ValueError("a size is a whole number of bytes")
    if number > MAX_SIZE:
        raise ValueError("that size is larger than any machine's memory")
    return int(number)


def format_size(size: int) -> str:
    """The shortest exact text of `size` that `parse_size` reads back."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size and size % _SIZE_UNITS[unit] == 0:
            return f"{size // _SIZE_UNITS[unit]}{unit}"
    return str(size)


def parse_duration(text: str) -> float:
    """
    Read ``30s``, ``5m``, ``1h30m``, ``250ms`` or a plain number of seconds.

    :returns: seconds.
    :raises ValueError: for anything else; the message says what is expected.
    """
    total = Decimal(0)
    if _SECONDS.fullmatch(text):
        total = Decimal(text)
    else:
        # `match` looks at one place; `finditer` would look for a part behind each digit of a long number.
        position = 0
        while (match := _DURATION_PART.match(text, position)) is not None:
            total += Decimal(match[1]) * _DURATION_UNITS[match[2]]
            position = match.end()
        if position != len(text) or not text:
            raise ValueError("expected a duration such as 30s, 5m, 1h or 250ms")
    if total > MAX_DURATION:
        raise ValueError("that duration is longer than ten years")
    return float(total)


def format_duration(seconds: float) -> str:
    """The shortest exact text of `seconds` that `parse_duration` reads back."""
    if not seconds:
        return "0s"
    exact = Decimal(repr(float(seconds)))
    for unit in ("d", "h", "m", "s", "ms"):
        count = exact / _DURATION_UNITS[unit]
        if count == count.to_integral_value():
            return f"{int(count)}{unit}"
    return f"{exact:f}s"
