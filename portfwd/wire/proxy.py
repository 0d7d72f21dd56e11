# -*- test-case-name: tests.wire.test_proxy -*-
"""
A PROXY header of version 1 or 2; the first byte distinguishes them.

A connection without a header is an error. PROXY section 5: "be very careful about not trying to
automatically detect whether they have to decode the header or not".
"""

from __future__ import annotations

from portfwd.wire import proxy_v1, proxy_v2
from portfwd.wire.proxy_header import Header
from portfwd.wire.reading import Need, Read, WireError


def read_header(data: bytes) -> Read[Header] | Need:
    """
    Read a PROXY header at the start of `data`.

    :raises WireError: the header is missing or malformed.
    """
    first = data[:1]
    if first == proxy_v1.SIGNATURE[:1]:
        return proxy_v1.read_v1(data)
    if first == proxy_v2.SIGNATURE[:1]:
        return proxy_v2.read_v2(data)
    if first:
        raise WireError("this does not begin with a PROXY header")
    return Need(1)
