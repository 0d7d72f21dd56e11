# -*- test-case-name: tests.service.build.test_addresses -*-
"""The listen addresses of rules for the log."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from twisted.logger import Logger

from portfwd.kernel.socket_addresses import from_twisted_address
from portfwd.relay.loops import Loops
from portfwd.rules.model import TLS_KINDS, Kind
from portfwd.service.build.bind_failures import listen_label
from portfwd.service.build.bound import Bound
from portfwd.service.build.targets import target_labels
from portfwd.values import Address


def tell_where(log: Logger, loops: Loops, bounds: Iterable[Bound]) -> None:
    """Log each bound address with its rule and its targets, and add it to `loops`."""
    for bound in bounds:
        for where in addresses_of(bound):
            loops.listens(where)
        for address in bound_labels(bound):
            log.info(
                "{rule}: listening on {address} -> {targets}",
                rule=bound.live.name,
                address=address,
                targets=target_labels(bound.live),
            )


def addresses_of(bound: Bound) -> Iterator[Address]:
    """The bound addresses of `bound`, as far as it has addresses."""
    for listener in bound.listeners:
        if listener.address is not None:
            yield listener.address
    for port in bound.ports:
        address = from_twisted_address(port.getHost())
        if address is not None:
            yield address


def bound_addresses(bound: Bound) -> Iterator[str]:
    """The bound addresses of `bound` for the log; empty after it is closed."""
    for listener in bound.listeners:
        address = listener.address
        if address is not None:
            yield str(address)
    for port in bound.ports:
        host = from_twisted_address(port.getHost())
        yield str(host) if host is not None else listen_label(bound.live.rule.listen, bound.offset)


def bound_labels(bound: Bound) -> Iterator[str]:
    """
    The bound addresses of `bound` in the form of the grammar: ``127.0.0.1:53/udp``.

    All addresses are ``:53/udp``, because ``[::]:53/udp`` means all IPv6 addresses in the grammar.
    """
    spec = bound.live.rule.listen
    addresses = list(bound_addresses(bound))
    if spec.ports is not None and not spec.host:
        addresses = [f":{address.rpartition(':')[2]}" for address in addresses]
    prefix, suffix = "tls:" if spec.kind in TLS_KINDS else "", "/udp" if spec.kind is Kind.UDP else ""
    for address in dict.fromkeys(addresses):
        yield f"{prefix}{address}{suffix}"
