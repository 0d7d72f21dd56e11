# -*- test-case-name: tests.filters.builtin.test_sniff -*-
"""
``filter sniff``: chooses the target by the protocol of the client's first bytes.

The keys of the ``route`` lines are the names in `portfwd.wire.protocols`: ``ssh``, ``tls``, ``http``,
``socks4``, ``socks5``, ``rdp``, ``postgresql``, ``mqtt``; and ``unknown`` for all others. If no line matches,
the target of the rule is dialled.

The target of the rule is also dialled for a client that sends nothing in time or ends, because in its
protocol the server may speak first. Such clients always wait for ``timeout``, so make it short.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from typing import Final

from attrs import frozen

from portfwd.filters.api import DONE, HOLD_TIMEOUT, NEED_MORE, Factory, Filter, Plugin, RouteClause, Verdict
from portfwd.filters.options import duration, option
from portfwd.filters.routes import Routes
from portfwd.values import TO_UPSTREAM, Direction, printable
from portfwd.wire import Need
from portfwd.wire.protocols import NAMES, recognise

UNKNOWN: Final = "unknown"


class Sniff(Filter):
    """Routes one connection by its first bytes."""

    def __init__(self, routes: Routes) -> None:
        self._routes = routes

    def received(self, direction: Direction, data: bytes) -> Verdict:
        """See `IFilter`."""
        answer = recognise(data)
        if isinstance(answer, Need):
            # Without the number of bytes: a client that sends fewer and waits for an answer is decided
            # sooner.
            return NEED_MORE
        return self._routes.decide((answer or UNKNOWN,))

    def ended(self, direction: Direction, held: bytes) -> Verdict:
        """See `IFilter`: an incomplete protocol is unknown; silence is not."""
        return self._routes.decide((UNKNOWN,)) if held else DONE


def check_pattern(pattern: str) -> str:
    """
    Normalise a pattern of protocols.

    :raises ValueError: no protocol matches it.
    """
    known = (*NAMES, UNKNOWN)
    if not fnmatch.filter(known, pattern.lower()):
        raise ValueError(
            f"route pattern '{printable(pattern)}' is no protocol: write one of {', '.join(known)}"
        )
    return pattern.lower()


@frozen
class SniffOptions:
    """The clause's options."""

    timeout: float = option(
        duration, default=HOLD_TIMEOUT, help="After which a silent client goes to the rule's own target."
    )


def make_factory(options: SniffOptions, clauses: Sequence[RouteClause]) -> Factory:
    """
    Make the factory of one clause.

    :raises ValueError: a route pattern matches no protocol.
    """
    routes = Routes(clauses, check_pattern)
    return Factory(
        lambda connection: Sniff(routes),
        directions=frozenset({TO_UPSTREAM}),
        routes=True,
        hold_timeout=options.timeout,
        on_timeout="pass",
        on_overflow="pass",
    )


PLUGIN = Plugin(
    "sniff",
    "the protocol of the client's first bytes chooses the target",
    SniffOptions,
    make_factory,
    takes_routes=True,
)
