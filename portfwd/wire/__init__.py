"""
Parsers and builders for protocols: one file for each protocol.

All are pure. A reader is called with all bytes received so far. It returns `Read` with the value and the
number of bytes used, returns `Need` if bytes are missing, or raises `WireError`. It keeps no state between
calls, so the result does not depend on how the bytes were split.
"""

from __future__ import annotations

from portfwd.wire.reading import Need, Read, TooLong, WireError

__all__ = ["Need", "Read", "TooLong", "WireError"]
