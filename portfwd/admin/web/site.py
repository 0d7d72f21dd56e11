# -*- test-case-name: tests.admin.web.test_site -*-
"""
The resources of a web listener: the page and its files, the API, and the pages for monitoring.

The files of the page are part of the package. The page loads no files of other hosts and runs no inline
scripts; the content security policy forbids both.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from twisted.internet.interfaces import IReactorTime
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from portfwd.admin.answers import refusal
from portfwd.admin.branch import Branch
from portfwd.admin.metrics_page import PLAIN, add_health
from portfwd.admin.web.access import AccessRefusal
from portfwd.admin.web.api import MAX_BODY, Api, ApiContext, refuse
from portfwd.admin.web.connection import BoundedFactory, BoundedRequest
from portfwd.extras import how_to_install
from portfwd.wire.http_head import RequestHead

#: Maximum connections. Each open page has one for events, and one or two for requests.
MOST_CONNECTIONS: Final = 48

#: CSP level 3: only files of this listener, no inline scripts or styles, and no embedding in frames.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)

#: The files of the page by path, with their media types.
PAGE: Final = {
    b"": ("page.html", "text/html; charset=utf-8"),
    b"page.js": ("page.js", "text/javascript; charset=utf-8"),
    b"page.css": ("page.css", "text/css; charset=utf-8"),
    b"icon.svg": ("icon.svg", "image/svg+xml"),
}

#: The first segments of paths that need no token and that other sites may link to.
OPEN: Final = frozenset({*PAGE, b"healthz", b"readyz", b"access.json"})

_HEADERS: Final = {
    "cache-control": "no-store",
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "server": "portfwd",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


class _File(Resource):
    isLeaf = True

    def __init__(self, name: str, kind: str) -> None:
        super().__init__()
        self._kind = kind.encode("ascii")
        self._data = files("portfwd.admin.web").joinpath("page", name).read_bytes()

    def render_GET(self, request: BoundedRequest) -> bytes:
        request.setHeader(b"content-type", self._kind)
        return self._data


class _AccessPage(Resource):
    """Reports to the page whether a token is required."""

    isLeaf = True

    def __init__(self, context: ApiContext) -> None:
        super().__init__()
        self._access = context.access

    def render_GET(self, request: BoundedRequest) -> bytes:
        request.setHeader(b"content-type", b"application/json")
        return b'{"token":true}\n' if self._access().wants_token else b'{"token":false}\n'


class _NoMetrics(Resource):
    """The resource ``/metrics`` if prometheus-client is not installed."""

    isLeaf = True

    def render_GET(self, request: BoundedRequest) -> bytes:
        request.setResponseCode(501)
        request.setHeader(b"content-type", PLAIN)
        return f"prometheus-client is not installed: {how_to_install('metrics')}\n".encode()


class WebRoot(Branch):
    """
    The root resource, and the access control of all requests.

    The paths in `OPEN` need no token.
    """

    def __init__(
        self,
        context: ApiContext,
        ready: Callable[[], bool],
        add_metrics: Callable[[Resource], object] | None,
    ) -> None:
        """
        :param ready: returns whether clients are accepted.
        :param add_metrics: adds ``/metrics`` to a resource; None if prometheus-client is not installed.
        """
        super().__init__()
        self._access = context.access
        for path, (name, kind) in PAGE.items():
            self.putChild(path, _File(name, kind))
        if add_metrics is None:
            add_health(self, ready)
            self.putChild(b"metrics", _NoMetrics())
        else:
            add_metrics(self)
        self.putChild(b"access.json", _AccessPage(context))
        versions = Branch()
        versions.putChild(b"v1", Api(context))
        self.putChild(b"api", versions)

    def getChildWithDefault(self, path: bytes, request: Any) -> Any:  # noqa: N802 - Twisted's
        """See `IResource`."""
        set_headers(request)
        return super().getChildWithDefault(path, request)

    def render(self, request: Any) -> Any:
        """See `IResource`. It is never called, because ``/`` is a child."""
        return NOT_DONE_YET

    def judge(self, head: RequestHead) -> Resource | None:
        """See `portfwd.admin.web.connection.Judge`: the refusal of a request that has no access."""
        access, hosts = self._access(), head.field("host")
        refused = access.check_host(hosts)
        path = unquote_to_bytes(head.target.partition("?")[0][1:].partition("/")[0])
        if refused is None and path not in OPEN:
            refused = access.check_origin(hosts, head.field("origin"), head.field("sec-fetch-site"))
        if refused is None and path not in OPEN:
            refused = access.check_token(head.field("authorization"))
        return None if refused is None else _Refusal(refused)


def set_headers(request: BoundedRequest) -> None:
    """Set the headers of all answers."""
    for name, value in _HEADERS.items():
        request.setHeader(name.encode("ascii"), value.encode("ascii"))


class _Refusal(Resource):
    """The resource of a refused request."""

    isLeaf = True

    def __init__(self, refused: AccessRefusal) -> None:
        super().__init__()
        self._refused = refused

    def render(self, request: BoundedRequest) -> int:
        set_headers(request)
        refuse(request, self._refused.status, refusal(self._refused.code, self._refused.message))
        return NOT_DONE_YET


def web_factory(clock: IReactorTime, root: WebRoot) -> BoundedFactory:
    """The factory of the protocols of a web listener."""
    return BoundedFactory(clock, root, MAX_BODY, root.judge)
