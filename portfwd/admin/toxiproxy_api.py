# -*- test-case-name: tests.admin.test_toxiproxy_api -*-
"""
toxiproxy's HTTP API (version 2): paths, methods, status codes and bodies of errors.

=================================== ================== ===================================================
path                                methods
=================================== ================== ===================================================
``/proxies``                        GET, POST          list all proxies by name; create one
``/proxies/{proxy}``                GET, POST, PATCH,  show, change or delete one
                                    DELETE
``/proxies/{proxy}/toxics``         GET, POST          list its toxics; add one
``/proxies/{proxy}/toxics/{toxic}`` GET, POST, PATCH,  show, change or remove one
                                    DELETE
``/populate``                       POST               create several proxies
``/reset``                          POST               enable all proxies, remove all toxics
``/version``                        GET                the implemented version of toxiproxy
=================================== ================== ===================================================

As in toxiproxy, browsers are refused by a ``User-Agent`` that starts with ``Mozilla/``. Pages can change that
field, so requests with ``Origin`` or ``Sec-Fetch-Site``, which only browsers send, are refused too. A site
could resolve its name to the listener's address and then read answers without ``Origin`` (DNS rebinding), so
``Host`` must be an address or a name that the public DNS does not have. There is no password, so the API
should listen on the loopback.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, Final, Protocol
from urllib.parse import unquote_to_bytes

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from portfwd.admin.web.access import is_own_host
from portfwd.admin.web.connection import BoundedFactory
from portfwd.values import printable
from portfwd.version import __version__
from portfwd.wire.http_head import RequestHead

#: The version of toxiproxy's API; clients compare it.
API_VERSION: Final = "2.12.0"
#: Maximum bytes of the body of a request: 1000 proxies with 250 bytes each.
MOST_BODY: Final = 256 * 1024
#: Maximum commas and opening brackets of a body: each is before a JSON value. 1000 proxies have 5000.
#: Reading one value takes up to a microsecond, for which traffic waits.
MOST_VALUES: Final = 8192
#: Maximum digits of a JSON integer. Python needs quadratic time for long ones.
MOST_DIGITS: Final = 20
#: Last labels of names that the public DNS does not have (RFC 6761, RFC 6762; ``internal``: ICANN).
PRIVATE: Final = frozenset({"internal", "local", "test"})

Json = Any
#: A status code, and the value of the body; None for none.
Answer = tuple[int, Json]


class ToxiproxyError(Exception):
    """
    A request failed.

    :ivar status: status code of the answer.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status

    def as_json(self) -> Mapping[str, Json]:
        """The body of the answer; ``title`` is for older clients."""
        return {"error": str(self), "title": str(self), "status": self.status}


class Toxiproxies(Protocol):
    """The proxies that the API controls. All methods raise `ToxiproxyError`."""

    def proxies(self) -> Json:
        """All proxies by name."""

    def proxy(self, name: str) -> Json:
        """One proxy."""

    def toxics(self, name: str) -> Json:
        """The toxics of a proxy."""

    def toxic(self, name: str, toxic: str) -> Json:
        """One toxic."""

    def create(self, data: Json) -> Awaitable[Json]:
        """Create a proxy."""

    def update(self, name: str, data: Json) -> Awaitable[Json]:
        """Change a proxy."""

    def delete(self, name: str) -> Awaitable[None]:
        """Delete a proxy."""

    def populate(self, data: Json) -> Awaitable[tuple[Json, ToxiproxyError | None]]:
        """Create several proxies; return those up to the first error, and the error."""

    def reset(self) -> Awaitable[None]:
        """Enable all proxies, and remove all toxics."""

    def add_toxic(self, name: str, data: Json) -> Awaitable[Json]:
        """Add a toxic."""

    def change_toxic(self, name: str, toxic: str, data: Json) -> Awaitable[Json]:
        """Change a toxic."""

    def remove_toxic(self, name: str, toxic: str) -> Awaitable[None]:
        """Remove a toxic."""


