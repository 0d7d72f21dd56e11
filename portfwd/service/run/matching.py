# -*- test-case-name: tests.service.run.test_matching -*-
"""
Finds the existing listener for each port of new rules, and the operator's state of it.

A listener is kept if address, port or path, and ``v6only=`` are equal. A paused or drained rule keeps this
state by its name, wherever it listens. Nothing is bound or changed here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from attrs import define, field

from portfwd.kernel.socket_addresses import is_own_address
from portfwd.listen.datagram_clients import DatagramClients
from portfwd.listen.listener import Listener
from portfwd.rules.model import Rule, Ruleset
from portfwd.rules.steps import Steps
from portfwd.service.build.bound import Bound
from portfwd.service.build.build import at_port, count_ports
from portfwd.service.build.listener_names import has_name
from portfwd.service.build.unix_port import UnixPort
from portfwd.values import InetAddress

Key = tuple[object, ...]

PAUSED: Final = "paused"
DRAINED: Final = "drained"


def listening_key(rule: Rule, offset: int) -> Key:
    """The part of two rules that must be equal for sharing a socket: it cannot change after binding."""
    listen = rule.listen
    if listen.ports is None:
        return listen.kind, listen.path, id(listen.given)
    return listen.kind, listen.host, listen.ports.first + offset, listen.options.v6only


def is_reusable(rule: Rule) -> bool:
    """
    Whether a live rule can stay as it is if its text has not changed.

    Rules that name files, for TLS, filters or endpoints, are made again, because the files may have changed.
    """
    datagrams = rule.has_datagrams and not rule.is_mixed
    return (rule.is_plain or datagrams) and not rule.filters and not rule.checks


@define(eq=False)
class Port:
    """
    One port of the new rules.

    :ivar bound: the existing listener, or None.
    :ivar steered: `PAUSED` or `DRAINED` by an operator, else empty.
    """

    rule: Rule
    offset: int
    name: str
    written: tuple[str, str, str, str]
    key: Key
    steered: str = ""
    bound: Bound | None = None


@define(eq=False)
class PortMatch:
    """
    :ivar ports: all ports of the new rules.
    :ivar gone: listeners that are not needed any more.
    """

    ports: list[Port] = field(factory=list)
    gone: list[Bound] = field(factory=list)


def match(current: Sequence[Bound], after: Ruleset) -> Steps[PortMatch]:
    """Find the existing listener for each port of `after`."""
    said = yield from _what_was_said(current)
    free: dict[Key, dict[str, Bound]] = {}
    for bound in current:
        key = listening_key(bound.live.rule, bound.offset)
        free.setdefault(key, {})[bound.live.name] = bound
        yield
    made = PortMatch()
    for rule in after.rules:
        for offset in range(count_ports(rule)):
            name, written = at_port(rule, offset)
            key = listening_key(rule, offset)
            port = Port(rule, offset, name, written, key, said.get(name, said.get(rule.name, "")))
            # Several rules may ask for any free port, or write the same endpoint: names tell them apart.
            port.bound = free.get(key, {}).pop(name, None)
            made.ports.append(port)
            yield
    for port in made.ports:
        left = free.get(port.key)
        if port.bound is None and left and port.steered != DRAINED:
            port.bound = left.pop(next(iter(left)))
    made.gone = [bound for left in free.values() for bound in left.values()]
    return made


def _what_was_said(current: Iterable[Bound]) -> Steps[dict[str, str]]:
    """The operator's states by names of ports, and of rules whose ports are all in the same state."""
    said: dict[str, str] = {}
    ranges: dict[str, set[str]] = {}
    for bound in current:
        state = DRAINED if bound.closed else PAUSED if bound.paused else ""
        said[bound.live.name] = state
        ranges.setdefault(bound.live.rule.name, set()).add(state)
        yield
    alike = {name: next(iter(states)) for name, states in ranges.items() if len(states) == 1}
    return alike | said


@define(eq=False)
class ListenerRenewal:
    """
    Sockets that a port needs in addition to existing ones, although its rule is the same.

    :ivar kept: listeners that stay.
    :ivar hosts: the additional addresses of a name; None for all of the rule.
    """

    kept: list[Listener | DatagramClients]
    hosts: Sequence[str] | None = None


def renewal(bound: Bound, rule: Rule, addresses: Sequence[str]) -> ListenerRenewal | None:
    """
    The sockets that `bound` needs; None if it has all.

    :param addresses: current addresses of the name on which the rule listens.
    """
    if bound.closed:
        return ListenerRenewal([])
    if not bound.listeners:
        # Twisted's listeners stay. The files of unix sockets are checked here.
        lost = any(port.file.is_gone for port in bound.ports if isinstance(port, UnixPort))
        return ListenerRenewal([]) if lost else None
    # A listener that is only bound or open has not begun, because of an exception or an error of the kernel.
    idle = ("bound", "open", "stopped")
    good = [one for one in bound.listeners if one.state not in idle and not (one.file and one.file.is_gone)]
    if not has_name(rule) or not addresses:
        return None if len(good) == len(bound.listeners) else ListenerRenewal(good)
    hosts = {one: _host(one) for one in good}
    kept = [one for one, host in hosts.items() if host in addresses]
    missing = [
        host
        for host in addresses
        # A name may have an IPv6 address that this machine does not have; a start ignores it too.
        if host not in hosts.values() and (":" not in host or is_own_address(host))
    ]
    return None if not missing and len(kept) == len(bound.listeners) else ListenerRenewal(kept, missing)


def _host(listener: Listener | DatagramClients) -> str:
    address = listener.address
    return address.host if isinstance(address, InetAddress) else ""
