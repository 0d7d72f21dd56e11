# -*- test-case-name: tests.rules.test_model -*-
"""
The values of a rules file. Every grammar produces them.

`Ruleset` is a file with its includes. `Rule` is a listener with its targets and all lines beneath it. The
values are frozen. Locations are ignored in comparisons, so a file that was rendered and parsed again is
equal. Nothing is resolved, opened or looked up here.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Final

from attrs import field, frozen

from portfwd.errors import Location, Problem

NOWHERE: Final = Location("<none>")


class Kind(enum.Enum):
    """The kind of a LISTEN or TARGET. The value is its prefix in the native grammar."""

    TCP = "tcp"
    UDP = "udp"
    TLS = "tls"
    UNIX = "unix"
    UNIX_DATAGRAM = "unix-dgram"
    SYSTEMD = "systemd"
    SYSTEMD_DATAGRAM = "systemd-dgram"
    ENDPOINT = "endpoint"
    TLS_UNIX = "tls:unix"
    TLS_SYSTEMD = "tls:systemd"


#: Kinds that carry the plain bytes of a stream socket of portfwd.
PLAIN_LISTENERS: Final = frozenset({Kind.TCP, Kind.UNIX, Kind.SYSTEMD})
PLAIN_TARGETS: Final = frozenset({Kind.TCP, Kind.UNIX})


#: Seconds of silence after which an association ends without ``idle=``: rinetd's default.
DATAGRAM_IDLE: Final = 72.0


#: Kinds for datagrams.
DATAGRAM_KINDS: Final = frozenset({Kind.UDP, Kind.UNIX_DATAGRAM, Kind.SYSTEMD_DATAGRAM})
#: Kinds of sockets that systemd opens and passes by name.
SYSTEMD_KINDS: Final = frozenset({Kind.SYSTEMD, Kind.SYSTEMD_DATAGRAM, Kind.TLS_SYSTEMD})
#: Kinds with a file name or an abstract name.
UNIX_KINDS: Final = frozenset({Kind.UNIX, Kind.UNIX_DATAGRAM, Kind.TLS_UNIX})
#: Kinds with TLS.
TLS_KINDS: Final = frozenset({Kind.TLS, Kind.TLS_UNIX, Kind.TLS_SYSTEMD})


class RelayKind(enum.Enum):
    """How bytes are moved (``relay=``)."""

    AUTO = "auto"
    SPLICE = "splice"
    COPY = "copy"
    PAIR = "pair"


#: What can only be had where both ends are sockets, and nothing is put between them and the relay.
SOCKETS_ONLY: Final = frozenset({RelayKind.SPLICE, RelayKind.COPY})


class Framing(enum.Enum):
    """How datagrams are framed in a stream (``framing=``). ``length16`` is RFC 1035 section 4.2.2."""

    NONE = "none"
    LENGTH16 = "length16"


class OnDeny(enum.Enum):
    """How a refused client is closed (``on-deny=``)."""

    FIN = "fin"
    RST = "rst"


class OnLimit(enum.Enum):
    """What happens to a client beyond a limit (``on-limit=``)."""

    WAIT = "wait"
    REFUSE = "refuse"


class OnRemove(enum.Enum):
    """What happens to sessions when a reload removes their listener (``on-remove=``)."""

    STAY = "stay"
    DRAIN = "drain"
    CUT = "cut"


class Balance(enum.Enum):
    """
    The order in which several targets are tried (``balance=``).

    ``FIRST`` is the order of the file. The next target is tried only if the dial of the previous one failed.
    """

    FIRST = "first"
    ROUNDROBIN = "roundrobin"
    LEASTCONN = "leastconn"
    RANDOM = "random"
    SOURCE = "source"


class OnDown(enum.Enum):
    """What happens to the sessions of a target when it goes down (``on-down=``)."""

    KEEP = "keep"
    CLOSE = "close"


class AllDown(enum.Enum):
    """What happens to new sessions while all targets are down (``all-down=``)."""

    TRY = "try"
    CLOSE = "close"


class AccessLogFormat(enum.Enum):
    """The format of the access log (``log access=``)."""

    OFF = "off"
    TEXT = "text"
    JSON = "json"
    RINETD = "rinetd"
    COMMON = "common"


@frozen
class PortRange:
    """``first`` to ``last``, both included; equal for a single port."""

    first: int
    last: int

    def __len__(self) -> int:
        return self.last - self.first + 1

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


@frozen
class Keepalive:
    """
    TCP keep-alive (``keepalive=on|off|idle:interval:count``).

    :ivar idle: seconds of silence before the first probe; None: the system's.
    :ivar interval: seconds between probes; None: the system's.
    :ivar count: probes without answer that end the connection; None: the system's.
    """

    enabled: bool = True
    idle: int | None = None
    interval: int | None = None
    count: int | None = None


@frozen
class ListenOptions:
    """
    Options before ``->``.

    :ivar backlog: length of the accept queue; None for the largest of the system (``SOMAXCONN``).
    :ivar mode: permission bits of the file of a unix socket; None for 0600.
    :ivar v6only: ``IPV6_V6ONLY``; None for off with ``*`` or no host, and on with an IPv6 address.
    """

    backlog: int | None = None
    mode: int | None = None
    v6only: bool | None = None
    cert: str | None = None
    key: str | None = None
    client_ca: str | None = None
    verify_client: str | None = None
    client_name: tuple[str, ...] = ()
    handshake_timeout: float = 10.0
    alpn: tuple[str, ...] = ()
    alpn_mismatch: str = "refuse"
    unknown_name: str = "default"
    ciphers: str | None = None
    min_version: str = "1.2"
    curve: str | None = None
    resume: bool = True
    crl: str | None = None
    key_password_file: str | None = None
    keylog: str | None = None


@frozen(cache_hash=True)
class Options:
    """
    Options of a rule, with their defaults. The reference explains each of them.

    Sizes are in bytes, durations and time limits in seconds, rates per second.
    """

    buffer: int = 65536
    bulk_buffer: int = 1048576
    relay: RelayKind = RelayKind.AUTO
    pipe: int = 1048576
    sndbuf: int | None = None
    rcvbuf: int | None = None
    nodelay: bool = True
    tcp_info: bool = False
    keepalive: Keepalive = Keepalive()
    user_timeout: float | None = None
    connect_timeout: float = 5.0
    dial_timeout: float = 15.0
    idle: float | None = None
    half_close: float = 600.0
    max_time: float | None = None
    linger: float = 5.0
    max_conns: int | None = None
    max_conns_per_source: int | None = None
    max_assocs: int = 5000
    max_conns_per_target: int | None = None
    rate: float | None = None
    rate_per_source: float | None = None
    limit: str | None = None
    on_limit: OnLimit = OnLimit.REFUSE
    bandwidth: int | None = None
    bandwidth_up: int | None = None
    bandwidth_down: int | None = None
    bandwidth_per_source: int | None = None
    bandwidth_per_connection: int | None = None
    src: str | None = None
    balance: Balance = Balance.FIRST
    weight: int = 1
    backup: bool = False
    slowstart: float | None = None
    max_fails: int | None = 3
    fail_timeout: float = 10.0
    tries: int | None = None
    retry: float | None = None
    on_down: OnDown = OnDown.KEEP
    all_down: AllDown = AllDown.TRY
    stick: float | None = None
    framing: Framing = Framing.NONE
    answers: int | None = None
    answers_before_reply: int | None = 100
    on_deny: OnDeny = OnDeny.FIN
    on_remove: OnRemove = OnRemove.STAY
    dns_refresh: float = 600.0
    ca: str | None = None
    verify: bool = True
    server_name: str | None = None
    client_cert: str | None = None
    client_key: str | None = None
    client_key_password_file: str | None = None
    target_alpn: tuple[str, ...] = ()
    pin: tuple[str, ...] = ()
    eof: str = "reset"
    target_ciphers: str | None = None
    target_min_version: str = "1.2"
    target_curve: str | None = None
    target_resume: bool = True
    target_crl: str | None = None

    @property
    def upward(self) -> int | None:
        """Bytes a second to upstreams, of all sessions together; None for no limit."""
        return self.bandwidth if self.bandwidth_up is None else self.bandwidth_up

    @property
    def downward(self) -> int | None:
        """Bytes a second to clients, of all sessions together; None for no limit."""
        return self.bandwidth if self.bandwidth_down is None else self.bandwidth_down

    @property
    def is_paced(self) -> bool:
        """Whether any bandwidth is limited."""
        limits = (self.upward, self.downward, self.bandwidth_per_source, self.bandwidth_per_connection)
        return any(limit is not None for limit in limits)


@frozen
class ListenSpec:
    """
    The listen address of a rule.

    :ivar host: for TCP, UDP and TLS: literal, name, or ``""`` (``*``, no host, rinetd's ``0``). The empty
        host means both families on one dual-stack socket.
    :ivar ports: for TCP, UDP and TLS, else None.
    :ivar path: for UNIX the file name or ``@abstract``; for SYSTEMD the name of the socket; for ENDPOINT the
        unchanged description.
    :ivar given: for ENDPOINT: the endpoint object of an embedding program; `path` is only its name then.
    """

    kind: Kind
    host: str = ""
    ports: PortRange | None = None
    path: str = ""
    options: ListenOptions = ListenOptions()
    where: Location = field(default=NOWHERE, eq=False, repr=False)
    given: object = field(default=None, eq=id, repr=False)

    @property
    def is_plain(self) -> bool:
        """Whether clients come as plain sockets; an endpoint of a program may hand them in."""
        return self.kind in PLAIN_LISTENERS or bool(getattr(self.given, "hands_sockets", False))


@frozen(cache_hash=True)
class TargetSpec:
    """
    One target as written in the file. The fields are those of `ListenSpec`.

    A range of ports must have the length of the listener's range. The n-th port is forwarded to the n-th.

    :ivar name: the name in a ``target NAME=…`` clause, else empty.
    :ivar options: the options of the rule, with those of the target applied.
    """

    kind: Kind
    host: str = ""
    ports: PortRange | None = None
    path: str = ""
    name: str = ""
    options: Options = Options()
    where: Location = field(default=NOWHERE, eq=False, repr=False)
    given: object = field(default=None, eq=id, repr=False)


@frozen
class AclEntry:
    """One pattern of an ``allow`` or ``deny`` line: address, CIDR or rinetd's text glob."""

    allow: bool
    pattern: str
    where: Location = field(default=NOWHERE, eq=False, repr=False)


@frozen
class FilterSpec:
    """
    One ``filter`` clause. The plug-in of that name interprets its words and options.

    :ivar word_places: the places of `words`; empty for a clause that was not parsed from text.
    :ivar option_places: the places of keys and values of `options`; empty likewise.
    :ivar given: the filter object of an embedding program; `name` is only its name then.
    """

    name: str
    words: tuple[str, ...] = ()
    options: tuple[tuple[str, str], ...] = ()
    where: Location = field(default=NOWHERE, eq=False, repr=False)
    word_places: tuple[Location, ...] = field(default=(), eq=False, repr=False)
    option_places: tuple[tuple[Location, Location], ...] = field(default=(), eq=False, repr=False)
    given: object = field(default=None, eq=id, repr=False)


@frozen
class CheckSpec(FilterSpec):
    """One ``check`` clause, not interpreted. The fields are those of `FilterSpec`."""


@frozen
class RouteSpec:
    """
    One ``route`` line of a routing filter.

    :ivar target: the target of matching sessions: written in the line, the name of a ``target`` clause, or
        None for ``close``.
    :ivar pattern_places: the places of `patterns`; empty for a clause that was not parsed from text.
    """

    patterns: tuple[str, ...]
    target: TargetSpec | str | None
    where: Location = field(default=NOWHERE, eq=False, repr=False)
    pattern_places: tuple[Location, ...] = field(default=(), eq=False, repr=False)


@frozen
class Rule:
    """
    A listener, its filters and its targets.

    :ivar name: as written, or the listen address; unique in its file.
    :ivar targets: tried in order (``balance=``); never empty.
    :ivar named_targets: those of ``target`` clauses, for ``route`` lines. Several may have the same name.
    :ivar checks: health checks of the targets.
    :ivar access: the ``allow`` and ``deny`` entries of the rule.
    :ivar written: bind host, bind port, connect host, connect port as written in the file, for rinetd's log
        formats.
    :ivar places: where each option that was written stands, by its unique name.
    :ivar has_datagrams: whether the listener or a target is for datagrams.
    """

    name: str
    listen: ListenSpec
    targets: tuple[TargetSpec, ...]
    options: Options = Options()
    access: tuple[AclEntry, ...] = ()
    filters: tuple[FilterSpec, ...] = ()
    routes: tuple[RouteSpec, ...] = ()
    named_targets: tuple[TargetSpec, ...] = ()
    checks: tuple[CheckSpec, ...] = ()
    written: tuple[str, str, str, str] = field(default=("", "", "", ""), eq=False)
    where: Location = field(default=NOWHERE, eq=False, repr=False)
    places: tuple[tuple[str, Location], ...] = field(default=(), eq=False, repr=False)
    has_datagrams: bool = field(init=False, eq=False, repr=False)

    @has_datagrams.default
    def _find_datagrams(self) -> bool:
        kinds = (self.listen.kind, *(one.kind for one in self.every_target()))
        return any(kind in DATAGRAM_KINDS for kind in kinds)

    @property
    def is_plain(self) -> bool:
        """Whether the listener and all targets are plain TCP or unix sockets."""
        return self.listen.is_plain and all(one.kind in PLAIN_TARGETS for one in self.every_target())

    @property
    def is_mixed(self) -> bool:
        """Whether datagrams are converted to a stream for some target, or the reverse."""
        from_datagrams = self.listen.kind in DATAGRAM_KINDS
        return any((one.kind in DATAGRAM_KINDS) is not from_datagrams for one in self.every_target())

    @property
    def shares_questions(self) -> bool:
        """Whether its associations share connections for DNS questions with length prefixes."""
        return (
            self.listen.kind in DATAGRAM_KINDS
            and self.options.framing is Framing.LENGTH16
            and not any(one.kind in DATAGRAM_KINDS for one in self.every_target())
        )

    def every_target(self) -> Iterator[TargetSpec]:
        """All targets of the rule, including those that its filters may choose."""
        yield from self.targets
        yield from self.named_targets
        yield from (route.target for route in self.routes if isinstance(route.target, TargetSpec))


@frozen
class LogSpec:
    """
    The settings of ``log``, ``logfile`` and ``logcommon``.

    :ivar access: format of the access lines; None for text on standard output.
    :ivar file: their file, as written; None for standard output.
    :ivar probes: whether connections without a byte have a line.
    :ivar repeats: whether each repeated failure of one client has a line; if not, one line represents many.
    :ivar opened: whether a session also has a line when its upstream is connected.
    """

    access: AccessLogFormat | None = None
    file: str | None = None
    where: Location = field(default=NOWHERE, eq=False, repr=False)
    probes: bool = field(default=True, kw_only=True)
    repeats: bool = field(default=False, kw_only=True)
    opened: bool = field(default=False, kw_only=True)


@frozen
class Directive:
    """A directive that other parts of the program interpret, such as ``admin`` or ``limits``."""

    name: str
    words: tuple[str, ...] = ()
    options: tuple[tuple[str, str], ...] = ()
    where: Location = field(default=NOWHERE, eq=False, repr=False)


@frozen
class Ruleset:
    """
    A file with all its includes.

    :ivar access: the global ``allow`` and ``deny`` entries.
    :ivar pid_file: the file of ``pidlogfile`` and similar directives, as written, or None.
    :ivar files: all files that were read, in order.
    :ivar warnings: problems that did not refuse the file.
    """

    rules: tuple[Rule, ...] = ()
    access: tuple[AclEntry, ...] = ()
    log: LogSpec = LogSpec()
    pid_file: str | None = None
    directives: tuple[Directive, ...] = ()
    files: tuple[str, ...] = field(default=(), eq=False)
    warnings: tuple[Problem, ...] = field(default=(), eq=False)
