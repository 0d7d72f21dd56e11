# -*- test-case-name: tests.test_package -*-
"""
portfwd: a port forwarder and pluggable proxy framework for Twisted.

The life of a connection, and the room where each step lives:

1. A listener accepts a client, if there are descriptors for it (`listen`, `limits`).
2. The client's socket becomes a stream (`streams`), the stream a session (`relay.session`).
   Where clients come by datagrams, the first of each makes its session.
3. The access list and the limits judge the client (`rules.access`, `limits`); at a ``tls:``
   listener it shakes hands (`streams.tls`).
4. If the rule has filters, they look before the dial, may choose the target, and see
   the bytes until they are done (`filters`, `relay.filtered`).
5. The session dials: targets in order, names looked up beside the reactor,
   addresses side by side (`relay.dial`, `upstreams`).
6. The upstream's stream is joined to the client's: bytes of plain sockets stay in the kernel
   (`streams.socket_flow`), others pass through Twisted's transports (`streams.transport`); each
   side pauses the other when it takes no more.
7. Each direction ends on its own: an end travels as an end, a reset as a reset (`relay.session`).
8. When both are over, what is left is delivered, within a time limit (`relay.closing`).
9. The session is closed with exactly one reason (`values.CloseReason`), and
   one line says what happened (`logs`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from portfwd.version import __version__ as __version__

if TYPE_CHECKING:
    from twisted.application.service import IService

    from portfwd.kernel.reactor import Reactor
    from portfwd.relay.rule import SessionLog
    from portfwd.rules.model import Rule, Ruleset


def forward(
    reactor: Reactor, rule: str | Rule | Ruleset, *, log: SessionLog | None = None, drain: float = 10.0
) -> IService:
    """
    A forwarder for your own Twisted program; the same code that ``twistd portfwd`` runs.

    Start it by ``startService()`` or by giving it a parent; ``stopService()``
    drains and returns a Deferred that fires when every session is closed.

    :param reactor: the reactor your program runs.
    :param rule: text in the native grammar (``":8080 -> 10.0.0.5:80"``), a rule value, or a whole ruleset.
    :param log: who is told of sessions; None for nobody.
    :param drain: seconds that sessions get to finish when the service stops.
    :raises portfwd.errors.RulesError: the rule is wrong, or asks for what this version cannot do.
    :raises portfwd.errors.StartError: a target cannot be made ready;
        from ``startService``: a port cannot be bound.
    """
    # Here and not above: who imports a small module of ours does not want all of them.
    from portfwd.service.embed import forward as make

    return make(reactor, rule, log=log, drain=drain)


__all__ = ["__version__", "forward"]
