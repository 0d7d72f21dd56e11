# -*- test-case-name: tests.rules.test_model -*-
"""
What a rules file says, as values; every grammar ends here.

`Ruleset` is a whole file with its includes, `Rule` one listener with its
targets and everything beneath it. All are frozen and compare by what they
mean: locations do not count, so a file that was rendered and read again is
equal. Nothing here is resolved, opened or looked up.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Final

from attrs import field, frozen

from portfwd.errors import Location, Problem

NOWHERE: Final = Location("<none>")


class Kind(enum.Enum):
    """What a LISTEN or TARGET names; the value is its prefix in the native grammar."""

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


#: Listeners and targets whose bytes are what a socket of ours carries, with nothing around them.
PLAIN_LISTENERS: Final = frozenset({Kind.TCP, Kind.UNIX, Kind.SYSTEMD})
PLAIN_TARGETS: Final = frozenset({Kind.TCP, Kind.UNIX})


#: Seconds of silence after which an association ends unless ``idle=`` says otherwise: rinetd's default.
DATAGRAM_IDLE: Final = 72.0


#: What speaks in datagrams.
DATAGRAM_KINDS: Final = frozenset({Kind.UDP, Kind.UNIX_DATAGRAM, Kind.SYSTEMD_DATAGRAM})
#: What systemd opened, and hands over by name.
SYSTEMD_KINDS: Final = frozenset({Kind.SYSTEMD, Kind.SYSTEMD_DATAGRAM, Kind.TLS_SYSTEMD})
#: What has a file's name, or an abstract one.
UNIX_KINDS: Final = frozenset({Kind.UNIX, Kind.UNIX_DATAGRAM, Kind.TLS_UNIX})
#: What speaks TLS.
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
    """How datagrams stand in a stream (``framing=``); ``length16`` is RFC 1035 section 4.2.2."""

    NONE = "none"
    LENGTH16 = "length16"


class OnDeny(enum.Enum):
    """How a refused client is closed (``on-deny=``)."""

    FIN = "fin"
    RST = "rst"


class OnLimit(enum.Enum):
    """What becomes of a client that is one too many (``on-limit=``)."""

    WAIT = "wait"
    REFUSE = "refuse"


class OnRemove(enum.Enum):
    """What becomes of sessions when a reload takes their listener away (``on-remove=``)."""

    STAY = "stay"
    DRAIN = "drain"
    CUT = "cut"


class Balance(enum.Enum):
    """
    In which order several targets are tried (``balance=``).

    ``FIRST`` is the order of the file: the next one only when the dial of the one before failed.
    """

    FIRST = "first"
    ROUNDROBIN = "roundrobin"
    LEASTCONN = "leastconn"
    RANDOM = "random"
    SOURCE = "source"


class OnDown(enum.Enum):
    """What becomes of a target's sessions when it goes down (``on-down=``)."""

    KEEP = "keep"
    CLOSE = "close"


class AllDown(enum.Enum):
    """What becomes of new sessions while all targets are down (``all-down=``)."""

    TRY = "try"
    CLOSE = "close"


class AccessLogFormat(enum.Enum):
    """The form of the access log (``log access=``)."""

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
    Options that stand before ``->``.

    :ivar backlog: length of the accept queue; None: the system's largest (``SOMAXCONN``).
    :ivar mode: permission bits of a unix socket's file; None: 0600.
    :ivar v6only: ``IPV6_V6ONLY``; None: off for ``*`` and no host, on for a written IPv6 address.
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


@frozen
class Options:
    """
    Options of a rule, with their defaults; the meaning of each is in the reference.

    Sizes are bytes, durations and limits of time seconds, rates a second.
    """

    buffer: int = 65536
    bulk_buffer: int = 1048576
    relay: RelayKind = RelayKind.AUTO
    pipe: int = 1048576
    sndbuf: int | None = None
    rcvbuf: int | None = None
    nodelay: bool = True
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
        """Bytes a second to upstreams, of all sessions together; None: any number."""
        return self.bandwidth if self.bandwidth_up is None else self.bandwidth_up

    @property
    def downward(self) -> int | None:
        """Bytes a second to clients, of all sessions together; None: any number."""
        return self.bandwidth if self.bandwidth_down is None else self.bandwidth_down

    @property
    def is_paced(self) -> bool:
        """Whether some bandwidth is limited."""
        limits = (self.upward, self.downward, self.bandwidth_per_source, self.bandwidth_per_connection)
        return any(limit is not None for limit in limits)


@frozen
class ListenSpec:
    """
    Where a rule listens.

    :ivar host: for TCP, UDP and TLS: literal, name, or ``""`` (``*``, none, rinetd's ``0``).
        The empty host means both families on one dual-stack socket.
    :ivar ports: for TCP, UDP and TLS, else None.
    :ivar path: for UNIX: file name or ``@abstract``; for SYSTEMD: the socket's name;
        for ENDPOINT: the description, untouched.
    :ivar given: for ENDPOINT: the endpoint that a program handed in; `path` only names it then.
    """

    kind: Kind
    host: str = ""
    ports: PortRange | None = None
    path: str = ""
    options: ListenOptions = ListenOptions()
    where: Location = field(default=NOWHERE, eq=False, repr=False)
    given: object = field(default=None, eq=id, repr=False)


