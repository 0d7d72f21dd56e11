# -*- test-case-name: tests.test_values -*-
"""
Values shared by all packages: sides, directions, addresses, close reasons, summaries of sessions.

All are immutable and have a text form. This module uses no socket, clock or file. Sizes and durations are in
`portfwd.quantities`.
"""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Sequence
from typing import Final, NamedTuple

import idna
from attrs import frozen


class Side(enum.Enum):
    """One of the two sides of a session."""

    # Members are singletons: hashing their identity is faster than hashing their name.
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
    """The direction of the bytes of a flow."""

    # See `Side`.
    __hash__ = object.__hash__

    TO_UPSTREAM = "to-upstream"
    TO_CLIENT = "to-client"

    @property
    def source(self) -> Side:
        """The side that sends the bytes."""
        return Side.CLIENT if self is Direction.TO_UPSTREAM else Side.UPSTREAM

    @property
    def destination(self) -> Side:
        """The side that receives the bytes."""
        return self.source.other


#: From the client to the upstream.
TO_UPSTREAM: Final = Direction.TO_UPSTREAM
#: From the upstream to the client.
TO_CLIENT: Final = Direction.TO_CLIENT

#: The values of ``direction=``, and the directions that they mean.
DIRECTION_WORDS: Final[dict[str, frozenset[Direction]]] = {
    TO_UPSTREAM.value: frozenset({TO_UPSTREAM}),
    TO_CLIENT.value: frozenset({TO_CLIENT}),
    "both": frozenset(Direction),
}
_SHORT: Final = {"up": TO_UPSTREAM.value, "down": TO_CLIENT.value}


def direction_word(word: str) -> str:
    """Expand an abbreviation: ``up`` is ``to-upstream``, ``down-rate`` is ``to-client-rate``."""
    head, dash, rest = word.partition("-")
    return f"{_SHORT.get(head, head)}{dash}{rest}"


class CloseReason(enum.Enum):
    """
    The reason for the end of a session, as two letters similar to HAProxy's.

    The first letter is the cause: ``C`` the client, ``S`` the upstream, lower case if its time limit expired;
    other letters are other causes. The second one is the phase: ``D`` data, ``H`` half-closed, ``C``
    connecting, ``T`` TLS handshake with the client, ``N`` no target to dial. Log, metrics, status and tests
    all use this table.
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


#: Reasons that refuse a client but close with FIN, as in rinetd. ``on-deny=rst`` changes this for a rule.
REFUSALS: Final = frozenset({CloseReason.ACCESS, CloseReason.LIMIT})


@frozen
class InetAddress:
    """
    An IP address or host name, and a port.

    :ivar host: a literal without brackets, or a name; ``""`` means all addresses.
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

    :ivar path: file name, or ``@name`` for an abstract name of Linux; ``""`` for a peer without a name.
    """

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"

    @property
    def sockaddr(self) -> str:
        """The argument for ``bind`` and ``connect``: the ``@`` of an abstract name becomes NUL."""
        return "\0" + self.path[1:] if self.path.startswith("@") else self.path


#: An address of either kind.
Address = InetAddress | UnixAddress


def as_inet(address: object) -> InetAddress | None:
    """`address` if it has a host and a port; None for any other, or for none."""
    return address if isinstance(address, InetAddress) else None


def as_unix(address: object) -> UnixAddress | None:
    """`address` if it is a unix socket's; None for any other, or for none."""
    return address if isinstance(address, UnixAddress) else None


def named_host(address: object) -> InetAddress | None:
    """`address` if its host is a name, which a resolver has to be asked for; None for any other."""
    inet = as_inet(address)
    return inet if inet is not None and not is_literal(inet.host) else None


@frozen
class TLSInfo:
    """
    The result of a TLS handshake. Texts are empty if unknown.

    :ivar server_name: name in the SNI extension (RFC 6066 section 3).
    :ivar alpn: negotiated protocol (RFC 7301).
    :ivar client_name: common name of the verified client certificate.
    :ivar version: protocol version, such as ``TLSv1.3``.
    :ivar cipher: OpenSSL's name of the cipher suite.
    :ivar resumed: whether an earlier session was resumed, without certificates in this handshake.
    """

    server_name: str = ""
    alpn: str = ""
    client_name: str = ""
    version: str = ""
    cipher: str = ""
    resumed: bool = False