def read_json(data: bytes) -> Json:
    """
    The first JSON value in `data`, its keys in lower case. The rest is ignored, as in toxiproxy.

    toxiproxy reads JSON with Go's ``encoding/json``, which accepts keys in any case. Of keys that differ in
    case only, the last one counts, as there.

    :raises ValueError: there is none; the message has the reason.
    """
    if sum(map(data.count, (b",", b"[", b"{"))) > MOST_VALUES:
        raise ValueError(f"it has more than {MOST_VALUES} values")
    text = data.decode("utf-8-sig").lstrip()
    if not text:
        raise ValueError("EOF")
    try:
        return _DECODER.raw_decode(text)[0]
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _integer(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"an integer has at most {MOST_DIGITS} digits")
    return int(digits)


def _in_lower_case(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    return {key.lower(): value for key, value in pairs}


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_in_lower_case, parse_constant=_no_constant, parse_int=_integer
)


class ToxiproxyAPI:
    """Dispatches requests by path and method."""

    def __init__(self, proxies: Toxiproxies) -> None:
        self._proxies = proxies

    def __repr__(self) -> str:
        return f"<ToxiproxyAPI of {self._proxies!r}>"

    async def answer(self, method: str, path: Sequence[str], body: bytes) -> Answer | None:
        """
        Status code and body of the answer; None if the path does not exist.

        :param path: the decoded segments of the path.
        """
        methods = self._methods(path)
        if methods is None:
            return None
        work = methods.get(method)
        if work is None:
            return 405, None
        try:
            return await work(body)
        except ToxiproxyError as problem:
            return problem.status, problem.as_json()

    def _methods(self, path: Sequence[str]) -> Mapping[str, Callable[[bytes], Awaitable[Answer]]] | None:
        """The functions of a path by method; None if the path does not exist."""
        match list(path):
            case ["version"]:
                return {"GET": self._version}
            case ["reset"]:
                return {"POST": self._reset}
            case ["populate"]:
                return {"POST": self._populate}
            case ["proxies"]:
                return {"GET": _reads(self._proxies.proxies), "POST": self._create}
            case ["proxies", name]:
                return self._of_proxy(name)
            case ["proxies", name, "toxics"]:
                return {
                    "GET": _reads(lambda: self._proxies.toxics(name)),
                    "POST": _changes(lambda data: self._proxies.add_toxic(name, data)),
                }
            case ["proxies", name, "toxics", toxic]:
                return self._of_toxic(name, toxic)
        return None

    def _of_proxy(self, name: str) -> Mapping[str, Callable[[bytes], Awaitable[Answer]]]:
        change = _changes(lambda data: self._proxies.update(name, data))
        # The existence of the proxy is checked before the body: "not found" has priority over errors of the
        # body.
        show = _reads(lambda: self._proxies.proxy(name))
        return {
            "GET": show,
            "POST": _after(show, change),
            "PATCH": _after(show, change),
            "DELETE": _deletes(lambda: self._proxies.delete(name)),
        }

    def _of_toxic(self, name: str, toxic: str) -> Mapping[str, Callable[[bytes], Awaitable[Answer]]]:
        change = _changes(lambda data: self._proxies.change_toxic(name, toxic, data))
        show = _reads(lambda: self._proxies.toxic(name, toxic))
        return {
            "GET": show,
            "POST": _after(show, change),
            "PATCH": _after(show, change),
            "DELETE": _deletes(lambda: self._proxies.remove_toxic(name, toxic)),
        }

    async def _version(self, body: bytes) -> Answer:
        return 200, {"version": API_VERSION, "portfwd": __version__}

    async def _reset(self, body: bytes) -> Answer:
        await self._proxies.reset()
        return 204, None

    async def _create(self, body: bytes) -> Answer:
        return 201, await self._proxies.create(_data(body))

    async def _populate(self, body: bytes) -> Answer:
        made, problem = await self._proxies.populate(_data(body))
        if problem is not None:
            return problem.status, {**problem.as_json(), "proxies": made}
        return 201, {"proxies": made}


def _data(body: bytes) -> Json:
    try:
        return read_json(body)
    except ValueError as problem:
        raise ToxiproxyError(f"bad request body: {problem}", 400) from None


def _reads(look: Callable[[], Json]) -> Callable[[bytes], Awaitable[Answer]]:
    async def work(body: bytes) -> Answer:
        return 200, look()

    return work


