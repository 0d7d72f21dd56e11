# -*- test-case-name: tests.relay.test_dial,tests.relay.test_shadows -*-
"""How Twisted connects to an address, where the socket cannot be our own."""

from __future__ import annotations

from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, UNIXClientEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint

from portfwd.values import Address, as_inet, as_unix


def portable_endpoint(
    reactor: object, address: Address, timeout: float, source: str | None = None
) -> IStreamClientEndpoint:
    """
    Twisted's endpoint for `address`, whose host is a literal.

    :param timeout: seconds.
    :param source: our own address; None: the kernel chooses.
    """
    endpoint: IStreamClientEndpoint
    unix, inet = as_unix(address), as_inet(address)
    if unix is not None:
        endpoint = UNIXClientEndpoint(reactor, unix.sockaddr, timeout)
    elif inet is not None:
        kind = TCP6ClientEndpoint if ":" in inet.host else TCP4ClientEndpoint
        endpoint = kind(reactor, inet.host, inet.port, timeout, source and (source, 0))
    return endpoint
