# -*- test-case-name: tests.rules.test_options -*-
"""
The table of all options of the rules file: their places, parsers, writers and bounds.

Parsing, rendering, suggestions and the reference use this table. A new option is a row here and a field in
the model.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from attrs import frozen

from portfwd.rules import readers
from portfwd.rules.model import (
    AllDown,
    Balance,
    Framing,
    ListenOptions,
    OnDeny,
    OnDown,
    OnLimit,
    OnRemove,
    Options,
    RelayKind,
)
from portfwd.rules.readers import Reader, Writer


class Scope(enum.Enum):
    """Where an option may be written."""

    LISTENER = "listener"  #: before ``->``
    RULE = "rule"  #: after ``->``
    TARGET = "target"  #: after ``->``, and in a ``target`` clause


class Needs(enum.Enum):
    """What a rule must have for an option to apply. The value is the end of the error message."""

    NOTHING = ""
    INET_LISTENER = "a listener on IPv6 or on every address"
    UNIX_LISTENER = "a unix: or unix-dgram: listener"
    TLS_LISTENER = "a tls: listener"
    TLS_TARGET = "a tls: target"
    DATAGRAM_LISTENER = "a listener for datagrams"
    INET_TARGET = "a target with a host"
    MIXED = "datagrams on one side and a stream on the other"


class Affects(enum.Enum):
    """
    What an option acts on. A rule that has none of it gets a warning, because the option has no effect there.

    The value is the end of the message. `Needs` is for options that would be meaningless, which are errors.
    """

    ANY = ""
    STREAMS = "streams of bytes"
    TCP = "TCP connections"
    PIPES = "sessions whose both ends are plain sockets, unless relay=copy or relay=pair"
    CONNECTIONS = "listeners for connections"
    SEVERAL = "rules with several targets"
    TLS_1_2 = "connections with TLS 1.2, which min-version=1.3 excludes"
    ALPN = "listeners with alpn="
    CHECKED = "targets whose certificate is checked by authorities"
    CLIENT_CERT = "targets with client-cert="


@frozen
class OptionSpec:
    """
    One option.

    :ivar key: its key in a rule; ``alpn`` exists on each side of ``->``.
    :ivar name: its unique name in ``default`` lines and in TOML files.
    :ivar field: its field in `ListenOptions` or `Options`.
    :ivar read: parses a text; raises `Fault`.
    :ivar write: formats a value so that `read` parses it again.
    :ivar unset: the word for None, which undoes a ``default``; None if there is no such word.
    :ivar unit: kind of the value, for people.
    :ivar about: one line of help.
    :ivar default: value without the option, for people.
    :ivar bounds: smallest and largest value, for people; empty if there are none.
    """

    key: str
    name: str
    scope: Scope
    field: str
    read: Reader
    write: Writer
    unset: str | None
    unit: str
    about: str
    default: str
    needs: Needs = Needs.NOTHING
    bounds: str = ""

    @property
    def affects(self) -> Affects:
        """What it acts on."""
        return AFFECTS.get(self.name, Affects.ANY)

    def value(self, text: str) -> Any:
        """
        Parse the text of the option.

        :raises Fault: it is not a value of this option.
        """
        if self.unset is not None and text == self.unset:
            return self.empty
        return self.read(text)

    def text(self, value: Any) -> str:
        """Format a value; `value` parses it again."""
        if self.unset is not None and value == self.empty:
            return self.unset
        return self.write(value)

    @property
    def undo(self) -> str:
        """The word that undoes a ``default`` and restores the value without the option."""
        return self.text(self.initial)

    @property
    def empty(self) -> Any:
        """The meaning of the word `unset`."""
        return () if self.field.endswith(("alpn", "client_name", "pin")) else None

    @property
    def initial(self) -> Any:
        """The value without the option."""
        return getattr(_LISTEN if self.scope is Scope.LISTENER else _RULE, self.field)


_LISTEN: Final = ListenOptions()
_RULE: Final = Options()


def _option(
    key: str,
    scope: Scope,
    kind: readers.ValueKind,
    about: str,
    *,
    unset: str | None = None,
    default: str | None = None,
    needs: Needs = Needs.NOTHING,
    name: str | None = None,
) -> OptionSpec:
    field = (name or key).replace("-", "_")
    initial = getattr(_LISTEN if scope is Scope.LISTENER else _RULE, field)
    if default is None:
        default = unset if unset is not None and initial in (None, ()) else kind.write(initial)
    return OptionSpec(
        key,
        name or key,
        scope,
        field,
        kind.read,
        kind.write,
        unset,
        kind.unit,
        about,
        default,
        needs,
        kind.bounds,
    )


_L, _R, _T = Scope.LISTENER, Scope.RULE, Scope.TARGET
_seconds = readers.duration
_VERSIONS = readers.word("1.0", "1.1", "1.2", "1.3")
_FILE, _TEXT = readers.text("file"), readers.text("text")

OPTIONS: Final[tuple[OptionSpec, ...]] = (
    _option("backlog", _L, readers.whole(1, readers.MAX_BACKLOG), "connections that wait to be accepted",
            unset="system"),
    _option("mode", _L, readers.mode(), "permission bits of a unix socket's file", unset="default",
            default="0600", needs=Needs.UNIX_LISTENER),
    _option("v6only", _L, readers.switch(), "whether an IPv6 listener refuses IPv4 clients", unset="auto",
            default="off for * and no host, on for a written IPv6 address", needs=Needs.INET_LISTENER),
    _option("cert", _L, _FILE, "certificate chain, PEM, or a directory of them to choose from by name",
            unset="none", needs=Needs.TLS_LISTENER),
    _option("key", _L, _FILE, "its private key, PEM", unset="none", default="in the file of cert=",
            needs=Needs.TLS_LISTENER),
    _option("client-ca", _L, _FILE, "authorities that clients' certificates are checked against",
            unset="none", needs=Needs.TLS_LISTENER),
    _option("verify-client", _L,
            # HAProxy's words, and those of other programs.
            readers.word("required", "optional", other={"require": "required", "request": "optional"}),
            "whether a client must show a certificate", unset="auto", default="required with client-ca=",
            needs=Needs.TLS_LISTENER),
    _option("client-name", _L, readers.names(), "names that a client's certificate may have, * for any run",
            unset="any", needs=Needs.TLS_LISTENER),
    _option("handshake-timeout", _L, _seconds(0.1, readers.MAX_DIAL),
            "how long a client's TLS handshake may take", needs=Needs.TLS_LISTENER),
    _option("alpn", _L, readers.protocols(), "protocols offered to clients, the preferred first",
            unset="none", needs=Needs.TLS_LISTENER),
    _option("alpn-mismatch", _L, readers.word("refuse", "ignore"),
            "whether a client that offers none of alpn= is refused", needs=Needs.TLS_LISTENER),
    _option("unknown-name", _L, readers.word("default", "refuse"),
            "whether a client that asks for a name of no certificate gets the default one",
            needs=Needs.TLS_LISTENER),
    _option("ciphers", _L, _TEXT, "OpenSSL's cipher list for TLS 1.2", unset="auto",
            default="ECDHE+AESGCM:ECDHE+CHACHA20", needs=Needs.TLS_LISTENER),
    _option("min-version", _L, _VERSIONS, "the lowest version of TLS", needs=Needs.TLS_LISTENER),
    _option("curve", _L, _TEXT, "the one group for the key exchange, such as X25519 or P-256", unset="auto",
            default="what OpenSSL offers", needs=Needs.TLS_LISTENER),
    _option("resume", _L, readers.switch(), "whether clients may resume sessions",
            needs=Needs.TLS_LISTENER),
    _option("crl", _L, _FILE, "revocation lists, PEM, for clients' certificates", unset="none",
            needs=Needs.TLS_LISTENER),
    _option("key-password-file", _L, _FILE, "file with the password of the private key", unset="none",
            needs=Needs.TLS_LISTENER),
    _option("keylog", _L, _FILE, "file for session secrets, to debug with", unset="none",
            needs=Needs.TLS_LISTENER),
    _option("buffer", _R, readers.size(readers.MIN_BUFFER, readers.MAX_BUFFER), "most bytes of one read"),
    _option("bulk-buffer", _R, readers.size(readers.MIN_BUFFER, readers.MAX_BUFFER),
            "the same after a read that filled it, of bytes that no pipe can carry"),
    _option("relay", _R, readers.choice(RelayKind), "how bytes are moved"),
    _option("pipe", _R, readers.size(readers.MIN_PIPE, readers.MAX_PIPE), "size of a splice pipe"),
    _option("sndbuf", _R, readers.size(readers.MIN_BUFFER, readers.MAX_SOCKET_BUFFER),
            "the kernel's send buffer of both sockets", unset="system"),
    _option("rcvbuf", _R, readers.size(readers.MIN_BUFFER, readers.MAX_SOCKET_BUFFER),
            "the kernel's receive buffer of both sockets", unset="system"),
    _option("nodelay", _R, readers.switch(), "send small writes at once (TCP_NODELAY)"),
    _option("tcp-info", _R, readers.switch(),
            "whether closing lines in JSON and metrics tell what the kernel knows of both connections "
            "(TCP_INFO)"),
    _option("keepalive", _R, readers.keepalive(), "probe silent TCP connections"),
    _option("user-timeout", _R, _seconds(0.001, readers.MAX_USER_TIMEOUT),
            "how long sent bytes may stay unacknowledged, or wait for a reader that takes none "
            "(TCP_USER_TIMEOUT)", unset="system"),
    _option("connect-timeout", _T, _seconds(0.01, readers.MAX_DIAL),
            "how long one attempt to connect takes at most"),
    _option("dial-timeout", _R, _seconds(0.01, readers.MAX_DIAL), "how long all attempts together may take"),
    _option("idle", _R, _seconds(readers.MIN_IDLE, None),
            "how long nothing may be read, written or acknowledged; a minute at least while a side has "
            "bytes to acknowledge, or was slow to acknowledge the last ones",
            unset="off", default="off for TCP, 72s for UDP"),
    _option("half-close", _R, _seconds(readers.MIN_IDLE, None),
            "how long nothing may move once one side has ended and the other has all of its bytes"),
    _option("max-time", _R, _seconds(readers.MIN_IDLE, None), "how long a session may last", unset="off"),
    _option("linger", _R, _seconds(0, readers.MAX_DIAL),
            "how long a side that is closed may acknowledge nothing of its rest"),
    _option("max-conns", _R, readers.whole(1, readers.MAX_CONNECTIONS), "sessions at a time", unset="off"),
    _option("max-conns-per-source", _R, readers.whole(1, readers.MAX_CONNECTIONS),
            "sessions at a time from one address (IPv6: from one /64)", unset="off"),
    _option("max-conns-per-target", _T, readers.whole(1, readers.MAX_CONNECTIONS),
            "sessions at a time, and dials, to one target; beyond it the next target is tried", unset="off"),
    _option("max-assocs", _R, readers.whole(1, readers.MAX_CONNECTIONS),
            "associations at a time on one socket for datagrams; the one that was silent longest makes room",
            needs=Needs.DATAGRAM_LISTENER),
    _option("rate", _R, readers.rate(), "new sessions a second; a second's worth may come at once",
            unset="off"),
    _option("rate-per-source", _R, readers.rate(),
            "new sessions a second from one address (IPv6: from one /64)", unset="off"),
    _option("limit", _R, readers.label(), "the `limits NAME` line whose limits this rule shares with others",
            unset="none"),
    _option("on-limit", _R, readers.choice(OnLimit),
            "whether clients beyond max-conns and rate are refused, or wait to be accepted"),
    _option("bandwidth", _R, readers.bandwidth(),
            "bytes a second in each direction, of all sessions together", unset="off"),
    _option("bandwidth-up", _R, readers.bandwidth(), "the same for the bytes of clients (to-upstream)",
            unset="auto", default="what `bandwidth` says"),
    _option("bandwidth-down", _R, readers.bandwidth(), "the same for the bytes of upstreams (to-client)",
            unset="auto", default="what `bandwidth` says"),
    _option("bandwidth-per-source", _R, readers.bandwidth(),
            "bytes a second in each direction, of all sessions of one client address", unset="off"),
    _option("bandwidth-per-connection", _R, readers.bandwidth(),
            "bytes a second in each direction, of each session by itself", unset="off"),
    _option("src", _T, readers.literal(), "source address of the upstream socket", unset="any",
            needs=Needs.INET_TARGET),
    _option("balance", _R, readers.choice(Balance), "which of several targets a session gets"),
    _option("weight", _T, readers.whole(0, readers.MAX_WEIGHT),
            "share of new sessions; 0: none, except for clients that stick to it"),
    _option("backup", _T, readers.switch(), "whether it is used only if no other target can be"),
    _option("slowstart", _T, _seconds(1, readers.MAX_DIAL),
            "time in which its share grows from 10 % to 100 % after it has recovered", unset="off"),
    _option("max-fails", _T, readers.whole(1, readers.MAX_FAILS),
            "failed dials in a row after which it gets no sessions for a while; a single target always does",
            unset="off"),
    _option("fail-timeout", _T, _seconds(0.1, readers.MAX_DIAL),
            "how long that is, times the number of times that it happened, 5 minutes at most"),
    _option("tries", _R, readers.whole(1, readers.MAX_CONNECTIONS), "targets that one session tries at most",
            unset="all"),
    _option("retry", _R, _seconds(0.1, readers.MAX_DIAL),
            "how long a session waits for targets that refuse, and dials again", unset="off"),
    _option("on-down", _T, readers.choice(OnDown), "what becomes of its sessions when it goes down"),
    _option("all-down", _R, readers.choice(AllDown),
            "whether sessions try the targets while all are down, or are closed"),
    _option("stick", _R, _seconds(1, None), "how long a client's address keeps its target while that is up",
            unset="off"),
    _option("framing", _R, readers.choice(Framing), "how datagrams stand in a stream", needs=Needs.MIXED),
    _option("answers", _R, readers.whole(1, readers.MAX_ANSWERS),
            "answers to each of a client's datagrams, after which its association ends", unset="off",
            needs=Needs.DATAGRAM_LISTENER),
    _option("answers-before-reply", _R, readers.whole(1, readers.MAX_ANSWERS_BEFORE_REPLY),
            "answers to a client that has sent nothing since the first of them, as its address may be "
            "forged, before more are dropped",
            unset="off", needs=Needs.DATAGRAM_LISTENER),
    _option("on-deny", _R, readers.choice(OnDeny), "how a refused client is closed"),
    _option("on-remove", _R, readers.choice(OnRemove),
            "what becomes of sessions when a reload takes their listener away"),
    _option("dns-refresh", _T, _seconds(1, readers.MAX_DNS_REFRESH), "how long a name's addresses are kept"),
    _option("ca", _T, _FILE, "authorities that the target's certificate is checked against", unset="system",
            needs=Needs.TLS_TARGET),
    _option("verify", _T, readers.switch(), "whether the target's certificate is checked",
            needs=Needs.TLS_TARGET),
    _option("server-name", _T, readers.host_name(),
            "the name that the target's certificate must have; client: the one that the client asked for",
            unset="auto", default="the target's host", needs=Needs.TLS_TARGET),
    _option("client-cert", _T, _FILE, "certificate shown to the target, PEM", unset="none",
            needs=Needs.TLS_TARGET),
    _option("client-key", _T, _FILE, "its private key, PEM", unset="none",
            default="in the file of client-cert=", needs=Needs.TLS_TARGET),
    _option("client-key-password-file", _T, _FILE, "file with the password of that key", unset="none",
            needs=Needs.TLS_TARGET),
    _option("alpn", _T, readers.protocols(),
            "protocols offered to the target, the preferred first; client: the one agreed on with the client",
            unset="none", needs=Needs.TLS_TARGET, name="target-alpn"),
    _option("pin", _T, readers.fingerprints(),
            "fingerprints of the target's certificate, SHA-256 in hex, or of its key as sha256//BASE64",
            unset="none", needs=Needs.TLS_TARGET),
    _option("eof", _T, readers.word("reset", "accept"),
            "what an end of the target without close_notify is", needs=Needs.TLS_TARGET),
    _option("ciphers", _T, _TEXT, "OpenSSL's cipher list for TLS 1.2 with the target", unset="auto",
            default="ECDHE+AESGCM:ECDHE+CHACHA20", needs=Needs.TLS_TARGET, name="target-ciphers"),
    _option("min-version", _T, _VERSIONS, "the lowest version of TLS with the target",
            needs=Needs.TLS_TARGET, name="target-min-version"),
    _option("curve", _T, _TEXT, "the one group for the key exchange with the target", unset="auto",
            default="what OpenSSL offers", needs=Needs.TLS_TARGET, name="target-curve"),
    _option("resume", _T, readers.switch(), "whether sessions with the target are resumed",
            needs=Needs.TLS_TARGET, name="target-resume"),
    _option("crl", _T, _FILE, "revocation lists, PEM, for the target's certificate", unset="none",
            needs=Needs.TLS_TARGET, name="target-crl"),
)  # fmt: skip

#: By unique name, as ``default`` and TOML write them.
BY_NAME: Final[Mapping[str, OptionSpec]] = MappingProxyType({option.name: option for option in OPTIONS})
#: Those that stand before ``->``, by key.
LISTENER: Final[Mapping[str, OptionSpec]] = MappingProxyType(
    {option.key: option for option in OPTIONS if option.scope is Scope.LISTENER}
)
#: Those that stand after ``->``, by key.
RULE: Final[Mapping[str, OptionSpec]] = MappingProxyType(
    {option.key: option for option in OPTIONS if option.scope is not Scope.LISTENER}
)
#: Those that may stand in a ``target`` clause, by key.
TARGET: Final[Mapping[str, OptionSpec]] = MappingProxyType(
    {option.key: option for option in OPTIONS if option.scope is Scope.TARGET}
)
#: What options act on that do not act on every rule.
AFFECTS: Final[Mapping[str, Affects]] = MappingProxyType(
    {
        **dict.fromkeys(("buffer", "bulk-buffer", "relay", "half-close", "linger"), Affects.STREAMS),
        **dict.fromkeys(("nodelay", "keepalive", "user-timeout", "tcp-info"), Affects.TCP),
        "pipe": Affects.PIPES,
        **dict.fromkeys(("backlog", "on-deny"), Affects.CONNECTIONS),
        **dict.fromkeys(
            ("balance", "weight", "backup", "slowstart", "max-fails", "fail-timeout", "tries", "stick"),
            Affects.SEVERAL,
        ),
        **dict.fromkeys(("ciphers", "target-ciphers"), Affects.TLS_1_2),
        "alpn-mismatch": Affects.ALPN,
        **dict.fromkeys(("ca", "target-crl"), Affects.CHECKED),
        "client-key-password-file": Affects.CLIENT_CERT,
    }
)
