# -*- test-case-name: tests.rules.queries.test_explain -*-
"""
Explains what would happen to a connection: its rule, the decision of the access lists, its targets.

`explain` uses only the rules, and gives the place of each part in the file. It resolves no names: a rule that
listens on a host name is found by that name only.

Of several rules on one port the most specific one gets the connection, as in the kernel: the address itself,
then all addresses of the family, then both families. For a port without an address, the widest rule is taken.
"""

from __future__ import annotations

import ipaddress
from typing import Final

from attrs import evolve, frozen

from portfwd.errors import Location
from portfwd.rules.access import AccessList, Decision
from portfwd.rules.addresses import address_text, plain_path
from portfwd.rules.model import (
    SYSTEMD_KINDS,
    UNIX_KINDS,
    AclEntry,
    Balance,
    Directive,
    Kind,
    ListenSpec,
    PortRange,
    RouteSpec,
    Rule,
    Ruleset,
    TargetSpec,
)
from portfwd.rules.whole_process import shared_line
from portfwd.values import is_literal, printable, unmapped

_PATH_KINDS: Final = (*UNIX_KINDS, *SYSTEMD_KINDS, Kind.ENDPOINT)


@frozen
class Choice:
    """
    An upstream that would be tried.

    :ivar address: its text in the native grammar, with the port that corresponds to that of the listener;
        without a port if that is unknown.
    """

    address: str
    where: Location


@frozen
class RouteChoice:
    """
    A ``route`` line of a routing filter, which may choose another target.

    :ivar choice: None for ``close``.
    """

    patterns: tuple[str, ...]
    choice: Choice | None
    where: Location


@frozen
class Explanation:
    """
    The answer.

    :ivar client: the given client address; empty for a client of a unix socket.
    :ivar listen: the given listen address or rule name.
    :ivar rule: the rule that gets the connection; None if no rule does.
    :ivar others: other rules on that port or address.
    :ivar decision: decision of the access lists; None without a rule.
    :ivar asked: the ``allow`` entries that did not match (steps 1 and 3), else empty.
    :ivar targets: the upstreams; empty if the client is refused.
    :ivar balance: the order in which they are tried.
    :ivar route_choices: the alternatives of routing filters.
    :ivar shared: the ``limits NAME`` line that the rule uses; None without one.
    """

    client: str
    listen: str
    rule: Rule | None
    others: tuple[Rule, ...] = ()
    decision: Decision | None = None
    asked: tuple[AclEntry, ...] = ()
    targets: tuple[Choice, ...] = ()
    balance: Balance = Balance.FIRST
    route_choices: tuple[RouteChoice, ...] = ()
    shared: Directive | None = None


@frozen
class _Wanted:
    """
    A listen address as given by the user.

    :ivar kinds: the possible kinds of listener, the likely ones first.
    :ivar host: None for any address.
    """

    kinds: tuple[Kind, ...]
    host: str | None = None
    port: int = 0
    path: str = ""


def explain(ruleset: Ruleset, client: str, listen: str) -> Explanation:
    """
    Explain what would happen to a connection.

    :param client: an address, or ``unix`` for a client of a unix socket.
    :param listen: name of a rule, ``:8080``, ``10.0.0.1:8080``, ``[::1]:53/udp``, ``unix:/path``,
        ``systemd:NAME`` or ``endpoint:"…"``.
    :raises ValueError: one of them is not well-formed; the message is for the user.
    """
    if client == "unix":
        host = ""
    elif is_literal(client):
        host = unmapped(client)
    else:
        raise ValueError(f"'{printable(client)}' is no address: write 192.168.1.66, 2001:db8::1 or unix")
    rule, others, port = _find(ruleset, host, listen)
    if rule is None:
        return Explanation(client=host, listen=listen, rule=None, others=others)
    if not host and rule.listen.kind in (Kind.TCP, Kind.UDP, Kind.TLS):
        raise ValueError(f"a client of rule {rule.name} has an address: write it in place of unix")
    access = AccessList(ruleset.access, rule.access)
    # The client of a unix socket has no address.
    is_unix = not host or rule.listen.kind in UNIX_KINDS
    decision = access.decide_unix() if is_unix else access.decide(host)
    if not decision.allowed:
        level = ruleset.access if decision.step <= 2 else rule.access
        asked = tuple(entry for entry in level if entry.allow) if decision.step in (1, 3) else ()
        return Explanation(host, listen, rule, others, decision, asked)
    offset = None if port is None or rule.listen.ports is None else port - rule.listen.ports.first
    return Explanation(
        host,
        listen,
        rule,
        others,
        decision,
        targets=tuple(_choice(target, offset) for target in rule.targets),
        balance=rule.options.balance,
        route_choices=tuple(_route_choice(route, rule, offset) for route in rule.routes),
        shared=shared_line(ruleset, rule),
    )


