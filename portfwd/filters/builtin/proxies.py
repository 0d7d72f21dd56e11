# -*- test-case-name: tests.filters.builtin.test_socks5,tests.filters.builtin.test_http_connect -*-
"""
What filters have in common by which the forwarder is a proxy, `socks5` and `http-connect`: their clause.

Clients name their destination, so the rule's own target is never dialled; who may use the proxy, where they
may go and how long they may take to say so is asked in the same words. It refuses to know a protocol.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from attrs import frozen

from portfwd.filters.api import MAX_HOLD, Connection, Factory, Filter
from portfwd.filters.builtin.destinations import Destinations
from portfwd.filters.builtin.users import Users, read_users
from portfwd.filters.options import Network, duration, file_of, networks, option
from portfwd.values import TO_UPSTREAM

#: Seconds for all that a client says before the dial: one message of HTTP or three of SOCKS, of one that
#: may be far away, over a line that loses some of it.
TIMEOUT: Final = 10.0


@frozen
class ProxyOptions:
    """The clause's options."""

    users: Users | None = option(
        file_of(read_users, tight=True),
        default=None,
        help="Who may use it, a line NAME:HASH each; without it, anybody.",
    )
    allow: tuple[Network, ...] = option(networks, default=(), help="Where they may go, and nowhere else.")
    deny: tuple[Network, ...] = option(
        networks,
        default=(),
        help="Where they may not go. Without allow=, near addresses (as the loopback) are denied too.",
    )
    timeout: float = option(duration, default=TIMEOUT, help="How long it may take to say where.")


def make_proxy(
    options: ProxyOptions,
    serve: Callable[[Destinations, Users | None, Connection], Filter],
    max_hold: int = MAX_HOLD,
) -> Factory:
    """
    Make the factory of one clause.

    :param serve: makes the filter that serves one client.
    :param max_hold: most bytes of what a client says before the dial.
    """
    destinations = Destinations(options.allow, options.deny)
    return Factory(
        lambda connection: serve(destinations, options.users, connection),
        directions=frozenset({TO_UPSTREAM}),
        routes=True,
        max_hold=max_hold,
        hold_timeout=options.timeout,
    )
