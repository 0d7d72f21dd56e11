# -*- test-case-name: tests.filters.builtin.test_http_connect -*-
"""
``filter http-connect``: an HTTP proxy for tunnels, with a password where ``users`` is a file.

A client names its destination with CONNECT (RFC 9110 section 9.3.6). The target of the rule is never dialled.
The filter answers after the dial: 200, 403 for a destination that is not permitted, 504 for a timeout, 502
for other failures. portfwd resolves the names. ``allow`` and ``deny`` are networks of destinations
(`portfwd.filters.builtin.destinations`).

Passwords are sent in ``Proxy-Authorization: Basic`` (RFC 7617), without encryption. Other methods than
CONNECT are refused (405). The connection is closed after every refusal.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Final

from portfwd.errors import ConnectTimedOut, DialError
from portfwd.filters.api import (
    DONE,
    Close,
    Connection,
    Factory,
    Filter,
    Forward,
    NeedMore,
    Plugin,
    Reply,
    Route,
    RouteClause,
    Verdict,
)
from portfwd.filters.builtin.destinations import Destinations, Permission
from portfwd.filters.builtin.proxies import ProxyOptions, make_proxy
from portfwd.filters.builtin.users import Users
from portfwd.values import Address, Direction, InetAddress
from portfwd.wire import Need, TooLong, WireError
from portfwd.wire.http_head import MAX_HEAD, RequestHead, read_head
from portfwd.wire.http_reply import CONNECTED, build_refusal

_BAD_REQUEST: Final = build_refusal(400)
_FORBIDDEN: Final = build_refusal(403)
_NO_METHOD: Final = build_refusal(405, "Allow: CONNECT")
_LOG_IN: Final = build_refusal(407, 'Proxy-Authenticate: Basic realm="portfwd", charset="UTF-8"')
_TOO_LARGE: Final = build_refusal(431)
_NOT_REACHED: Final = build_refusal(502)
_TIMED_OUT: Final = build_refusal(504)
_NO_PASSWORD: Final = Close("no password of the proxy, or a wrong one", reply=_LOG_IN)


class HTTPConnect(Filter):
    """Serves one client."""

    def __init__(self, destinations: Destinations, users: Users | None, connection: Connection) -> None:
        """:param users: the admitted users; None for all clients."""
        self._permission = Permission(destinations)
        self._users = users
        self._connection = connection
        self._asked: tuple[RequestHead, bytes] | None = None

    def received(self, direction: Direction, data: bytes) -> Verdict:
        """See `IFilter`."""
        try:
            answer = read_head(data)
        except TooLong as error:
            return Close(str(error), reply=_TOO_LARGE)
        except WireError as error:
            return Close(str(error), reply=_BAD_REQUEST)
        if isinstance(answer, Need):
            return NeedMore(total=answer.total)
        head = answer.value
        rest = data[answer.used :]
        if self._users is None:
            return self._route(head, rest)
        # Ask for the password first, before other errors are reported.
        credentials = _credentials(head)
        if credentials is None:
            return _NO_PASSWORD
        self._asked = head, rest
        return [NeedMore(rest=rest), self._users.ask(self._connection, *credentials)]

    def resumed(self, result: object) -> Verdict:
        """See `IFilter`: whether the password is right."""
        asked, self._asked = self._asked, None
        if result is not True or asked is None:
            return _NO_PASSWORD
        return self._route(*asked)

    def failed(self, error: BaseException) -> Verdict:
        """See `IFailing`: a password that could not be checked is refused."""
        self._connection.log.warn("a password could not be checked: {error}", error=repr(error))
        return self.resumed(False)

    def _route(self, head: RequestHead, rest: bytes) -> Verdict:
        """Handle the request of an admitted client."""
        if head.method != "CONNECT":
            return Close("a request that is not CONNECT", reply=_NO_METHOD)
        target = InetAddress(head.host, head.port)
        return [Route(target, self._permission.permits), Forward(rest), DONE]

    def ended(self, direction: Direction, held: bytes) -> Verdict:
        """See `IFilter`."""
        return Close("the connection ended before its request did")

    def connected(self, upstream: Address | None) -> Verdict:
        """See `IFilter`."""
        return Reply(CONNECTED)

    def dial_failed(self, reason: DialError) -> Verdict:
        """See `IFilter`."""
        if self._permission.refused:
            return Reply(_FORBIDDEN)
        return Reply(_TIMED_OUT if isinstance(reason, ConnectTimedOut) else _NOT_REACHED)


def _credentials(head: RequestHead) -> tuple[bytes, bytes] | None:
    """Name and password in `head`; None if missing or not well-formed (RFC 7617 section 2)."""
    values = head.field("proxy-authorization")
    if len(values) != 1:
        return None
    scheme, _, encoded = values[0].partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        decoded = base64.b64decode(encoded.strip(), validate=True)
    except ValueError:
        return None
    name, _, password = decoded.partition(b":")
    return name, password


def make_factory(options: ProxyOptions, clauses: Sequence[RouteClause]) -> Factory:
    """Make the factory of one clause."""
    return make_proxy(options, HTTPConnect, MAX_HEAD)


PLUGIN = Plugin(
    "http-connect",
    "clients name their destination by CONNECT, as of an HTTP proxy",
    ProxyOptions,
    make_factory,
)