def _find(ruleset: Ruleset, client: str, listen: str) -> tuple[Rule | None, tuple[Rule, ...], int | None]:
    """The rule, the others on its address, and the port (None for the first port of the rule)."""
    for rule in ruleset.rules:
        if rule.name == listen:
            return rule, (), rule.listen.ports.first if rule.listen.ports else None
    wanted = _read_listen(listen)
    best: tuple[int, Rule] | None = None
    seen: list[Rule] = []
    for rule in ruleset.rules:
        if not _same_place(rule.listen, wanted):
            continue
        seen.append(rule)
        rank = _rank(rule.listen, wanted, client)
        if rank is not None and (best is None or rank < best[0]):
            best = (rank, rule)
    taker = best[1] if best else None
    return taker, tuple(rule for rule in seen if rule is not taker), wanted.port


def _read_listen(text: str) -> _Wanted:
    """Parse a text that is not the name of a rule as a listen address."""
    for kind in _PATH_KINDS:
        prefix = f"{kind.value}:"
        if text.startswith(prefix):
            return _Wanted((kind,), path=text[len(prefix) :].strip('"'))
    kinds: tuple[Kind, ...] = (Kind.TCP, Kind.TLS, Kind.UDP)
    rest = text
    for kind in (Kind.TCP, Kind.TLS, Kind.UDP):
        if rest.startswith(f"{kind.value}:"):
            rest, kinds = rest[len(kind.value) + 1 :], (kind,)
    if rest.endswith("/udp"):
        rest, kinds = rest[:-4], (Kind.UDP,)
    elif rest.endswith("/tcp"):
        rest, kinds = rest[:-4], (Kind.TCP, Kind.TLS)
    host, _, port = rest.rpartition(":")
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65535):
        raise ValueError(
            f"'{printable(text)}' is no rule's name and no listen address: "
            "write :8080, 10.0.0.1:8080, [::1]:53/udp or unix:/path"
        )
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    return _Wanted(kinds, None if host in ("", "*") else unmapped(host), int(port))


def _same_place(listen: ListenSpec, wanted: _Wanted) -> bool:
    """Whether the kind and the port or path of `listen` match the wanted ones."""
    if listen.kind not in wanted.kinds:
        return False
    if listen.kind in _PATH_KINDS:
        return plain_path(listen.path) == plain_path(wanted.path)
    return listen.ports is not None and listen.ports.first <= wanted.port <= listen.ports.last


def _rank(listen: ListenSpec, wanted: _Wanted, client: str) -> int | None:
    """How closely `listen` matches the wanted address. Smaller is closer; None for no match."""
    if listen.kind in _PATH_KINDS:
        return 0
    likely = 10 * wanted.kinds.index(listen.kind)
    if wanted.host is not None and listen.host and _same_host(listen.host, wanted.host):
        return likely
    family = _family(wanted.host) or _family(client)
    own = _family(listen.host)
    if not listen.host:
        rank = None if listen.options.v6only and family == 4 else 3
    elif _is_every(listen.host):
        # An IPv6 wildcard takes IPv4 clients too when the rule says so.
        both = own == 6 and listen.options.v6only is False
        rank = 2 if family in (own, 0) else 3 if both else None
    elif wanted.host is None:
        # The rule has one address or name and the user gave none: a wider rule is preferred.
        rank = 4 if own == family or 0 in (own, family) else None
    else:
        rank = None
    if rank is None:
        return None
    # ":8080" means all addresses, so the widest listener is the closest match.
    return likely + (rank if wanted.host is not None or rank == 4 else 3 - rank)


def _family(host: str | None) -> int:
    """4 or 6; 0 for a name or an empty text."""
    if not host or not is_literal(host):
        return 0
    return ipaddress.ip_address(host).version


def _is_every(host: str) -> bool:
    """Whether `host` is the unspecified address of a family."""
    return is_literal(host) and ipaddress.ip_address(host).is_unspecified


def _same_host(one: str, other: str) -> bool:
    """Whether two hosts are the same literal, however written, or the same name."""
    if is_literal(one) and is_literal(other):
        return ipaddress.ip_address(unmapped(one)) == ipaddress.ip_address(unmapped(other))
    return one.lower() == other.lower()


def _choice(target: TargetSpec, offset: int | None) -> Choice:
    """The upstream for port number `offset` of the listener's range; None for the whole range."""
    if target.ports is not None and offset is not None and offset < len(target.ports):
        port = target.ports.first + offset
        target = evolve(target, ports=PortRange(port, port))
    return Choice(address_text(target), target.where)


def _route_choice(route: RouteSpec, rule: Rule, offset: int | None) -> RouteChoice:
    """A ``route`` line with the target it names."""
    target = route.target
    if isinstance(target, str):
        target = next((named for named in rule.named_targets if named.name == target), None)
    return RouteChoice(route.patterns, None if target is None else _choice(target, offset), route.where)
