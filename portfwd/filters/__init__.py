"""
Everything that an author of a filter imports.

>>> from portfwd.filters import DONE, NEED_MORE, TO_UPSTREAM, Close, Filter

`portfwd.filters.api` explains the contract, `portfwd.filters.options` declares what a clause may say;
`portfwd.testing` tests a filter with plain bytes.
"""

from __future__ import annotations

from portfwd.filters.api import (
    API_VERSION,
    BOTH,
    DONE,
    DROP,
    HOLD_TIMEOUT,
    MAX_HOLD,
    NEED_MORE,
    Announce,
    Await,
    Bypass,
    Close,
    Connection,
    Copy,
    Delay,
    Factory,
    Filter,
    Forward,
    IFailing,
    IFilter,
    IFilterFactory,
    IFilterPlugin,
    NeedMore,
    Plugin,
    Release,
    Reply,
    Route,
    RouteClause,
    Sink,
    Verdict,
    Wake,
)
from portfwd.values import (
    TO_CLIENT,
    TO_UPSTREAM,
    Address,
    Direction,
    InetAddress,
    SessionSummary,
    TLSInfo,
    UnixAddress,
)

__all__ = [
    "API_VERSION",
    "BOTH",
    "DONE",
    "DROP",
    "HOLD_TIMEOUT",
    "MAX_HOLD",
    "NEED_MORE",
    "TO_CLIENT",
    "TO_UPSTREAM",
    "Address",
    "Announce",
    "Await",
    "Bypass",
    "Close",
    "Connection",
    "Copy",
    "Delay",
    "Direction",
    "Factory",
    "Filter",
    "Forward",
    "IFailing",
    "IFilter",
    "IFilterFactory",
    "IFilterPlugin",
    "InetAddress",
    "NeedMore",
    "Plugin",
    "Release",
    "Reply",
    "Route",
    "RouteClause",
    "SessionSummary",
    "Sink",
    "TLSInfo",
    "UnixAddress",
    "Verdict",
    "Wake",
]
