# -*- test-case-name: tests.service.test_rule_streams -*-
"""
Which streams a rule's sessions are made of: sockets of ours, the pair's, or those of datagrams.

It refuses to make any: that is done for each client, by what is chosen here.
"""

from __future__ import annotations

from attrs import evolve

from portfwd.relay.dial import Opener, Surroundings
from portfwd.rules.model import RelayKind, Rule
from portfwd.service.datagrams import datagram_streams
from portfwd.streams.gates import Gates
from portfwd.streams.socket_opening import SocketStreams


def choose_streams(rule: Rule, world: Surroundings, gates: Gates | None = None) -> Opener:
    """
    Sockets of ours where both ends are plain and nobody asked for the pair; else the pair's streams.

    :param gates: the rule's, which the pair's streams of `world` have already.
    """
    if rule.has_datagrams:
        return datagram_streams(rule, world)
    if world.sockets is None or rule.options.relay is RelayKind.PAIR or not rule.is_plain:
        return world.streams
    return SocketStreams(world.sockets, rule.options, watched=bool(rule.filters), gates=gates)


def with_gates(rule: Rule, world: Surroundings) -> tuple[Surroundings, Gates | None]:
    """The gates of a rule whose bandwidth is limited, for all its ports together, and a world with them."""
    if not rule.options.is_paced:
        return world, None
    gates = Gates(world.reactor, rule.options)
    return evolve(world, streams=world.streams.with_gates(gates)), gates
