# -*- test-case-name: tests.service.build.test_rule_streams -*-
"""
Which streams a rule's sessions are made of: sockets of ours, the pair's, or those of datagrams.

It refuses to make any: that is done for each client, by what is chosen here.
"""

from __future__ import annotations

from attrs import evolve

from portfwd.relay.context import Opener, Surroundings
from portfwd.rules.model import RelayKind, Rule
from portfwd.service.build.datagrams import datagram_streams
from portfwd.streams.rate_limiters import Gates
from portfwd.streams.sockets.bulk_reads import LAYERED
from portfwd.streams.sockets.socket_opening import SocketStreams


def choose_streams(rule: Rule, world: Surroundings, gates: Gates | None = None) -> Opener:
    """
    Sockets of ours where both ends are plain and nobody asked for the pair; else the pair's streams.

    :param gates: the rule's, which the pair's streams of `world` have already.
    """
    if rule.has_datagrams:
        return datagram_streams(rule, world, gates)
    if world.sockets is None or rule.options.relay is RelayKind.PAIR or not rule.is_plain:
        return world.streams
    group = world.sockets.poller.group(rule.name)
    return SocketStreams(world.sockets, rule.options, watched=bool(rule.filters), gates=gates, group=group)


def surroundings_of(rule: Rule, world: Surroundings) -> tuple[Surroundings, Gates | None]:
    """A world whose streams are the rule's, and its gates, for all its ports together, if it has any."""
    gates = None
    if rule.options.is_paced:
        gates = Gates(world.reactor, rule.options)
        # Connections that associations share carry many clients' messages, which are counted one by one.
        streams = world.streams if rule.shares_questions else world.streams.with_gates(gates)
    else:
        streams = world.streams.with_bulk_reads(bulk_read(rule))
    return (world if streams is world.streams else evolve(world, streams=streams)), gates


def bulk_read(rule: Rule) -> int:
    """Bytes of a larger read of this rule; 0 for none."""
    size, buffer = rule.options.bulk_buffer, rule.options.buffer
    if rule.has_datagrams:
        return 0  # a datagram is never larger than the usual read
    if not rule.is_plain:
        size = min(size, max(buffer, LAYERED))
    return size if size > buffer else 0
