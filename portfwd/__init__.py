# -*- test-case-name: tests.test_package -*-
"""
portfwd: a port forwarder and pluggable proxy framework for Twisted.

The steps of a connection, and the package of each step:

1. A listener accepts a client if descriptors are available (`listen`, `limits`).
2. It makes a stream of the client's socket (`streams`) and a session of the stream (`relay.session`).
   A client of a datagram listener gets its session with its first datagram.
3. The access list and the limits judge the client (`rules.access`, `limits`).
   At a ``tls:`` listener it performs a handshake (`streams.transports`).
4. The filters of the rule may inspect the first bytes, choose the target, and process bytes until they are
   done (`filters`, `relay.filtered`).
5. The session dials the targets in order. Names are resolved without blocking, and several addresses are
   tried at the same time (`relay.dial`, `upstreams`).
6. The session joins both streams. Bytes of plain sockets stay in the kernel (`streams.sockets`), others pass
   through transports (`streams.transports`). A side that accepts no more bytes pauses the other one.
7. Each direction ends separately. An end is forwarded as an end, a reset as a reset (`relay.session`).
8. When both directions have ended, the remaining bytes are delivered within a time limit (`relay.closing`).
9. The session is closed with exactly one reason (`values.CloseReason`), and the log gets one line (`logs`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from portfwd.version import __version__ as __version__

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorCore

    from portfwd.relay.rule import SessionLog
    from portfwd.rules.model import Rule, Ruleset
    from portfwd.service.build.from_objects import FilterArgument, Listening, Target
    from portfwd.service.embed import EmbeddedForwarder
    from portfwd.service.portforward import (
        Proxy,
        ProxyClient,
        ProxyClientFactory,
        ProxyFactory,
        ProxyServer,
    )


def forward(
    reactor: IReactorCore,
    rule: str | Rule | Ruleset | None = None,
    *,
    listen: Listening | None = None,
    to: Target | Iterable[Target] | None = None,
    filters: Iterable[FilterArgument] = (),
    clauses: Iterable[str] = (),
    name: str | None = None,
    log: SessionLog | None = None,
    drain: float = 10.0,
    **options: Any,
) -> EmbeddedForwarder:
    """
    Make a forwarder for a Twisted program, with the same code as ``twistd portfwd``.

    Start it with ``startService()`` or by setting its parent. ``stopService()`` drains it and returns a
    Deferred that fires when all sessions are closed.

    :param reactor: the running reactor.
    :param rule: text in the native grammar (``":8080 -> 10.0.0.5:80"``), a rule value, or a whole ruleset.
        Without it, `listen` and `to` are required.
    :param listen: the listen address as in a rule, or a server endpoint of Twisted.
    :param to: the target: an address as in a rule, or a client endpoint of Twisted; or a list of both.
    :param filters: a list. Each element is a class of filters, a filter (shared by all connections), a
        function that makes a filter, a `portfwd.filters.Factory`, or the text of a ``filter`` clause.
    :param clauses: lines beneath the rule, such as ``"allow 10.0.0.0/8"``.
    :param name: name of the rule for logs, metrics and `EmbeddedForwarder.addresses`; None for the listen
        address.
    :param log: an object that is called for each session; None for none. `EmbeddedForwarder.subscribe` takes
        functions.
    :param drain: seconds that sessions get to finish when the service stops.
    :param options: options of the rule, with ``_`` for ``-``: ``idle="5m"``, ``max_conns=100``.
    :raises portfwd.errors.RulesError: the rule has errors, or uses settings that this version does not
        support.
    :raises portfwd.errors.StartError: a target or the access log cannot be prepared; from ``startService``: a
        port cannot be bound.
    :raises TypeError: an argument has the wrong type.
    """
    # Imported here, so a program that imports one small module does not load all of them.
    from portfwd.service.embed import forward as make

    return make(
        reactor,
        rule,
        listen=listen,
        to=to,
        filters=filters,
        clauses=clauses,
        name=name,
        log=log,
        drain=drain,
        **options,
    )


def __getattr__(name: str) -> Any:
    """Load the replacements for `twisted.protocols.portforward` on first access."""
    if name in __all__:
        from portfwd.service import portforward

        return getattr(portforward, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "Proxy",
    "ProxyClient",
    "ProxyClientFactory",
    "ProxyFactory",
    "ProxyServer",
    "__version__",
    "forward",
]
