# -*- test-case-name: tests.filters.builtin.test_socks5,tests.filters.builtin.test_http_connect -*-
"""
The common clause of the proxy filters `socks5` and `http-connect`.

Clients name their destination, so the target of the rule is never dialled. Both filters have the same options
for users, permitted destinations and time limits.
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

#: Default seconds for the messages of a client before the dial: one of HTTP or three of SOCKS, over a long
#: and lossy line.
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

    :param serve: makes the filter of one client.
    :param max_hold: most bytes of a client before the dial.
    """
    destinations = Destinations(options.allow, options.deny)
    return Factory(
        lambda connection: serve(destinations, options.users, connection),
        directions=frozenset({TO_UPSTREAM}),
        routes=True,
        max_hold=max_hold,
        hold_timeout=options.timeout,
    )
