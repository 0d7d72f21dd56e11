# -*- test-case-name: tests.service.tls.test_listening -*-
"""
The streams of a rule with a ``tls:`` listener, from its options and its filters.

Here the certificates, the sockets and the first filter meet; it refuses to know any of them well.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final, Literal

from twisted.logger import Logger

from portfwd.filters.api import Connection
from portfwd.filters.builtin.proxy_in import ProxyIn
from portfwd.relay.context import Opener, RelayContext
from portfwd.relay.filter_log import FilterLog
from portfwd.rules.model import Rule
from portfwd.service.build.datagrams import datagram_streams
from portfwd.service.build.filters import Clause
from portfwd.service.daemon.reading import in_thread
from portfwd.service.tls.files import failures_of
from portfwd.service.tls.listeners import ServerSide
from portfwd.streams.rate_limiters import RateLimiters
from portfwd.streams.transports.tls_opening import ExpectsHeader, TLSStreams
from portfwd.values import Address, UnixAddress

_LOG: Final = Logger()


def ready_streams(
    rule: Rule,
    context: RelayContext,
    filters: Sequence[Clause],
    failures: list[str],
    before: Opener | None = None,
    limiters: RateLimiters | None = None,
) -> TLSStreams | None:
    """What `tls_streams` makes; None where it cannot, and then `failures` has more lines."""
    try:
        return tls_streams(rule, context, filters, before, limiters)
    except (OSError, ValueError) as problem:
        failures += failures_of(rule, rule.listen, problem)
        return None


def tls_streams(
    rule: Rule,
    context: RelayContext,
    filters: Sequence[Clause],
    before: Opener | None = None,
    limiters: RateLimiters | None = None,
) -> TLSStreams:
    """
    What makes the streams of a rule with a ``tls:`` listener.

    :param before: what made them before a reload.
    :param limiters: the rule's, if its bandwidth is limited.
    :raises OSError: a file cannot be read.
    :raises ValueError: what is in it is not good; or this reactor takes no sockets of ours.
    """
    if not context.platform.own_sockets:
        raise ValueError(
            'this reactor watches no sockets of ours: listen on endpoint:"ssl:PORT:privateKey=…"'
        )
    old = before.side if isinstance(before, TLSStreams) and isinstance(before.side, ServerSide) else None
    side = ServerSide(
        rule.name,
        rule.listen.options,
        context.reactor.seconds,
        before=old,
        run=partial(in_thread, context.reactor),
    )
    datagrams = datagram_streams(rule, context, limiters) if rule.has_datagrams else None
    return TLSStreams(context.streams, side, _expects_header(filters), datagrams)


def _expects_header(filters: Sequence[Clause]) -> ExpectsHeader | None:
    """``proxy-in`` as the first filter reads what stands before TLS, of the clients that it asks."""
    if not filters or filters[0].name != "proxy-in":
        return None
    factory = filters[0].factory

    def expects(client: Address | None) -> bool:
        log = FilterLog(_LOG, "", 0)
        network: Literal["unix", "tcp"] = "unix" if isinstance(client, UnixAddress) else "tcp"
        connection = Connection(0, "", log, client=client, network=network)
        return isinstance(factory.build(connection), ProxyIn)

    return expects
