"""A filter of the soak's rules, which tells each client what the forwarder has in memory."""

from __future__ import annotations

import ctypes
import gc
import json
import sys
from collections import Counter
from typing import Any, cast

from twisted.internet import reactor

from portfwd.filters import Close, Connection, Filter, Reply, Verdict


class Inside(Filter):
    """Tells its client, and ends the session; see `state`."""

    def opened(self, connection: Connection) -> Verdict:
        """See `IFilter`."""
        return [Reply(json.dumps(state()).encode()), Close("told")]


def state() -> dict[str, Any]:
    """
    Count what is in memory, without what the garbage collector finds now.

    :returns: ``objects``: of this package, by type; ``timers``: delayed calls of the reactor, by function;
        ``blocks``: that Python has allocated; ``heap``: bytes in use of the C library's heap, which has the
        memory of OpenSSL too. Where these stay and the resident memory grows, the heap has holes.
    """
    gc.collect()
    types = Counter(type(one) for one in gc.get_objects())
    calls = (call for call in cast(Any, reactor).getDelayedCalls() if call.active())
    return {
        "objects": {
            f"{made.__module__}.{made.__qualname__}": count
            for made, count in types.items()
            if str(made.__module__).startswith("portfwd.")
        },
        "timers": Counter(getattr(call.func, "__qualname__", type(call.func).__name__) for call in calls),
        "blocks": sys.getallocatedblocks(),
        "heap": heap(),
    }


class _MallInfo(ctypes.Structure):
    """``struct mallinfo2`` of glibc 2.33."""

    _fields_ = (
        ("arena", ctypes.c_size_t),
        ("ordblks", ctypes.c_size_t),
        ("smblks", ctypes.c_size_t),
        ("hblks", ctypes.c_size_t),
        ("hblkhd", ctypes.c_size_t),
        ("usmblks", ctypes.c_size_t),
        ("fsmblks", ctypes.c_size_t),
        ("uordblks", ctypes.c_size_t),
        ("fordblks", ctypes.c_size_t),
        ("keepcost", ctypes.c_size_t),
    )


def heap() -> int:
    """Bytes in use of the C library's heap; 0 where it does not tell."""
    ask = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if ask is None:
        return 0
    ask.restype = _MallInfo
    told = ask()
    return int(told.uordblks + told.hblkhd)
