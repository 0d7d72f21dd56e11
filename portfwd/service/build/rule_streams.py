# -*- test-case-name: tests.service.build.test_rule_streams -*-
"""
Chooses the maker of a rule's streams: over sockets of portfwd, over transports, or for datagrams.

The chosen maker makes the streams of each client later.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import evolve

from portfwd.relay.context import Opener, RelayContext
from portfwd.relay.plan import OWN_SOCKETS, plan_relay
from portfwd.rules.model import Rule
from portfwd.service.build.datagrams import datagram_streams
from portfwd.streams.rate_limiters import RateLimiters
from portfwd.streams.sockets.bulk_reads import LAYERED
from portfwd.streams.sockets.socket_opening import SocketStreams


def choose_streams(
    rule: Rule,
    context: RelayContext,
    limiters: RateLimiters | None = None,
    filters: Sequence[tuple[str, object]] = (),
) -> Opener:
    """
    The maker of the streams that `plan_relay` has chosen.

    :param limiters: the rate limiters of the rule, which the transport streams of `context` have already.
    :param filters: name and factory of each ``filter`` clause.
    """
    if rule.has_datagrams:
        return datagram_streams(rule, context, limiters)
    plan = plan_relay(rule, context.platform, filters)
    if context.sockets is None or plan.kind not in OWN_SOCKETS:
        return context.streams
    group = context.sockets.poller.group(rule.name)
    return SocketStreams(context.sockets, rule.options, limiters=limiters, group=group)


def context_of(rule: Rule, context: RelayContext) -> tuple[RelayContext, RateLimiters | None]:
    """A context with the streams of the rule, and the rate limiters of all its ports, if any."""
    limiters = None
    if rule.options.is_paced:
        limiters = RateLimiters(context.reactor, rule.options)
        # Shared connections carry messages of many clients, which are counted one by one.
        streams = context.streams if rule.shares_questions else context.streams.with_limiters(limiters)
    else:
        streams = context.streams.with_bulk_reads(bulk_read(rule))
    return (context if streams is context.streams else evolve(context, streams=streams)), limiters


def bulk_read(rule: Rule) -> int:
    """Bytes of larger reads of this rule; 0 for none."""
    size, buffer = rule.options.bulk_buffer, rule.options.buffer
    if rule.has_datagrams:
        return 0  # a datagram is never larger than the usual read
    if not rule.is_plain:
        size = min(size, max(buffer, LAYERED))
    return size if size > buffer else 0
