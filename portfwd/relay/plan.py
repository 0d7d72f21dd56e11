# -*- test-case-name: tests.relay.test_plan -*-
"""
Decides which relay serves the sessions of a rule, and why.

The function is used to make streams and to show the relay. Parts of a session may still use another relay:
bytes that a filter sees are copied, and so are small amounts.
"""

from __future__ import annotations

from collections.abc import Iterable

from portfwd.kernel.platform import Platform
from portfwd.rules.model import PLAIN_TARGETS, TLS_KINDS, Kind, RelayKind, Rule
from portfwd.values import RelayPlan

#: The kinds of `RelayPlan` with sockets that are not Twisted's.
OWN_SOCKETS = frozenset({"splice", "copy"})


def plan_relay(rule: Rule, platform: Platform, filters: Iterable[tuple[str, object]] = ()) -> RelayPlan:
    """
    Decide by the listener and targets of `rule`, its `filters`, its ``relay=``, and the `platform`.

    :param filters: name and factory of each ``filter`` clause.
    """
    asked, filters = rule.options.relay, tuple(filters)
    if rule.has_datagrams:
        if rule.shares_questions:
            return RelayPlan("datagrams", "DNS questions share connections to the target")
        if rule.is_mixed:
            return RelayPlan("pair", "one side has datagrams, the other a stream of bytes")
        return RelayPlan("datagrams", "both sides have datagrams")
    if asked is RelayKind.PAIR:
        return RelayPlan("pair", "relay=pair")
    if not rule.listen.is_plain:
        return RelayPlan("pair", f"the listener is {_named(rule.listen.kind)}")
    layered = next((one.kind for one in rule.every_target() if one.kind not in PLAIN_TARGETS), None)
    if layered is not None:
        return RelayPlan("pair", f"a target is {_named(layered)}")
    secures = next((name for name, factory in filters if starts_tls(factory)), None)
    if secures is not None:
        return RelayPlan("pair", f"filter {secures} may start TLS")
    if not platform.own_sockets:
        return RelayPlan("pair", "this reactor watches no descriptors of others")
    if not platform.epoll:
        return RelayPlan("pair", "this platform has no epoll")
    if asked is RelayKind.COPY:
        return RelayPlan("copy", "relay=copy")
    if not platform.splice:
        return RelayPlan("copy", "this platform has no splice(2)")
    why = "relay=splice" if asked is RelayKind.SPLICE else "both ends are plain sockets"
    seeing = tuple(name for name, factory in filters if sees_bytes(factory))
    if seeing:
        why += f"; bytes are copied while filters see them: {', '.join(seeing)}"
    return RelayPlan("splice", why, seeing)


def sees_bytes(factory: object) -> bool:
    """Whether a factory's filters see bytes, of one direction at least. A missing attribute means yes."""
    return bool(getattr(factory, "directions", True))


def starts_tls(factory: object) -> bool:
    """Whether a factory's filters may start TLS. A missing attribute means no."""
    return bool(getattr(factory, "starts_tls", {}))


def _named(kind: Kind) -> str:
    return "TLS" if kind in TLS_KINDS else "an endpoint of Twisted's"