# Each log line needs two summaries of flows and one of the session. A tuple is made in half the time of a
# frozen attrs class with a dict, and in a sixth of the time of one with slots.
class FlowSummary(NamedTuple):
    """
    Summary of one direction of a session.

    :ivar bytes: bytes written to the destination.
    :ivar reads: number of system calls that read bytes.
    :ivar writes: number of system calls that wrote bytes.
    :ivar spliced: those of `bytes` that were moved inside the kernel.
    :ivar paused: seconds in which the source was not read because the destination accepted no more.
    :ivar paced: seconds in which the source was not read because of ``bandwidth=``.
    """

    bytes: int = 0
    reads: int = 0
    writes: int = 0
    spliced: int = 0
    paused: float = 0.0
    paced: float = 0.0


class FailedAttempt(NamedTuple):
    """
    A failed attempt to connect to an upstream.

    :ivar target: the target as written in the file.
    :ivar address: the dialled address, or the name that was looked up; None if neither happened.
    :ivar cause: text of the error.
    """

    target: str
    address: Address | None
    cause: str


#: Values that a filter may add to the closing line of a session.
Note = str | int | float | bool | None


class RelayPlan(NamedTuple):
    """
    The relay that serves a rule.

    :ivar kind: ``splice``, ``copy``, ``pair`` or ``datagrams``.
    :ivar why: the reason in a few words.
    :ivar filters: names of the filters that see bytes before they are spliced; empty for other kinds.
    """

    kind: str
    why: str
    filters: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """The kind, and whether bytes are copied as long as filters see them."""
        return f"{self.kind} after filters" if self.filters else self.kind


class SessionSummary(NamedTuple):
    """
    The contents of a session's closing line.

    :ivar id: number of the session in the process, from 1.
    :ivar rule: name of the rule.
    :ivar written: bind host, bind port, connect host and connect port as written in the file.
    :ivar client: address of the client; None if the kernel did not know it any more.
    :ivar local: address at which it was accepted.
    :ivar upstream: the connected address, or the last one tried; None before any dial.
    :ivar opened_at: seconds since the epoch, UTC.
    :ivar connect_time: seconds from the start of the dial to the connection; None if it never came.
    :ivar first_byte: seconds from the connection to the upstream's first byte; None if none came.
    :ivar duration: seconds from accept to close, or until now.
    :ivar reason: reason of the close; None while the session is open.
    :ivar ended_first: the side whose end, reset or silence came first; None for neither.
    :ivar relay: kind of the relay that moved most of the bytes; empty if there were none.
    :ivar detail: text of the error, if there was one.
    :ivar access_step: 1 to 4, the step of the access list that refused the client; else 0
        (`portfwd.rules.access.Decision`).
    :ivar tls: result of the TLS handshake of portfwd with the client; None if there was none, or it failed.
    :ivar upstream_tls: result of the handshake with the upstream.
    :ivar attempts: failed attempts to connect to an upstream, in order.
    :ivar repeated: number of equal failures of this client that the line represents; 0 for a single one.
    :ivar dropped: number of dropped datagrams by cause: the name of a filter, ``buffer`` (the socket's buffer
        was full, or the datagram was too large) or ``queue`` (the queue before the upstream was full).
    :ivar notes: values that filters have added, by key.
    :ivar plan: the relay planned for the rule.
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
    Escape the characters of `text` that could break a line or a field, or control a terminal.

    Control characters, separators of lines and paragraphs, lone surrogates (from file names that are not
    UTF-8) and characters that change the writing direction become ``\xNN``, ``\uNNNN`` or ``\UNNNNNNNN``, and
    a backslash becomes ``\\``, so the text can be parsed again. Blanks stay.
    """
    if text.isascii() and text.isprintable() and "\\" not in text:
        return text
    return "".join(
        character if character.isprintable() and character != "\\" else _escape(character)
        for character in text
    )


def _escape(character: str) -> str:
    """The escape of one character as in a Python literal."""
    if character == "\\":
        return "\\\\"
    code = ord(character)
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def is_literal(host: str) -> bool:
    """Whether `host` is an IPv4 or IPv6 literal, optionally with a zone (``%eth0``), and not a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def ascii_host(name: str) -> str:
    """
    Convert a host name to its ASCII form for DNS and TLS, with ``xn--`` labels.

    It uses IDNA 2008 (RFC 5891) with the mapping of UTS 46 for upper case and wide characters. Python's own
    codec is IDNA 2003, which converts ``straße.example`` to ``strasse.example``, a different domain. ASCII
    labels stay unchanged, also those with underscores.

    :raises ValueError: a label is not valid.
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
    The IPv4 address of an IPv4-mapped IPv6 literal, else `host` itself.

    A dual-stack socket shows an IPv4 client as ``::ffff:a.b.c.d`` (RFC 4291 section 2.5.5.2). Rules and logs
    use the IPv4 form.
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
