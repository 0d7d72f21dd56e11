# -*- test-case-name: tests.test_package -*-
"""
portfwd: a port forwarder and pluggable proxy framework for Twisted.

The life of a connection, and the room where each step lives:

1. A listener accepts a client, if there are descriptors for it (`listen`, `limits`).
2. The client's socket becomes a stream (`streams`), the stream a session (`relay.session`).
   Where clients come by datagrams, the first of each makes its session.
3. The access list and the limits judge the client (`rules.access`, `limits`); at a ``tls:``
   listener it shakes hands (`streams.transports`).
4. If the rule has filters, they look before the dial, may choose the target, and see
   the bytes until they are done (`filters`, `relay.filtered`).
5. The session dials: targets in order, names looked up beside the reactor,
   addresses side by side (`relay.dial`, `upstreams`).
6. The upstream's stream is joined to the client's: bytes of plain sockets stay in the kernel
   (`streams.sockets`), others pass through Twisted's transports (`streams.transports`); each
   side pauses the other when it takes no more.
7. Each direction ends on its own: an end travels as an end, a reset as a reset (`relay.session`).
8. When both are over, what is left is delivered, within a time limit (`relay.closing`).
9. The session is closed with exactly one reason (`values.CloseReason`), and
   one line says what happened (`logs`).
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
    A forwarder for your own Twisted program; the same code that ``twistd portfwd`` runs.

    Start it by ``startService()`` or by giving it a parent; ``stopService()``
    drains and returns a Deferred that fires when every session is closed.

    :param reactor: the reactor your program runs.
    :param rule: text in the native grammar (``":8080 -> 10.0.0.5:80"``), a rule value, or a whole ruleset.
        Without it `listen` and `to` are needed.
    :param listen: where to listen: an address as in a rule, or a server endpoint of Twisted's.
    :param to: the target: an address as in a rule, or a client endpoint of Twisted's; or a list of both.
    :param filters: each is a class of filters, a filter (all connections share it), a function that makes
        one, a `portfwd.filters.Factory`, or the text of a ``filter`` clause.
    :param clauses: lines that stand beneath a rule, such as ``"allow 10.0.0.0/8"``.
    :param name: of the rule, for logs, metrics and `EmbeddedForwarder.addresses`; None: the listen address.
    :param log: is told of sessions; None for nobody. `EmbeddedForwarder.subscribe` takes functions.
    :param drain: seconds that sessions get to finish when the service stops.
    :param options: options of the rule, with ``_`` for ``-``: ``idle="5m"``, ``max_conns=100``.
    :raises portfwd.errors.RulesError: the rule is wrong, or asks for what this version cannot do.
    :raises portfwd.errors.StartError: a target or the access log cannot be made ready;
        from ``startService``: a port cannot be bound.
    :raises TypeError: an argument has a wrong type.
    """
    # Here and not above: a program that imports one small module must not load all of them.
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
    """The classes in the place of `twisted.protocols.portforward`, loaded by the first program that asks."""
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
