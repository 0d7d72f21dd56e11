# -*- test-case-name: tests.filters.builtin.test_http_host -*-
"""
``filter http-host``: chooses the target by the host of the first HTTP request.

The key of the ``route`` lines is the host without its port, from an absolute target, from CONNECT, or from
``Host`` (`portfwd.wire.http_head`). If no line matches, the target of the rule is dialled. A request that is
not well-formed or names no host gets an error and is closed. With ``otherwise=pass`` it is sent to the target
of the rule, and so is HTTP/2 without TLS.

Only the first request of a connection is read. Later ones go to the same target, whatever their host; the
upstream can refuse them (421).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from attrs import frozen

from portfwd.filters.api import (
    HOLD_TIMEOUT,
    Factory,
    NeedMore,
    Plugin,
    RouteClause,
    Verdict,
)
from portfwd.filters.options import choice, duration, option
from portfwd.filters.routes import NameRouter, Routes, check_host
from portfwd.values import Direction
from portfwd.wire import Need, TooLong, WireError
from portfwd.wire.http_head import MAX_HEAD, read_head
from portfwd.wire.http_reply import build_refusal

#: Key of the host in `Connection.tags`, for other filters.
HTTP_HOST: Final = "http-host"

_BAD_REQUEST: Final = build_refusal(400)
_TOO_LARGE: Final = build_refusal(431)
#: RFC 9110 section 15.5.20: "unable or unwilling to produce an authoritative response".
_MISDIRECTED: Final = build_refusal(421)


class RequestHost(NameRouter):
    """Routes one connection by its first request."""

    def received(self, direction: Direction, data: bytes) -> Verdict:
        """See `IFilter`."""
        try:
            answer = read_head(data)
        except WireError as error:
            return self._otherwise(str(error), _TOO_LARGE if isinstance(error, TooLong) else _BAD_REQUEST)
        if isinstance(answer, Need):
            return NeedMore(total=answer.total)
        host = answer.value.host
        if not host:
            return self._otherwise("a request without a host", _BAD_REQUEST)
        assert self._connection is not None
        self._connection.tags[HTTP_HOST] = host
        return self._routes.decide((host,), _MISDIRECTED)

    def ended(self, direction: Direction, held: bytes) -> Verdict:
        """See `IFilter`."""
        return self._otherwise("the connection ended before its request did")


@frozen
class HTTPHostOptions:
    """The clause's options."""

    otherwise: str = option(
        choice("close", "pass"),
        default="close",
        help="What is no request, or names no host; pass goes to the rule's own target.",
    )
    timeout: float = option(duration, default=HOLD_TIMEOUT, help="How long the whole head may take.")


def make_factory(options: HTTPHostOptions, clauses: Sequence[RouteClause]) -> Factory:
    """
    Make the factory of one clause.

    :raises ValueError: a route pattern can match nothing.
    """
    routes = Routes(clauses, check_host)
    return RequestHost.factory(routes, options.otherwise, options.timeout, MAX_HEAD)


PLUGIN = Plugin(
    "http-host",
    "the host of the first HTTP request chooses the target",
    HTTPHostOptions,
    make_factory,
    takes_routes=True,
)
