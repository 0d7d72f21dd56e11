# -*- test-case-name: tests.filters.builtin.test_socks5 -*-
"""
``filter socks5``: a SOCKS 5 proxy (RFC 1928), with passwords if ``users`` is a file.

It supports CONNECT only. The target of the rule is never dialled. The filter replies after the dial with the
code of its result. portfwd resolves the names. ``allow`` and ``deny`` are networks of destinations
(`portfwd.filters.builtin.destinations`). Without ``allow``, near addresses (`portfwd.filters.builtin.near`)
are refused.

Passwords are sent without encryption; use TLS or a trusted network. BIND, UDP ASSOCIATE and SOCKS 4 are
refused.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Any, Final

from portfwd.errors import ConnectRefused, ConnectTimedOut, DialError, NameNotResolved
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
from portfwd.values import Address, Direction
from portfwd.wire import Need, WireError
from portfwd.wire.socks5 import (
    CONNECT,
    NO_ACCEPTABLE_METHOD,
    NO_AUTHENTICATION,
    PASSWORD,
    Credentials,
    ReplyCode,
    SocksRequest,
    UnknownAddressType,
    build_choice,
    build_password_status,
    build_reply,
    read_credentials,
    read_greeting,
    read_request,
)

#: RFC 1928 has no codes for a name without an address and for a timeout; servers use host unreachable.
_CODES: Final[dict[type[DialError], ReplyCode]] = {
    ConnectRefused: ReplyCode.CONNECTION_REFUSED,
    ConnectTimedOut: ReplyCode.HOST_UNREACHABLE,
    NameNotResolved: ReplyCode.HOST_UNREACHABLE,
}


class _Step(enum.Enum):
    """The next message of the client."""

    GREETING = "greeting"
    PASSWORD = "password"  # noqa: S105 - it is the name of a step
    REQUEST = "request"
    NOTHING = "nothing"


_READERS: Final[dict[_Step, Any]] = {
    _Step.GREETING: read_greeting,
    _Step.PASSWORD: read_credentials,
    _Step.REQUEST: read_request,
}
#: The reply to a message that is not well-formed.
_REFUSALS: Final = {
    _Step.GREETING: b"",
    _Step.PASSWORD: build_password_status(accepted=False),
    _Step.REQUEST: build_reply(ReplyCode.GENERAL_FAILURE),
}


class Socks5(Filter):
    """Serves one client."""

    def __init__(self, destinations: Destinations, users: Users | None, connection: Connection) -> None:
        """:param users: the admitted users; None for all clients."""
        self._permission = Permission(destinations)
        self._users = users
        self._connection = connection
        self._step = _Step.GREETING
        #: Bytes that the client has sent after its password, while that is being checked.
        self._rest = b""

    def received(self, direction: Direction, data: bytes) -> Verdict:
        """See `IFilter`. A client may send its messages before it is answered."""
        return self._read(data)

    def _read(self, data: bytes) -> list[Verdict]:
        verdicts: list[Verdict] = []
        while self._step is not _Step.NOTHING:
            try:
                answer = _READERS[self._step](data)
            except UnknownAddressType as error:
                verdicts.append(_refuse(error, ReplyCode.ADDRESS_TYPE_NOT_SUPPORTED))
                return verdicts
            except WireError as error:
                verdicts.append(Close(str(error), reply=_REFUSALS[self._step]))
                return verdicts
            if isinstance(answer, Need):
                verdicts.append(NeedMore(total=answer.total, rest=data))
                return verdicts
            data = data[answer.used :]
            if isinstance(answer.value, Credentials):
                assert self._users is not None
                self._rest = data
                name, password = answer.value.name, answer.value.password
                return [
                    *verdicts,
                    NeedMore(rest=data),
                    self._users.ask(self._connection, name, password),
                ]
            verdict = self._take(answer.value)
            verdicts.append(verdict)
            if isinstance(verdict, Close):
                return verdicts
        return [*verdicts, Forward(data), DONE]

    def resumed(self, result: object) -> Verdict:
        """See `IFilter`: whether the password is right."""
        if result is not True:
            return Close("a wrong SOCKS password", reply=build_password_status(accepted=False))
        self._step = _Step.REQUEST
        data, self._rest = self._rest, b""
        return [Reply(build_password_status(accepted=True)), *self._read(data)]

    def failed(self, error: BaseException) -> Verdict:
        """See `IFailing`: a password that could not be checked is refused."""
        self._connection.log.warn("a password could not be checked: {error}", error=repr(error))
        return self.resumed(False)

    def _take(self, message: frozenset[int] | SocksRequest) -> Verdict:
        """Handle one message and continue with the next."""
        if isinstance(message, SocksRequest):
            if message.command != CONNECT:
                return _refuse("a SOCKS command that is not CONNECT", ReplyCode.COMMAND_NOT_SUPPORTED)
            self._step = _Step.NOTHING
            return Route(message.destination, self._permission.permits)
        method = NO_AUTHENTICATION if self._users is None else PASSWORD
        if method not in message:
            return Close("a SOCKS client without a way to log in", reply=build_choice(NO_ACCEPTABLE_METHOD))
        self._step = _Step.REQUEST if self._users is None else _Step.PASSWORD
        return Reply(build_choice(method))

    def ended(self, direction: Direction, held: bytes) -> Verdict:
        """See `IFilter`."""
        return Close("the connection ended before its SOCKS request did")

    def connected(self, upstream: Address | None) -> Verdict:
        """See `IFilter`."""
        return Reply(build_reply(ReplyCode.SUCCEEDED))

    def dial_failed(self, reason: DialError) -> Verdict:
        """See `IFilter`."""
        code = _CODES.get(type(reason), ReplyCode.GENERAL_FAILURE)
        return Reply(build_reply(ReplyCode.NOT_ALLOWED if self._permission.refused else code))


def _refuse(reason: object, code: ReplyCode) -> Close:
    return Close(str(reason), reply=build_reply(code))


def make_factory(options: ProxyOptions, clauses: Sequence[RouteClause]) -> Factory:
    """Make the factory of one clause."""
    return make_proxy(options, Socks5)


PLUGIN = Plugin("socks5", "clients name their destination by SOCKS 5", ProxyOptions, make_factory)
