# -*- test-case-name: tests.service.build.test_datagrams -*-
"""From rules with datagrams on a side to their streams and listeners."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import partial

from portfwd.kernel.turn_clock import AT_ONCE, TurnClock
from portfwd.limits.descriptors import Descriptors
from portfwd.listen.datagram_binding import bind_datagrams, ready_inherited, resolve_datagrams
from portfwd.listen.datagram_clients import DatagramClients
from portfwd.listen.datagram_listener import DatagramListener
from portfwd.listen.datagram_port import DatagramPort
from portfwd.listen.retired import RetiredListeners
from portfwd.listen.systemd import adopt
from portfwd.relay.context import RelayContext
from portfwd.relay.datagram_targets import DatagramTargets
from portfwd.relay.live import LiveRule
from portfwd.rules.model import Kind, ListenSpec, PortRange, Rule
from portfwd.streams.datagrams.datagram_opening import DatagramStreams
from portfwd.streams.rate_limiters import RateLimiters
from portfwd.values import is_literal


def datagram_streams(
    rule: Rule, context: RelayContext, limiters: RateLimiters | None = None
) -> DatagramStreams:
    """
    What makes the streams of `rule`, which has datagrams on one side or both.

    :param limiters: the rule's, if its bandwidth is limited.
    """
    poller = None if context.sockets is None else context.sockets.poller.group(rule.name)
    targets = DatagramTargets(context.reactor, context.names)
    # What is shared carries whole messages, so both sides of a session pass datagrams.
    mixed = rule.is_mixed and not rule.shares_questions
    return DatagramStreams(
        TurnClock(context.timers, AT_ONCE),
        rule.options,
        poller,
        context.streams,
        targets,
        mixed=mixed,
        limiters=limiters,
        name=rule.name,
        # The kernel vouches for the names of unix sockets.
        forgeable=rule.listen.kind in (Kind.UDP, Kind.SYSTEMD_DATAGRAM),
    )


def socket_key(spec: ListenSpec, offset: int) -> Hashable:
    """Equal for listeners of which one socket can serve the other's rule."""
    port = spec.ports.first + offset if spec.ports is not None else 0
    return spec.kind, spec.host, port, spec.path, spec.options.v6only


def adopt_listeners(
    live: LiveRule, descriptors: Sequence[int], context: RelayContext, budget: Descriptors
) -> Sequence[DatagramClients]:
    """
    What listens on datagram sockets that systemd passed.

    :raises OSError, ValueError: one of them cannot be used; nothing is kept then.
    """
    if context.sockets is None:
        raise ValueError("systemd's sockets for datagrams need epoll")
    taken: list[DatagramListener] = []
    poller = context.sockets.poller.group(live.rule.name)
    try:
        for descriptor in descriptors:
            sock = ready_inherited(adopt(descriptor, datagrams=True))
            taken.append(
                DatagramListener(live.name, sock, context.reactor, poller, budget, live, inherited=True)
            )
    except OSError:
        for one in taken:
            one.stop()
        raise
    return taken


def bind_listeners(
    live: LiveRule,
    offset: int,
    context: RelayContext,
    budget: Descriptors,
    resolve: Callable[[str], Sequence[str]] | None = None,
    *,
    share: bool = False,
) -> Sequence[DatagramClients]:
    """
    Bind what one UDP rule listens on.

    :param offset: which port of its range, from 0.
    :raises OSError, ValueError: nothing is bound then.
    """
    spec = live.rule.listen
    port = spec.ports.first + offset if spec.ports is not None else 0
    if context.sockets is None:
        if spec.kind is Kind.UNIX_DATAGRAM:
            raise ValueError("unix sockets for datagrams need epoll")
        hosts = [spec.host]
        if spec.host and not is_literal(spec.host):
            hosts = list((resolve or resolve_datagrams)(spec.host))
        ports: list[DatagramPort] = []
        try:
            ports.extend(DatagramPort(live.name, host, port, context.reactor, budget, live) for host in hosts)
        except OSError:
            for one in ports:
                one.stop()
            raise
        return ports
    poller = context.sockets.poller.group(live.rule.name)
    return [
        DatagramListener(live.name, sock, context.reactor, poller, budget, live)
        for sock in bind_datagrams(spec, port, resolve, share=share)
    ]


def rule_listeners(
    retired: RetiredListeners,
    live: LiveRule,
    offset: int,
    context: RelayContext,
    budget: Descriptors,
    resolve: Callable[[str], Sequence[str]] | None,
    share: bool,
) -> Sequence[DatagramClients]:
    """
    The sockets that a rule like this one had before and that associations still use; else what is bound anew.

    The parameters are those of `bind_listeners`, and so are the errors.
    """
    spec = live.rule.listen
    key = socket_key(spec, offset)
    found = () if spec.ports == PortRange(0, 0) else retired.revivable(key)
    if found:
        for one in found:
            one.reserve(live)
        return found
    made = bind_listeners(live, offset, context, budget, resolve, share=share)
    for one in made:
        one.retired = partial(retired.add, one, key)
    return made
