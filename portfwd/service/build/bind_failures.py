# -*- test-case-name: tests.service.build.test_bind_failures -*-
"""Messages for addresses that cannot be bound: the rule, the reason, the place, and the remedy."""

from __future__ import annotations

import errno
from typing import Final

from portfwd.errors import Location, reason_of
from portfwd.rules.model import NOWHERE, Kind, ListenSpec, Rule
from portfwd.values import Address, InetAddress

#: Ports below this need a privilege, unless ``net.ipv4.ip_unprivileged_port_start`` says otherwise.
LOW_PORTS: Final = 1024

#: The remedy by the number of the error.
WAYS_OUT: Final = {
    errno.EADDRINUSE: "'ss -lntupx' shows what listens there: stop it, or listen elsewhere",
    errno.EEXIST: "remove it, or listen on another path",
    errno.EADDRNOTAVAIL: "no interface has this address: correct it ('ip address' lists them), or listen on"
    " every address",
}


def cannot_bind(rule: Rule, name: str, offset: int, problem: Exception) -> str:
    """
    The reason why a rule has no listener on one of its ports, in one line.

    :param name: name of that port; see `cannot_listen`.
    :param offset: number of the port in the rule's range, from 0.
    """
    line = cannot_listen(name, listen_label(rule.listen, offset), problem, rule.listen.where)
    if _lacks_privilege(rule, offset, problem):
        line += (
            f"; ports below {LOW_PORTS} want a privilege that this process does not have: start it with"
            " CAP_NET_BIND_SERVICE, as root has it by default, or let systemd hold the socket"
        )
    return line


def _lacks_privilege(rule: Rule, offset: int, problem: Exception) -> bool:
    """Whether binding failed because the port is low and needs a privilege."""
    ports = rule.listen.ports
    low = ports is not None and 0 < ports.first + offset < LOW_PORTS
    return isinstance(problem, PermissionError) and low


def cannot_listen(name: str, address: str, problem: BaseException, place: Location) -> str:
    """
    A failure in one line: the listener, the reason, the place in the rules file, the remedy.

    A rule that has its address as its name is not named twice, because only 100 bytes of a daemon's line
    reach the terminal.
    """
    line = f"cannot listen on {address}: {reason_of(problem)}"
    if place != NOWHERE:
        line += f" ({place})"
    way_out = WAYS_OUT.get(problem.errno or 0, "") if isinstance(problem, OSError) else ""
    if way_out:
        line += f"; {way_out}"
    return line if name == address else f"{name}: {line}"


def listen_label(spec: ListenSpec, offset: int) -> str:
    """The name of a listener in messages, for one port of its range."""
    if spec.ports is not None:
        return address_label(spec, InetAddress(spec.host, spec.ports.first + offset))
    return f"{spec.kind.value}:{spec.path}"


def address_label(spec: ListenSpec, address: Address | None) -> str:
    """One address of a listener in the form of the grammar."""
    return f"{address}/udp" if spec.kind is Kind.UDP else str(address)