def _changes(change: Callable[[Json], Awaitable[Json]]) -> Callable[[bytes], Awaitable[Answer]]:
    async def work(body: bytes) -> Answer:
        return 200, await change(_data(body))

    return work


def _deletes(end: Callable[[], Awaitable[None]]) -> Callable[[bytes], Awaitable[Answer]]:
    async def work(body: bytes) -> Answer:
        await end()
        return 204, None

    return work


def _after(
    first: Callable[[bytes], Awaitable[Answer]], then: Callable[[bytes], Awaitable[Answer]]
) -> Callable[[bytes], Awaitable[Answer]]:
    async def work(body: bytes) -> Answer:
        await first(body)
        return await then(body)

    return work


class _Page(Resource):
    """The resource of all paths, because paths contain names."""

    isLeaf = True
    _log = Logger()

    def __init__(self, api: ToxiproxyAPI) -> None:
        super().__init__()
        self._api = api

    def render(self, request: Request) -> int | bytes:
        """See `IResource`."""
        gone: list[object] = []
        request.notifyFinish().addErrback(gone.append)
        path = [
            unquote_to_bytes(part).decode("utf-8", "replace")
            for part in request.uri.partition(b"?")[0].strip(b"/").split(b"/")
        ]
        body = request.content.read() if request.content is not None else b""
        method = request.method.decode("ascii", "replace")
        if method not in ("GET", "HEAD", "OPTIONS"):
            peer = request.getClientAddress()
            self._log.info(
                "operator {who} (toxiproxy): {method} {path}",
                who=f"{getattr(peer, 'host', '-')}:{getattr(peer, 'port', '-')}",
                method=printable(method),
                path=printable("/" + "/".join(path)),
            )
        work = Deferred.fromCoroutine(self._api.answer(method, path, body))
        work.addErrback(self._failed)

        def write(answer: Answer | None) -> None:
            if not gone:
                _write(request, answer)

        work.addCallback(write)
        return NOT_DONE_YET

    def _failed(self, failure: Failure) -> Answer:
        self._log.failure("toxiproxy: a request failed", failure)
        return 500, ToxiproxyError("internal error; the log has the traceback", 500).as_json()


class _Refusal(Resource):
    """The resource of a refused request."""

    isLeaf = True

    def __init__(self, code: int, text: bytes) -> None:
        super().__init__()
        self._code = code
        self._text = text

    def render(self, request: Request) -> bytes:
        """See `IResource`."""
        request.setResponseCode(self._code)
        request.setHeader(b"content-type", b"text/plain; charset=utf-8")
        return self._text


def _judge(hosts: Collection[str], head: RequestHead) -> Resource | None:
    """See `portfwd.admin.web.connection.Judge`: the refusal of a request of a browser."""
    if any(agent.startswith(b"Mozilla/") for agent in head.field("user-agent")):
        return _Refusal(403, b"User agent not allowed\n")
    if head.field("origin") or head.field("sec-fetch-site"):
        return _Refusal(403, b"requests of pages are refused\n")
    if "." in head.host and head.host not in hosts and not _is_private(head.host):
        return _Refusal(421, b"use an address or a name without dots, or write host=NAME into the rules\n")
    return None


def _is_private(host: str) -> bool:
    return is_own_host(host) or host.rpartition(".")[2] in PRIVATE


def _write(request: Request, answer: Answer | None) -> None:
    if answer is None:
        request.setResponseCode(404)
        request.setHeader(b"content-type", b"text/plain; charset=utf-8")
        request.write(b"404 page not found\n")
    else:
        code, value = answer
        request.setResponseCode(code)
        if value is not None:
            request.setHeader(b"content-type", b"application/json")
            request.write(json.dumps(value).encode("ascii"))
    request.finish()


def toxiproxy_site(
    reactor: IReactorTime, proxies: Toxiproxies, hosts: Collection[str] = ()
) -> BoundedFactory:
    """
    The factory of the protocols of the API's connections.

    :param hosts: further names that are accepted in ``Host``, in lower case.
    """
    return BoundedFactory(reactor, _Page(ToxiproxyAPI(proxies)), MOST_BODY, partial(_judge, hosts))