@frozen
class TargetSpec:
    """
    One upstream as the file names it; the fields are `ListenSpec`'s.

    A range of ports must be as long as the listener's: the n-th port goes to the n-th.

    :ivar name: the name of a ``target NAME=…`` clause, else empty.
    :ivar options: the rule's options with this target's own applied.
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
    One ``filter`` clause, uninterpreted: the plug-in of that name reads words and options.

    :ivar word_places: where each of `words` stands; empty for a clause that was not read from text.
    :ivar option_places: where key and value of each of `options` stand; the same.
    :ivar given: the filter that a program handed in; `name` only names it then.
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
    """One ``check`` clause, uninterpreted; the fields are `FilterSpec`'s."""


@frozen
class RouteSpec:
    """
    One ``route`` line of a routing filter.

    :ivar target: where matching sessions go: a spec written in the line, the name
        of a ``target`` clause, or None for ``close``.
    :ivar pattern_places: where each of `patterns` stands; empty for a clause that was not read from text.
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
    :ivar named_targets: those of ``target`` clauses, for ``route`` lines; several may have one name.
    :ivar checks: what decides whether the targets are fit.
    :ivar access: the rule's own ``allow`` and ``deny`` entries.
    :ivar written: bind host, bind port, connect host, connect port as the file
        writes them, for rinetd's log formats.
    :ivar places: where each option that was written stands, by its unique name.
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

    @property
    def is_plain(self) -> bool:
        """Whether both ends are plain TCP or unix sockets, whichever target is taken."""
        return self.listen.kind in PLAIN_LISTENERS and all(
            one.kind in PLAIN_TARGETS for one in self.every_target()
        )

    @property
    def has_datagrams(self) -> bool:
        """Whether datagrams come or go on either side."""
        kinds = (self.listen.kind, *(one.kind for one in self.every_target()))
        return any(kind in DATAGRAM_KINDS for kind in kinds)

    @property
    def is_mixed(self) -> bool:
        """Whether datagrams come in and some target takes a stream, or the other way round."""
        from_datagrams = self.listen.kind in DATAGRAM_KINDS
        return any((one.kind in DATAGRAM_KINDS) is not from_datagrams for one in self.every_target())

    @property
    def shares_questions(self) -> bool:
        """Whether its associations share connections for DNS questions with their length before them."""
        return (
            self.listen.kind in DATAGRAM_KINDS
            and self.options.framing is Framing.LENGTH16
            and not any(one.kind in DATAGRAM_KINDS for one in self.every_target())
        )

    def every_target(self) -> Iterator[TargetSpec]:
        """All that sessions may be sent to, by the rule itself or by its filters."""
        yield from self.targets
        yield from self.named_targets
        yield from (route.target for route in self.routes if isinstance(route.target, TargetSpec))


@frozen
class LogSpec:
    """
    What ``log``, ``logfile`` and ``logcommon`` say.

    :ivar access: form of the access lines; None: text on standard output.
    :ivar file: where they go, as written; None: standard output.
    :ivar probes: whether connections without a byte have a line.
    :ivar repeats: whether each of one client's sessions that fail alike has a line; else one stands for many.
    :ivar opened: whether a session has a line when it has reached its upstream, too.
    """

    access: AccessLogFormat | None = None
    file: str | None = None
    where: Location = field(default=NOWHERE, eq=False, repr=False)
    probes: bool = field(default=True, kw_only=True)
    repeats: bool = field(default=False, kw_only=True)
    opened: bool = field(default=False, kw_only=True)


@frozen
class Directive:
    """A directive that later parts of the program read (``admin``, ``metrics``, ``manhole``, ``limits``)."""

    name: str
    words: tuple[str, ...] = ()
    options: tuple[tuple[str, str], ...] = ()
    where: Location = field(default=NOWHERE, eq=False, repr=False)


@frozen
class Ruleset:
    """
    A file and all it includes.

    :ivar access: the global ``allow`` and ``deny`` entries.
    :ivar pid_file: of ``pidlogfile`` and its like, as written, or None.
    :ivar files: every file that was read, the first one first.
    :ivar warnings: problems that did not refuse the file.
    """

    rules: tuple[Rule, ...] = ()
    access: tuple[AclEntry, ...] = ()
    log: LogSpec = LogSpec()
    pid_file: str | None = None
    directives: tuple[Directive, ...] = ()
    files: tuple[str, ...] = field(default=(), eq=False)
    warnings: tuple[Problem, ...] = field(default=(), eq=False)
