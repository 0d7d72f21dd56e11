# -*- test-case-name: tests.service.tls.test_listening -*-
"""
Makes the stream factory of a rule with a ``tls:`` listener, from its options and filters.

It combines the certificates, the factory of socket streams, and ``proxy-in`` if that is the first filter.
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
    """The result of `tls_streams`; None after an error, whose lines are added to `failures`."""
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
    The stream factory of a rule with a ``tls:`` listener.

    :param before: the factory before a reload.
    :param limiters: the rate limiters of the rule, if its bandwidth is limited.
    :raises OSError: a file cannot be read.
    :raises ValueError: the content of a file cannot be used, or the reactor does not support sockets of
        portfwd.
    """
    if not context.platform.own_sockets:
        raise ValueError(
            'this reactor does not support sockets of portfwd: listen on endpoint:"ssl:PORT:privateKey=…"'
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
    """
    Whether a client sends a PROXY header before TLS; None if ``proxy-in`` is not the first filter.

    ``proxy-in`` expects a header only from some clients.
    """
    if not filters or filters[0].name != "proxy-in":
        return None
    factory = filters[0].factory

    def expects(client: Address | None) -> bool:
        log = FilterLog(_LOG, "", 0)
        network: Literal["unix", "tcp"] = "unix" if isinstance(client, UnixAddress) else "tcp"
        connection = Connection(0, "", log, client=client, network=network)
        return isinstance(factory.build(connection), ProxyIn)

    return expects
